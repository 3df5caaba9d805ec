"""Fréchet distance against wall time: genlab, TensorFlow's DCGAN tutorial as published, and PyTorch's example.

    pip install -e ".[benchmarks]"
    python benchmarks/time_to_quality.py --data mnist [--seconds 300]
    python benchmarks/time_to_quality.py --data photos --contenders genlab tutorial --model cgan --flags flip --steps 3000

They train one after the other, each alone on the machine and for the same time, from the start of the process. genlab trains
--steps of --model, because its learning-rate schedule depends on the length of the run. The tutorial
(tensorflow.org/tutorials/generative/dcgan) has batches of 256 and Adam with 1e-4, and for images of other sizes and colours the same
layers. PyTorch's example (github.com/pytorch/examples, dcgan; grey images of 28x28 alone) has images of 64x64, batches of 64 and Adam
with 2e-4 and beta1 0.5. Each draws 10,000 samples at intervals, which does not count as time; images of 64x64 are resized to 28x28.
Results go to benchmarks/results/time_to_quality.json and, by data set, time_to_quality-DATA.png.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time

import numpy as np
import psutil
import results

import genlab

KEPT = "time_to_quality"
SAMPLES = 10_000
POINTS = 8
"""How often each draws samples, with shorter intervals early."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train; sides a multiple of 4")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--steps", type=int, default=7500, help="steps of genlab's run")
    parser.add_argument("--model", default="dcgan", help="genlab's model")
    parser.add_argument("--flags", default="", help="its flags, names without dashes, and values; as in quality.py")
    parser.add_argument("--contenders", nargs="*", default=["genlab", "tutorial", "torch"])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        contender, folder = arguments.worker
        train = {"genlab": train_genlab, "tutorial": train_tutorial, "torch": train_torch}[contender]
        train(arguments, pathlib.Path(folder))
        return
    (results.CACHE / KEPT).mkdir(parents=True, exist_ok=True)
    np.save(results.CACHE / KEPT / "images.npy", genlab.data.load(arguments.data).images[:])
    for contender in arguments.contenders:
        folder = results.CACHE / KEPT / contender
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.npy"):
            old.unlink()
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker", contender, str(folder)], check=True)
        score(contender, folder, arguments)
    plot(genlab.data.load(arguments.data).name)


def due(seconds: float) -> list[float]:
    """Return the times of drawing samples, in seconds: each is 1.5 times the one before."""
    return [seconds / 1.5**power for power in reversed(range(POINTS))]


class Clock:
    """Seconds since the process started, without those for which the clock was stopped."""

    def __init__(self) -> None:
        self.begun = psutil.Process().create_time()
        self.held = 0.0

    def __call__(self) -> float:
        return time.time() - self.begun - self.held


def keep(folder: pathlib.Path, seconds: float, images: np.ndarray) -> None:
    """Store samples [N, H, W, C] in [-1, 1] drawn after some seconds."""
    pixels = np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)
    np.save(folder / f"{seconds:07.1f}.npy", pixels)
    print(f"{folder.name}: samples after {seconds:.0f} s", flush=True)


def train_genlab(arguments: argparse.Namespace, folder: pathlib.Path) -> None:
    clock = Clock()
    import quality

    from genlab import run as runs
    from genlab.evaluate import evaluation
    from genlab.train import __main__ as train

    every = arguments.steps // 30
    started = clock()
    command = [
        arguments.model,
        "--data",
        arguments.data,
        "--steps",
        str(arguments.steps),
        "--out",
        str(folder / "runs"),
    ]
    train.main([*command, "--checkpoint-every", str(every), "--keep", "1000", *quality.as_typed(arguments.flags)])
    run = runs.open("latest", folder / "runs")
    print(f"genlab: {run.step:,} steps in {clock():.0f} s")
    # Times include loading TensorFlow and the data, drawing grids and saving, as for a user.
    total, metrics = clock(), run.metrics()
    overhead = (total - started - metrics[-1]["seconds"]) / run.step
    steps = np.array([*range(every, run.step, every), run.step])
    training = np.interp(steps, [line["step"] for line in metrics], [line["seconds"] for line in metrics])
    moments = started + training + steps * overhead
    for moment in due(total):
        reached = np.flatnonzero(moments <= moment + 1e-6)
        if reached.size:
            model = genlab.load(run.path, checkpoint=int(steps[reached[-1]])).model
            seeds = np.arange(SAMPLES)
            drawn = evaluation.draw(model, seeds, model.default_labels(seeds)).images
            keep(folder, moments[reached[-1]], drawn / 127.5 - 1.0)


