"""Small networks and few steps: enough to show that every part does what it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import genlab

TINY = {"batch_size": 16, "latent_size": 8, "generator_widths": (4, 8), "discriminator_widths": (4, 8)}
TINY |= {"generator_units": 8, "discriminator_units": 8}
TINY_FLAGS = ["--batch-size", "16", "--latent-size", "8", "--generator-widths", "4", "8"]
TINY_FLAGS += ["--discriminator-widths", "4", "8", "--generator-units", "8", "--discriminator-units", "8"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Commands write into runs/ and samples/ of the folder they are called in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENLAB_DATA", raising=False)
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of six steps that tests read and do not change."""
    return genlab.fit("dcgan", steps=6, out=tmp_path_factory.mktemp("trained"), log_every=2, **TINY)


@pytest.fixture
def small_images():
    """Forty random images 12x10 with three classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (40, 12, 10), np.uint8), random.integers(0, 3, 40)


def state_of(run) -> dict[str, np.ndarray]:
    """Every number of the run's newest checkpoint: weights, optimizers, counters."""
    from genlab.backend import tf
    from genlab.run import newest_checkpoint

    reader = tf.train.load_checkpoint(newest_checkpoint(run.path))
    # The counter of saves is bookkeeping of TensorFlow's: an interrupted run has saved once more.
    names = [name for name in reader.get_variable_to_shape_map() if "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def fails(call, capsys) -> tuple[int, str]:
    """The exit status and the message of a command that must fail without a traceback."""
    with pytest.raises(SystemExit) as end:
        call()
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return end.value.code, message


def replaced(settings, **changes):
    return dataclasses.replace(settings, **changes)
