"""Label images with a run's classifier: those that it is sure of, written as shards with their classes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genlab import bounds
from genlab import run as runs
from genlab.backend import in_parts, tf
from genlab.data import Dataset, shard_index, shards
from genlab.data.dataset import Images
from genlab.data.labels import UNLABELLED
from genlab.data.spec import to_model_range
from genlab.errors import UsageError, listed

THRESHOLD = 0.9
"""Least probability of a class at which an image gets it as its label, by default."""
PART = 500
"""Images that are classified at a time."""


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Labels of the training images of a data set: its own, and those of a run's classifier."""

    dataset: Dataset
    rows: np.ndarray
    """Training images that have a label now, in order, int64 [N]."""
    labels: np.ndarray
    """Their classes, int32 [N]."""
    own: np.ndarray
    """Images by class that had a label before, [K]."""
    kept: np.ndarray
    """Images by class that the classifier is sure of, [K]."""
    unsure: np.ndarray
    """Images by most probable class that it is not sure of, [K]: they are left out."""


def label(run: runs.Run, dataset: Dataset, threshold: float = THRESHOLD) -> Labelling:
    """Give the unlabelled training images the class to which the run's classifier gives a probability of at least `threshold`.

    Images with a label keep it. Raises UsageError if the run has no classifier, if the data has other classes or no image
    without a label, and if the classifier is sure of none.
    """
    threshold = bounds.real("--threshold", threshold, 0, 1)
    network = run.model.classifier
    if network is None:
        raise UsageError(
            f"{run.name} has no classifier. Train a model that has one: python -m genlab.train semi_gan --labelled 100"
        )
    names, known = tuple(run.config.dataset["class_names"]), dataset.parts()["train"][1]
    if dataset.class_names and dataset.class_names != names:
        raise UsageError(
            f"{dataset.name} has the classes {listed(dataset.class_names)}, and the classifier of {run.name} knows "
            f"{listed(names)}. Use images of the same classes, or without labels."
        )
    labels = np.full(len(dataset.images), UNLABELLED, np.int32) if known is None else known.copy()
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if not len(unlabelled):
        raise UsageError(f"every training image of {dataset.name} has a label already.")

    def probabilities(rows: np.ndarray) -> np.ndarray:
        logits = network(to_model_range(dataset.images[rows]), training=False)
        return tf.nn.softmax(logits).numpy()

    found = in_parts(probabilities, unlabelled, size=PART)
    classes, sure = found.argmax(axis=1).astype(np.int32), found.max(axis=1) >= threshold
    if not sure.any():
        raise UsageError(
            f"the classifier of {run.name} gives no image a probability of {threshold:g}; the highest is "
            f"{found.max():.3f}. Train it for longer, or lower --threshold."
        )
    own, kept, unsure = (
        np.bincount(each, minlength=len(names))
        for each in (labels[labels != UNLABELLED], classes[sure], classes[~sure])
    )
    labels[unlabelled[sure]] = classes[sure]
    rows = np.flatnonzero(labels != UNLABELLED)
    return Labelling(dataset, rows, labels[rows], own, kept, unsure)


def write(
    run: runs.Run,
    labelling: Labelling,
    threshold: float,
    folder: str | os.PathLike[str],
    progress: Callable[[int], None] = lambda images: None,
) -> shard_index.Index:
    """Write labelled images as TFRecord shards that `--data` opens; held-out images as they are, with their own labels.

    Raises UsageError if the folder has other content.
    """
    dataset = labelling.dataset
    facts = {
        "name": dataset.name,
        "shape": list(dataset.spec.shape),
        "class_names": list(run.config.dataset["class_names"]),
        "data_sha256": dataset.sha256,
        "run": run.name,
        "step": run.step,
        "threshold": threshold,
    }

    def reading(images: Images, labels: np.ndarray | None) -> shards.ImagesOf:
        return lambda rows: (images[rows], None if labels is None else labels[rows])

    parts: dict[str, Any] = {
        split: (len(images), reading(images, labels)) for split, (images, labels) in dataset.parts().items()
    }
    read = reading(dataset.images, None)
    parts["train"] = (
        len(labelling.rows),
        lambda rows: (read(labelling.rows[rows])[0], labelling.labels[rows]),
    )
    size = shards.fitting(dataset.spec.shape)
    return shards.write(pathlib.Path(folder), facts, parts, images_per_shard=size, progress=progress)
