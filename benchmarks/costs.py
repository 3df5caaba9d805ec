"""Cost of using genlab besides training steps: start-up, sampling, evaluation, memory, drawing and saving.

    python benchmarks/costs.py --data mnist [--rounds 3]

Each command runs in its own process, as for a user, and is timed from start to end. Results go to
benchmarks/results/costs.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import psutil
import results

KEPT = "costs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument(
        "--steps", type=int, default=2000, help="steps of the run whose memory and overhead are measured"
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = pathlib.Path(folder)
        train = ["genlab.train", "dcgan", "--data", arguments.data, "--out", folder]
        add("help", [wall(["genlab.train", "dcgan", "--help"]) for _ in range(arguments.rounds)], "seconds")
        first = [until_first_step([*train, "--steps", "1", "--log-every", "1"], runs) for _ in range(arguments.rounds)]
        add("from command to first step", first, "seconds")
        peak, overhead = trained([*train, "--steps", str(arguments.steps)], runs)
        add(f"peak memory of {arguments.steps:,} steps", [peak], "mebibytes")
        add("share of grids, animation, logs and checkpoints", [overhead], "share")
        run = str(max(runs.iterdir()))
        samples = ["genlab.sample", "--run", run, "--count", "10000", "--array", str(runs / "samples.npz")]
        add("sampling 10,000", [wall(samples) for _ in range(arguments.rounds)], "seconds")
        add(
            "evaluating 10,000",
            [wall(["genlab.evaluate", run, "--samples", "10000"]) for _ in range(arguments.rounds)],
            "seconds",
        )


def add(what: str, values: list[float], unit: str) -> None:
    results.add(
        KEPT, {"what": what, unit: round(statistics.median(values), 3), "rounds": [round(each, 3) for each in values]}
    )


def start(module_and_flags: list[str]) -> psutil.Popen:
    return psutil.Popen([sys.executable, "-m", *module_and_flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wall(module_and_flags: list[str]) -> float:
    started = time.perf_counter()
    if start(module_and_flags).wait():
        raise SystemExit(f"{' '.join(module_and_flags)} failed. Run it by hand to see why.")
    return time.perf_counter() - started


def logged(runs: pathlib.Path) -> list[pathlib.Path]:
    """Return the runs' files of metrics, the newest run's last."""
    return sorted(runs.glob("0*/metrics.jsonl"))


def until_first_step(module_and_flags: list[str], runs: pathlib.Path) -> float:
    before = len(logged(runs))
    started = time.perf_counter()
    process = start(module_and_flags)
    while process.poll() is None and len(logged(runs)) == before:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    process.wait()
    return seconds


def trained(module_and_flags: list[str], runs: pathlib.Path) -> tuple[float, float]:
    """Return peak memory in MiB, and the fraction of time from first log line to end that is not training."""
    before, peak, first = len(logged(runs)), 0.0, 0.0
    process = start(module_and_flags)
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            break
        if not first and len(logged(runs)) > before:
            first = time.perf_counter()
        time.sleep(0.05)
    whole = time.perf_counter() - first
    lines = [json.loads(line) for line in logged(runs)[-1].read_text().splitlines()]
    return peak, 1.0 - (lines[-1]["seconds"] - lines[0]["seconds"]) / whole


if __name__ == "__main__":
    main()
