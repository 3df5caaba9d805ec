"""Distances between two sets of features: Frechet distance and kernel distance."""

from __future__ import annotations

import numpy as np

from genlab.errors import UsageError


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of Gaussians fitted to features [N, F] and [M, F]; at least 0.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
    (https://arxiv.org/abs/1706.08500), equation 6. Small counts bias it upwards: only compare values with equal counts.
    Raises UsageError if there are no more rows than columns, since the fit is then singular.
    """
    for features in (first, second):
        if len(features) <= features.shape[1]:
            raise UsageError(
                f"a Frechet distance over {features.shape[1]} features needs more than {features.shape[1]} images on "
                f"either side, and there are {len(features)}. Use more --samples, or data with more held-out images."
            )
    (mean, covariance), (other_mean, other_covariance) = _moments(first), _moments(second)
    # tr (C1 C2)^(1/2) = tr (S C2 S)^(1/2) with S = C1^(1/2), a symmetric matrix with real eigenvalues.
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
) -> tuple[float, float | None]:
    """Return the unbiased squared maximum mean discrepancy of features [N, F] and [M, F]: mean and spread over subsets.

    Binkowski et al. 2018, "Demystifying MMD GANs" (https://arxiv.org/abs/1801.01401), section 4: the kernel is
    (x.y / F + 1)^3, and each subset is drawn without replacement. It is unbiased: about 0 for two samples of the same
    distribution, and negative half of the time. Subsets are no larger than the smaller set.

    The spread is the standard deviation over subsets of at most half a set; None with fewer than four rows, or with one
    subset. Raises UsageError with fewer than two rows on either side.
    """
    size = min(subset_size, len(first), len(second))
    if size < 2:
        raise UsageError(f"a kernel distance needs at least 2 images on either side, and there is {size}.")
    random = np.random.default_rng(seed)

    def discrepancies(*sizes: int) -> list[float]:
        parts = tuple(zip((first, second), sizes, strict=True))
        whole = all(rows == len(part) for part, rows in parts)  # all subsets are equal then
        return [
            _squared_discrepancy(*(part[random.choice(len(part), rows, replace=False)] for part, rows in parts))
            for _ in range(1 if whole else subsets)
        ]

    values = discrepancies(size, size)
    # Over subsets as large as the set, the deviation is 0 whatever the error. Over halves it approximates the standard
    # error of the whole (delete-half jackknife, Shao & Wu 1989, https://doi.org/10.1214/aos/1176347263), and is up to 1.7
    # times that if both distributions are the same.
    halves = [min(subset_size, len(part) // 2) for part in (first, second)]
    if subsets < 2 or min(halves) < 2:
        return float(np.mean(values)), None
    spread = np.std(values if halves == [size, size] else discrepancies(*halves))
    return float(np.mean(values)), float(spread)


def _squared_discrepancy(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(np.float64), second.astype(np.float64)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        products = a @ b.T / a.shape[1] + 1.0
        return products * products * products  # several times as fast as a power

    def within(part: np.ndarray) -> float:
        matrix = kernel(part, part)
        return (matrix.sum() - np.trace(matrix)) / (len(part) * (len(part) - 1))

    return float(within(first) + within(second) - 2.0 * kernel(first, second).mean())
