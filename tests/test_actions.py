"""Periodic actions: when each is due, and what it leaves."""

from __future__ import annotations

import json

import pytest
from conftest import TINY

import genlab
from genlab.train import actions
from genlab.train.training import Training, duration, sample_steps


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("actions")
    return genlab.fit("dcgan", steps=4, log_every=3, checkpoint_every=2, sample_every=4, out=out, **TINY)


@pytest.fixture
def training(run):
    training = Training(run, run.data(), resume=True, debug=False)
    yield training
    training.close()


def test_each_action_names_its_next_step(training):
    by_kind = {type(each): each for each in actions.periodic(training)}
    log, draw, save = by_kind[actions.Log], by_kind[actions.Draw], by_kind[actions.Save]
    assert [log.next_step(step) for step in (0, 2, 3)] == [3, 3, 4]  # the last step is always due
    assert [save.next_step(step) for step in (0, 1, 2)] == [2, 2, 4]
    assert [draw.next_step(step) for step in (0, 3, 4)] == [1, 4, None]
    assert actions.Evaluate not in by_kind and actions.Trace not in by_kind


def test_what_was_asked_for_is_what_was_left(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4]
    assert sorted(path.stem for path in run.checkpoints.glob("step-*.index")) == ["step-0", "step-2", "step-4"]
    drawn = sorted(int(path.stem.partition("-")[2]) for path in run.samples.glob("step-*.png"))
    assert drawn == sorted(sample_steps(4, 4))


def test_a_log_line_is_the_mean_of_the_steps_since_the_last_one(training):
    import numpy as np

    log = actions.Log(training)
    for values in ([1.0, 2.0], [6.0]):
        history = {"loss": np.array(values), actions.WAITING: np.zeros(len(values))}
        training.step += len(values)
        training.seconds += 1.0
        log.observe(history, 1.0)
    log.training.watch.metrics = lambda metrics: []
    log.act()
    log.observe(
        {"loss": np.full(4, 3e38, np.float32), actions.WAITING: np.full(4, -1e9)}, 1.0
    )  # the clock was set back
    log.act()
    *_, last, large = training.run.metrics()
    assert large["loss"] == pytest.approx(3e38) and large["data_waiting"] == 0
    assert last["loss"] == 3.0 and last["step"] == training.step
    assert last["images_per_second"] == pytest.approx(1 * 16 / 1.0)  # the first call is the start-up


def test_durations_are_read_at_a_glance():
    assert [duration(seconds) for seconds in (7, 61, 3723)] == ["0:07", "1:01", "1:02:03"]
