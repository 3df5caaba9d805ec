"""Time of a training step: genlab compared with hand-written equivalents, with the same networks, batch and optimizer.

    pip install -e ".[benchmarks]"
    python benchmarks/step_time.py [--workloads dcgan-64 vae-64] [--precisions float32 bfloat16] [--rounds 5]
    python benchmarks/step_time.py --sizes  # genlab's dcgan alone, by batch, image and width

PyTorch (eager and compiled) and JAX take part where they are installed: `pip install torch jax`.

Each implementation (see rivals.py) runs in its own process. They take turns of a couple of seconds, so that other load on the
machine affects all equally. The tables have the medians, the floating-point work of the step, counted from the shapes, and
the time of this work at the machine's measured peak for large matrix products and convolutions. Results go to
benchmarks/results/step_time.json and cost_by_size.json, with tables in .md files.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import math
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import results
import rivals
import turns

from genlab.backend import tf

KEPT, KEPT_BY_SIZE = "step_time", "cost_by_size"
ALL = rivals.WORKLOADS | rivals.SIZES
PRECISIONS = ("float32", "bfloat16")
ELSEWHERE = {
    "torch": ("torch", "torch_step.py"),
    "torch-compiled": ("torch", "torch_step.py"),
    "jax": ("jax", "jax_step.py"),
}
"""Implementations without TensorFlow: the package that each needs, and its script."""
IMPLEMENTATIONS = (*rivals.IMPLEMENTATIONS, *ELSEWHERE)


@dataclasses.dataclass(frozen=True)
class Rates:
    """Measured peak of a machine, per second."""

    matrix: float
    """Floating-point operations in a large matrix product."""
    convolution: float
    """Floating-point operations in a large convolution."""
    bytes: float
    """Bytes read from and written to memory."""

    @property
    def operations(self) -> float:
        return max(self.matrix, self.convolution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", default=list(rivals.WORKLOADS), choices=ALL)
    parser.add_argument("--sizes", action="store_true", help="cost of genlab's dcgan by size")
    parser.add_argument("--implementations", nargs="*", default=list(IMPLEMENTATIONS), choices=IMPLEMENTATIONS)
    parser.add_argument("--precisions", nargs="*", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.sizes:
        arguments.workloads, arguments.implementations = list(rivals.SIZES), ["genlab"]
    for package in {package for package, _ in ELSEWHERE.values() if importlib.util.find_spec(package) is None}:
        print(f"{package} is not installed: its rows are skipped")
        arguments.implementations = [
            each for each in arguments.implementations if ELSEWHERE.get(each, ("",))[0] != package
        ]
    for name in arguments.workloads:
        rates = {precision: machine_rates(precision) for precision in arguments.precisions}
        measure(name, arguments, rates)
        write_table()
        write_sizes()


def measure(name: str, arguments: argparse.Namespace, rates: dict[str, Rates]) -> None:
    workers = {
        (implementation, precision): turns.Worker(command(name, implementation, precision))
        for implementation in arguments.implementations
        for precision in arguments.precisions
        if not (ALL[name].model == "vae" and implementation == "simultaneous")  # not adversarial
    }
    try:
        for _ in range(arguments.rounds):
            for worker in workers.values():
                worker.turn()
        for (implementation, precision), worker in workers.items():
            cost = step_cost(name, implementation, precision, rates[precision])
            seconds = statistics.median(worker.seconds)
            entry = {
                "workload": name,
                "implementation": implementation,
                "precision": precision,
                "milliseconds": 1000 * seconds,
                "rounds": [1000 * each for each in worker.seconds],
                "gigaflop": cost.operations / 1e9,
                "gigabytes": cost.bytes / 1e9,
                "machine_gigaflop_per_second": {
                    "matrix": rates[precision].matrix / 1e9,
                    "convolution": rates[precision].convolution / 1e9,
                },
                "machine_gigabytes_per_second": rates[precision].bytes / 1e9,
                "floor_milliseconds": 1000 * cost.seconds,
                "share_of_floor": cost.seconds / seconds,
            }
            results.add(KEPT_BY_SIZE if arguments.sizes else KEPT, entry)
    finally:
        for worker in workers.values():
            worker.end()


def command(workload: str, implementation: str, precision: str) -> list[str]:
    here = pathlib.Path(__file__).parent
    if implementation in ELSEWHERE:
        script = str(here / ELSEWHERE[implementation][1])
        described = json.dumps(rivals.described(ALL[workload]))
        return [script, described, precision, *(["compiled"] if implementation == "torch-compiled" else [])]
    return [str(here / "rivals.py"), workload, implementation, precision]


def machine_rates(precision: str) -> Rates:
    """Measure the peak of this machine."""
    kind = tf.as_dtype(precision)
    matrix = tf.cast(tf.random.normal([2048, 2048]), kind)
    pixels = tf.cast(tf.random.normal([64, 28, 28, 64]), kind)
    kernel = tf.cast(tf.random.normal([3, 3, 64, 64]), kind)
    store, values = tf.Variable(tf.zeros([2**24])), tf.ones([2**24])  # 64 MiB each: more than caches hold
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    convolution = tf.function(lambda: tf.reduce_sum(tf.nn.conv2d(pixels, kernel, 1, "SAME")))
    sum_up = tf.function(lambda: store.assign_add(values)[0])
    amounts = {product: 2 * 2048**3, convolution: 2 * 64 * 28 * 28 * 9 * 64 * 64, sum_up: 3 * 4 * 2**24}
    best = []
    for function, amount in amounts.items():
        function().numpy()
        seconds = []
        for _ in range(10):
            started = time.perf_counter()
            function().numpy()
            seconds.append(time.perf_counter() - started)
        best.append(amount / min(seconds))
    return Rates(*best)


@dataclasses.dataclass(frozen=True)
class Pass:
    """A layer's pass forward, or backward to inputs or to weights: they cost the same."""

    operations: float
    """Multiplications and additions, two per product."""
    numbers: float
    """Numbers in inputs, weights and outputs, each read or written once."""


