"""Train or resume a run: resolve the settings, create or reopen the run folder, run the training loop."""

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

import numpy.typing as npt

from genlab import bounds, config, models
from genlab import run as runs
from genlab.backend import keras, tf
from genlab.config import Config, Options
from genlab.data import Dataset, Source
from genlab.data import load as load_data
from genlab.data.options import DataOptions
from genlab.data.spec import DataSpec
from genlab.errors import UsageError, closest
from genlab.models.base import Hparams
from genlab.networks import precision
from genlab.train import distribution, inheritance
from genlab.train import loop as engine

log = logging.getLogger("genlab")


def fit(
    model: str,
    data: Source = "digits",
    labels: npt.ArrayLike | None = None,
    *,
    preset: str | None = None,
    **settings: Any,
) -> runs.Run:
    """Train a model and return its run, as `python -m genlab.train MODEL` does.

    `data` is a name, a path, an array [N, H, W(, C)] (with `labels` [N]), a finite tf.data.Dataset, or the result of
    `genlab.data.load`. `settings` are the command line's options and the model's hyper-parameters, with underscores:
    steps=500, batch_size=32. `preset` None means `points` for vectors, if the model has it, else `default`. Raises
    UsageError for an unknown or invalid setting, GenlabError if training fails.
    """
    option_names, data_names = ({field.name for field in dataclasses.fields(kind)} for kind in (Options, DataOptions))
    data_options = config.make(DataOptions, {name: value for name, value in settings.items() if name in data_names})
    source = str(data) if isinstance(data, str | os.PathLike) else ""
    named = {name: value for name, value in settings.items() if name in option_names}
    if isinstance(named.get("out"), os.PathLike):
        named["out"] = os.fspath(named["out"])
    options = config.make(Options, {"data": source} | named)
    distribution.prepare(options)
    dataset = load_data(data, labels, data_options)
    preset, hparams = begin_with(model, preset, options, points=not dataset.spec.is_image)
    hparam_names = {field.name for field in dataclasses.fields(hparams)}
    for name in settings:
        known = option_names | data_names | hparam_names
        if name not in known:
            raise UsageError(f"{model} has no setting {name!r}{closest(name, known)}")
    chosen = {name: value for name, value in settings.items() if name in hparam_names}
    hparams = config.make(type(hparams), dataclasses.asdict(hparams) | chosen)
    return start(resolve(model, preset, hparams, options, dataset, data_options), dataset)


def begin_with(model: str, preset: str | None, options: Options, *, points: bool) -> tuple[str, Hparams]:
    """Return the preset and the hyper-parameters that a run begins with: those of the run in --from, if of the same model.

    A preset that was asked for comes first; without one, the default is `points` for points, if the model has it.
    """
    if options.from_run and preset is None:
        ancestor = runs.open(options.from_run, options.out).config
        if ancestor.model == model:
            begun = config.starting_hparams(model, ancestor.preset)
            own = {name: getattr(begun, name) for name in begun.follow_data}
            return ancestor.preset, dataclasses.replace(ancestor.hparams, **own)
    preset = config.preset_for(model, preset, points=points)
    return preset, config.starting_hparams(model, preset)


def resolve(
    model: str, preset: str, hparams: Hparams, options: Options, dataset: Dataset, data_options: DataOptions
) -> Config:
    """Return the resolved settings. Raises UsageError if they do not fit the data."""
    count = len(dataset.images)
    if hparams.batch_size > count:
        raise UsageError(f"--batch-size {hparams.batch_size} is larger than the data: {count:,} training images.")
    hparams = hparams.for_data(dataset.spec, count)
    hparams.check_data(dataset.spec)
    _check_widths(hparams, config.starting_hparams(model, preset), dataset.spec)
    if hparams.needs_ancestor and not options.from_run:
        raise UsageError(f"{hparams.needs_ancestor} is for a run that starts from another: add --from RUN.")
    distribution.Distribution(options, hparams.batch_size)  # raises before a run folder is created
    steps = _steps(model, preset, hparams, options, dataset.epoch_size)
    _check_profile(options, 0, steps)
    ancestor = runs.open(options.from_run, options.out) if options.from_run else None
    options = dataclasses.replace(
        options,
        from_run=str(ancestor.path.resolve()) if ancestor else "",
        steps=steps,
        epochs=None,
        schedule_steps=options.schedule_steps or steps,
        precision=precision.resolve(options.precision, dataset.spec.shape),
    )
    lineage = inheritance.lineage(ancestor) if ancestor else []
    settings = Config(model, preset, hparams, options, dataset.facts(), _environment(), data_options, lineage)
    if ancestor:
        inheritance.check(settings, ancestor)
    return settings


def start(settings: Config, dataset: Dataset, *, debug: bool = False) -> runs.Run:
    """Train a new run. Of several workers, only the chief writes a run folder."""
    with _folder(settings.options) as out:
        run = runs.create(out, settings)
        run.use_data(dataset)
        with run.training():
            _announce(run, dataset)
            engine.train(run, dataset, debug=debug)
    return run


