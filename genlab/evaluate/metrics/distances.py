"""Distances between two sets of features: Frechet and kernel distance."""

from __future__ import annotations

import numpy as np

from genlab.errors import UsageError


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of Gaussians fitted to features [N, F] and [M, F]; 0 or more.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
    (https://arxiv.org/abs/1706.08500), equation 6. It is biased upwards at small counts: compare figures of equal
    counts only. Raises UsageError where there are fewer rows than columns: the fit means nothing then.
    """
    for features in (first, second):
        if len(features) <= features.shape[1]:
            raise UsageError(
                f"a Frechet distance over {features.shape[1]} features needs more than {features.shape[1]} images on "
                f"either side, and there are {len(features)}. Give more --samples, or data with more held-out images."
            )
    (mean, covariance), (other_mean, other_covariance) = _moments(first), _moments(second)
    # tr (C1 C2)^(1/2) = tr (S C2 S)^(1/2) with S = C1^(1/2): a symmetric matrix, whose eigenvalues are real.
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    trace = np.sqrt(np.maximum(product, 0.0)).sum()
    difference = mean - other_mean
    distance = difference @ difference + np.trace(covariance) + np.trace(other_covariance) - 2.0 * trace
    return max(0.0, float(distance))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = np.asarray(features, np.float64)
    return features.mean(axis=0), np.cov(features, rowvar=False).reshape(features.shape[1], -1)


def kernel_distance(
    first: np.ndarray, second: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation over subsets of the unbiased squared maximum mean discrepancy of features [N, F].

    Binkowski et al. 2018, "Demystifying MMD GANs" (https://arxiv.org/abs/1801.01401), section 4: the kernel is
    (x.y / F + 1)^3, the subsets are drawn without replacement within each. Unbiased: about 0 for two samples of one
    distribution, and below 0 half of the time. Subsets are no larger than the smaller set.
    """
    size = min(subset_size, len(first), len(second))
    if size < 2:
        raise UsageError(f"a kernel distance needs 2 images or more on either side, and there is {size}.")
    random = np.random.default_rng(seed)
    values = [
        _squared_discrepancy(*(part[random.choice(len(part), size, replace=False)] for part in (first, second)))
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _squared_discrepancy(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(np.float64), second.astype(np.float64)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        products = a @ b.T / a.shape[1] + 1.0
        return products * products * products  # several times as fast as a power

    pairs = len(first) * (len(first) - 1)
    within = sum((matrix.sum() - np.trace(matrix)) / pairs for matrix in (kernel(first, first), kernel(second, second)))
    return float(within - 2.0 * kernel(first, second).mean())
