"""Losses against numbers worked by hand and gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from genlab.networks import losses

REAL, FAKE = tf.constant([[2.0], [-1.0]]), tf.constant([[0.0], [1.0]])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_non_saturating_and_minimax():
    expected = -(math.log(sigmoid(2)) + math.log(sigmoid(-1))) / 2 - (math.log(0.5) + math.log(1 - sigmoid(1))) / 2
    assert float(losses.non_saturating_discriminator(REAL, FAKE)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.non_saturating_generator(FAKE)) == pytest.approx(-(math.log(0.5) + math.log(sigmoid(1))) / 2)
    assert float(losses.minimax_generator(FAKE)) == pytest.approx((math.log(0.5) + math.log(1 - sigmoid(1))) / 2)


def test_an_undecided_discriminator_costs_two_log_two():
    zeros = tf.zeros([3, 1])
    assert float(losses.non_saturating_discriminator(zeros, zeros)) == pytest.approx(2 * math.log(2))


def test_extreme_logits_stay_finite():
    far = tf.constant([[1e4], [-1e4]])
    for loss in (losses.non_saturating_discriminator(far, far), losses.minimax_generator(far)):
        assert np.isfinite(loss)
    assert float(losses.non_saturating_generator(tf.constant([[-1e4]]))) == pytest.approx(1e4)


def test_hinge():
    assert float(losses.hinge_discriminator(REAL, FAKE)) == pytest.approx((0 + 2) / 2 + (1 + 2) / 2)
    assert float(losses.hinge_generator(FAKE)) == pytest.approx(-0.5)


def test_gradient_norm_is_over_all_pixels_and_channels():
    weights = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    images = tf.random.stateless_normal([5, 3, 4, 2], [0, 0])
    linear = lambda x: tf.reduce_sum(x * weights, axis=[1, 2, 3])[:, None]  # noqa: E731
    assert float(losses.squared_gradient_norm(linear, images)) == pytest.approx(float((weights**2).sum()), rel=1e-5)
    square = lambda x: tf.reduce_sum(x**2, axis=[1, 2, 3])[:, None]  # noqa: E731
    expected = np.mean(np.sum((2 * images.numpy()) ** 2, axis=(1, 2, 3)))
    assert float(losses.squared_gradient_norm(square, images)) == pytest.approx(float(expected), rel=1e-5)


def test_pull_away_of_codes_worked_by_hand():
    # cosines: 0 between the first two, 1/sqrt 2 of each with the third; lengths do not matter
    codes = tf.constant([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    assert float(losses.pull_away(codes)) == pytest.approx(2 * (0 + 0.5 + 0.5) / (3 * 2), rel=1e-6)
    assert float(losses.pull_away(tf.ones([4, 2]))) == pytest.approx(1.0, rel=1e-6)
    assert float(losses.pull_away(codes[:1])) == 0.0