@contextlib.contextmanager
def _folder(options: Options) -> Iterator[str]:
    """Yield the folder to create runs in. Workers other than the chief get a temporary one and log only errors."""
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
    """Resume a run. `options` may differ from the stored ones only in config.MAY_CHANGE."""
    stored, given = run.config, run
    with _folder(options) as out:
        if not distribution.is_chief(options):
            run = _copied(given, out)
        # Waits for all workers, so the chief changes no file before the others have copied its folder.
        distribution.prepare(options)
        dataset = given.data()
        run.use_data(dataset)
        steps = _steps(stored.model, stored.preset, stored.hparams, options, dataset.epoch_size)
        if steps < stored.steps:
            raise UsageError(f"--steps {steps:,} is less than the {stored.steps:,} of {run.name}: a run can only grow.")
        if options.profile != stored.options.profile:
            _check_profile(options, 0 if run.never_began else run.step, steps)
        options = dataclasses.replace(options, steps=steps, epochs=None, out=stored.options.out)
        distribution.Distribution(options, stored.hparams.batch_size)
        _resume(run, dataset, stored, options, debug)
    return run


def _copied(run: runs.Run, out: str) -> runs.Run:
    """Return a copy of the chief's run in the folder `out`, for a worker to resume from."""
    ignored = shutil.ignore_patterns("samples", "tensorboard")
    return runs.open(shutil.copytree(run.path, pathlib.Path(out) / run.name, ignore=ignored))


def _resume(run: runs.Run, dataset: Dataset, stored: Config, options: Options, debug: bool) -> None:
    assert options.steps is not None
    with run.training():
        if not run.never_began:
            run.find_checkpoint()  # raises before anything is written
        run.write_config(dataclasses.replace(stored, options=options))
        _announce(run, dataset)
        _announce_schedule(stored, options)
        engine.train(run, dataset, resume=True, debug=debug)


def _announce_schedule(stored: Config, options: Options) -> None:
    """Log the learning-rate schedule of a resumed run if it changed, or if the run outlasts it."""
    length, steps = options.schedule_steps, options.steps
    assert length is not None and steps is not None
    if stored.hparams.schedule == "constant":
        return
    if length != stored.options.schedule_steps:
        log.info(f"rates   schedule of {length:,} steps; it was {stored.options.schedule_steps:,}")
    if steps > length:
        final = 0.01 if stored.hparams.schedule == "step" else stored.hparams.final_rate
        log.warning(
            f"warning the learning rates stay at {final:.2%} from step {length:,} on, where their schedule ends. "
            f"Add --schedule-steps {steps} to stretch it over all {steps:,} steps."
        )


def _check_widths(hparams: Hparams, starting: Hparams, spec: DataSpec) -> None:
    """Raise UsageError for more widths than the networks have resolutions. Those of presets are for images of any size."""
    limit = hparams.width_limit(spec)
    for field in dataclasses.fields(hparams):
        widths = getattr(hparams, field.name)
        if limit is None or not field.name.endswith("widths") or widths == getattr(starting, field.name):
            continue
        if len(widths) > limit:
            height, width = spec.shape[:2]
            raise UsageError(
                f"--{field.name.replace('_', '-')} has {len(widths)} widths, and networks for images of {height}x{width} have "
                f"resolutions for {limit}. Leave out the last {len(widths) - limit}."
            )


def _check_profile(options: Options, begin: int, end: int) -> None:
    """Raise UsageError if --profile names steps outside this training."""
    if options.profile:
        start, stop = config.profiled_steps(options.profile)
        if start < begin or stop > end:
            raise UsageError(f"--profile {options.profile}: this training runs from step {begin:,} to {end:,}.")


def _steps(model: str, preset: str, hparams: Hparams, options: Options, count: int) -> int:
    """Return the length of a run in steps, for `count` training images."""
    if options.epochs is None:
        return options.steps or models.steps(model, preset)
    steps = options.epochs * count / (hparams.batch_size * hparams.batches_per_step)
    if steps > bounds.LARGEST:
        raise UsageError(f"--epochs {options.epochs:g} takes {steps:.3g} steps; a run has at most {bounds.LARGEST:,}.")
    return max(1, math.ceil(steps))


def _announce(run: runs.Run, dataset: Dataset) -> None:
    shape = "x".join(str(side) for side in dataset.spec.shape)
    parts = (("for validation", dataset.validation_images), ("for testing", dataset.test_images))
    held_out = "".join(f", {len(images):,} {what}" for what, images in parts if images is not None)
    batch_size = run.config.hparams.batch_size
    log.info(f"run     {run.path}")
    log.info(f"data    {dataset.name}: {len(dataset.images):,} images {shape} for training{held_out}")
    if dataset.class_names:
        log.info(f"classes {dataset.class_counts()}")
    log.info(
        f"batches of {batch_size}, {dataset.epoch_size / batch_size:.1f} per epoch; a batch may span two epochs, so no image "
        "is skipped"
    )
    log.info(f"model   {run.config.model}, {run.config.options.precision}, {run.config.steps:,} steps")


def _environment() -> dict[str, Any]:
    packages = ("genlab", "tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "platform": platform.platform(terse=True),
        "devices": [device.device_type for device in tf.config.list_logical_devices()],
        # Results differ in the last bits with these.
        "cpu_count": os.cpu_count(),
        "threads_within_an_operation": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "command": " ".join(sys.argv[1:]),
        "keras_backend": keras.backend.backend(),
    }
