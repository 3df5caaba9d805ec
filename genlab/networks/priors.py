"""The densities that latent vectors are drawn from: what a trained model hands on with its decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genlab.backend import tf


def draw_one(prior: str, size: int, seed: Any, mixture: Sequence[Any] | None = None) -> Any:
    """One latent vector, [size], float32, as a function of the seed, an integer pair.

    `prior` is `normal`, N(0, 1); `uniform`, U(-1, 1); or `fitted`: a mixture of Gaussians, whose `mixture` are weights
    [K], means [K, size] and Cholesky factors [K, size, size]. Philox gives the same numbers on every device.
    """
    if prior == "uniform":
        return tf.random.stateless_uniform([size], seed, -1.0, 1.0, alg="philox")
    if prior == "normal":
        return tf.random.stateless_normal([size], seed, alg="philox")
    assert mixture is not None
    weights, means, scales = mixture
    pick, noise = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2, alg="philox"))
    threshold = tf.random.stateless_uniform([], pick, alg="philox")
    component = tf.reduce_sum(tf.cast(tf.cumsum(weights) < threshold, tf.int32))
    component = tf.minimum(component, tf.shape(weights)[0] - 1)
    normal = tf.random.stateless_normal([size], noise, alg="philox")
    return means[component] + tf.linalg.matvec(scales[component], normal)
