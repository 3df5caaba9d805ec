"""Time of a training step: genlab beside what one would write instead, on the same networks, batch and optimizer.

    pip install -e ".[benchmarks]"
    python benchmarks/step_time.py [--workloads dcgan-64 vae-64] [--precisions float32 bfloat16] [--rounds 5]
    python benchmarks/step_time.py --sizes  # genlab's dcgan alone, by batch, image and width

Each implementation (see rivals.py) runs in a process of its own; they take turns, a couple of seconds each, so that what else
the machine does hits all alike. Beside the medians stand the floating-point work of the step, counted from the shapes, and
the time that it would take at the rate of this machine's large matrix products and convolutions. Results go to
benchmarks/results/step_time.json and cost_by_size.json, with a table beside each.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import pathlib
import statistics
import time
from typing import Any

import results
import rivals
import turns

from genlab.backend import tf

KEPT, KEPT_BY_SIZE = "step_time", "cost_by_size"
ALL = rivals.WORKLOADS | rivals.SIZES
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", default=list(rivals.WORKLOADS), choices=ALL)
    parser.add_argument("--sizes", action="store_true", help="what genlab's dcgan costs by size")
    parser.add_argument("--implementations", nargs="*", default=[*rivals.IMPLEMENTATIONS, "torch"])
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.sizes:
        arguments.workloads, arguments.implementations = list(rivals.SIZES), ["genlab"]
    if importlib.util.find_spec("torch") is None and "torch" in arguments.implementations:
        print("torch is not installed: its rows are left out")
        arguments.implementations.remove("torch")
    for name in arguments.workloads:
        rates = {precision: machine_rate(precision) for precision in arguments.precisions}
        measure(name, arguments, rates)
        write_table()
        write_sizes()


def measure(name: str, arguments: argparse.Namespace, rates: dict[str, float]) -> None:
    workers = {
        (implementation, precision): turns.Worker(command(name, implementation, precision))
        for implementation in arguments.implementations
        for precision in arguments.precisions
        if not (ALL[name].model == "vae" and implementation == "simultaneous")  # no game
    }
    try:
        for _ in range(arguments.rounds):
            for worker in workers.values():
                worker.turn()
        for (implementation, precision), worker in workers.items():
            work = floating_point_work(name, implementation)
            floor = work / rates[precision]
            seconds = statistics.median(worker.seconds)
            entry = {
                "workload": name,
                "implementation": implementation,
                "precision": precision,
                "milliseconds": 1000 * seconds,
                "rounds": [1000 * each for each in worker.seconds],
                "gigaflop": work / 1e9,
                "machine_gigaflop_per_second": rates[precision] / 1e9,
                "floor_milliseconds": 1000 * floor,
                "share_of_floor": floor / seconds,
            }
            results.add(KEPT_BY_SIZE if arguments.sizes else KEPT, entry)
    finally:
        for worker in workers.values():
            worker.end()


def command(workload: str, implementation: str, precision: str) -> list[str]:
    here = pathlib.Path(__file__).parent
    if implementation == "torch":
        return [str(here / "torch_step.py"), json.dumps(rivals.described(ALL[workload])), precision]
    return [str(here / "rivals.py"), workload, implementation, precision]


def machine_rate(precision: str) -> float:
    """Floating-point operations per second of a large matrix product or convolution, whichever is faster."""
    kind = tf.as_dtype(precision)
    matrix = tf.cast(tf.random.normal([2048, 2048]), kind)
    pixels = tf.cast(tf.random.normal([64, 28, 28, 64]), kind)
    kernel = tf.cast(tf.random.normal([3, 3, 64, 64]), kind)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    convolution = tf.function(lambda: tf.reduce_sum(tf.nn.conv2d(pixels, kernel, 1, "SAME")))
    best = 0.0
    for function, operations in ((product, 2 * 2048**3), (convolution, 2 * 64 * 28 * 28 * 9 * 64 * 64)):
        function().numpy()
        for _ in range(10):
            started = time.perf_counter()
            function().numpy()
            best = max(best, operations / (time.perf_counter() - started))
    return best


def floating_point_work(name: str, implementation: str) -> float:
    """Multiplications and additions of a step in convolutions and dense layers, two for each product."""
    workload = ALL[name]
    first, second = (forward_work(network, workload.batch) for network in rivals.networks(workload))
    if workload.model == "vae":  # forward; and backward to weights and, but for the first layer, to inputs
        return 3 * sum(first) + 3 * sum(second) - first[0]
    generator, discriminator = sum(first), sum(second)
    update = 2 * (3 * discriminator - second[0])  # of the discriminator, on real and on generated images
    through = discriminator  # back through the discriminator to the image
    generated = 3 * generator - first[0]
    # Where the generator is updated on other noise than the discriminator, both are run once more.
    again = {"tutorial": 0.0, "simultaneous": 0.0, "torch": discriminator}.get(
        implementation, generator + discriminator
    )
    return update + through + generated + again


def forward_work(network: Any, batch: int) -> list[float]:
    """The same of each layer's pass over a batch, in order."""
    work = []
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        # A transposed convolution spends a kernel on each of its inputs, every other layer on each of its outputs.
        transposed = type(layer).__name__ == "Conv2DTranspose"
        space = (layer.input if transposed else layer.output).shape[1:-1]
        work.append(2.0 * batch * math.prod(space) * math.prod(layer.kernel.shape))
    return work


