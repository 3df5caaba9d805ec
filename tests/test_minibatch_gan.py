"""Minibatch discrimination."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from conftest import build


def test_minibatch_discrimination_by_hand():
    from genlab.networks.layers import MinibatchDiscrimination

    layer = MinibatchDiscrimination(kernels=2, size=1)
    layer.build((None, 1))
    layer.tensor.assign([[1.0, 2.0]])
    result = layer(tf.constant([[0.0], [1.0], [3.0]])).numpy()
    e = math.exp
    expected = [
        [0, e(-1) + e(-3), e(-2) + e(-6)],
        [1, e(-1) + e(-2), e(-2) + e(-4)],
        [3, e(-3) + e(-2), e(-6) + e(-4)],
    ]
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_allclose(layer(tf.constant([[5.0]])), [[5.0, 0.0, 0.0]], atol=1e-6)  # a batch of one gives zeros


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_minibatch_discrimination_is_computed_in_float32(dtype):
    from genlab.networks.layers import MinibatchDiscrimination

    layer = MinibatchDiscrimination(kernels=5, size=3, dtype=dtype)
    layer.build((None, 64))
    random = np.random.default_rng(0)
    tensor = random.normal(size=(64, 15))
    layer.tensor.assign(tensor)
    # Small distances between large products: bfloat16 has steps of 0.06 at 10.
    features = tf.cast(1.0 + 0.05 * random.normal(size=(6, 64)), layer.compute_dtype)
    products = (tf.cast(features, tf.float64).numpy() @ tensor.astype(np.float32)).reshape(6, 5, 3)
    distances = np.abs(products[:, None] - products[None]).sum(-1)
    outputs = layer(features)
    assert outputs.dtype == layer.compute_dtype
    rounding = 1e-4 if dtype == "float32" else 2.0**-8  # that of the outputs
    np.testing.assert_allclose(tf.cast(outputs, tf.float32)[:, 64:], np.exp(-distances).sum(1) - 1.0, rtol=rounding)


def test_any_discriminator_takes_the_layer():
    for name in ("dcgan", "wgan", "gan"):
        assert any(
            "minibatch_discrimination" in layer.name
            for layer in build(name, minibatch_discrimination=4).discriminator.layers
        )
