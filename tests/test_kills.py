"""A run that is killed, inside of a write too, and resumed ends as one that is not. benchmarks/kills.py kills every model often."""

from __future__ import annotations

import pathlib

import genlab
from genlab.train import __main__ as train

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def test_a_killed_run_ends_as_an_uninterrupted_one(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kills

    flags = ["gan", "--steps", "28", *kills.EVERY, *kills.small_flags("gan")]
    out = pathlib.Path("killed")
    for kill in (kills.Kill("checkpoint", 2, 0.0), kills.Kill("grid", 3, 0.0)):
        process = kills.started(out, flags)
        kills.wait_for(kill, out, process)
        process.kill()
        process.communicate()
        assert process.returncode == -9
    train.main(["--resume", "--out", str(out)])
    train.main([*flags, "--out", "whole"])
    assert kills.differences(genlab.load(out=pathlib.Path("whole")), genlab.load(out=out)) == []