def write_table() -> None:
    newest = {
        (entry["workload"], entry["implementation"], entry["precision"]): entry for entry in results.entries(KEPT)
    }
    chosen = list(newest.values())
    lines = [
        "# Time of a training step",
        "",
        f"Median milliseconds; {results.machines(chosen)}. The floor is the step's floating-point work at the machine's best rate.",
        "",
        "| workload | implementation | precision | ms a step | genlab is faster by | GFLOP | share of the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    implementations = [*rivals.IMPLEMENTATIONS, "torch"]
    for workload, implementation, precision in itertools.product(rivals.WORKLOADS, implementations, PRECISIONS):
        entry = newest.get((workload, implementation, precision))
        if entry is None:
            continue
        own = [newest[key]["milliseconds"] for key in newest if key[:2] == (workload, "genlab")]
        lines.append(
            f"| {workload} | {implementation} | {precision} | {entry['milliseconds']:.1f} "
            f"| {entry['milliseconds'] / min(own):.2f} | {entry['gigaflop']:.1f} | {entry['share_of_floor']:.0%} |"
        )
    (results.FOLDER / f"{KEPT}.md").write_text("\n".join(lines) + "\n")


def write_sizes() -> None:
    """Time for an image over the work for an image, beside the least of all sizes."""
    chosen = {entry["workload"]: entry for entry in results.entries(KEPT_BY_SIZE) if entry["precision"] == "float32"}
    if len(chosen) < len(rivals.SIZES):
        return
    cost = {name: entry["milliseconds"] / entry["gigaflop"] for name, entry in chosen.items()}
    lines = [
        "# Cost against size",
        "",
        f"genlab's `dcgan`, float32; {results.machines(list(chosen.values()))}.",
        "",
        "| batch, image, width | ms a step | images/s | GFLOP a step | ms a GFLOP | times the least |",
        "|---|---|---|---|---|---|",
    ]
    for name in rivals.SIZES:
        entry = chosen[name]
        rate = 1000 * rivals.SIZES[name].batch / entry["milliseconds"]
        lines.append(
            f"| {name.removeprefix('dcgan-')} | {entry['milliseconds']:.1f} | {rate:,.0f} | {entry['gigaflop']:.1f} "
            f"| {cost[name]:.1f} | {cost[name] / min(cost.values()):.2f} |"
        )
    (results.FOLDER / "cost_by_size.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
