"""Kill training at random moments and resume it each time: does it end as an uninterrupted run does, bit for bit?

    python benchmarks/kills.py [--models dcgan vae ...] [--kills 20] [--steps 200] [--seed 0]

For each model, small networks are trained twice in processes of their own: once to the end, and once with SIGKILL at random
moments, resumed after each. A moment is a random time during start-up, in a step, or while a checkpoint, a grid or a line of
metrics is written: the folder is watched for its unfinished file. Then every number of the last checkpoint, all metrics but
timings, the position in the data and all grids are compared.

Results go to benchmarks/results/kills.json, an entry for each model, and the table to benchmarks/results/kills.md. What is there
already is not measured again.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import results

import genlab
from genlab import checkpoints, models
from genlab import run as runs
from genlab.backend import tf

KEPT = "kills"
EVERY = ["--log-every", "1", "--sample-every", "4", "--checkpoint-every", "3", "--keep", "2"]
TIMINGS = ("seconds", "images_per_second", "data_waiting")
MOMENTS = ("start", "step", "checkpoint", "grid", "metrics")
"""What a kill waits for: a random time after the start, or after a step; something that is being written."""
PATIENCE = 600
"""Seconds until a process that shows no progress is given up."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """When to kill a process: at a moment of that kind, once the run has reached a step, and some seconds later."""

    moment: str
    step: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=models.names(), choices=models.names())
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    arguments = parser.parse_args()
    for model in arguments.models:
        asked = {"model": model, "kills": arguments.kills, "steps": arguments.steps, "seed": arguments.seed}
        if results.is_known(KEPT, asked):
            continue
        out = results.CACHE / KEPT / model
        shutil.rmtree(out, ignore_errors=True)
        flags = [model, "--steps", str(arguments.steps), *EVERY, *small_flags(model)]
        whole = finished(out / "whole", flags)
        kills = random_kills(arguments.kills, arguments.steps, random.Random(f"{model} {arguments.seed}"))
        killed, inside = survived(out / "killed", flags, kills)
        moments = collections.Counter(kill.moment for kill in kills)
        results.add(KEPT, asked | {"moments": moments, "unfinished": inside, "differences": differences(whole, killed)})
        write_table()


def small_flags(model: str) -> list[str]:
    """Return the flags of networks that train in milliseconds."""
    flags = []
    for field in dataclasses.fields(models.load(model).Hparams):
        flag = f"--{field.name.replace('_', '-')}"
        if field.name.endswith("widths"):
            flags += [flag, "4", "6"]
        elif (field.name.endswith("units") and field.default) or field.name in ("batch_size", "latent_size"):
            flags += [flag, "8"]
        elif field.name == "ode_steps":
            flags += [flag, "2"]
    return flags


def random_kills(count: int, steps: int, chance: random.Random) -> list[Kill]:
    """Return kills in the order of the steps that they wait for, spread over the whole run; the first during start-up."""
    kills = [Kill("start", 0, chance.uniform(0.0, 10.0))]
    moments = [MOMENTS[index % len(MOMENTS)] for index in range(1, count)]
    chance.shuffle(moments)
    for index, moment in enumerate(moments, 1):
        step = int(steps * (index - chance.random()) / count)
        # Writing takes milliseconds: half of the kills hit it as soon as it is seen, the others what follows.
        longest = {"start": 10.0, "step": 0.5}.get(moment, chance.choice((0.0, 0.01)))
        kills.append(Kill(moment, step, chance.uniform(0.0, longest)))
    return kills


def finished(out: pathlib.Path, flags: list[str]) -> runs.Run:
    """Train in a process of its own, or resume what is there, and return the run."""
    process = started(out, flags)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(flags)} failed:\n{errors}")
    return genlab.load("latest", out)


def survived(out: pathlib.Path, flags: list[str], kills: list[Kill]) -> tuple[runs.Run, int]:
    """Train, kill and resume. Return the finished run, and how many kills left something unfinished."""
    inside = 0
    for kill in kills:
        before = unfinished(out)
        process = started(out, flags)
        wait_for(kill, out, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        inside += bool(unfinished(out) - before)
    return finished(out, flags), inside


def started(out: pathlib.Path, flags: list[str]) -> subprocess.Popen[str]:
    """Begin the run, or resume it if its folder has settings."""
    arguments = ["--resume"] if runs.all_runs(out) else flags
    return subprocess.Popen(
        [sys.executable, "-m", "genlab.train", *arguments, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(genlab.__file__).parents[1])},
    )


def wait_for(kill: Kill, out: pathlib.Path, process: subprocess.Popen[str]) -> None:
    """Return at the moment of a kill, or when the process has ended."""
    before = unfinished(out)  # by an earlier kill

    def until(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{out}: no {kill.moment} after step {kill.step} in {PATIENCE} s")
            time.sleep(0.0002)

    if kill.moment != "start":
        until(lambda: runs.all_runs(out) and reached(out) >= kill.step)
    if kill.moment == "metrics":
        size = metrics_size(out)
        until(lambda: metrics_size(out) != size)
    elif kill.moment == "checkpoint":
        until(lambda: any(path.name == checkpoints.UNFINISHED for path in unfinished(out)))
    elif kill.moment == "grid":
        until(lambda: any(path.name != checkpoints.UNFINISHED for path in unfinished(out) - before))
    time.sleep(kill.seconds)


def reached(out: pathlib.Path) -> int:
    """Return the last step in the metrics of the newest run; -1 if there are none."""
    lines = metrics_file(out).read_bytes().splitlines() if metrics_file(out).exists() else []
    try:
        return int(json.loads(lines[-1])["step"])
    except (IndexError, ValueError):  # none, or one that is being written
        return -1


def metrics_file(out: pathlib.Path) -> pathlib.Path:
    return runs.all_runs(out)[-1] / "metrics.jsonl"


def metrics_size(out: pathlib.Path) -> int:
    return metrics_file(out).stat().st_size if metrics_file(out).exists() else 0


def unfinished(out: pathlib.Path) -> set[pathlib.Path]:
    """Return what is being written, or was when a process was killed: a folder of a checkpoint, temporary files of grids."""
    return {*out.glob(f"*/checkpoints/{checkpoints.UNFINISHED}"), *out.glob("*/samples/.*")}


def differences(whole: runs.Run, killed: runs.Run) -> list[str]:
    """Return in which respects a run is not, bit for bit, the other one."""
    found = []
    first, second = (values(run) for run in (whole, killed))
    if first.keys() != second.keys() or any(not np.array_equal(first[name], second[name]) for name in first):
        found.append("checkpoint")  # weights, optimizers, steps, and the position in the data
    lines, others = (
        [{name: value for name, value in line.items() if name not in TIMINGS} for line in run.metrics()]
        for run in (whole, killed)
    )
    if lines != others or len(others) != (killed.path / "metrics.jsonl").read_bytes().count(b"\n"):
        found.append("metrics")
    batches = [next(iter(run.data().stream(8, 0, int(values(run)[BATCHES])))) for run in (whole, killed)]
    if any(not np.array_equal(one, other) for one, other in zip(*batches, strict=True)):
        found.append("data")
    pictures, others = (
        {path.name: path.read_bytes() for path in run.samples.iterdir() if not path.name.startswith(".")}
        for run in (whole, killed)
    )
    if pictures != others:
        found.append("pictures")
    return found


BATCHES = "batches/.ATTRIBUTES/VARIABLE_VALUE"
"""Name in a checkpoint of the number of batches that were consumed."""


def values(run: runs.Run) -> dict[str, Any]:
    """Return every number of the newest checkpoint by name."""
    reader = tf.train.load_checkpoint(str(run.find_checkpoint()))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names}


def write_table() -> None:
    entries = results.entries(KEPT)
    lines = [
        "# Runs that were killed and resumed",
        "",
        "Each run was killed (SIGKILL) at random moments, resumed after each, and compared with an uninterrupted one: every",
        "number of the last checkpoint, metrics except timings, position in the data, pictures. Written by",
        f"`benchmarks/kills.py`; {results.machines(entries)}.",
        "",
        f"| model | steps | kills | {' | '.join(MOMENTS)} | left something unfinished | differences |",
        f"|---|---|---|{'---|' * len(MOMENTS)}---|---|",
    ]
    for entry in entries:
        moments = " | ".join(str(entry["moments"].get(moment, 0)) for moment in MOMENTS)
        lines.append(
            f"| `{entry['model']}` | {entry['steps']} | {entry['kills']} | {moments} | {entry['unfinished']} | "
            f"{', '.join(entry['differences']) or 'none'} |"
        )
    (results.FOLDER / f"{KEPT}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
