"""Nearest-neighbour metrics of features: precision, recall, density, coverage, memorization."""

from __future__ import annotations

import dataclasses

import numpy as np

from genlab.errors import UsageError


def precision_and_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Return the fraction of generated images inside the real manifold, and of real ones inside the generated; 0 to 1.

    Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models"
    (https://arxiv.org/abs/1904.06991), equations 1 and 2: a manifold is the union of balls around each image, up to its
    k-th nearest neighbour in the same set. Features [N, F] and [M, F].
    """
    precision = _within(generated, real, _radii(real, k)).astype(bool).mean()
    recall = _within(real, generated, _radii(generated, k)).astype(bool).mean()
    return float(precision), float(recall)


def density_and_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Return density, the mean number of real balls around a generated image over k, and coverage, the fraction of real
    balls with a generated image.

    Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models"
    (https://arxiv.org/abs/2002.09797), equations 4 and 5. For two samples of the same distribution, density is about 1 and
    coverage about 1 - 2^-k. Features [N, F] and [M, F].
    """
    radii = _radii(real, k)
    density = _within(generated, real, radii).mean() / k
    coverage = (nearest(real, generated)[0] < radii).mean()
    return float(density), float(coverage)


QUANTILE = 0.01
"""Fraction of real images below the distance that counts as memorized."""
ROUNDING = 1e-4
"""Distances below this fraction of the median count as 0: features of equal images may differ in the last bits."""


@dataclasses.dataclass(frozen=True)
class Memorization:
    """How close generated images are to training images, compared with other real images."""

    share: float
    """Fraction of generated images closer to a training image than 99% of the real ones are."""
    floor: float
    """The share for a perfect generator, which samples the real distribution: 0.01, or more with fewer than 100 real images
    or duplicates among them."""
    generated: np.ndarray
    """Indices of the generated images, closest to a training image first."""
    training: np.ndarray
    """Index of each one's nearest training image, in the same order."""


def memorization(
    training: np.ndarray, real: np.ndarray, generated: np.ndarray, rows: np.ndarray | None = None
) -> Memorization:
    """Compare the distances of generated and of real images to the nearest training image; features [N, F] of each.

    The real images are held out, or `rows` [N] gives the index of each among the training images (-1: not there), and it is
    compared with the others. Generated images are always compared with all training images, so a copy of any is found.
    """
    real_distances = nearest(real, training, rows)[0]
    # Given N real images, another one is closer than the i-th closest with probability i / (N + 1).
    threshold = np.quantile(real_distances, QUANTILE, method="weibull") + ROUNDING * np.median(real_distances)
    distances, indices = nearest(generated, training)
    order = np.argsort(distances, kind="stable")
    return Memorization(
        float((distances <= threshold).mean()),
        max(QUANTILE, float((real_distances <= threshold).mean())),
        order,
        indices[order],
    )


def nearest(points: np.ndarray, others: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and index, [N] each, of the nearest of the others [M, F] to each point [N, F].

    `own`, [N], is the index of each point among the others, which is skipped; -1 if it is not there.
    """
    from sklearn.neighbors import NearestNeighbors

    if own is None:
        own = np.full(len(points), -1)
    count = 2 if (own >= 0).any() else 1
    found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(others)
    distances, indices = found.kneighbors(points)
    # If two duplicates of a point are found before itself, either is correct.
    chosen = np.arange(len(points)), (indices[:, 0] == own).astype(int)
    return distances[chosen], indices[chosen]


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of each point to its k-th nearest neighbour among the others, [N]."""
    from sklearn.neighbors import NearestNeighbors

    if len(points) <= k:
        raise UsageError(
            f"the {k} nearest neighbours of an image need more than {k} images, and there are {len(points)}."
        )
    # Without an argument, kneighbors excludes each point itself.
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()[0][:, -1]


def _within(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the number of balls around the centres that contain each point, [N]."""
    from sklearn.metrics import pairwise_distances_chunked

    chunks = pairwise_distances_chunked(
        points, centres, reduce_func=lambda distances, _: (distances < radii).sum(axis=1), working_memory=64
    )
    return np.concatenate(list(chunks))
