"""What TensorBoard shows besides metrics and pictures: the HParams tab of all runs, and the projector."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from genlab import projector
from genlab.backend import in_parts, keras, tf
from genlab.data.dataset import Dataset
from genlab.data.spec import to_model_range
from genlab.models.base import GenerativeModel
from genlab.networks import features
from genlab.run import Run

PROJECTED = 1000
"""Maximum number of images in the projector."""


def write_hparams(board: tf.summary.SummaryWriter, run: Run) -> None:
    """Write the settings of a run for the HParams tab, which compares the runs of a folder.

    The tab takes the last value of each scalar of a run as its metric.
    """
    from tensorboard.plugins.hparams import summary_v2

    config = run.config
    settings: dict[str, Any] = {
        "model": config.model,
        "data": config.dataset["name"],
        "preset": config.preset,
        "precision": config.options.precision,
        "seed": config.options.seed,
        "steps": config.steps,
    }
    settings |= {name: _plain(value) for name, value in dataclasses.asdict(config.hparams).items()}
    content = summary_v2.hparams_pb(settings, trial_id=run.name)
    with board.as_default(step=0):
        tf.summary.experimental.write_raw_pb(content.SerializeToString())


def _plain(value: object) -> bool | float | str:
    """Return a value as the HParams tab takes it: a sequence as words."""
    if isinstance(value, bool | int | float | str):
        return value
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def project(run: Run, model: GenerativeModel, dataset: Dataset) -> None:
    """Write at most PROJECTED held-out images for the projector: their codes, or else a discriminator's features.

    Writes nothing for points, and for a model with neither. Images of the projector have the shape of the model's.
    """
    images, labels = dataset.held_out(PROJECTED)
    found = _vectors(model, to_model_range(images), labels) if model.spec.is_image else None
    if found is not None:
        projector.write(run.path / "tensorboard", *found, images, labels, dataset.class_names)


def _vectors(model: GenerativeModel, images: np.ndarray, labels: np.ndarray | None) -> tuple[str, np.ndarray] | None:
    """Return `codes` [N, latent] of images in [-1, 1], or `features` [N, channels], averaged over the plane; None if there are none."""
    encoder = model.encoder
    if encoder is not None:
        return "codes", in_parts(lambda part: encoder(part, training=False), images)
    network = model.feature_network
    if network is None or (labels is None and len(network.inputs) > 1):
        return None
    last = features.matching(network, model.feature_layers)[-1]
    hidden = keras.Model(network.inputs, last.output)
    fed = [tf.convert_to_tensor(each) for each in (images, labels)[: len(network.inputs)]]
    values = in_parts(lambda *parts: tf.cast(hidden([*parts], training=False), tf.float32), *fed)
    return "features", values.mean(axis=tuple(range(1, values.ndim - 1)))
