"""Variations of labelled images, without those that a classifier doubts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special

from genlab import bounds
from genlab.backend import Network, Tensor, in_parts
from genlab.data.spec import to_model_range
from genlab.errors import UsageError

log = logging.getLogger("genlab")

AT_ONCE = 256
"""Images of a batch to vary, among which `interpolate` finds others of the same class."""


def vary(
    augment: Callable[[np.ndarray, np.ndarray], tuple[Tensor, Tensor]],
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    *,
    classifier: Network | None = None,
    confidence: float = 0.0,
    classes: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return at least `count` variations of images, uint8 [N, H, W, C], each image as often as the others, with their labels [N].

    `augment` is an Augmenter whose mode changes images, with a fraction of 1. With `classes`, images of the others take the place of
    their variations unchanged. With a classifier, a Keras model of images in [-1, 1] -> logits [B, K], variations are left out to whose
    label it gives a probability below `confidence`. Others of their class are repeated in their place, drawn at random: it doubts
    some classes more than others, and few images of a rare one would be left. Raises UsageError if there is nothing to vary, or no
    variation is left.
    """
    bounds.whole("count", count, 1)
    bounds.real("confidence", confidence, 0, 1)
    if confidence and classifier is None:
        raise UsageError("confidence is that of a classifier: give one, or leave confidence out.")
    random = np.random.default_rng(seed)
    chosen = np.ones(len(images), bool) if classes is None else np.isin(labels, classes)
    if not chosen.any():
        raise UsageError(f"classes {bounds.shown(classes)}: there is no image of them to vary.")
    rounds = math.ceil(count / len(images))
    parts = []
    for _ in range(rounds):
        # The Augmenter's noise follows its batch, so another order gives other variations.
        order = random.permutation(np.flatnonzero(chosen))
        for start in range(0, len(order), AT_ONCE):
            rows = order[start : start + AT_ONCE]
            changed = np.asarray(augment(images[rows], labels[rows])[0])
            if len(changed) != len(rows):
                raise UsageError(
                    "variations need an Augmenter whose mode changes images, such as renoise; this one adds some."
                )
            parts.append((changed, labels[rows]))
    varied, of_class = (np.concatenate(part) for part in zip(*parts, strict=True))
    if classifier is not None and confidence > 0:
        kept = _kept(varied, of_class, classifier, confidence, random)
        varied, of_class = varied[kept], of_class[kept]
    unchanged = np.tile(np.flatnonzero(~chosen), rounds)
    return np.concatenate([varied, images[unchanged]]), np.concatenate([of_class, labels[unchanged]])


def _kept(
    images: np.ndarray, labels: np.ndarray, classifier: Network, confidence: float, random: np.random.Generator
) -> np.ndarray:
    """Return the rows of variations that the classifier is sure of, as many of each class as before if there is any."""
    logits = in_parts(lambda part: classifier(to_model_range(part), training=False), images, size=500)
    sure = scipy.special.softmax(logits, axis=1)[np.arange(len(labels)), labels] >= confidence
    log.info(
        f"{np.mean(sure):.1%} of the variations are kept: the classifier is at least {confidence:.0%} sure of their label"
    )
    if not sure.any():
        raise UsageError(f"confidence {confidence}: no variation is kept. Try a lower one, or a smaller amount.")
    kept = []
    for label, number in zip(*np.unique(labels, return_counts=True), strict=True):
        rows = np.flatnonzero(sure & (labels == label))
        if len(rows):
            kept.append(random.choice(rows, number))
    return np.concatenate(kept)
