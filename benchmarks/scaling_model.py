"""Model of data-parallel training on several workers, computed from measured step times.

    python benchmarks/step_time.py --workloads dcgan-64 dcgan-128 --implementations genlab --precisions float32
    python benchmarks/scaling_model.py

A step takes a + b * images of a worker, fitted to its times at batch sizes 64 and 128. The workers then sum their gradients
with a ring all-reduce: each sends 2 (n - 1) / n of them over its link, in 2 (n - 1) messages (Patarasuk & Yuan 2009,
https://doi.org/10.1016/j.jpdc.2008.09.002). No overlap is assumed. The table goes to benchmarks/results/scaling_model.md.
"""

from __future__ import annotations

import results
import rivals

WORKERS = (1, 2, 4, 8, 16, 32)
LINKS = {"1 Gbit/s": 1e9, "10 Gbit/s": 10e9, "100 Gbit/s": 100e9}
LATENCY = 50e-6
"""Latency of a message, in seconds."""
BATCH = 64
"""Images per worker."""


def main() -> None:
    entries = [
        entry
        for entry in results.entries("step_time")
        if (entry["implementation"], entry["precision"]) == ("genlab", "float32")
    ]
    # Times of different machines make no line.
    entries = [entry for entry in entries if entry["machine"] == entries[-1]["machine"]]
    newest = {entry["workload"]: entry["milliseconds"] / 1000 for entry in entries}
    small, large = newest["dcgan-64"], newest["dcgan-128"]
    fixed, by_image = 2 * small - large, (large - small) / 64
    gradients = 4 * sum(network.count_params() for network in rivals.networks(rivals.WORKLOADS["dcgan-64"]))
    lines = [
        "# Several workers: cost model",
        "",
        f"dcgan on 28x28; not measured but computed from its steps on one machine ({results.machines(entries)}):",
        f"{1000 * fixed:.1f} ms plus {1000 * by_image:.2f} ms per image, {gradients / 1e6:.1f} MB of gradients, {LATENCY * 1e6:.0f} us per message.",
        "",
        f"Images per second, with {BATCH} images per step on each worker (efficiency compared with one worker):",
        "",
        f"| workers | {' | '.join(LINKS)} |",
        f"|---|{'---|' * len(LINKS)}",
    ]
    own = fixed + by_image * BATCH
    for count in WORKERS:
        seconds = [own + ring(count, gradients, link) for link in LINKS.values()]
        lines.append(
            f"| {count} | {' | '.join(f'{count * BATCH / each:,.0f} ({own / each:.0%})' for each in seconds)} |"
        )
    lines += ["", f"Images per second, with {BATCH} images per step split over all workers:", ""]
    lines += [f"| workers | {' | '.join(LINKS)} |", f"|---|{'---|' * len(LINKS)}"]
    best = {}
    for count in WORKERS:
        seconds = [fixed + by_image * BATCH / count + ring(count, gradients, link) for link in LINKS.values()]
        lines.append(f"| {count} | {' | '.join(f'{BATCH / each:,.0f}' for each in seconds)} |")
        for name, each in zip(LINKS, seconds, strict=True):
            best[name] = min(best.get(name, (each, count)), (each, count))
    text = ", ".join(f"{count} at {name}" for name, (_, count) in best.items())
    lines += ["", f"Fastest number of workers for a split batch: {text}."]
    (results.FOLDER / "scaling_model.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def ring(workers: int, gradients: float, bits_per_second: float) -> float:
    """Return the seconds to sum gradients (in bytes) over all workers."""
    return 2 * (workers - 1) * (gradients / workers * 8 / bits_per_second + LATENCY)


if __name__ == "__main__":
    main()
