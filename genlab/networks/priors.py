"""Priors: the distributions that latent vectors are drawn from.

A prior draws by seed (one seed gives one latent vector, whatever else is drawn with it) and in bulk. It describes itself for
JSON and the model card, and lists its variables for checkpoints. Philox gives the same numbers on every device.
"""

from __future__ import annotations

import abc
import math
import warnings
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from genlab.backend import Tensor, Variable, tf, tfp

CODES_PER_NUMBER = 3
"""Codes needed per component of the mixture, for each dimension of a code."""
EM_STEPS = 4
"""Steps of expectation maximization after k-means. Many components in few steps are better than few in many."""


class Prior(abc.ABC):
    """Distribution of latent vectors [size]."""

    name: ClassVar[str]
    """Its name in config.json and metadata.json."""
    sentence: ClassVar[str]
    """Its description in the model card."""
    is_fitted: ClassVar[bool] = False
    """Whether it must be fitted to codes of training images before sampling."""
    is_spherical: ClassVar[bool] = False
    """Whether its mass is close to a sphere, so that interpolation should be spherical."""

    limit: ClassVar[float | None] = None
    """Largest absolute value of a latent; None if there is none."""

    def __init__(self, size: int) -> None:
        self.size = size

    @abc.abstractmethod
    def draw(self, count: Tensor, seed: Tensor) -> Tensor:
        """Draw [count, size] float32 from one seed, an integer pair, for a training step."""

    @abc.abstractmethod
    def draw_one(self, seed: Tensor) -> Tensor:
        """Draw [size] float32, which depends only on the seed, an integer pair."""

    def draw_each(self, seeds: Tensor) -> Tensor:
        """Draw one vector per seed: integer pairs [N, 2] -> [N, size]."""
        return tf.map_fn(self.draw_one, seeds, fn_output_signature=tf.TensorSpec([self.size], tf.float32))

    def mean(self) -> np.ndarray:
        """Return the mean, [size] float32."""
        return np.zeros(self.size, np.float32)

    def standard_deviation(self) -> np.ndarray:
        """Return the standard deviation of each dimension, [size] float32."""
        return np.ones(self.size, np.float32)

    def covariance(self) -> np.ndarray:
        """Return the covariance matrix, [size, size] float32."""
        return np.diag(np.square(self.standard_deviation()))

    def truncated(self, latents: Tensor, truncation: float) -> Tensor:
        """Move latents [N, size] towards the mean: mean + truncation (latents - mean).

        Below 1, samples become more typical and less diverse (Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
        """
        return self.mean() + truncation * (latents - self.mean())

    @abc.abstractmethod
    def log_density(self, latents: Tensor) -> Tensor:
        """Return the logarithm of the density at latents [N, size], in nats, [N]."""

    def variables(self) -> dict[str, Variable]:
        """Return the variables that training changes, by name, for checkpoints."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that define the prior beyond its name and size, for exports; empty if there are none."""
        return {name: np.asarray(value) for name, value in self.variables().items()}


class Normal(Prior):
    """N(0, 1) in each dimension, independently."""

    name = "normal"
    sentence = "N(0, 1), independently in each dimension"
    is_spherical = True

    def draw(self, count: Tensor, seed: Tensor) -> Tensor:
        return tf.random.stateless_normal([count, self.size], seed, alg="philox")

    def draw_one(self, seed: Tensor) -> Tensor:
        return tf.random.stateless_normal([self.size], seed, alg="philox")

    def log_density(self, latents: Tensor) -> Tensor:
        return tfp.distributions.MultivariateNormalDiag(tf.zeros([self.size])).log_prob(latents)


class Uniform(Prior):
    """U(-1, 1) in each dimension, independently."""

    name = "uniform"
    sentence = "U(-1, 1), independently in each dimension"
    limit = 1.0

    def draw(self, count: Tensor, seed: Tensor) -> Tensor:
        return tf.random.stateless_uniform([count, self.size], seed, -1.0, 1.0, alg="philox")

    def draw_one(self, seed: Tensor) -> Tensor:
        return tf.random.stateless_uniform([self.size], seed, -1.0, 1.0, alg="philox")

    def standard_deviation(self) -> np.ndarray:
        return np.full(self.size, 3**-0.5, np.float32)

    def log_density(self, latents: Tensor) -> Tensor:
        inside = tf.reduce_all(tf.abs(latents) <= 1.0, axis=1)
        return tf.where(inside, -self.size * math.log(2.0), -math.inf)


