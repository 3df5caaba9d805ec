"""Training over several processes: as one does alone, and what happens when one of them is lost or never comes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import PATIENCE, TINY, TINY_FLAGS, fails

import genlab
from genlab.config import Options
from genlab.train import __main__ as train
from genlab.train import distribution
from genlab.train import fit as training

COMMAND = ["gan", "--log-every", "2", "--checkpoint-every", "4", "--seed", "5", *TINY_FLAGS]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def workers(arguments: list[str], count: int = 2, started: int = 2) -> Iterator[list[subprocess.Popen]]:
    """So many of the cluster's workers, each with its TF_CONFIG. None outlives the test."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(count)]
    processes = []
    for index in range(started):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "genlab.train", *arguments, "--strategy", "multiworker"],
                env=os.environ | {"TF_CONFIG": json.dumps(config)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def metrics(path: pathlib.Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [[line["step"], line["generator_loss"], line["discriminator_loss"]] for line in lines]


def test_two_workers_train_and_resume_as_one_process_does():
    for arguments in ([*COMMAND, "--steps", "6", "--schedule-steps", "10"], ["--resume", "--steps", "10"]):
        with workers(arguments) as processes:
            errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
            assert [process.returncode for process in processes] == [0, 0], "\n\n".join(errors)
    assert [path.name for path in pathlib.Path("runs").glob("0*")] == ["00000-gan-digits"]  # the chief's alone
    alone = genlab.fit("gan", steps=10, seed=5, log_every=2, checkpoint_every=4, out="alone", **TINY)
    for both, single in zip(metrics(pathlib.Path("runs/00000-gan-digits")), metrics(alone.path), strict=True):
        assert both == pytest.approx(single, rel=1e-3, abs=1e-3)


def test_a_worker_has_the_chiefs_folder_before_it_connects(tmp_path, monkeypatch):
    """The chief changes its folder once all workers are connected, and a file may vanish under a copy."""
    run = genlab.fit("gan", steps=1, **TINY)
    copies = []

    def connected(options: Options) -> None:
        copies.extend(path.name for path in folder.iterdir())
        raise genlab.GenlabError("connected")

    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(distribution, "is_chief", lambda options: False)
    monkeypatch.setattr(distribution, "prepare", connected)
    monkeypatch.setattr(training, "_folder", lambda options: contextlib.nullcontext(str(folder)))
    with pytest.raises(genlab.GenlabError, match="connected"):
        training.resume(run, run.config.options)
    assert copies == [run.name]


def test_a_lost_worker_ends_the_other_with_a_message_and_a_checkpoint():
    with workers([*COMMAND, "--steps", "1000000"]) as (chief, other):
        log = pathlib.Path("runs/00000-gan-digits/metrics.jsonl")
        deadline = time.monotonic() + PATIENCE
        while not (log.exists() and log.read_text().count("\n") > 3):
            assert time.monotonic() < deadline and chief.poll() is None
            time.sleep(0.5)
        other.kill()
        _, errors = chief.communicate(timeout=PATIENCE)
        assert chief.returncode == 1 and "another worker was lost" in errors
        assert "start all workers again with --resume" in errors and "Traceback" not in errors
        assert genlab.load().step >= 4


def test_a_worker_that_never_comes_is_not_waited_for_without_end():
    with workers([*COMMAND, "--steps", "2", "--worker-timeout", "8"], started=1) as (process,):
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode != 0 and "did not all connect within 8 s; this is number 0" in errors
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 50_000,
        "3",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": {"0": "a:1"}}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"chief": "b", "worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": [], "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": []}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"], "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0.5}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": null}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "²"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
    ],
)
def test_wrong_cluster(text, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    status, message = fails(lambda: train.main([*COMMAND, "--strategy", "multiworker"]), capsys)
    assert status == 2 and "TF_CONFIG must name all workers and this one" in message
    assert len(message) < 400


def test_a_cluster_of_other_programs_is_understood(monkeypatch):
    options = Options(strategy="multiworker")
    for task, chief in (
        ('{"type": "worker", "index": "0", "cloud": "x"}', False),
        ('{"type": "chief", "index": 0}', True),
    ):
        cluster = '{"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}'
        monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {cluster}, "task": {task}, "environment": "cloud"}}')
        assert distribution.is_chief(options) == chief
