"""Small networks and few steps: enough to show that every part does what it says."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil

# Each of pytest's processes gets a core of its own, before libraries count the cores: threads of one process that wait for
# each other, on a core where another process computes, are slow.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import numpy as np
import pytest

import genlab
from genlab import models
from genlab import run as runs
from genlab.backend import tf
from genlab.data.spec import DataSpec

PATIENCE = 600
"""Seconds after which a process counts as stuck: many, since a machine may be slow and busy."""
TINY = {"batch_size": 16, "latent_size": 8, "generator_widths": (4,), "discriminator_widths": (4,)}
TINY |= {"generator_units": 8, "discriminator_units": 8, "differentiable_augmentation": ()}
TINY_FLAGS = ["--batch-size", "16", "--latent-size", "8", "--generator-widths", "4"]
TINY_FLAGS += ["--discriminator-widths", "4", "--generator-units", "8", "--discriminator-units", "8"]
TINY_FLAGS += ["--differentiable-augmentation"]  # with no names: none


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Output that a test captured reaches the other process as Unicode, also names of files that are none."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A function of a model, and of a data set: a run of two steps with `small_settings`, trained once, to read."""

    @functools.cache
    def of(name: str, data: str = "digits"):
        return genlab.fit(name, data, steps=2, out=tmp_path_factory.mktemp(name), **small_settings(name))

    return of


@pytest.fixture
def own_run(small_run):
    """A function like `small_run`: a copy of such a run in the test's own runs/, to change."""

    def of(name: str, data: str = "digits"):
        path = small_run(name, data).path
        return genlab.load(shutil.copytree(path, pathlib.Path("runs") / path.name))

    return of


@pytest.fixture
def small_images():
    """Forty random images 12x10 with three classes."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (40, 12, 10), np.uint8), random.integers(0, 3, 40)


def small_settings(name: str) -> dict:
    """Settings of a network that trains in no time, for any model: what is left out by default (0) stays out."""
    kind = models.load(name).Hparams
    sizes = {
        "batch_size": 8,
        "latent_size": 4,
        "components": 2,
        "minibatch_discrimination": 3,
        "ode_steps": 2,
    }
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    chosen = {field: size for field, size in sizes.items() if known.get(field)}
    chosen |= {field: (4,) for field in known if field.endswith("widths")}
    chosen |= {field: 8 for field, value in known.items() if field.endswith("units") and value}
    if "differentiable_augmentation" in known:
        chosen["differentiable_augmentation"] = ()  # a third of the time that a step takes to trace
    return chosen


def small(name: str, **changes):
    """Hyper-parameters with `small_settings`."""
    return models.load(name).Hparams(**small_settings(name) | changes)


def build(name: str, shape=(12, 10, 1), classes=3, seed=0, **changes):
    """A small model with initial weights."""
    return models.load(name)(small(name, **changes), DataSpec(shape, classes), seed=seed, schedule_steps=10)


def batches(model, seed=0):
    """Random images, or vectors, and labels for one step of a model."""
    random = np.random.default_rng(seed)
    size, shape = model.hparams.batch_size, model.spec.shape
    return [
        (
            tf.constant(random.uniform(-1, 1, (size, *shape)).astype(np.float32)),
            tf.constant(random.integers(0, 3, size).astype(np.int32)),
        )
        for _ in range(model.hparams.batches_per_step + model.hparams.labelled_batches_per_step)
    ]


def resting(model) -> tuple[list[str], dict]:
    """The weights and statistics that three steps leave as they were, by network and path; and the last step's metrics."""
    weights = {
        f"{name}/{weight.path}": weight
        for name, network in model.networks.items()
        for weight in network.weights
        if "seed_generator" not in weight.path
    }
    before = {path: weight.numpy() for path, weight in weights.items()}
    step = tf.function(model.train_step, autograph=False)
    for number in range(3):  # a weight may rest in the first step: behind a zero, or where a factor begins at 0
        metrics = step(batches(model, number), tf.constant([0, number]))
    return [path for path, weight in weights.items() if np.array_equal(before[path], weight.numpy())], metrics


def train_on_gaussian(model, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Train a model of vectors [2] in batches of 512 from a Gaussian. Return its mean and its standard deviations."""
    mean, deviation = np.array([1.5, -1.0], np.float32), np.array([0.5, 1.0], np.float32)

    @tf.function(autograph=False)
    def train(number):
        data = mean + deviation * tf.random.stateless_normal([512, 2], tf.stack([number, 7]))
        model.train_step([(data, tf.zeros([512], tf.int32))], tf.stack([number, 8]))
        model.step.assign_add(1)

    for number in range(steps):
        train(tf.constant(number))
    return mean, deviation


def parameters(name: str, preset: str) -> dict[str, int]:
    """How many weights each network of a preset has, on 28x28 grey images."""
    kind = models.load(name)
    networks = kind(kind.Hparams(**kind.presets[preset]), DataSpec((28, 28, 1))).networks
    return {network: each.count_params() for network, each in networks.items()}


PROOF = sorted(path.stem for path in (pathlib.Path(__file__).parent / "models").glob("*.py"))
"""The models in tests/models/."""


@contextlib.contextmanager
def proof_models():
    """The models in tests/models/ are found like those of genlab."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(pathlib.Path(__file__).parent / "models")])
        yield


def cut_after(run, step: int, out: str | pathlib.Path):
    """A copy of the run in `out` as if it had been killed after its checkpoint of that step."""
    path = pathlib.Path(shutil.copytree(run.path, pathlib.Path(out) / run.name))
    for file in (path / "checkpoints").glob("step-*"):
        if int(file.name.partition("-")[2].partition(".")[0]) > step:
            file.unlink()
    return genlab.load(path)


def state_of(run) -> dict[str, np.ndarray]:
    """Every number of the run's newest checkpoint: weights, optimizers, counters."""
    reader = tf.train.load_checkpoint(runs.newest_checkpoint(run.path))
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


def write_records(path, rows, options=None):
    """A TFRecord file of examples: dictionaries of bytes and integers."""

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(str(path), options) as writer:
        for row in rows:
            features = tf.train.Features(feature={name: feature(value) for name, value in row.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
