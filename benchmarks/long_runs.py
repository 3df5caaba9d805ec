"""Memory of long runs and of programs that train many: does it grow, and do the logs stay small?

    python benchmarks/long_runs.py [--steps 20000] [--fits 50]

Each quick model is trained for that many steps by the command line, and a program calls `genlab.fit` that many times. Both are
processes of their own, whose memory (resident set size) is read at regular steps, or after each call. Growth is that of a line
through the second half. Results go to benchmarks/results/long_runs.json and long_runs.md. What is there already is not
measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import psutil
import results

import genlab

KEPT = "long_runs"
TINY: dict[str, Any] = {
    "batch_size": 16,
    "latent_size": 8,
    "generator_widths": (8, 16),
    "discriminator_widths": (8, 16),
    "generator_units": 16,
    "discriminator_units": 16,
}
RUNS: dict[str, list[str]] = {
    "gan on ring": ["gan", "--data", "ring"],
    "dcgan on digits, tiny": ["dcgan", "--data", "digits"],
}
SAMPLES = 100
"""How often the memory of a run is read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps of each long run")
    parser.add_argument("--fits", type=int, default=50, help="runs that one program trains")
    parser.add_argument("--fit-steps", type=int, default=20, help="steps of each of these")
    parser.add_argument("--program", action="store_true", help="be that program, and print its memory after each run")
    arguments = parser.parse_args()
    if arguments.program:
        program(arguments.fits, arguments.fit_steps)
        return
    for name, flags in RUNS.items():
        asked: dict[str, Any] = {"what": name, "steps": arguments.steps}
        if missing(asked):
            results.add(KEPT, asked | trained([*flags, *(tiny() if "tiny" in name else [])], arguments.steps))
    asked = {"what": "genlab.fit in one program", "fits": arguments.fits, "steps": arguments.fit_steps}
    if missing(asked):
        results.add(KEPT, asked | fitted(arguments.fits, arguments.fit_steps))
    write_table()


def missing(asked: dict[str, Any]) -> bool:
    return not results.is_known(KEPT, asked)


def tiny() -> list[str]:
    """Return TINY as flags."""
    flags = []
    for name, value in TINY.items():
        flags += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return flags


def trained(flags: list[str], steps: int) -> dict[str, Any]:
    """Train by the command line. Return [step, MiB] pairs in `memory`, and the bytes that the run's folder holds."""
    every = max(1, steps // SAMPLES)
    memory: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "genlab.train", *flags, "--steps", str(steps), "--out", folder]
        command += ["--log-every", str(every)]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                reached = step_of(pathlib.Path(folder))
                if reached >= every + (memory[-1][0] if memory else 0):
                    with contextlib.suppress(psutil.NoSuchProcess):  # it may end here
                        memory.append((reached, mebibytes(psutil.Process(process.pid))))
                time.sleep(0.05)
        finally:
            process.kill()
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed.")
        (run,) = pathlib.Path(folder).glob("0*")
        sizes = {part.name: size(part) for part in run.iterdir() if part.name != ".lock"}
    return {"memory": memory, "bytes": sizes, "seconds": round(time.perf_counter() - started)}


def step_of(folder: pathlib.Path) -> int:
    """Return the last step in the metrics of the only run in the folder; 0 if there is none."""
    for path in folder.glob("0*/metrics.jsonl"):
        whole = path.read_text().rpartition("\n")[0]  # the last line may be incomplete
        if whole:
            return int(json.loads(whole.splitlines()[-1])["step"])
    return 0


def size(path: pathlib.Path) -> int:
    return sum(size(part) for part in path.iterdir()) if path.is_dir() else path.stat().st_size


def mebibytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def fitted(count: int, steps: int) -> dict[str, Any]:
    """Run `program` in a process of its own. Return [run, MiB] pairs in `memory`."""
    command = [sys.executable, __file__, "--program", "--fits", str(count), "--fit-steps", str(steps)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    memory = [(number + 1, float(line)) for number, line in enumerate(done.stdout.splitlines())]
    return {"memory": memory, "seconds": round(time.perf_counter() - started)}


def program(count: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            genlab.fit("dcgan", steps=steps, seed=seed, out=folder, **TINY)
            print(mebibytes(psutil.Process()), flush=True)


def growth(memory: list[tuple[int, float]]) -> float:
    """Return MiB per step, or per run, in the second half."""
    half = memory[len(memory) // 2 :]
    return float(np.polyfit(*np.transpose(half), 1)[0]) if len(half) > 1 else float("nan")


def write_table() -> None:
    entries = results.entries(KEPT)
    lines = [
        "# Memory of long runs",
        "",
        "Resident set size in MiB: after a tenth of the steps or runs, at the end, and how much a line through the second half "
        f"grows ([long_runs.py](../long_runs.py)). {results.machines(entries)}.",
        "",
        "| what | length | after a tenth | at the end | growth | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries:
        memory = entry["memory"]
        if not memory:
            continue
        many = "fits" in entry
        length = f"{entry['fits']} runs of {entry['steps']:,} steps" if many else f"{entry['steps']:,} steps"
        rise = f"{growth(memory):.2f} per run" if many else f"{1000 * growth(memory):.2f} per 1,000 steps"
        early = memory[len(memory) // 10][1]
        lines.append(
            f"| {entry['what']} | {length} | {early:.0f} | {memory[-1][1]:.0f} | {rise} | {entry['seconds']:,} |"
        )
    lines += ["", "Kilobytes in the folder of each run:", ""]
    for entry in entries:
        if "bytes" in entry:
            parts = (f"{name} {bytes / 1000:,.0f}" for name, bytes in sorted(entry["bytes"].items()))
            lines.append(f"- {entry['what']}, {entry['steps']:,} steps: {', '.join(parts)}")
    (results.FOLDER / f"{KEPT}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
