"""Images per second that `genlab.data shard run:RUN` writes, in one process and in parts, compared with a loop of one's own.

    python benchmarks/generated_shards.py [--run RUN] [--count 60000] [--rounds 3]

- one process: `python -m genlab.data shard run:RUN FOLDER --count COUNT`, which uses all cores;
- two parts at once: the same with --part 1/2 and 2/2, each on half of the cores, as on two machines;
- a loop: `decoder.predict` in batches of 64, each image encoded as PNG and written to one TFRecord file.

It needs two cores. Each is a process of its own, in turn. What it takes to write few images is subtracted, so that the rate is that of
a long run. By default a dcgan of the embedded digits is trained for a few steps: the rate does not depend on its quality. Results go
to benchmarks/results/generated_shards.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import results

import genlab

KEPT = "generated_shards"
FEW = 2000
"""Images of the run whose time is subtracted: that of starting and tracing."""
LOOP = """
import sys
import numpy as np
import tensorflow as tf

import genlab

run, path, count = genlab.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
random = np.random.default_rng(0)
with tf.io.TFRecordWriter(path) as writer:
    for _ in range(0, count, 64):
        latents = random.standard_normal((64, run.model.hparams.latent_size)).astype("float32")
        images = run.model.decoder.predict(latents, batch_size=64, verbose=0)
        for image in np.rint((images + 1) * 127.5).clip(0, 255).astype(np.uint8):
            png = tf.train.BytesList(value=[tf.io.encode_png(image).numpy()])
            features = tf.train.Features(feature={"image": tf.train.Feature(bytes_list=png)})
            writer.write(tf.train.Example(features=features).SerializeToString())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="", help="a run that is not conditional")
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    run = arguments.run or str(genlab.fit("dcgan", steps=20, out=str(results.CACHE / KEPT)).path)
    methods = {"one process": shard, "two parts at once": in_parts, "a loop": loop}
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(arguments.rounds):
        for name, method in methods.items():
            few, many = (timed(method, run, count) for count in (FEW, FEW + arguments.count))
            rates[name].append(arguments.count / (many - few))
    found = {name: round(statistics.median(values)) for name, values in rates.items()}
    rounds = {name: [round(value) for value in values] for name, values in rates.items()}
    results.add(KEPT, {"count": arguments.count, "images_per_second": found, "rounds": rounds})


def timed(method: Callable[[str, str, int], None], run: str, count: int) -> float:
    """Return the seconds that one method takes to write so many images into an empty folder."""
    folder = results.CACHE / KEPT / "written"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    method(run, str(folder), count)
    return time.perf_counter() - started


def shard(run: str, folder: str, count: int) -> None:
    """Write all of them in one process."""
    wait([start(run, folder, count)])


def in_parts(run: str, folder: str, count: int) -> None:
    """Write two parts, each on its own half of the cores."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    wait(
        [
            start(run, folder, count, "--part", f"{part}/2", cores=chosen)
            for part, chosen in ((1, cores[:half]), (2, cores[half:]))
        ]
    )


def loop(run: str, folder: str, count: int) -> None:
    """Write all of them in a loop of one's own."""
    subprocess.run([sys.executable, "-c", LOOP, run, f"{folder}/images.tfrecord", str(count)], check=True)


def start(run: str, folder: str, count: int, *more: str, cores: list[int] | None = None) -> subprocess.Popen[bytes]:
    """Start `genlab.data shard`, on some cores alone if they are given."""
    command = [sys.executable, "-m", "genlab.data", "shard", f"run:{run}", folder, "--count", str(count), *more]
    if cores is not None:
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for all of them. Raises RuntimeError if one failed."""
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"genlab.data shard ended with the exit status {max(codes)}")


if __name__ == "__main__":
    main()