@dataclasses.dataclass(frozen=True)
class Cost:
    operations: float
    bytes: float
    seconds: float
    """Sum over passes of the longer of operations and bytes at the machine's peak, plus Adam's bytes."""


def step_cost(name: str, implementation: str, precision: str, rates: Rates) -> Cost:
    """Return the minimum cost of a step's convolutions, dense layers and optimizers, without the layers in between."""
    workload = ALL[name]
    networks = rivals.networks(workload)
    first, second = ([*layer_passes(network, workload.batch)] for network in networks)
    if workload.model == "vae":  # forward, and backward to weights and, except for the first layer, to inputs
        done = 3 * first[1:] + 2 * first[:1] + 3 * second
    else:
        update = 2 * (3 * second[1:] + 2 * second[:1])  # of the discriminator, on real and on generated images
        generated = 3 * first[1:] + 2 * first[:1]
        # If the generator is updated on different noise than the discriminator, both run once more.
        again = {"tutorial": [], "simultaneous": [], **dict.fromkeys(ELSEWHERE, second)}.get(
            implementation, first + second
        )
        done = update + second + generated + again  # once back through the discriminator to the image
    width = tf.as_dtype(precision).size
    # Adam reads a weight, its gradient and two moments, and writes all but the gradient.
    updating = 7 * 4 * sum(math.prod(weight.shape) for network in networks for weight in network.trainable_weights)
    seconds = sum(max(each.operations / rates.operations, width * each.numbers / rates.bytes) for each in done)
    return Cost(
        operations=sum(each.operations for each in done),
        bytes=width * sum(each.numbers for each in done) + updating,
        seconds=seconds + updating / rates.bytes,
    )


