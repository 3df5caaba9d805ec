"""Metrics of a classifier's answers: inception-style score, class balance, agreement with labels."""

from __future__ import annotations

import numpy as np


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp E KL(p(y|x) || p(y)): mean and standard deviation over splits; 1 to the number of classes.

    Salimans et al. 2016, "Improved Techniques for Training GANs" (https://arxiv.org/abs/1606.03498), section 4, with
    whatever classifier the logits [N, K] come from. The splits are consecutive, each with a p(y) of its own.
    """
    from scipy.special import rel_entr, softmax

    scores = []
    for part in np.array_split(np.asarray(logits, np.float64), splits):
        probabilities = softmax(part, axis=1)
        marginal = probabilities.mean(axis=0)
        scores.append(np.exp(rel_entr(probabilities, marginal).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def class_shares(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Share of each class, [K], among class numbers [N]."""
    return np.bincount(classes, minlength=num_classes) / max(1, len(classes))


def in_shares(labels: np.ndarray, num_classes: int, count: int, seed: int) -> np.ndarray:
    """`count` labels in the shares of those given, [N] integers from 0 on: int32 [count], in an order of the seed's.

    No class is one image or more away from its share (largest remainders).
    """
    exact = class_shares(labels, num_classes) * count
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: count - counts.sum()]] += 1
    # A stream of its own: the order must have nothing to do with the choice of real images by the same seed.
    random = np.random.default_rng([seed, 1])
    return random.permutation(np.repeat(np.arange(num_classes, dtype=np.int32), counts))


def balance(classes: np.ndarray, real: np.ndarray, num_classes: int) -> dict[str, float]:
    """How evenly generated images fall into classes, beside real ones.

    `entropy`: of the shares of classes, as a share of its largest value, log K; `smallest_class`: the smallest ratio of a
    class's share among the generated to its share among the real.
    """
    from scipy.stats import entropy

    shares, real_shares = class_shares(classes, num_classes), class_shares(real, num_classes)
    present = real_shares > 0
    return {
        "class_entropy": float(entropy(shares) / np.log(num_classes)),
        "smallest_class": float((shares[present] / real_shares[present]).min()),
    }


def captured(classes: np.ndarray, real: np.ndarray, num_classes: int) -> tuple[int, float]:
    """How many of the classes occur, and KL(generated || real) of their shares in nats.

    With many classes this counts modes, as on stacked digits (Metz et al. 2017, https://arxiv.org/abs/1611.02163).
    Infinite where a class is generated that the real images do not have.
    """
    from scipy.stats import entropy

    shares, real_shares = class_shares(classes, num_classes), class_shares(real, num_classes)
    return int((shares > 0).sum()), float(entropy(shares, real_shares))
