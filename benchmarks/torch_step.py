"""PyTorch's training step for step_time.py, in a process without TensorFlow: both cannot be loaded together.

    python benchmarks/torch_step.py DESCRIPTION PRECISION [compiled]

DESCRIPTION is the result of `rivals.described`, as JSON. Channels-last; bfloat16 with autocast; eager, or `compiled`: both networks
by torch.compile. It runs its turns according to turns.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import turns
from torch import nn
from torch.nn import functional

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "linear": nn.Identity}


class Network(nn.Module):
    """Layers in sequence; with several heads at the end, the output is a list."""

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(*[layer(each) for each in description["layers"]])
        self.heads = nn.ModuleList([layer(each) for each in description["heads"]])

    def forward(self, x):
        x = self.body(x)
        return [head(x) for head in self.heads] if len(self.heads) else x


class Crop(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x):
        return x[:, :, : self.height, : self.width]


def layer(facts: dict[str, Any]) -> nn.Module:
    """Return PyTorch's equivalent of a Keras layer, with the same shapes, which determine its cost."""
    inputs, outputs, bias = facts["inputs"], facts["outputs"], facts["use_bias"]
    size, stride = facts["kernel_size"], facts["strides"]
    match facts["kind"]:
        case "Dense":
            return nn.Linear(inputs[-1], outputs[-1], bias=bias)
        case "Conv2D":  # Keras may pad "same" unevenly, PyTorch only evenly: one pixel more if needed
            padding = next(pad for pad in range(size) if (inputs[0] + 2 * pad - size) // stride + 1 == outputs[0])
            return nn.Conv2d(inputs[-1], outputs[-1], size, stride, padding, bias=bias)
        case "Conv2DTranspose":
            padding = (size - stride + 1) // 2
            extra = outputs[0] - ((inputs[0] - 1) * stride - 2 * padding + size)
            return nn.ConvTranspose2d(inputs[-1], outputs[-1], size, stride, padding, extra, bias=bias)
        case "BatchNormalization":
            return nn.BatchNorm2d(outputs[-1]) if len(outputs) == 3 else nn.BatchNorm1d(outputs[-1])
        case "LeakyReLU":
            return nn.LeakyReLU(0.2)
        case "Activation":
            return ACTIVATIONS[facts["activation"]]()
        case "Dropout":
            return nn.Dropout(facts["rate"])
        case "Flatten":
            return nn.Flatten()
        case "Reshape":
            *space, channels = outputs
            return nn.Unflatten(1, (channels, *space))
        case "Cropping2D":
            return Crop(*outputs[:2])
        case "Identity":
            return nn.Identity()
    raise ValueError(f"{facts['kind']} has no equivalent here")


def training_step(facts: dict[str, Any], precision: str, compiled: bool) -> Callable[[Any], None]:
    first, second = (Network(each).to(memory_format=torch.channels_last) for each in facts["networks"])
    if compiled:
        first, second = torch.compile(first), torch.compile(second)
    adam = [torch.optim.Adam(net.parameters(), facts["rate"], tuple(facts["betas"])) for net in (first, second)]
    entropy = functional.binary_cross_entropy_with_logits
    autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")  # noqa: E731

    def train_gan(real):
        with autocast():
            fake = first(torch.randn(len(real), facts["latent"]))
            real_logits, fake_logits = second(real).float(), second(fake.detach()).float()
        ones = torch.ones_like(real_logits)
        adam[1].zero_grad()
        (entropy(real_logits, ones) + entropy(fake_logits, 1 - ones)).backward()
        adam[1].step()
        with autocast():
            logits = second(fake).float()
        adam[0].zero_grad()
        entropy(logits, ones).backward()
        adam[0].step()

    def train_vae(observed):
        binary = (torch.rand_like(observed) * 2 - 1 < observed).float()
        with autocast():
            mean, log_variance = (each.float() for each in first(2 * binary - 1))
            logits = 2 * second(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)).float()
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        for each in adam:
            each.zero_grad()
        ((entropy(logits, binary, reduction="sum") + kl) / len(observed)).backward()
        for each in adam:
            each.step()

    return train_vae if facts["model"] == "vae" else train_gan


def main() -> None:
    facts, precision = json.loads(sys.argv[1]), sys.argv[2]
    train = training_step(facts, precision, sys.argv[3:] == ["compiled"])
    height, width, channels = facts["shape"]
    pixels = torch.randint(256, (facts["images"], channels, height, width), dtype=torch.uint8)

    def run(count: int) -> None:
        for _ in range(count):
            batch = pixels[torch.randint(len(pixels), (facts["batch"],))].to(torch.float32).sub_(127.5).div_(127.5)
            train(batch.to(memory_format=torch.channels_last))

    turns.serve(run)


if __name__ == "__main__":
    main()