def train_tutorial(arguments: argparse.Namespace, folder: pathlib.Path) -> None:
    clock = Clock()
    import rivals

    from genlab.backend import keras, tf

    images = genlab.data.load(arguments.data).images[:]
    shape = images.shape[1:]
    generator, discriminator = rivals.tutorial_generator(shape=shape), rivals.tutorial_discriminator(shape=shape)
    rates = [keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)]
    scaled = (images.astype(np.float32) - 127.5) / 127.5
    stream = tf.data.Dataset.from_tensor_slices(scaled).shuffle(len(scaled)).batch(256)

    train = rivals.tutorial_gan(generator, discriminator, rates, 256)

    def draw():
        noise = tf.random.normal([SAMPLES, rivals.LATENT])
        return np.concatenate(
            [generator(noise[start : start + 500], training=False) for start in range(0, SAMPLES, 500)]
        )

    repeat(iter(stream.repeat()), train, draw, clock, arguments.seconds, folder)


def train_torch(arguments: argparse.Namespace, folder: pathlib.Path) -> None:
    clock = Clock()
    import torch
    from torch import nn

    def up(inputs, outputs, stride, padding):
        return [
            nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(True),
        ]

    def down(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, True)]

    def initial(module):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)

    hidden = [*up(100, 512, 1, 0), *up(512, 256, 2, 1), *up(256, 128, 2, 1), *up(128, 64, 2, 1)]
    generator = nn.Sequential(*hidden, nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False), nn.Tanh())
    first = [nn.Conv2d(1, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    last = nn.Conv2d(512, 1, 4, 1, 0, bias=False)
    discriminator = nn.Sequential(*first, *down(64, 128), *down(128, 256), *down(256, 512), last, nn.Flatten())
    networks = [network.apply(initial).to(memory_format=torch.channels_last) for network in (generator, discriminator)]
    adam = [torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999)) for network in networks]
    entropy = nn.BCEWithLogitsLoss()
    pixels = torch.from_numpy(
        np.load(folder.parent / "images.npy")
    )  # without TensorFlow, which cannot be loaded together with PyTorch
    resize = lambda images, size: nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)  # noqa: E731

    def train(rows):
        real = resize(pixels[rows].permute(0, 3, 1, 2).float() / 127.5 - 1.0, 64).to(memory_format=torch.channels_last)
        ones, zeros = torch.ones(len(rows), 1), torch.zeros(len(rows), 1)
        fake = generator(torch.randn(len(rows), 100, 1, 1))
        adam[1].zero_grad()
        entropy(discriminator(real), ones).backward()
        entropy(discriminator(fake.detach()), zeros).backward()
        adam[1].step()
        adam[0].zero_grad()
        entropy(discriminator(fake), ones).backward()
        adam[0].step()

    def draw():
        generator.eval()
        with torch.no_grad():
            parts = [resize(generator(torch.randn(500, 100, 1, 1)), 28) for _ in range(SAMPLES // 500)]
        generator.train()
        return torch.cat(parts).permute(0, 2, 3, 1).numpy()

    def batches():
        while True:
            yield from torch.randperm(len(pixels)).split(64)

    repeat(batches(), train, draw, clock, arguments.seconds, folder)


def repeat(batches, train, draw, clock: Clock, seconds: float, folder: pathlib.Path) -> None:
    """Train batch by batch until the time is up, and draw samples when due, with the clock stopped."""
    steps = 0
    for moment in due(seconds):
        while clock() < moment:
            train(next(batches))
            steps += 1
        now, started = clock(), time.time()
        keep(folder, now, draw())
        clock.held += time.time() - started
    print(f"{folder.name}: {steps:,} steps")


def score(contender: str, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    from genlab.evaluate import extractors
    from genlab.evaluate.metrics import distances

    dataset = genlab.data.load(arguments.data)
    extractor = extractors.load("auto", dataset)
    real = extractor(dataset.test_images[:SAMPLES])[0]
    rows = np.random.default_rng(0).permutation(len(dataset.images))[:SAMPLES]
    floor = distances.frechet_distance(extractor(dataset.images[:][rows])[0], real)
    found = {float(path.stem): extractor(np.load(path))[0] for path in sorted(folder.glob("*.npy"))}
    entry = {
        "contender": contender if contender != "genlab" else f"genlab {arguments.model} {arguments.flags}".rstrip(),
        "data": dataset.name,
        "seconds": list(found),
        "frechet_distance": [distances.frechet_distance(features, real) for features in found.values()],
        "floor": floor,
        "samples": SAMPLES,
        "extractor_sha256": extractor.sha256,
        "budget": arguments.seconds,
    }
    results.add(KEPT, entry)


def plot(data: str) -> None:
    from matplotlib import ticker

    from genlab import plots

    newest = {entry["contender"]: entry for entry in results.entries(KEPT) if entry["data"] == data}
    with plots.axes(results.FOLDER / f"{KEPT}-{data}.png", 6, 4) as axes:
        for contender, entry in newest.items():
            multiples = np.array(entry["frechet_distance"]) / entry["floor"]
            axes.loglog(entry["seconds"], multiples, "o-", label=contender)
        axes.set(xlabel="seconds since the start", ylabel="Fréchet distance, multiples of real images'")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(ticker.NullFormatter())
        axes.legend()


if __name__ == "__main__":
    main()
