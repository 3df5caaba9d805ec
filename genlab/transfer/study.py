"""What a trained trunk is worth to a classifier with few labels, beside the same network from scratch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from genlab import run as runs
from genlab.backend import keras
from genlab.encode import codec
from genlab.errors import UsageError
from genlab.evaluate import classifier, comparison
from genlab.evaluate.comparison import Setting
from genlab.transfer import backbone

log = logging.getLogger("genlab")

CONDITIONS = ("scratch", "probe", "frozen", "fine-tuned")
"""The same network from initial weights; logistic regression on the codes; a head on the frozen trunk; all of it trained on."""
BATCH = 64
LEARNING_RATE = 1e-3
FINE_TUNING_RATE = 3e-4
"""Lower: the trunk is to be adapted, not forgotten."""


def study(
    run: runs.Run,
    real: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    *,
    counts: Sequence[int | None] = (100, 1000, None),
    seeds: int = 5,
    steps: int = 500,
    layers: str = "",
) -> list[Setting]:
    """Train under each of CONDITIONS with each count of labelled images (in all; None: all) and each seed.

    All images are uint8 [N, H, W, C] with integer labels [N]. Every network is trained for the same number of steps on
    batches of 64; fine-tuning spends the first half on the head alone. A seed draws the labelled images, as many of each
    class, the initial weights and the order: the differences are paired. Raises UsageError where a class has too few.
    """
    smallest = np.bincount(real[1], minlength=num_classes).min()
    for count in counts:
        if count is not None and not num_classes <= count <= smallest * num_classes:
            raise UsageError(
                f"--labels {count}: from {num_classes:,} to {smallest * num_classes:,} can be drawn, as many of each class."
            )
    settings = []
    codes = _codes(run, test[0], layers)
    for count in counts:
        per_class = None if count is None else count // num_classes
        setting = Setting(count)
        for seed in range(seeds):
            rows = comparison.chosen_rows(real[1], per_class, seed)
            few = real[0][rows], real[1][rows]
            answers = _trained_answers(run, few, test[0], num_classes, steps, layers, seed)
            answers["probe"] = _probe(_codes(run, few[0], layers), few[1], codes)
            setting.add({condition: answers[condition] for condition in CONDITIONS}, test[1], num_classes)
            log.info(f"{'all' if count is None else count} labels, seed {seed}: {setting.newest()}")
        settings.append(setting)
    return settings


def _trained_answers(
    run: runs.Run,
    real: tuple[np.ndarray, np.ndarray],
    test: np.ndarray,
    num_classes: int,
    steps: int,
    layers: str,
    seed: int,
) -> dict[str, np.ndarray]:
    """The classes that each trained network takes the test images for."""
    keras.utils.set_random_seed(seed)
    answers = {}
    scratch = backbone.classifier(run, num_classes, layers=layers, pretrained=False, seed=seed)
    classifier.fit(scratch, classifier.stream(*real, BATCH, seed), steps, LEARNING_RATE)
    answers["scratch"] = classifier.predicted(scratch, test)
    tuned = backbone.classifier(run, num_classes, layers=layers, trainable="", seed=seed)
    classifier.fit(tuned, classifier.stream(*real, BATCH, seed), steps // 2, LEARNING_RATE)
    half = tuned.get_weights()
    classifier.fit(tuned, classifier.stream(*real, BATCH, seed + 1), steps - steps // 2, LEARNING_RATE)
    answers["frozen"] = classifier.predicted(tuned, test)
    tuned.set_weights(half)
    backbone.unfreeze(tuned)
    classifier.fit(tuned, classifier.stream(*real, BATCH, seed + 1), steps - steps // 2, FINE_TUNING_RATE)
    answers["fine-tuned"] = classifier.predicted(tuned, test)
    return answers


def _codes(run: runs.Run, images: np.ndarray, layers: str) -> np.ndarray:
    """The encoder's codes of uint8 images; of a run without an encoder the trunk's features."""
    encoder = run.model.encoder
    if encoder is None:
        model = backbone.classifier(run, 1, layers=layers)
        encoder = keras.Model(model.inputs[0], model.layers[-1].input)
    return codec.encode(encoder, images)


def _probe(codes: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What logistic regression on the codes takes the test codes for."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return probe.fit(codes, labels).predict(test)
