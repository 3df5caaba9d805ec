"""Study: classifiers with few labels on a trained backbone, compared with training from scratch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from genlab import run as runs
from genlab.backend import Stream, keras
from genlab.data.options import View
from genlab.encode import codec
from genlab.errors import UsageError
from genlab.evaluate import classifier, comparison
from genlab.evaluate.comparison import Setting
from genlab.transfer import backbone

log = logging.getLogger("genlab")

CONDITIONS = ("scratch", "probe", "frozen", "fine-tuned")
"""Same network from initial weights; linear probe on the codes; new head on the frozen backbone; whole network fine-tuned."""
OWN = "own classifier"
"""Condition of a run with a classifier, which learned the same labels."""
BATCH = 64
LEARNING_RATE = 1e-3
FINE_TUNING_RATE = 3e-4
"""Lower, so that the backbone is adapted, not overwritten."""


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
    views: Sequence[View] = (),
    own: bool = False,
) -> list[Setting]:
    """Train under each of CONDITIONS, with each number of labelled images (in total; None: all) and each seed.

    All images are uint8 [N, H, W, C] with integer labels [N]. Every network is trained for the same number of steps on
    batches of 64, with the random changes `views`; the probe sees the images as they are. Fine-tuning trains only the head in
    the first half. A seed selects the labelled images, equally many per class, the initial weights and the order, so
    differences are paired. `own` says that the run was trained on these images: with all of their labels, its own classifier, if
    it has one, is compared too. Raises UsageError if a class has too few images.
    """
    smallest = np.bincount(real[1], minlength=num_classes).min()
    for count in counts:
        if count is not None and not num_classes <= count <= smallest * num_classes:
            raise UsageError(
                f"--labels {count}: from {num_classes:,} to {smallest * num_classes:,} can be drawn, equally many per class."
            )
    settings = []
    codes = _codes(run, test[0], layers)
    for count in counts:
        per_class = None if count is None else count // num_classes
        setting = Setting(count)
        for seed in range(seeds):
            rows = comparison.chosen_rows(real[1], per_class, seed)
            few = real[0][rows], real[1][rows]
            found = _trained_predictions(run, few, test[0], num_classes, steps, layers, views, seed)
            found["probe"] = _probe(_codes(run, few[0], layers), few[1], codes)
            chosen = {condition: found[condition] for condition in CONDITIONS}
            if own and run.model.classifier is not None and list(counts) == [None]:
                chosen[OWN] = classifier.predicted(run.model.classifier, test[0])
            setting.add(chosen, test[1], num_classes)
            log.info(f"{'all' if count is None else count} labels, seed {seed}: {setting.newest()}")
        settings.append(setting)
    return settings


def _trained_predictions(
    run: runs.Run,
    real: tuple[np.ndarray, np.ndarray],
    test: np.ndarray,
    num_classes: int,
    steps: int,
    layers: str,
    views: Sequence[View],
    seed: int,
) -> dict[str, np.ndarray]:
    """Train the networks and return their predicted classes of the test images, by condition."""
    keras.utils.set_random_seed(seed)
    predictions = {}

    def stream(seed: int) -> Stream:
        return classifier.changing(classifier.stream(*real, BATCH, seed), views, seed)

    scratch = backbone.classifier(run, num_classes, layers=layers, pretrained=False, seed=seed)
    classifier.fit(scratch, stream(seed), steps, LEARNING_RATE)
    predictions["scratch"] = classifier.predicted(scratch, test)
    tuned = backbone.classifier(run, num_classes, layers=layers, trainable="", seed=seed)
    classifier.fit(tuned, stream(seed), steps // 2, LEARNING_RATE)
    half = tuned.get_weights()
    classifier.fit(tuned, stream(seed + 1), steps - steps // 2, LEARNING_RATE)
    predictions["frozen"] = classifier.predicted(tuned, test)
    tuned.set_weights(half)
    backbone.unfreeze(tuned)
    classifier.fit(tuned, stream(seed + 1), steps - steps // 2, FINE_TUNING_RATE)
    predictions["fine-tuned"] = classifier.predicted(tuned, test)
    return predictions


def _codes(run: runs.Run, images: np.ndarray, layers: str) -> np.ndarray:
    """Return the encoder's codes of uint8 images; for a run without an encoder, the features of the backbone."""
    encoder = run.model.encoder
    if encoder is None:
        model = backbone.classifier(run, 1, layers=layers)
        encoder = keras.Model(model.inputs[0], model.layers[-1].input)
    return codec.encode(encoder, images)


def _probe(codes: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit logistic regression to the codes and return its predicted classes of the test codes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return probe.fit(codes, labels).predict(test)