def layer_passes(network: Any, batch: int) -> Iterator[Pass]:
    """Yield a pass over a batch for each layer, in order."""
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        weights, inputs, outputs = layer.kernel.shape, layer.input.shape[1:], layer.output.shape[1:]
        # A transposed convolution applies its kernel once per input, every other layer once per output.
        places = math.prod((inputs if type(layer).__name__ == "Conv2DTranspose" else outputs)[:-1])
        numbers = batch * (math.prod(inputs) + math.prod(outputs)) + math.prod(weights)
        yield Pass(2.0 * batch * places * math.prod(weights), numbers)


def write_table() -> None:
    """Write one table for each machine: only times of the same machine can be compared."""
    newest = {
        (entry["machine"], entry["workload"], entry["implementation"], entry["precision"]): entry
        for entry in results.entries(KEPT)
    }
    lines = [
        "# Time of a training step",
        "",
        "Median milliseconds. The fraction of peak is the time of the operations and bytes of the step's convolutions, dense layers "
        "and optimizers at the machine's measured peak, divided by the measured time.",
    ]
    for machine in dict.fromkeys(machine for machine, *_ in newest):
        lines += ["", *machine_table([entry for key, entry in newest.items() if key[0] == machine])]
    (results.FOLDER / f"{KEPT}.md").write_text("\n".join(lines) + "\n")


def machine_table(chosen: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of one machine."""
    by_row = {(entry["workload"], entry["implementation"], entry["precision"]): entry for entry in chosen}
    lines = [
        f"## {results.machines(chosen)}",
        "",
        f"Peak: {machine_text(chosen)}.",
        "",
        "| workload | implementation | precision | ms per step | relative to genlab's fastest | GFLOP | GB | fraction of peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload, implementation, precision in itertools.product(rivals.WORKLOADS, IMPLEMENTATIONS, PRECISIONS):
        entry = by_row.get((workload, implementation, precision))
        if entry is None:
            continue
        own = [each["milliseconds"] for key, each in by_row.items() if key[:2] == (workload, "genlab")]
        lines.append(
            f"| {workload} | {implementation} | {precision} | {entry['milliseconds']:.1f} "
            f"| {entry['milliseconds'] / min(own):.2f} | {entry['gigaflop']:.1f} | {entry['gigabytes']:.2f} "
            f"| {entry['share_of_floor']:.0%} |"
        )
    return lines


def machine_text(chosen: list[dict[str, Any]]) -> str:
    parts = []
    for precision in PRECISIONS:
        found = [entry for entry in chosen if entry["precision"] == precision]
        if found:
            rates = {
                kind: statistics.median(each["machine_gigaflop_per_second"][kind] for each in found)
                for kind in ("matrix", "convolution")
            }
            parts.append(
                f"{rates['matrix']:.0f} GFLOP/s in matrix products and {rates['convolution']:.0f} in convolutions of {precision}"
            )
    memory = statistics.median(each["machine_gigabytes_per_second"] for each in chosen)
    return ", ".join([*parts, f"{memory:.0f} GB/s"])


def write_sizes() -> None:
    """Write the time per GFLOP by size, relative to the smallest."""
    chosen = {entry["workload"]: entry for entry in results.entries(KEPT_BY_SIZE) if entry["precision"] == "float32"}
    if len(chosen) < len(rivals.SIZES):
        return
    cost = {name: entry["milliseconds"] / entry["gigaflop"] for name, entry in chosen.items()}
    lines = [
        "# Cost against size",
        "",
        f"genlab's `dcgan`, float32; {results.machines(list(chosen.values()))}. For the fraction of peak, see step_time.md.",
        "",
        "| batch, image, width | ms per step | images/s | GFLOP per step | ms per GFLOP | relative to the smallest | fraction of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in rivals.SIZES:
        entry = chosen[name]
        rate = 1000 * rivals.SIZES[name].batch / entry["milliseconds"]
        lines.append(
            f"| {name.removeprefix('dcgan-')} | {entry['milliseconds']:.1f} | {rate:,.0f} | {entry['gigaflop']:.1f} "
            f"| {cost[name]:.1f} | {cost[name] / min(cost.values()):.2f} | {entry['share_of_floor']:.0%} |"
        )
    (results.FOLDER / "cost_by_size.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
