"""Networks of data and a time, for models of diffusion: a U-Net for images of any size, dense residual layers for vectors.

Ronneberger et al. 2015, "U-Net" (https://arxiv.org/abs/1505.04597), with residual blocks that know the time (Ho et al. 2020,
"Denoising Diffusion Probabilistic Models", https://arxiv.org/abs/2006.11239, appendix B). Without `fused`, all layers are Keras',
so a network can be exported to every format. Nothing depends on what else is in a batch: the normalization is that of each place.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab.backend import LazyModule, Network, Tensor, keras
from genlab.networks import blocks

layers = LazyModule("genlab.networks.layers")

FREQUENCIES = 16
"""Sines and cosines of the time that a network is given."""
MIDDLE = "middle"
"""Name of the layer with the coarsest features; for vectors, of the last hidden ones."""


@dataclasses.dataclass(frozen=True)
class Style:
    """Settings of a network."""

    widths: Sequence[int]
    """Channels per resolution, finest first; the last one is repeated. Units per layer for vectors."""
    residual_blocks: int = 1
    """Residual blocks per resolution, on the way down and again on the way up; per width for vectors."""
    patch_size: int = 1
    """Pixels per side for each place of the finest resolution."""
    time_units: int = 128
    """Units of the two dense layers that embed time and class."""
    initializer: str = "he"
    """he (He et al. 2015), glorot (Glorot & Bengio 2010), or dcgan: N(0, 0.02)."""
    fused: bool = False
    """Use genlab's layers, which train faster, instead of Keras'. Weights are the same."""
    seed: int = 0
    """Seed of the network's initial weights."""


def build(shape: Sequence[int], style: Style, *, num_classes: int = 0, name: str = "unet") -> Network:
    """Build a network: [images [B, H, W, C] or vectors [B, D], times [B]] -> the shape of the data, float32.

    Times are from 0 to 1. With `num_classes` a third input is labels [B], where the label `num_classes` stands for no class. The
    output is linear, and zero at first.
    """
    make = _Layers(style)
    data = keras.Input(tuple(shape), name="data")
    times = keras.Input((), name="times")
    inputs, embedding = [data, times], make.embedded(times)
    if num_classes:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs.append(labels)
        embedding = keras.layers.Add(name="time_and_label")([embedding, make.label(labels, num_classes + 1)])
    embedding = keras.layers.Activation("silu", name="embedding_act")(embedding)
    output = (_images if len(shape) == 3 else _vectors)(make, data, embedding)
    return keras.Model(inputs, output, name=name)


class _Layers:
    """Builds the layers of one network, each with its own seed."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self._seeds = random.Random(style.seed)

    def _normal(self, deviation: float) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=deviation, seed=self._seeds.randrange(2**31))

    def _kernel(self, fan_in: float, fan_out: float, factor: float) -> keras.initializers.Initializer:
        """Return the style's initializer for weights of these fans, times a factor; 0 gives zeros."""
        if not factor:
            return keras.initializers.Zeros()
        variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "dcgan": 0.02**2}[self.style.initializer]
        return self._normal(factor * math.sqrt(variance))

    def dense(self, x: Tensor, units: int, name: str, factor: float = 1.0, **keywords: Any) -> Tensor:
        kernel = self._kernel(x.shape[-1], units, factor)
        return keras.layers.Dense(units, kernel_initializer=kernel, name=name, **keywords)(x)

    def conv(
        self, x: Tensor, channels: int, name: str, *, size: int = 3, strides: int = 1, factor: float = 1.0
    ) -> Tensor:
        kernel = self._kernel(size**2 * x.shape[-1], (size / strides) ** 2 * channels, factor)
        few = self.style.fused and strides > 1 and x.shape[-1] <= layers.FEW_CHANNELS
        kind = layers.FewChannelsConv2D if few else keras.layers.Conv2D
        return kind(channels, size, strides, padding="same", kernel_initializer=kernel, name=name)(x)

    def layer(self, x: Tensor, width: int, name: str, factor: float = 1.0) -> Tensor:
        """Add a convolution of 3x3, or a dense layer for vectors."""
        return (self.conv if len(x.shape) == 4 else self.dense)(x, width, name, factor=factor)

    def embedded(self, times: Tensor) -> Tensor:
        """Embed times [B] as [B, time_units]. Angles are computed in float32 in every precision."""
        ops = keras.ops
        times = ops.expand_dims(times, -1)
        # From half a turn to 32, so that times 0.01 apart differ.
        angles = times * np.geomspace(math.pi, 64 * math.pi, FREQUENCIES).astype(np.float32)
        waves = ops.concatenate([times, ops.sin(angles), ops.cos(angles)], axis=-1)
        hidden = self.dense(waves, self.style.time_units, "time1", activation="silu")
        return self.dense(hidden, self.style.time_units, "time2")

    def label(self, labels: Tensor, rows: int) -> Tensor:
        """Embed labels [B] as [B, time_units]."""
        layer = keras.layers.Embedding(
            rows, self.style.time_units, embeddings_initializer=self._normal(1.0), name="label_embedding"
        )
        return layer(labels)

    def blocks(self, x: Tensor, embedding: Tensor, width: int, name: str) -> Tensor:
        """Add the style's number of residual blocks."""
        for index in range(self.style.residual_blocks):
            x = self.block(x, embedding, width, f"{name}_block{index + 1}")
        return x

    def block(self, x: Tensor, embedding: Tensor, width: int, name: str) -> Tensor:
        """Add a residual block: x + f(x), f of two layers, with the embedding added between them."""
        y = self.layer(self.activated(x, name), width, f"{name}_layer1")
        shift = self.dense(embedding, width, f"{name}_embedding")
        if len(x.shape) == 4:
            shift = keras.layers.Reshape((1, 1, width), name=f"{name}_shift")(shift)
        y = keras.layers.Add(name=f"{name}_shifted")([y, shift])
        y = keras.layers.Activation("silu", name=f"{name}_act2")(y)
        # Small at first, so that a deep network begins like a shallow one.
        y = self.layer(y, width, f"{name}_layer2", factor=0.1)
        if x.shape[-1] != width:
            x = (
                self.conv(x, width, f"{name}_skip", size=1)
                if len(x.shape) == 4
                else self.dense(x, width, f"{name}_skip")
            )
        return keras.layers.Add(name=f"{name}_sum")([x, y])

    def activated(self, x: Tensor, name: str) -> Tensor:
        """Add a normalization over the channels of each place, and the activation."""
        x = keras.layers.RMSNormalization(name=f"{name}_norm")(x)
        return keras.layers.Activation("silu", name=f"{name}_act1")(x)

    def output(self, x: Tensor, channels: int) -> Tensor:
        """Add the last convolution, from places to their patches of pixels."""
        patch = self.style.patch_size
        few = self.style.fused and patch > 1 and channels <= layers.FEW_CHANNELS
        kind = layers.FewChannelsConv2DTranspose if few else keras.layers.Conv2DTranspose
        settings = {"padding": "same", "kernel_initializer": "zeros", "dtype": "float32", "name": "output"}
        return kind(channels, _kernel_size(patch), patch, **settings)(x)


