"""Does a trained generator help a classifier? The same one is trained with and without generated images, and compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genlab.backend import keras, tf
from genlab.data.spec import to_model_range
from genlab.errors import UsageError
from genlab.evaluate import classifier, comparison
from genlab.evaluate.comparison import Setting
from genlab.networks import augmentation

log = logging.getLogger("genlab")

CONDITIONS = ("real", "classical", "generated", "both")
"""Real images alone; shifted, turned and zoomed at random; with generated ones among them; both."""
CLASSICAL = ("shift", "rotate", "zoom")
BATCH = 64
LEARNING_RATE = 2e-3
POOL = 20_000
"""Generated images that batches are filled from, at most."""
Arrays = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [N, H, W, C], and integer labels [N]."""


def study(
    generated: Arrays | Callable[[Any], Arrays],
    real: Arrays,
    test: Arrays,
    num_classes: int,
    *,
    per_class: Sequence[int | None] = (None,),
    seeds: int = 5,
    fraction: float = 0.5,
    steps: int = 1000,
    conditions: Sequence[str] = CONDITIONS,
) -> list[Setting]:
    """Train a small classifier under each condition, with each number of real images a class, and each seed.

    All images are uint8 [N, H, W, C] with integer labels [N]. Every training takes the same number of steps on batches
    of 64, of which `fraction` are generated where there are any. A seed draws the real images, the initial weights and
    the order, the same ones for all conditions: the differences are paired. `generated` may be a function that a classifier
    selects for: see `predictions_by_condition`. Raises UsageError where a class has too few images.
    """
    counts = np.bincount(real[1], minlength=num_classes)
    settings = []
    for count in per_class:
        if count is not None and counts.min() < count:
            raise UsageError(f"--per-class {count}: a class has {counts.min():,} training images alone.")
    for count in per_class:
        setting = Setting(count)
        for seed in range(seeds):
            rows = comparison.chosen_rows(real[1], count, seed)
            few = real[0][rows], real[1][rows]
            answers = predictions_by_condition(
                generated, few, test[0], num_classes, fraction=fraction, steps=steps, seed=seed, conditions=conditions
            )
            setting.add(answers, test[1], num_classes)
            log.info(f"{'all' if count is None else count} a class, seed {seed}: {setting.newest()}")
        settings.append(setting)
    return settings


def predictions_by_condition(
    generated: Arrays | Callable[[Any], Arrays],
    real: Arrays,
    test: np.ndarray,
    num_classes: int,
    *,
    fraction: float,
    steps: int,
    seed: int,
    conditions: Sequence[str] = CONDITIONS,
) -> dict[str, np.ndarray]:
    """The classes that a classifier takes the test images for after training under each condition; see `study`.

    `generated` may be a function of a classifier (Keras model, images in [-1, 1] -> logits) that returns the generated images
    that it selects. It is handed one that was trained on `real` alone.
    """
    if callable(generated):
        # A classifier of all labels, such as the extractor's, would hand the labels that were left out to the conditions with
        # generated images, through the images that it selects, and their gain would be the labels'.
        generated = generated(trained(real, None, num_classes, classical=False, fraction=0.0, steps=steps, seed=seed))
    answers = {}
    for condition in conditions:
        network = trained(
            real,
            generated if condition in ("generated", "both") else None,
            num_classes,
            classical=condition in ("classical", "both"),
            fraction=fraction,
            steps=steps,
            seed=seed,
        )
        answers[condition] = classifier.predicted(network, test)
    return answers


def trained(
    real: Arrays,
    generated: Arrays | None,
    num_classes: int,
    *,
    classical: bool,
    fraction: float,
    steps: int,
    seed: int,
) -> Any:
    """The classifier, images in [-1, 1] -> logits [B, K], trained for so many steps."""
    keras.utils.set_random_seed(seed)
    made = 0 if generated is None else round(BATCH * fraction)
    parts = [classifier.batches(*real, BATCH - made, seed)] if made < BATCH else []
    if generated is not None and made:
        parts.append(classifier.batches(*generated, made, seed + 1))

    def changed(number: Any, batch: Any) -> Any:
        images, labels = batch
        seeds = tf.stack([tf.cast(number, tf.int32), seed])
        return augmentation.augmented(images, seeds, CLASSICAL), labels

    stream = classifier.mixed(*parts).map(lambda images, labels: (to_model_range(images), labels))
    if classical:
        stream = stream.enumerate().map(changed)
    model = untrained(real[0].shape[1:], num_classes)
    classifier.fit(model, stream.prefetch(4), steps, LEARNING_RATE)
    return model


def untrained(shape: tuple[int, ...], num_classes: int) -> Any:
    """That classifier with initial weights, for images of the shape (H, W, C)."""
    network = classifier.build(shape, num_classes)
    return keras.Model(network.inputs[0], network.outputs[1])
