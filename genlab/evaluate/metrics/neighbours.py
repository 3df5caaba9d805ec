"""Figures of who is near to whom among features: precision, recall, density, coverage, memorization."""

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


@dataclasses.dataclass(frozen=True)
class Memorization:
    """How much nearer to the training images generated ones are than held-out real ones."""

    share: float
    """Share of generated images nearer to a training image than 99% of the held-out ones are; 0.01 is none."""
    generated: np.ndarray
    """Indices of the generated images, the nearest to a training image first."""
    training: np.ndarray
    """Index of the nearest training image of each, in the same order."""


def memorization(training: np.ndarray, held_out: np.ndarray, generated: np.ndarray) -> Memorization:
    """Compare distances to the nearest training image of generated and of held-out images; features [N, F]."""
    threshold = np.quantile(nearest(held_out, training)[0], 0.01)
    distances, indices = nearest(generated, training)
    order = np.argsort(distances)
    return Memorization(float((distances < threshold).mean()), order, indices[order])


def nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance and index, [N] each, of the nearest of the others [M, F] to each of the points [N, F]."""
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(others).kneighbors(points)
    return distances[:, 0], indices[:, 0]


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
