"""What happens to a training from outside: a full disk, a deleted folder, a closed terminal, a kill, a clock that jumps."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import fails, state_of

import genlab
from genlab.train import __main__ as train
from genlab.train import loop
from genlab.train.training import Training

EVERY = ["--log-every", "1", "--sample-every", "2", "--checkpoint-every", "2"]


@pytest.fixture
def at_step(monkeypatch):
    """A function of a step and a call: the call happens once when training reaches the step."""

    def plan(step, call):
        advance = Training.advance

        def advanced(self, *given):
            advance(self, *given)
            if self.step == step:
                monkeypatch.setattr(Training, "advance", advance)
                call(self.run)

        monkeypatch.setattr(Training, "advance", advanced)

    return plan


def test_a_disk_that_fills_up_ends_in_one_line_and_the_run_resumes(own_run, capsys, at_step):
    run = own_run("dcgan")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Grids no longer fit; metrics, log and what TensorBoard reads still do.
        at_step(4, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
        status, message = fails(lambda: train.main(["--resume", "--steps", "6", *EVERY]), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert status == 1 and message.count("\n") == 1
    assert "the disk is full. Free some space, then type: python -m genlab.train --resume runs/" in message
    assert genlab.load(run.path).step == 2
    train.main(["--resume"])
    assert [line["step"] for line in run.metrics()] == [2, 3, 4, 5, 6] and genlab.load(run.path).step == 6


def test_a_deleted_folder_is_not_made_again(own_run, capsys, at_step):
    run = own_run("dcgan")
    at_step(3, lambda run: shutil.rmtree(run.path))
    status, message = fails(lambda: train.main(["--resume", "--steps", "6", *EVERY]), capsys)
    assert status == 1 and f"{run.path} was deleted or moved while it was trained" in message
    assert not run.path.exists() and "done" not in message


class Closed:
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    flush = write
    isatty = fileno = lambda self, *_: 1


@pytest.fixture
def hangups():
    """SIGHUP is not ignored, as it is where the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_training_with_a_checkpoint(own_run, at_step, hangups):
    run, let_go = own_run("dcgan"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genlab.console.let_go", let_go.append)

        def close(_):
            for name in ("stdout", "stderr"):
                patch.setattr(f"sys.{name}", Closed())
            for _ in range(2):  # the terminal and the shell each send it
                os.kill(os.getpid(), signal.SIGHUP)

        at_step(3, close)
        with pytest.raises(SystemExit) as end:
            train.main(["--resume", "--steps", "6", *EVERY])
    assert end.value.code == 128 + signal.SIGHUP and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and let_go
    assert genlab.load(run.path).step in (3, 4) and "step 3/6" in (run.path / "log.txt").read_text()


def test_a_program_that_was_started_to_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with loop._signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(own_run, capsys, monkeypatch):
    run = own_run("dcgan")
    whole, lines = state_of(run), (run.path / "metrics.jsonl").read_bytes()
    shutil.rmtree(run.checkpoints)
    status, message = fails(lambda: train.main(["--resume"]), capsys)
    assert status == 1 and "holds no checkpoint, and has metrics" in message  # they would be lost
    assert (run.path / "metrics.jsonl").read_bytes() == lines
    shutil.rmtree(run.samples)
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(genlab.GenlabError, match=r"stopped before the first one\. To begin again, type"):
        genlab.load(run.path).find_checkpoint()
    # Meanwhile the clock jumps by a day, forward and back.
    days = itertools.cycle([0, 86_400, -86_400])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(days))
    train.main(["--resume"])
    assert all(np.array_equal(whole[name], value) for name, value in state_of(run).items())
    assert [line["step"] for line in run.metrics()] == [2] and 0 <= run.metrics()[0]["seconds"] < 600
