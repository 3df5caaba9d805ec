"""Study: train the same classifier with and without generated images, and compare."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from genlab.backend import Network, keras
from genlab.data.spec import to_model_range
from genlab.errors import UsageError
from genlab.evaluate import classifier, comparison
from genlab.evaluate.comparison import Setting

log = logging.getLogger("genlab")

CONDITIONS = ("real", "classical", "generated", "both")
"""Only real images; with random shift, rotation and zoom; with generated images; with both."""
BATCH = 64
LEARNING_RATE = 2e-3
POOL = 20_000
"""Maximum number of generated images to fill batches from."""
Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [N, H, W, C], and integer labels [N]."""
Source: TypeAlias = Callable[[Arrays, Callable[[], Network]], Arrays]
"""A function of the real images of a setting, and of a function that trains a classifier on them (Keras model, images in
[-1, 1] -> logits): it returns generated images for that setting."""


def study(
    generated: Arrays | Source,
    real: Arrays,
    test: Arrays,
    num_classes: int,
    *,
    per_class: Sequence[int | None] = (None,),
    seeds: int = 5,
    fraction: float = 0.5,
    steps: int = 1000,
    conditions: Sequence[str] = CONDITIONS,
    oversample: bool = False,
) -> list[Setting]:
    """Train a small classifier for each number of real images per class, each seed and each condition.

    All images are uint8 [N, H, W, C] with integer labels [N]. Every training takes the same number of steps on batches of
    64, with `fraction` generated images if the condition has any. A seed selects the real images, the initial weights and
    the order. They are the same for all conditions, so differences are paired. `generated` may be a function of
    the setting's real images. With `oversample`, images of smaller classes are repeated in all conditions until all classes are
    as large. Raises UsageError if a class has too few images.
    """
    check_counts(real[1], num_classes, per_class)
    settings = []
    for count in per_class:
        setting = Setting(count)
        for seed in range(seeds):
            rows = comparison.chosen_rows(real[1], count, seed)
            if oversample:
                rows = rows[comparison.oversampled_rows(real[1][rows])]
            few = real[0][rows], real[1][rows]
            predictions = predictions_by_condition(
                generated, few, test[0], num_classes, fraction=fraction, steps=steps, seed=seed, conditions=conditions
            )
            setting.add(predictions, test[1], num_classes)
            log.info(f"{'all' if count is None else count} per class, seed {seed}: {setting.newest()}")
        settings.append(setting)
    return settings


def check_counts(labels: np.ndarray, num_classes: int, per_class: Sequence[int | None]) -> None:
    """Raise UsageError if a class has fewer images, by their labels [N], than a setting needs."""
    fewest = np.bincount(labels, minlength=num_classes).min()
    for count in per_class:
        if count is not None and fewest < count:
            raise UsageError(f"--per-class {count}: a class has only {fewest:,} training images.")


def predictions_by_condition(
    generated: Arrays | Source,
    real: Arrays,
    test: np.ndarray,
    num_classes: int,
    *,
    fraction: float,
    steps: int,
    seed: int,
    conditions: Sequence[str] = CONDITIONS,
) -> dict[str, np.ndarray]:
    """Train a classifier under each condition and return its predicted classes of the test images; see `study`.

    `generated` may be a function of the real images; a classifier that it selects by is trained only on those.
    """
    train = functools.partial(trained, real, num_classes=num_classes, fraction=fraction, steps=steps, seed=seed)
    classical = functools.cache(lambda: train(None, classical=True))
    if callable(generated):
        # A classifier trained on all labels, such as the extractor's, would leak the labels that were left out through the
        # images that it selects, and the gain would come from those labels.
        generated = generated(real, classical)
    networks: dict[str, Callable[[], Network]] = {
        "real": lambda: train(None, classical=False),
        "classical": classical,
        "generated": lambda: train(generated, classical=False),
        "both": lambda: train(generated, classical=True),
    }
    return {condition: classifier.predicted(networks[condition](), test) for condition in conditions}


def trained(
    real: Arrays,
    generated: Arrays | None,
    num_classes: int,
    *,
    classical: bool,
    fraction: float,
    steps: int,
    seed: int,
) -> Network:
    """Train a classifier, images in [-1, 1] -> logits [B, K], for `steps` steps."""
    keras.utils.set_random_seed(seed)
    made = 0 if generated is None else round(BATCH * fraction)
    parts = [classifier.batches(*real, BATCH - made, seed)] if made < BATCH else []
    if generated is not None and made:
        parts.append(classifier.batches(*generated, made, seed + 1))

    stream = classifier.mixed(*parts).map(lambda images, labels: (to_model_range(images), labels))
    if classical:
        stream = classifier.changing(stream, classifier.VIEWS, seed)
    model = classifier.untrained(real[0].shape[1:], num_classes)
    classifier.fit(model, stream.prefetch(4), steps, LEARNING_RATE)
    return model
