"""Label images with a run's classifier, or with a new one that learns from the same labels: those that it is sure of, as shards."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genlab import bounds, files
from genlab import run as runs
from genlab.backend import Network, in_parts, tf
from genlab.data import Dataset, shard_index, shards
from genlab.data.dataset import Images
from genlab.data.labels import UNLABELLED
from genlab.data.spec import to_model_range
from genlab.errors import UsageError, listed
from genlab.evaluate import classifier, semi_supervised
from genlab.models import semi_gan

THRESHOLD = 0.9
"""Least probability of a class at which an image gets it as its label, by default."""
PART = 500
"""Images that are classified at a time."""
CLASSIFIER = "classifier.keras"
"""File of the new classifier, if there is one, next to the shards."""


@dataclasses.dataclass(frozen=True)
class Labelling:
    """Labels of the training images of a data set: its own, and those of a classifier."""

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
    classifier: Network
    """The classifier, images [B, H, W, C] in [-1, 1] -> logits [B, K]."""
    held_out: int
    """Number of held-out images with a label: of the validation set, else of the test images."""
    accuracy: float | None
    """Accuracy of the classifier on those; None if there is none."""


def label(
    run: runs.Run,
    dataset: Dataset,
    threshold: float = THRESHOLD,
    *,
    steps: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda steps: None,
) -> Labelling:
    """Give the unlabelled training images the class to which a classifier gives a probability of at least `threshold`.

    Images with a label keep it. The classifier is the run's or, with `steps`, a new one that is trained for as many, without a
    generator: see `semi_supervised.train`. It learns from the labels of the data or, if there is none, of the run's data, with the
    run's settings of consistency and rotations. Raises UsageError if the run has no classifier, if the data has other classes or
    no image without a label, and if the classifier is sure of none.
    """
    threshold = bounds.real("--threshold", threshold, 0, 1)
    network = _classifier_of(run, dataset)
    known = dataset.parts()["train"][1]
    labels = np.full(len(dataset.images), UNLABELLED, np.int32) if known is None else known.copy()
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if not len(unlabelled):
        raise UsageError(f"every training image of {dataset.name} has a label already.")
    title = f"the classifier of {run.name}"
    if steps:
        title = f"the classifier of {steps:,} steps"
        network = _trained(run, dataset, steps, seed, progress)

    def probabilities(rows: np.ndarray) -> np.ndarray:
        logits = network(to_model_range(dataset.images[rows]), training=False)
        return tf.nn.softmax(logits).numpy()

    found = in_parts(probabilities, unlabelled, size=PART)
    classes, sure = found.argmax(axis=1).astype(np.int32), found.max(axis=1) >= threshold
    if not sure.any():
        raise UsageError(
            f"{title} gives no image a probability of {threshold:g}; the highest is {found.max():.3f}. Train it for longer, or "
            "lower --threshold."
        )
    own, kept, unsure = (
        np.bincount(each, minlength=found.shape[1])
        for each in (labels[labels != UNLABELLED], classes[sure], classes[~sure])
    )
    labels[unlabelled[sure]] = classes[sure]
    rows = np.flatnonzero(labels != UNLABELLED)
    held_out, accuracy = _accuracy(network, dataset)
    return Labelling(dataset, rows, labels[rows], own, kept, unsure, network, held_out, accuracy)


def _accuracy(network: Network, dataset: Dataset) -> tuple[int, float | None]:
    """Return how many images with a label the validation set has, else the test images, and the classifier's accuracy on them."""
    for split, (images, labels) in dataset.parts().items():
        if split == "train" or labels is None:
            continue
        rows = np.flatnonzero(labels != UNLABELLED)
        if len(rows):
            return len(rows), float((classifier.predicted(network, images[rows]) == labels[rows]).mean())
    return 0, None


def _classifier_of(run: runs.Run, dataset: Dataset) -> Network:
    """Return the run's classifier. Raises UsageError if there is none, or if it does not fit the data."""
    if run.model.classifier is None:
        raise UsageError(
            f"{run.name} has no classifier. Train a model that has one: python -m genlab.train semi_gan --labelled 100"
        )
    names = tuple(run.config.dataset["class_names"])
    if dataset.class_names and dataset.class_names != names:
        raise UsageError(
            f"{dataset.name} has the classes {listed(dataset.class_names)}, and the classifier of {run.name} knows "
            f"{listed(names)}. Use images of the same classes, or without labels."
        )
    return run.model.classifier


def _trained(run: runs.Run, dataset: Dataset, steps: int, seed: int, progress: Callable[[int], None]) -> Network:
    """Train a new classifier with the run's settings. Raises UsageError if the run has none of these."""
    hparams = run.model.hparams
    if not isinstance(hparams, semi_gan.Hparams) or not run.model.spec.is_image:
        raise UsageError(f"--steps needs a run of semi_gan on images; {run.name} is none. Leave it out.")
    return semi_supervised.train(
        dataset if dataset.class_names else run.data(),
        dataset,
        hparams.views,
        flip=run.config.data_options.flip,
        consistency_weight=float(hparams.consistency_weight),
        align=hparams.consistency_alignment,
        threshold=hparams.consistency_threshold,
        rotation_weight=float(hparams.rotation_weight),
        steps=steps,
        seed=seed,
        progress=progress,
    )


def checked_facts(
    folder: str | os.PathLike[str], run: runs.Run, dataset: Dataset, threshold: float, steps: int
) -> dict[str, Any]:
    """Return what the index of the shards says of the labels. Raises UsageError if the folder has other content."""
    found: dict[str, Any] = {
        "name": dataset.name,
        "shape": list(dataset.spec.shape),
        "class_names": list(run.config.dataset["class_names"]),
        "data_sha256": dataset.sha256,
        "run": run.name,
        "step": run.step,
        "threshold": threshold,
    }
    found |= {"classifier_steps": steps} if steps else {}
    shards.check_folder(pathlib.Path(folder), found, images_per_shard=shards.fitting(dataset.spec.shape))
    return found


def write(
    facts: dict[str, Any],
    labelling: Labelling,
    folder: str | os.PathLike[str],
    progress: Callable[[int], None] = lambda images: None,
) -> shard_index.Index:
    """Write labelled images as TFRecord shards that `--data` opens; held-out images as they are, with their own labels.

    A new classifier is written next to them. Raises UsageError if the folder has other content.
    """
    dataset = labelling.dataset

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
    index = shards.write(pathlib.Path(folder), facts, parts, images_per_shard=size, progress=progress)
    if "classifier_steps" in facts:
        files.replace(pathlib.Path(folder) / CLASSIFIER, labelling.classifier.save)
    return index
