"""How a training of a run ended: recorded in the run's folder, and read with the lock that says whether one goes on."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Literal, TypedDict, get_args

from genlab import files, lock
from genlab.errors import Collapsed, GenlabError, Interrupted, reason

FILE = "outcome.json"
Ending = Literal["finished", "interrupted", "collapsed", "failed"]
State = Literal["running", "finished", "interrupted", "collapsed", "failed"]
STATES: tuple[State, ...] = get_args(State)


class Outcome(TypedDict):
    """Content of outcome.json."""

    state: Ending
    step: int
    """Training step of the newest checkpoint."""
    reason: str
    """One line."""


@contextlib.contextmanager
def recorded(path: pathlib.Path, progress: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Record how the training within the context ends, in outcome.json of the run folder `path`.

    `progress` returns the step of the newest checkpoint and the length of the run. The file is removed at the beginning: a
    training that is killed leaves none.
    """
    (path / FILE).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        step, total = progress()
        if isinstance(error, Interrupted) and step == total:  # by a signal after the last step
            _write_finished(path, step)
        else:
            _write(path, _ending(error), step, reason(error))
        raise
    step, total = progress()
    if step < total:
        _write(path, "interrupted", step, f"stopped at step {step:,} of {total:,}")
    else:
        _write_finished(path, step)


def state(path: pathlib.Path, step: int, total: int) -> State:
    """Return the state of the run in the folder `path`, with its newest checkpoint at `step` of `total`.

    Without an outcome.json that can be read, as in runs that were killed and those of early versions, it is finished if that
    step is the last, else interrupted.
    """
    if lock.is_held(path):
        return "running"
    outcome = _read(path)
    if outcome is None:
        return "finished" if step >= total else "interrupted"
    return outcome["state"]


def reason_of(path: pathlib.Path) -> str:
    """Return why the last training of the run in the folder `path` ended, in one line; empty if it is not known."""
    outcome = _read(path)
    return "" if outcome is None else outcome["reason"].rstrip(".")


def _read(path: pathlib.Path) -> Outcome | None:
    try:
        return files.read_json(path / FILE, Outcome)
    except (FileNotFoundError, GenlabError):
        return None


def _ending(error: BaseException) -> Ending:
    if isinstance(error, Collapsed):
        return "collapsed"
    if isinstance(error, Interrupted) or not isinstance(error, Exception):  # a second Ctrl-C, or an exit
        return "interrupted"
    return "failed"


def _write_finished(path: pathlib.Path, step: int) -> None:
    _write(path, "finished", step, f"all {step:,} steps are done")


def _write(path: pathlib.Path, ending: Ending, step: int, why: str) -> None:
    """Write outcome.json, unless the folder is gone, which writing would make again, or the disk is full."""
    if (path / "config.json").exists():
        with contextlib.suppress(OSError):
            files.write_json(path / FILE, Outcome(state=ending, step=step, reason=why))