def resolutions(shape: Sequence[int], patch_size: int) -> list[tuple[int, int]]:
    """Return the heights and widths in places, finest first, for images of a shape [H, W, C]."""
    height, width = (math.ceil(side / patch_size) for side in shape[:2])
    return blocks.resolutions((height, width))


def _kernel_size(patch: int) -> int:
    """Return the size of the first and last convolution: an odd one, or one that covers each pixel equally often."""
    return 3 if patch == 1 else 2 * patch


def _vectors(make: _Layers, vectors: Tensor, embedding: Tensor) -> Tensor:
    x = make.dense(vectors, make.style.widths[0], "stem")
    for index, width in enumerate(make.style.widths):
        x = make.blocks(x, embedding, width, f"dense{index + 1}")
    x = keras.layers.Identity(name=MIDDLE)(make.activated(x, "output"))
    return make.dense(x, vectors.shape[-1], "output", factor=0.0, dtype="float32")


def _images(make: _Layers, images: Tensor, embedding: Tensor) -> Tensor:
    height, width, channels = images.shape[1:]
    patch, widths = make.style.patch_size, make.style.widths
    sizes = resolutions(images.shape[1:], patch)
    x = make.conv(images, widths[0], "stem", size=_kernel_size(patch), strides=patch)
    skips = []
    for level in range(len(sizes)):
        own = widths[min(level, len(widths) - 1)]
        if level:
            x = make.conv(x, own, f"down{level}_conv", strides=2)
        x = make.blocks(x, embedding, own, f"down{level}")
        skips.append(x)
    x = keras.layers.Identity(name=MIDDLE)(make.block(skips.pop(), embedding, x.shape[-1], "middle_block"))
    for level in reversed(range(len(sizes) - 1)):
        skip = skips.pop()
        # Narrowed first: a place is computed once, not once for each of the four that it becomes.
        x = make.conv(x, skip.shape[-1], f"up{level}_conv", size=1)
        x = keras.layers.UpSampling2D(2, name=f"up{level}_double")(x)
        x = _cropped(x, sizes[level], f"up{level}_crop")  # sizes were halved rounding up
        x = keras.layers.Concatenate(name=f"up{level}_concatenate")([x, skip])
        x = make.blocks(x, embedding, skip.shape[-1], f"up{level}")
    return _cropped(make.output(make.activated(x, "output"), channels), (height, width), "output_crop")


def _cropped(x: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """Crop [B, h, w, C] to the height and width of `size`."""
    surplus = (x.shape[1] - size[0], x.shape[2] - size[1])
    return keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name=name)(x) if any(surplus) else x
