"""Three digits as red, green and blue of one image: a thousand modes that a classifier of digits can count."""

from __future__ import annotations

import numpy as np

from genlab.data.dataset import Dataset
from genlab.errors import UsageError

TRAIN, TEST = 128_000, 26_000


def stack(digits: Dataset, train: int = TRAIN, test: int = TEST) -> Dataset:
    """Stack three random grey digits per image, [N, H, W, 3]; the same digits always give the same result.

    Metz et al. 2017, "Unrolled Generative Adversarial Networks" (https://arxiv.org/abs/1611.02163), section 3.3.1, with
    the counts of Srivastava et al. 2017. The label is the three-digit number, red first. Raises UsageError for anything
    but grey images of ten classes.
    """
    if digits.spec.shape[-1] != 1 or digits.labels is None or digits.spec.num_classes != 10:
        raise UsageError(f"--data stacked:{digits.source}: the source must be grey images with labels of ten digits.")
    parts = digits.parts().values()
    if digits.partial_labels or not all(
        isinstance(images, np.ndarray) and labels is not None for images, labels in parts
    ):
        raise UsageError(f"--data stacked:{digits.source}: all images must have labels and fit into memory (--memory).")
    assert isinstance(digits.images, np.ndarray)
    images, labels = _triples(digits.images, digits.labels, train, seed=0)
    held_out, held_out_labels = digits.test_images, digits.test_labels
    if held_out is None:
        held_out, held_out_labels = digits.images, digits.labels
    assert isinstance(held_out, np.ndarray) and held_out_labels is not None
    test_images, test_labels = _triples(held_out, held_out_labels, test, seed=1)
    return Dataset(
        name="stacked" if digits.name == "mnist" else f"stacked-{digits.name}",
        source=f"stacked:{digits.source}",
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(f"{number:03d}" for number in range(1000)),
    )


def _triples(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).integers(0, len(images), (count, 3))
    stacked = np.stack([images[column, ..., 0] for column in rows.T], axis=-1)
    return stacked, (labels[rows] @ np.array([100, 10, 1])).astype(np.int32)