class Mixture(Prior):
    """Mixture of Gaussians, fitted to the codes of training images.

    Ghosh et al. 2020, "From Variational to Deterministic Autoencoders" (https://arxiv.org/abs/1903.12436), section 4.
    """

    name = "fitted"
    sentence = (
        "the mixture of Gaussians in `prior.npz` (weights [K], means [K, latent], Cholesky factors [K, latent, latent])"
    )
    is_fitted = True

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor) -> None:
        """Take weights [K], means [K, size] and Cholesky factors of covariances [K, size, size]: arrays, or variables to fit."""
        super().__init__(means.shape[1])
        self.weights, self.means, self.scales = weights, means, scales

    @classmethod
    def to_fit(cls, components: int, size: int) -> Mixture:
        """Return a mixture of at most `components` Gaussians, equal to N(0, I) until it is fitted."""
        return cls(
            tf.Variable(np.full(components, 1 / components, np.float32)),
            tf.Variable(np.zeros((components, size), np.float32)),
            tf.Variable(np.tile(np.eye(size, dtype=np.float32), (components, 1, 1))),
        )

    def fit(self, codes: np.ndarray) -> None:
        """Fit the variables to codes [N, size] by k-means and a few steps of expectation maximization (scikit-learn)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        codes = np.asarray(codes, np.float64)
        # A Gaussian fitted to a handful of codes would reproduce little but those.
        components = self.weights.shape[0]
        count = min(components, max(1, len(codes) // (CODES_PER_NUMBER * self.size)))
        mixture = GaussianMixture(count, reg_covar=1e-4, tol=1e-2, max_iter=EM_STEPS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(codes)
        missing = components - count
        self.weights.assign(np.pad(mixture.weights_, (0, missing)))
        self.means.assign(np.pad(mixture.means_, ((0, missing), (0, 0))))
        self.scales.assign(np.pad(np.linalg.cholesky(mixture.covariances_), ((0, missing), (0, 0), (0, 0))))

    def draw(self, count: Tensor, seed: Tensor) -> Tensor:
        return self.draw_each(tf.random.split(tf.cast(seed, tf.int32), count, alg="philox"))

    def draw_one(self, seed: Tensor) -> Tensor:
        pick, noise = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2, alg="philox"))
        threshold = tf.random.stateless_uniform([], pick, alg="philox")
        component = tf.reduce_sum(tf.cast(tf.cumsum(self.weights) < threshold, tf.int32))
        component = tf.minimum(component, tf.shape(self.weights)[0] - 1)
        normal = tf.random.stateless_normal([self.size], noise, alg="philox")
        return tf.gather(self.means, component) + tf.linalg.matvec(tf.gather(self.scales, component), normal)

    def log_density(self, latents: Tensor) -> Tensor:
        tfd = tfp.distributions
        there = np.flatnonzero(np.asarray(self.weights))  # fewer than there is room for, if few codes were fitted
        weights, means, scales = (tf.gather(part, there) for part in (self.weights, self.means, self.scales))
        by_component = tfd.MultivariateNormalTriL(means, scales).log_prob(tf.expand_dims(latents, 1))  # [N, K]
        return tf.reduce_logsumexp(by_component + tf.math.log(weights), axis=1)

    def mean(self) -> np.ndarray:
        return np.asarray(self.weights) @ np.asarray(self.means)

    def standard_deviation(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance()))

    def covariance(self) -> np.ndarray:
        weights, means, scales = (np.asarray(part) for part in (self.weights, self.means, self.scales))
        apart = means - self.mean()
        within = np.einsum("k,kij,klj->il", weights, scales, scales)
        return (within + np.einsum("k,ki,kj->ij", weights, apart, apart)).astype(np.float32)

    def variables(self) -> dict[str, Variable]:
        return {"weights": self.weights, "means": self.means, "scales": self.scales}


def make(name: str, size: int, arrays: Mapping[str, npt.ArrayLike] | None = None) -> Prior:
    """Return the prior of that name: `normal`, `uniform`, or `fitted` with the arrays from `Prior.arrays`.

    Raises ValueError for another name or size, and for arrays of another shape or that are no mixture.
    """
    kinds = {kind.name: kind for kind in (Normal, Uniform)}
    if name in kinds and size > 0:
        return kinds[name](size)
    if name != Mixture.name or size < 1 or arrays is None:
        raise ValueError(f"there is no prior {name!r} of {size} dimensions, or its arrays are missing")
    try:
        weights, means, scales = (np.asarray(arrays[part], np.float32) for part in ("weights", "means", "scales"))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a mixture needs the arrays weights, means and scales, of numbers: {error}") from None
    shapes = (len(weights.reshape(-1)),), (weights.size, size), (weights.size, size, size)
    if not weights.size or (weights.shape, means.shape, scales.shape) != shapes:
        raise ValueError(f"the arrays of a mixture have the shapes {weights.shape}, {means.shape} and {scales.shape}")
    if (
        not all(np.isfinite(part).all() for part in (weights, means, scales))
        or abs(weights.sum() - 1) > 1e-3
        or weights.min() < 0
    ):
        raise ValueError("the arrays of a mixture are not finite, or its weights do not add up to 1")
    return Mixture(weights, means, scales)
