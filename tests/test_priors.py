"""Priors: what they draw, by seed and in bulk, and how they are described and made again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from genlab.backend import tf
from genlab.networks import priors


def mixture():
    weights = np.array([0.25, 0.75], np.float32)
    means = np.array([[-4.0, 0.0], [2.0, 1.0]], np.float32)
    scales = np.array([[[0.5, 0.0], [0.2, 0.4]], [[1.0, 0.0], [-0.5, 0.3]]], np.float32)
    return priors.Mixture(weights, means, scales)


def each(prior, count):
    seeds = tf.stack([tf.range(count), tf.zeros([count], tf.int32)], axis=1)
    return tf.function(prior.draw_each)(seeds).numpy()  # one by one in Python, thousands take minutes


def in_bulk(prior, count):
    return tf.function(prior.draw)(count, tf.constant([1, 2])).numpy()


@pytest.mark.parametrize(
    ("prior", "expected"),
    [(priors.Normal(3), stats.norm()), (priors.Uniform(3), stats.uniform(-1, 2))],
    ids=["normal", "uniform"],
)
def test_numbers_have_the_distribution_that_is_named(prior, expected):
    for drawn in (each(prior, 2000), in_bulk(prior, 2000)):
        assert drawn.shape == (2000, 3) and drawn.dtype == np.float32
        assert stats.kstest(drawn.ravel(), expected.cdf).pvalue > 0.01
    np.testing.assert_allclose(prior.standard_deviation(), expected.std(), rtol=1e-6)


def test_a_mixture_draws_its_components_in_their_shares():
    prior = mixture()
    for drawn in (each(prior, 4000), in_bulk(prior, 4000)):
        first = drawn[:, 0] < -2
        assert first.mean() == pytest.approx(0.25, abs=0.03)
        np.testing.assert_allclose(np.cov(drawn[first].T), [[0.25, 0.1], [0.1, 0.2]], atol=0.03)
        np.testing.assert_allclose(prior.standard_deviation(), drawn.std(0), rtol=0.05)


def test_a_vector_depends_on_its_own_seed_alone():
    for prior in (priors.Normal(4), priors.Uniform(4), mixture()):
        np.testing.assert_array_equal(each(prior, 5)[3], prior.draw_one([3, 0]))


def test_a_mixture_is_fitted_to_codes_and_saved():
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(-3, 0.5, (900, 2)), random.normal(4, 1.0, (300, 2))])
    prior = priors.Mixture.to_fit(2, 2)
    prior.fit(codes)
    np.testing.assert_allclose(sorted(prior.weights.numpy()), [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(prior.standard_deviation(), codes.std(0), rtol=0.02)
    assert prior.variables().keys() == prior.arrays().keys() == {"weights", "means", "scales"}


def test_a_mixture_is_the_normal_distribution_until_it_is_fitted():
    prior = priors.Mixture.to_fit(3, 2)
    np.testing.assert_allclose(prior.weights, [1 / 3] * 3)
    np.testing.assert_allclose(prior.standard_deviation(), [1, 1], rtol=1e-6)
    assert stats.kstest(each(prior, 1000).ravel(), stats.norm.cdf).pvalue > 0.01


@pytest.mark.parametrize(("count", "components"), [(5, 1), (11, 1), (12, 2), (17, 2), (18, 3), (60, 3)])
def test_few_codes_get_few_gaussians(count, components):
    """Three codes per dimension for each Gaussian, of at most three in two dimensions."""
    codes = np.random.default_rng(0).normal(size=(count, 2))
    prior = priors.Mixture.to_fit(3, 2)
    prior.fit(codes)
    weights, means = prior.weights.numpy(), prior.means.numpy()
    assert np.count_nonzero(weights) == components and weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ means, codes.mean(0), atol=1e-5)
    prior.fit(codes)
    np.testing.assert_array_equal(prior.means, means)  # nothing in it is left to chance


def test_what_rounding_leaves_of_the_weights_is_the_last_components():
    whole = mixture()
    drawn = each(priors.Mixture(whole.weights * np.float32([1, 0.5]), whole.means, whole.scales), 1000)
    assert np.mean(drawn[:, 0] < -2) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("prior", [priors.Normal(2), priors.Uniform(2), mixture()], ids=lambda prior: prior.name)
def test_a_prior_is_made_again_from_its_description(prior):
    again = priors.make(prior.name, prior.size, prior.arrays())
    assert type(again) is type(prior)
    np.testing.assert_array_equal(each(again, 4), each(prior, 4))
