"""The variational autoencoder's bound and likelihoods, against numbers worked by hand and exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import batches, build, parameters

from genlab.models import vae


def test_vae_draws_from_the_density_of_its_codes_or_from_its_prior():
    model = build("vae", components=1, likelihood="gaussian")
    images = tf.random.stateless_uniform((500, *model.spec.shape), [0, 1], -1.0, 1.0)
    # A posterior of mean (3, ...) and standard deviation 0.5 for every image.
    ones = tf.ones([100, model.latent_size])
    model.averaged_encoder = lambda images, training: (3.0 * ones, 2.0 * math.log(0.5) * ones)
    batches = tf.split(images, 5)
    codes = np.concatenate([model.codes(batch, number) for number, batch in enumerate(batches)])
    assert len(np.unique(codes, axis=0)) == 500  # noise of its own for every image of every batch
    model.fit_prior(batches)
    drawn = model.sample_latents(range(2000)).numpy()
    np.testing.assert_allclose(drawn.mean(0), 3.0, atol=0.1)
    np.testing.assert_allclose(drawn.std(0), 0.5, atol=0.06)
    assert build("vae", components=0).prior.name == "normal"
    with pytest.raises(ValueError, match="components is 0; it must be at least 1"):
        build("autoencoder", components=0)


def test_elbo_is_summed_over_pixels_and_latents():
    """The textbook averages one and sums the other over the batch."""
    model = build("vae", (8, 8, 1), likelihood="gaussian", scale=0.5)
    images = tf.constant(np.random.default_rng(1).uniform(-1, 1, (8, 8, 8, 1)).astype(np.float32))
    raw = tf.zeros_like(images)
    expected = -0.5 * (images.numpy() / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(model.log_likelihood(images, raw), expected.sum((1, 2, 3)), rtol=1e-4)


def test_bernoulli_likelihood_by_hand():
    model = build("vae", (8, 8, 1), likelihood="bernoulli")
    images = tf.constant(np.sign(np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 1))).astype(np.float32))
    raw = tf.fill(images.shape, 0.7)
    p = 1 / (1 + math.exp(-1.4))
    ones = (images.numpy() > 0).sum((1, 2, 3))
    np.testing.assert_allclose(
        model.log_likelihood(images, raw), ones * math.log(p) + (64 - ones) * math.log(1 - p), rtol=1e-5
    )
    assert set(np.unique(model.observed(tf.fill([4, 8, 8, 1], 0.0), [0, 1]))) == {-1.0, 1.0}


def test_discretized_logistic_is_a_distribution_over_pixel_values():
    model = build("vae", (8, 8, 1), likelihood="discretized_logistic")
    centre = tf.atanh(tf.constant(0.3))
    values = np.arange(256) / 127.5 - 1
    probabilities = [
        float(tf.exp(model.log_likelihood(tf.fill([1, 1, 1, 1], float(v)), tf.fill([1, 1, 1, 1], centre))[0]))
        for v in values
    ]
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-4)
    # Centred on the pixel: 0.3 in [-1, 1] is 165.75 of 255, and the logistic's mass lies even about it.
    mean = float(np.dot(probabilities, np.arange(256)))
    assert mean == pytest.approx(165.75, abs=1.5)


def test_importance_weighted_bound_against_the_exact_likelihood():
    """A linear decoder with a Gaussian likelihood has a known marginal: N(b, W W' + s^2 I)."""
    model = build("vae", (3,), likelihood="gaussian", scale=0.6, latent_size=2)
    random = np.random.default_rng(0)
    matrix, offset = random.normal(size=(2, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)
    model.raw_decoder = lambda: lambda codes, training: codes @ matrix + offset
    # A proposal that covers the posteriors: with the untrained encoder's the bound would need far more samples.
    model.averaged_encoder = lambda images, training: (tf.zeros([len(images), 2]), tf.fill([len(images), 2], 0.5))
    x = (random.normal(size=(4, 2)) @ matrix + offset + random.normal(0, 0.6, (4, 3))).astype(np.float32)
    exact = tfp.distributions.MultivariateNormalFullCovariance(
        offset, matrix.T @ matrix + 0.36 * np.eye(3, dtype=np.float32)
    )
    bound = model.importance_weighted_bound(tf.constant(x), 200_000, [0, 1]).numpy()
    np.testing.assert_allclose(bound, exact.log_prob(x), atol=0.05)
    loose = np.mean([model.importance_weighted_bound(tf.constant(x), 1, [0, k]).numpy() for k in range(50)], axis=0)
    assert np.all(loose < bound)


def test_bits_per_dimension_are_of_probabilities_alone():
    """A density has other values in other units; what a distribution over pixel values has are bits of a code."""
    for likelihood, discrete in (("bernoulli", True), ("discretized_logistic", True), ("gaussian", False)):
        model = build("vae", likelihood=likelihood)
        trained = model.train_step(batches(model), tf.constant([0, 0]))
        measured = model.likelihood_metrics(batches(model)[0][0], 2, 0)
        assert ("bits_per_dimension" in trained, "bits_per_dimension" in measured) == (discrete, discrete)
        assert {"nll", "negative_elbo", "reconstruction", "kl"} <= set(measured)


def test_importance_noise_is_of_the_seed_and_of_no_other_stream(monkeypatch):
    model = build("vae", likelihood="gaussian")
    images = batches(model)[0][0]
    first, again, other = (model.likelihood_metrics(images, 5, seed)["nll"][0] for seed in (0, 0, 1))
    assert first == again != other
    # Every call draws from a stream of its own, none of them that of the binarization.
    model, used = build("vae", likelihood="bernoulli"), []
    monkeypatch.setattr(vae, "CODES_AT_ONCE", 2)
    for name in ("stateless_uniform", "stateless_normal"):
        real = getattr(tf.random, name)

        def recorded(shape, seed, *arguments, real=real, **options):
            used.append(tuple(np.asarray(seed)))
            return real(shape, seed, *arguments, **options)

        monkeypatch.setattr(tf.random, name, recorded)
    tf.config.run_functions_eagerly(True)  # seeds are numbers then
    try:
        for seed in (0, 1):
            model.likelihood_metrics(images[:3], 5, seed)
    finally:
        tf.config.run_functions_eagerly(False)
    assert len(used) == len(set(used)) == 2 * (1 + 3 * 3)


def test_a_likelihood_takes_the_newest_scale_and_not_an_average():
    model = build("vae", likelihood="gaussian", average_decay=0.9)
    for number in range(2):
        model.train_step(batches(model, number), tf.constant([0, number]))
    newest = float(model.log_scale[0])
    assert newest != pytest.approx(math.log(0.2), abs=1e-4)
    zero = tf.zeros([1, 12, 10, 1])
    expected = -120 * (newest + 0.5 * math.log(2 * math.pi))
    assert float(model.log_likelihood(zero, zero)[0]) == pytest.approx(expected, rel=1e-5)


def test_warm_up_free_bits_and_a_learned_scale():
    model = build("vae", warm_up_steps=4, beta=2.0)
    assert float(model.kl_weight()) == 0.0
    model.step.assign(2)
    assert float(model.kl_weight()) == 1.0
    model.step.assign(9)
    assert float(model.kl_weight()) == 2.0
    learned, stated = build("vae", likelihood="gaussian"), build("vae", likelihood="gaussian", scale=0.3)
    for model in (learned, stated):
        model.train_step(batches(model), tf.constant([0, 0]))
    assert float(learned.log_scale[0]) != pytest.approx(math.log(0.2), abs=1e-6)
    assert float(stated.log_scale[0]) == pytest.approx(math.log(0.3))


def test_reconstruction_uses_the_mean():
    model = build("vae")
    images = batches(model)[0][0]
    mean = model.averaged_encoder(images)[0]
    np.testing.assert_array_equal(model.reconstruct(images), model.decoder(mean))


def test_the_textbooks_networks_have_its_parameters():
    expected = {"trained_encoder": 76_008, "trained_decoder": 46_145}
    found = parameters("vae", "book")
    assert {network: found[network] for network in expected} == expected
