"""Metrics of a classifier's predictions: Inception Score, class balance, modes captured."""

from __future__ import annotations

import numpy as np


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """Return exp E KL(p(y|x) || p(y)), mean and standard deviation over splits; from 1 to the number of classes.

    Salimans et al. 2016, "Improved Techniques for Training GANs" (https://arxiv.org/abs/1606.03498), section 4, with the
    logits [N, K] of any classifier. The splits are consecutive, each with its own p(y).
    """
    from scipy.special import rel_entr, softmax

    scores = []
    for part in np.array_split(np.asarray(logits, np.float64), splits):
        probabilities = softmax(part, axis=1)
        marginal = probabilities.mean(axis=0)
        scores.append(np.exp(rel_entr(probabilities, marginal).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def class_shares(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the fraction of each class, [K], among class numbers [N]."""
    return np.bincount(classes, minlength=num_classes) / max(1, len(classes))


def in_shares(labels: np.ndarray, num_classes: int, count: int, seed: int) -> np.ndarray:
    """Return `count` labels, int32, in the proportions of the labels [N], integers from 0 up; shuffled by the seed.

    Every class is less than one image away from its exact share (largest remainders).
    """
    exact = class_shares(labels, num_classes) * count
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: count - counts.sum()]] += 1
    # A separate stream: the order must be independent of the choice of real images by the same seed.
    random = np.random.default_rng([seed, 1])
    return random.permutation(np.repeat(np.arange(num_classes, dtype=np.int32), counts))


def balance(classes: np.ndarray, real: np.ndarray, num_classes: int) -> dict[str, float]:
    """Return metrics of the class balance of generated images, compared with real ones.

    `class_entropy`: entropy of the class proportions, divided by its maximum, log K. `smallest_class`: the smallest ratio of
    a class' proportion among generated images to that among real ones.
    """
    from scipy.stats import entropy

    shares, real_shares = class_shares(classes, num_classes), class_shares(real, num_classes)
    present = real_shares > 0
    return {
        "class_entropy": float(entropy(shares) / np.log(num_classes)),
        "smallest_class": float((shares[present] / real_shares[present]).min()),
    }


def captured(classes: np.ndarray, real: np.ndarray, num_classes: int) -> tuple[int, float]:
    """Return the number of classes that occur, and KL(generated || real) of the class proportions in nats.

    With many classes this counts modes, as on stacked digits (Metz et al. 2017, https://arxiv.org/abs/1611.02163). The KL
    is infinite if a generated class is missing from the real images.
    """
    from scipy.stats import entropy

    shares, real_shares = class_shares(classes, num_classes), class_shares(real, num_classes)
    return int((shares > 0).sum()), float(entropy(shares, real_shares))
