"""Throughput and memory of data sources, and the time that training waits for them.

    python benchmarks/data_sources.py [speed] [memory] [waiting]

Speed: batches of 64 images 64x64 RGB, from the same images as a folder of JPEG files, a folder of PNG files, PNG shards, raw
shards and an .npz, in memory and read on demand; compared with Keras' reader of folders. Memory: peak of a process that loads
10 thousand, 100 thousand and a million images 28x28 and streams 200 batches. Waiting: fraction of a step of dcgan, on
MNIST-sized and on 64x64 RGB images from shards. The images are synthetic. Results go to benchmarks/results/data_sources.json.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import results
from PIL import Image

import genlab
from genlab.data import DataOptions, Records, shards

KEPT = "data_sources"
CACHE = results.CACHE / KEPT
COUNT, SIZE, BATCH, ROUNDS = 4000, 64, 64, 5
STREAMED = DataOptions(memory=1e-6)
COUNTS = (10_000, 100_000, 1_000_000)
MEASURED = """
import sys
from genlab.data import DataOptions, load
dataset = load(sys.argv[1], options=DataOptions(memory=float(sys.argv[2])))
for batch in dataset.stream(64, seed=0).take(200):
    pass
# Not getrusage's maximum: a forked process starts with its parent's peak.
status = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["speed", "memory", "waiting"])
    for what in parser.parse_args().what:
        {"speed": speed, "memory": memory, "waiting": waiting}[what]()


def images(count: int, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Return smooth random images, which compress about as well as photographs."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, height // 4, width // 4, channels), np.uint8)
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.int16)
    return np.clip(fine + random.integers(-6, 7, fine.shape), 0, 255).astype(np.uint8)


def sources() -> dict[str, pathlib.Path]:
    """Return the same images in every format, written once."""
    pixels = images(COUNT, SIZE, SIZE, 3, seed=0)
    found = {name: CACHE / name for name in ("jpeg", "png", "png-shards", "raw-shards", "images.npz")}
    for suffix in ("jpeg", "png"):
        if not found[suffix].exists():
            found[suffix].mkdir(parents=True)
            for row, image in enumerate(pixels):
                Image.fromarray(image).save(found[suffix] / f"{row:05d}.{suffix}")
    facts = {"name": "made", "shape": [SIZE, SIZE, 3], "class_names": []}
    for name in ("png-shards", "raw-shards"):
        part = {"train": (COUNT, lambda rows: (pixels[rows], None))}
        shards.write(found[name], facts, part, raw=name == "raw-shards")
    if not found["images.npz"].exists():
        np.savez(found["images.npz"], images=pixels)
    return found


def speed() -> None:
    import keras

    found = sources()
    streams: dict[str, Any] = {}
    seconds_to_load = {}
    for name, path in found.items():
        for where, options in (("in memory", DataOptions()), ("on disk", STREAMED)):
            started = time.perf_counter()
            dataset = genlab.data.load(path, options=options)
            if isinstance(dataset.images, Records) == (where == "on disk"):
                seconds_to_load[f"{name}, {where}"] = round(time.perf_counter() - started, 2)
                streams[f"{name}, {where}"] = iter(dataset.stream(BATCH, seed=0))
    for name in ("jpeg", "png"):
        folder = keras.utils.image_dataset_from_directory(
            found[name], labels=None, batch_size=BATCH, image_size=(SIZE, SIZE), shuffle=True, seed=0, verbose=False
        )
        streams[f"{name}, Keras' image_dataset_from_directory"] = iter(folder.repeat().prefetch(4))
    rates: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(ROUNDS):
        for name, stream in streams.items():  # in turn, so that other load on the machine affects all equally
            rates[name].append(images_per_second(stream))
    for name, measured in rates.items():
        results.add(
            KEPT,
            {
                "what": "speed",
                "source": name,
                "images_per_second": round(statistics.median(measured)),
                "rounds": [round(rate) for rate in measured],
                "seconds_to_load": seconds_to_load.get(name),
                "images": COUNT,
                "shape": [SIZE, SIZE, 3],
            },
        )


def images_per_second(stream: Iterator[Any], batches: int = 60) -> float:
    for _ in range(8):  # skip what was prefetched
        next(stream)
    started = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return batches * BATCH / (time.perf_counter() - started)


def memory() -> None:
    for count in COUNTS:
        path = CACHE / f"raw-{count}"
        facts = {"name": "made", "shape": [28, 28, 1], "class_names": []}
        made = lambda rows: (images(len(rows), 28, 28, 1, seed=int(rows[0])), None)  # noqa: E731
        shards.write(path, facts, {"train": (count, made)}, raw=True, images_per_shard=10_000)
        for where, limit in (("on disk", 1e-6), ("in memory", 100.0)):
            measured = subprocess.run(
                [sys.executable, "-c", MEASURED, str(path), str(limit)], capture_output=True, text=True, check=True
            )
            entry = {"what": "memory", "source": f"raw shards, {where}", "images": count, "shape": [28, 28, 1]}
            results.add(KEPT, entry | {"peak_mebibytes": int(measured.stdout.split()[-1])})


def waiting() -> None:
    colour = sources()
    grey = CACHE / f"raw-{COUNTS[0]}"
    if not grey.exists():
        memory()
    for name, path in (
        ("28x28 grey", grey),
        ("64x64 RGB, PNG", colour["png-shards"]),
        ("64x64 RGB, JPEG", colour["jpeg"]),
    ):
        for where, options in (("in memory", {}), ("on disk", {"memory": 1e-6})):
            run = genlab.fit(
                "dcgan", str(path), steps=150, log_every=50, sample_every=150, out=CACHE / "runs", **options
            )
            lines = run.metrics()[1:]  # the first includes start-up
            entry = {"what": "waiting", "source": f"{name}, {where}"}
            entry["share_of_step"] = statistics.mean(line["data_waiting"] for line in lines)
            entry["images_per_second"] = statistics.mean(line["images_per_second"] for line in lines)
            results.add(KEPT, entry)


if __name__ == "__main__":
    main()
