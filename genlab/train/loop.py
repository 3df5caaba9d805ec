"""The only training loop: it runs the steps of any model and the periodic actions. It never names a model."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import types
from collections.abc import Iterator

from genlab.data.dataset import Dataset
from genlab.errors import GenlabError, Interrupted, disk_is_full
from genlab.run import Run
from genlab.train import animation
from genlab.train.actions import Action, periodic
from genlab.train.training import Training

log = logging.getLogger("genlab")

SECONDS_PER_CALL = 0.5
"""Target duration of a call of steps: long enough to hide the overhead, short enough for Ctrl-C."""


def train(run: Run, dataset: Dataset, *, resume: bool = False, debug: bool = False) -> None:
    """Train the run's model to `run.config.options.steps`; with `resume`, start from its newest checkpoint.

    Raises GenlabError if a metric or a weight is not finite, if the disk is full or the run's folder is gone, and Interrupted
    on SIGINT, SIGTERM or SIGHUP, after saving a checkpoint. What follows the last step, such as fitting a prior, is done first.
    """
    with _signals() as signals, _explained(run):
        training = Training(run, dataset, resume=resume, debug=debug)
        try:
            if training.step < training.total:
                _loop(training, periodic(training), signals)
            else:
                log.info(f"all {training.total:,} steps are done already. To train longer, type a larger --steps.")
                if animation.is_missing(run.samples, training.step):  # the run was killed while it was made
                    training.animate()
        finally:
            training.close()
    run.check_present()
    if signals.received:
        name = signal.Signals(signals.received).name
        raise Interrupted(f"{name} came after the last step; {run.path} is finished.", signals.received)


@contextlib.contextmanager
def _explained(run: Run) -> Iterator[None]:
    """Context that says of any error whether the run's folder is gone, or the disk is full."""
    try:
        yield
    except GenlabError:
        raise
    except Exception as error:
        run.check_present()
        if not disk_is_full(error):
            raise
        raise GenlabError(
            f"the disk is full. Free some space, then type: python -m genlab.train --resume {run.path}. The checkpoints are kept."
        ) from error


def _loop(training: Training, actions: list[Action], signals: _Signals) -> None:
    distribution = training.distribution
    steps = training.steps()
    steps_per_call = 1
    for action in actions:
        action.begin()
    try:
        while training.step < training.total:
            due = [step for action in actions if (step := action.next_step(training.step)) is not None]
            for action in actions:
                action.before()
            started = time.perf_counter()
            with distribution.watched(training.run.path):
                count = min(steps_per_call, min(due) - training.step)
                count, stop = distribution.agree(count, bool(signals.received))
                history = steps(count)
            seconds = time.perf_counter() - started
            # A signal to one of several processes must not stop it alone: the next agreement stops all.
            stop = stop or (distribution.workers == 1 and bool(signals.received))
            reached = [action for action in actions if action.next_step(training.step) == training.step + count]
            if bad := training.not_finite(history, weights=bool(reached) or stop):
                training.roll_back(bad)
                steps = training.steps()
                for action in actions:
                    action.forget()
                continue
            training.advance(count, seconds)
            for action in actions:
                action.observe(history, seconds)
            if reached or stop:
                training.run.check_present()  # what is written would make the folder again
            for action in reached:
                action.act()
            steps_per_call = max(1, min(2 * steps_per_call, int(SECONDS_PER_CALL * count / max(seconds, 1e-9))))
            if stop and training.step < training.total:
                training.save()
                training.animate()
                raise _interrupted(training, signals)
    finally:
        for action in actions:
            action.end()
    training.animate()


def _interrupted(training: Training, signals: _Signals) -> Interrupted:
    number = signals.received or signal.SIGTERM
    by = signal.Signals(number).name if signals.received else "another worker"
    return Interrupted(
        f"Stopped by {by} at step {training.step:,}; a checkpoint is saved.\n"
        f"Resume: python -m genlab.train --resume {training.run.path}",
        number,
    )


class _Signals:
    received = 0


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    """Record SIGINT, SIGTERM and SIGHUP, so that the loop can finish its step and save. A second SIGINT or SIGTERM acts at once.

    SIGHUP comes when the terminal is closed, often twice. A program that was started to outlive it, as with nohup, ignores it.
    """
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def note(number: int, frame: types.FrameType | None) -> None:
        signals.received = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, previous[each])

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
