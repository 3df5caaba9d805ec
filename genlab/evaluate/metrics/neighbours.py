"""Metrics of who is near to whom among features: precision, recall, density, coverage, memorization."""

from __future__ import annotations

import dataclasses

import numpy as np

from genlab.errors import UsageError


def precision_and_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Share of generated images within the real ones' manifold, and of real ones within the generated; 0 to 1.

    Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models"
    (https://arxiv.org/abs/1904.06991), equations 1 and 2: a manifold is the union of balls that reach from each image to
    its k-th nearest neighbour in its own set. Features [N, F] and [M, F].
    """
    precision = _within(generated, real, _radii(real, k)).astype(bool).mean()
    recall = _within(real, generated, _radii(generated, k)).astype(bool).mean()
    return float(precision), float(recall)


def density_and_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, float]:
    """In how many real balls a generated image lies, over k; and the share of real balls that hold a generated one.

    Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models"
    (https://arxiv.org/abs/2002.09797), equations 4 and 5. Density is about 1 and coverage about 1 - 2^-k for two samples of
    one distribution. Features [N, F] and [M, F].
    """
    radii = _radii(real, k)
    density = _within(generated, real, radii).mean() / k
    coverage = (nearest(real, generated)[0] < radii).mean()
    return float(density), float(coverage)


QUANTILE = 0.01
"""Share of real images that are nearer to a training image than what counts as memorized."""
ROUNDING = 1e-4
"""Distances that are smaller than this share of a typical one are 0: features of one image differ in their last bits."""


@dataclasses.dataclass(frozen=True)
class Memorization:
    """How much nearer to the training images generated ones are than other real ones."""

    share: float
    """Share of generated images nearer to a training image than 99% of the real ones are."""
    floor: float
    """What a generator that draws from the distribution of the real images gets: 0.01, or more with fewer than 100 real
    images or with duplicates among them."""
    generated: np.ndarray
    """Indices of the generated images, the nearest to a training image first."""
    training: np.ndarray
    """Index of the nearest training image of each, in the same order."""


def memorization(
    training: np.ndarray, real: np.ndarray, generated: np.ndarray, rows: np.ndarray | None = None
) -> Memorization:
    """Compare distances to the nearest training image of generated and of real images; features [N, F] of each.

    The real images are held out; or else `rows`, [N], gives the row of each among the training images, -1 where it is
    not there, and each is compared with the other training images. Then too all training images are searched for the
    generated ones: a copy of any of them is found.
    """
    real_distances = nearest(real, training, rows)[0]
    # Of N real images and one more, the next one is nearer than the i-th nearest with probability i / (N + 1).
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
    """Distance and index, [N] each, of the nearest of the others [M, F] to each of the points [N, F].

    `own`, [N], is the index of each point among the others, which is passed over; -1 where it is not there.
    """
    from sklearn.neighbors import NearestNeighbors

    if own is None:
        own = np.full(len(points), -1)
    count = 2 if (own >= 0).any() else 1
    found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(others)
    distances, indices = found.kneighbors(points)
    # Where two duplicates of a point are found before itself, either is right.
    chosen = np.arange(len(points)), (indices[:, 0] == own).astype(int)
    return distances[chosen], indices[chosen]


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Distance of each point to its k-th nearest neighbour among the others, [N]."""
    from sklearn.neighbors import NearestNeighbors

    if len(points) <= k:
        raise UsageError(
            f"the {k} nearest neighbours of an image need more than {k} images, and there are {len(points)}."
        )
    # Without points to ask for, each is asked for its neighbours but itself.
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()[0][:, -1]


def _within(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """In how many of the balls around the centres each point lies, [N]."""
    from sklearn.metrics import pairwise_distances_chunked

    chunks = pairwise_distances_chunked(
        points, centres, reduce_func=lambda distances, _: (distances < radii).sum(axis=1), working_memory=64
    )
    return np.concatenate(list(chunks))
