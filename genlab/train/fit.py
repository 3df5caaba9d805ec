"""From what a person asked for to a finished run: settings are resolved, the folder made or reopened, the engine run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from genlab import config, models
from genlab import run as runs
from genlab.backend import keras, tf
from genlab.config import Config, Options
from genlab.data import Dataset
from genlab.data import load as load_data
from genlab.data.options import DataOptions
from genlab.errors import UsageError, closest
from genlab.networks import precision
from genlab.train import distribution
from genlab.train import loop as engine

log = logging.getLogger("genlab")


def fit(
    model: str, data: Any = "digits", labels: Any = None, *, preset: str | None = None, **settings: Any
) -> runs.Run:
    """Train a model and return its run, as `python -m genlab.train MODEL` does.

    `data` is a name, a path, an array [N, H, W(, C)] (with `labels` [N]), a finite tf.data.Dataset, or what
    `genlab.data.load` returned. `settings` are the command line's options and the model's hyper-parameters, with underscores: steps=500, batch_size=32. `preset` None
    takes `points` for vectors, where the model has that, else `default`. Raises
    UsageError for a setting that does not exist or does not fit, GenlabError where training fails.
    """
    option_names, data_names = ({field.name for field in dataclasses.fields(kind)} for kind in (Options, DataOptions))
    data_options = config.make(DataOptions, {name: value for name, value in settings.items() if name in data_names})
    source = str(data) if isinstance(data, str | os.PathLike) else ""
    named = {name: value for name, value in settings.items() if name in option_names}
    if "out" in named:
        named["out"] = os.fspath(named["out"])
    options = config.make(Options, {"data": source} | named)
    distribution.prepare(options)
    dataset = load_data(data, labels, data_options)
    preset = config.preset_for(model, preset, points=not dataset.spec.is_image)
    hparams = config.starting_hparams(model, preset)
    hparam_names = {field.name for field in dataclasses.fields(hparams)}
    for name in settings:
        known = option_names | data_names | hparam_names
        if name not in known:
            raise UsageError(f"{model} has no setting {name!r}{closest(name, known)}")
    chosen = {name: value for name, value in settings.items() if name in hparam_names}
    hparams = config.make(type(hparams), dataclasses.asdict(hparams) | chosen)
    return start(resolve(model, preset, hparams, options, dataset, data_options), dataset)


def resolve(
    model: str, preset: str, hparams: Any, options: Options, dataset: Dataset, data_options: DataOptions
) -> Config:
    """Every setting as it will be used. Raises UsageError where the settings do not fit the data."""
    count = len(dataset.images)
    if hparams.batch_size > count:
        raise UsageError(f"--batch-size {hparams.batch_size} is larger than the data: {count:,} training images.")
    distribution.Distribution(options, hparams.batch_size)  # says what does not fit before a folder is made
    steps = _steps(model, preset, hparams, options, dataset.epoch_size)
    _check_profile(options, 0, steps)
    options = dataclasses.replace(
        options,
        steps=steps,
        epochs=None,
        schedule_steps=options.schedule_steps or steps,
        precision=precision.resolve(options.precision, dataset.spec.shape),
    )
    return Config(model, preset, hparams, options, dataset.facts(), _environment(), data_options)


def start(settings: Config, dataset: Dataset, *, debug: bool = False) -> runs.Run:
    """Train a new run. Of several workers the first alone leaves a folder."""
    with _folder(settings.options) as out:
        run = runs.create(out, settings)
        run.use_data(dataset)
        with run.training():
            _announce(run, dataset)
            engine.train(run, dataset, debug=debug)
    return run


@contextlib.contextmanager
def _folder(options: Options) -> Iterator[str]:
    """Where runs are made; for a worker that is not the chief a folder that goes away again, and nothing on the screen."""
    if distribution.is_chief(options):
        yield options.out
        return
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    finally:
        log.setLevel(level)


def resume(run: runs.Run, options: Options, *, debug: bool = False) -> runs.Run:
    """Continue a run with options of which only those in config.MAY_CHANGE differ from its own."""
    dataset = run.data()
    stored = run.config
    steps = _steps(stored.model, stored.preset, stored.hparams, options, dataset.epoch_size)
    if steps < stored.steps:
        raise UsageError(f"--steps {steps:,} is less than the {stored.steps:,} of {run.name}: a run can only grow.")
    if options.profile != stored.options.profile:
        _check_profile(options, run.step, steps)
    options = dataclasses.replace(options, steps=steps, epochs=None, out=stored.options.out)
    distribution.Distribution(options, stored.hparams.batch_size)
    with _folder(options) as out:
        if not distribution.is_chief(options):  # it goes on from a copy of the chief's folder
            shutil.copytree(
                run.path, pathlib.Path(out) / run.name, ignore=shutil.ignore_patterns("samples", "tensorboard")
            )
            run = runs.open(run.name, out)
            run.use_data(dataset)
        _go_on(run, dataset, stored, options, debug)
    return run


def _go_on(run: runs.Run, dataset: Dataset, stored: Config, options: Options, debug: bool) -> None:
    assert options.steps is not None
    with run.training():
        run.write_config(dataclasses.replace(stored, options=options))
        _announce(run, dataset)
        _announce_schedule(stored, options)
        engine.train(run, dataset, resume=True, debug=debug)


def _announce_schedule(stored: Config, options: Options) -> None:
    """Log what the learning rates of a resumed run do, where that is not what was laid out when it began."""
    length, steps = options.schedule_steps, options.steps
    assert length is not None and steps is not None
    if stored.hparams.schedule == "constant":
        return
    if length != stored.options.schedule_steps:
        log.info(f"rates   schedule laid out for {length:,} steps; it was {stored.options.schedule_steps:,}")
    if steps > length:
        final = 0.01 if stored.hparams.schedule == "step" else stored.hparams.final_rate
        log.warning(
            f"warning the learning rates stay at {final:.2%} from step {length:,} on: the schedule is laid out for that many "
            f"steps. Add --schedule-steps {steps} to lay it out for this run's {steps:,}."
        )


def _check_profile(options: Options, begin: int, end: int) -> None:
    """Raise UsageError for a profile of steps that this training does not take."""
    if options.profile:
        start, stop = config.profiled_steps(options.profile)
        if start < begin or stop > end:
            raise UsageError(f"--profile {options.profile}: this training goes from step {begin:,} to {end:,}.")


def _steps(model: str, preset: str, hparams: Any, options: Options, count: int) -> int:
    """The length of a run in steps, of `count` training images."""
    if options.epochs is None:
        kind = models.load(model)
        return options.steps or kind.preset_steps.get(preset, kind.default_steps)
    return max(1, math.ceil(options.epochs * count / (hparams.batch_size * hparams.batches_per_step)))


def _announce(run: runs.Run, dataset: Dataset) -> None:
    shape = "x".join(str(side) for side in dataset.spec.shape)
    parts = (("to validate with", dataset.validation_images), ("to test with", dataset.test_images))
    held_out = "".join(f", {len(images):,} {what}" for what, images in parts if images is not None)
    batch_size = run.config.hparams.batch_size
    log.info(f"run     {run.path}")
    log.info(f"data    {dataset.name}: {len(dataset.images):,} images {shape} to train on{held_out}")
    if dataset.class_names:
        log.info(f"classes {dataset.class_counts()}")
    log.info(
        f"batches of {batch_size}, {dataset.epoch_size / batch_size:.1f} an epoch; one that reaches the end of an epoch "
        "goes on into the next, no image is left out"
    )
    log.info(f"model   {run.config.model}, {run.config.options.precision}, {run.config.steps:,} steps")


def _environment() -> dict[str, Any]:
    packages = ("genlab", "tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "platform": platform.platform(terse=True),
        "devices": [device.device_type for device in tf.config.list_logical_devices()],
        # Results differ in their last bits between these.
        "cpu_count": os.cpu_count(),
        "threads_within_an_operation": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "command": " ".join(sys.argv[1:]),
        "keras_backend": keras.backend.backend(),
    }
