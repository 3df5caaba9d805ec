"""The runs of a folder as rows: read without TensorFlow, filtered, sorted, and shown as a table or JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fnmatch
import math
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from genlab import run as folders
from genlab.console import aligned, in_bytes, one_line
from genlab.errors import GenlabError, UsageError, closest, reason
from genlab.evaluate import results
from genlab.run import Run

Column = Literal["name", "model", "data", "steps", "metric", "size", "age", "state"]
COLUMNS: tuple[Column, ...] = get_args(Column)
FILTERS = ("name", "model", "data", "preset", "state")
"""What `filtered` takes."""
DAMAGED = "damaged"
"""State of a run whose settings or metrics cannot be read."""
QUICK = "quick_frechet_distance"
UNITS = {"min": 60, "h": 3600, "d": 86400}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of a folder."""

    path: pathlib.Path
    name: str
    size: int
    """Bytes of all its files."""
    updated: float
    """When training last wrote to it, in seconds since 1970."""
    state: str
    """One of genlab.outcome.STATES, or DAMAGED; the fields below are then empty."""
    model: str = ""
    data: str = ""
    preset: str = ""
    done: int = 0
    """Training steps that are done: of the newest checkpoint; while it is trained, of the newest metrics."""
    steps: int = 0
    """Length of the run in training steps."""
    relative: float | None = None
    """Fréchet distance as a multiple of its floor; None if the run was not evaluated, or cannot be measured so."""
    quick: float | None = None
    """Lowest Fréchet distance of the quick evaluations, for a run without a full one."""
    problem: str = ""
    """What is damaged."""

    @property
    def age(self) -> float:
        """Seconds since training last wrote to it."""
        return max(0.0, time.time() - self.updated)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "path": str(self.path),
            "state": self.state,
            "model": self.model,
            "data": self.data,
            "preset": self.preset,
            "steps_done": self.done,
            "steps": self.steps,
            "relative_frechet_distance": self.relative,
            "quick_frechet_distance": self.quick,
            "size": self.size,
            "updated": datetime.datetime.fromtimestamp(self.updated).astimezone().isoformat(timespec="seconds"),
            "problem": self.problem,
        }


def rows(folder: pathlib.Path) -> list[Row]:
    """Return the runs of a folder, oldest first. Raises UsageError if there is no such folder."""
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}. Name one with --runs, or train a run first: python -m genlab.train dcgan"
        )
    return [_row(path) for path in folders.all_runs(folder)]


def filtered(found: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """Return the rows for which all words hold, such as `model=dcgan` or `name=*wide*`. Raises UsageError for other words."""
    conditions = []
    for word in words:
        name, equals, pattern = word.partition("=")
        if not equals:
            raise UsageError(f"--filter {word}: it must be NAME=VALUE, like model=dcgan or state=failed.")
        if name not in FILTERS:
            raise UsageError(
                f"--filter {word}: there is no {name!r} to filter by{closest(name, FILTERS)} Known: {', '.join(FILTERS)}."
            )
        conditions.append((name, pattern))
    return [row for row in found if all(fnmatch.fnmatchcase(getattr(row, name), text) for name, text in conditions)]


def ordered(found: Sequence[Row], column: Column) -> list[Row]:
    """Return rows sorted by a column: best metric, most steps, largest size and youngest first."""
    keys: dict[Column, Callable[[Row], Any]] = {
        "metric": lambda row: (_unless_none(row.relative), _unless_none(row.quick)),
        "steps": lambda row: -row.done,
        "size": lambda row: -row.size,
        "age": lambda row: -row.updated,
        "name": lambda row: (row.name.partition("-")[0].zfill(20), row.name),
    }
    return sorted(found, key=keys.get(column, lambda row: getattr(row, column)))


def table(found: Sequence[Row]) -> str:
    """Return rows as a table with what is damaged below it."""
    lines: list[list[str]] = [[*COLUMNS]]
    for row in found:
        known = row.state != DAMAGED
        cells = [one_line(row.name), row.model or "–", row.data or "–", f"{row.done:,}/{row.steps:,}" if known else "–"]
        lines.append([*cells, _metric(row), in_bytes(row.size), in_time(row.age), row.state])
    problems = [f"{one_line(row.name)}: {row.problem}" for row in found if row.problem]
    return "\n".join([aligned(lines), *([""] if problems else []), *problems])


def in_time(seconds: float) -> str:
    """Format a number of seconds in its largest unit."""
    for unit, length in reversed(UNITS.items()):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _metric(row: Row) -> str:
    if row.relative is not None:
        return f"{row.relative:.3g} x floor"
    return "–" if row.quick is None else f"{row.quick:.3g} quick"


def _unless_none(value: float | None) -> float:
    return math.inf if value is None else value


def _row(path: pathlib.Path) -> Row:
    size, updated = _size(path), _updated(path)
    try:
        run = folders.open(path)
        config = run.config
        relative = _relative(run)
        distances = [] if relative is not None else [line[QUICK] for line in run.metrics(QUICK)]
        state, done = run.state, run.saved_step
        if state == "running":
            done = max([done, *(int(line["step"]) for line in run.metrics())])
        about = (config.model, str(config.dataset["name"]), config.preset, done, config.steps)
        return Row(path, path.name, size, updated, state, *about, relative, min(distances, default=None))
    except (GenlabError, OSError) as error:
        return Row(path, path.name, size, updated, DAMAGED, problem=reason(error))


def _relative(run: Run) -> float | None:
    """Return the Fréchet distance of the run's evaluation as a multiple of its floor; None if there is none to read."""
    try:
        metric = results.read(run).metrics.get("frechet_distance")
    except GenlabError:
        return None
    return None if metric is None else metric.relative


def _size(path: pathlib.Path) -> int:
    """Return the bytes of all files of a folder; those that cannot be seen do not count."""
    size = 0
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                inner = entry.is_dir(follow_symlinks=False)
                size += _size(pathlib.Path(entry.path)) if inner else entry.stat(follow_symlinks=False).st_size
    return size


def _updated(path: pathlib.Path) -> float:
    times = [0.0]
    for name in ("config.json", "metrics.jsonl", "outcome.json"):
        with contextlib.suppress(OSError):
            times.append((path / name).stat().st_mtime)
    return max(times)
