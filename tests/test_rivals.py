"""The training steps that benchmarks/step_time.py compares still run; measuring them takes minutes."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def rivals(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rivals

    return rivals


@pytest.mark.parametrize("implementation", ["genlab_step", "tutorial_step"])
def test_a_step_on_the_networks_of_the_tutorial_runs(rivals, monkeypatch, implementation):
    monkeypatch.setattr(rivals, "images", lambda workload: np.zeros((8, *workload.shape), np.uint8))
    getattr(rivals, implementation)(rivals.Workload("tutorial", batch=2), "float32")(1)


def test_the_description_for_other_libraries_has_a_learning_rate(rivals):
    assert rivals.described(rivals.WORKLOADS["dcgan-64"])["rate"] == 2e-3
