"""Losses against numbers worked by hand and gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

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
    assert float(losses.pull_away(0.01 * codes)) == pytest.approx(1 / 3, rel=1e-5)
    assert float(losses.pull_away(tf.ones([4, 2]))) == pytest.approx(1.0, rel=1e-6)
    assert float(losses.pull_away(codes[:1])) == 0.0


def test_pixel_cross_entropy_by_hand():
    images, raw = tf.constant([[1.0, -1.0, 0.0]]), tf.constant([[0.5, 0.5, 0.0]])
    p = 1 / (1 + math.exp(-1.0))
    expected = -(math.log(p) + math.log(1 - p) + math.log(0.5)) / 3
    assert float(losses.pixel_cross_entropy(images, raw)) == pytest.approx(expected, rel=1e-6)


def test_kl_against_tensorflow_probability_and_monte_carlo():
    tfd = tfp.distributions
    random = np.random.default_rng(0)
    mean = random.normal(size=(5, 3)).astype(np.float32)
    log_variance = random.normal(size=(5, 3)).astype(np.float32)
    ours = losses.gaussian_kl(mean, log_variance).numpy()
    posterior = tfd.Normal(mean, np.exp(0.5 * log_variance))
    np.testing.assert_allclose(ours, tfd.kl_divergence(posterior, tfd.Normal(0.0, 1.0)), rtol=1e-5)
    draws = posterior.sample(200_000, seed=1)
    carlo = tf.reduce_mean(posterior.log_prob(draws) - tfd.Normal(0.0, 1.0).log_prob(draws), axis=0)
    np.testing.assert_allclose(ours, carlo, atol=0.03)
    assert losses.gaussian_kl(0.0, 0.0) == 0.0  # the textbook drops the -1


def test_critic_loss_has_the_papers_sign():
    real, fake = tf.constant([[3.0], [5.0]]), tf.constant([[1.0], [2.0]])
    assert float(losses.critic(real, fake)) == pytest.approx(1.5 - 4.0)


def test_gradient_penalty_of_known_critics():
    random = np.random.default_rng(0)
    real, fake = (tf.constant(random.normal(size=(6, 3, 4, 2)).astype(np.float32)) for _ in range(2))
    weights = random.normal(size=(3, 4, 2)).astype(np.float32)
    linear = lambda x: tf.reduce_sum(x * weights, [1, 2, 3])[:, None]  # noqa: E731
    # The gradient is `weights` everywhere; its norm goes over H, W and C together.
    expected = (np.sqrt((weights**2).sum()) - 1) ** 2
    assert float(losses.gradient_penalty(linear, real, fake, [0, 1])) == pytest.approx(float(expected), rel=1e-4)
    # A flat critic's norm is 0, where the square root has no gradient.
    slope = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        penalty = losses.gradient_penalty(lambda x: slope * linear(x), real, fake, [0, 1])
    assert float(penalty) == pytest.approx(1.0, rel=1e-5) and float(tape.gradient(penalty, slope)) == 0.0


def test_alpha_is_uniform_and_one_for_each_example():
    seen = []

    def spy(x):
        seen.append(x)
        return tf.reduce_sum(x, [1, 2, 3])[:, None]

    real, fake = tf.fill([3000, 2, 2, 1], 6.0), tf.fill([3000, 2, 2, 1], 2.0)
    losses.gradient_penalty(spy, real, fake, [3, 4])
    alpha = (seen[0].numpy().reshape(3000, 4) - 2) / 4  # the mixture is 6 alpha + 2 (1 - alpha)
    assert np.ptp(alpha, axis=1).max() == 0
    quantiles = np.quantile(alpha[:, 0], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.5, 0.9], atol=0.03)
    assert alpha.min() >= -1e-6 and alpha.max() <= 1 + 1e-6
