"""The variational autoencoder's bound and likelihoods, against numbers worked by hand and exact ones."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import batches, build, parameters
from scipy import stats

from genlab.models import vae


def test_vae_draws_from_the_density_of_its_codes_or_from_its_prior():
    model = build("vae", components=1, likelihood="gaussian")
    images = tf.random.stateless_uniform((500, *model.spec.shape), [0, 1], -1.0, 1.0)
    # Codes of mean (3, ...) and standard deviation 0.5.
    codes = iter(tf.random.stateless_normal((5, 100, model.latent_size), [0, 2], 3.0, 0.5))
    model.encoder = lambda images, training: next(codes)
    model.fit_prior(tf.split(images, 5))
    drawn = model.sample_latents(range(2000)).numpy()
    np.testing.assert_allclose(drawn.mean(0), 3.0, atol=0.1)
    np.testing.assert_allclose(drawn.std(0), 0.5, atol=0.06)
    assert build("vae", components=0).prior.name == "normal"
    with pytest.raises(ValueError, match="components is 0; it must be at least 1"):
        build("autoencoder", components=0)


@pytest.mark.parametrize("network, first", [("conv", "down1_conv"), ("mlp", "dense1")])
def test_options_reach_the_encoder_and_the_decoder(network, first):
    settings = {
        "encoder_widths": (5,),
        "decoder_widths": (6,),
        "hidden_units": 7,
        "activation": "elu",
        "normalization": "none",
    }
    model = build("vae", (28, 28, 1), network=network, **settings)
    for encoder, decoder in (
        (model.trained_encoder, model.trained_decoder),
        (model.averaged_encoder, model.decoder),
    ):
        last = "up1_conv" if network == "conv" else first
        assert (encoder.get_layer(first).get_weights()[0].shape[-1], encoder.get_layer("hidden").units) == (5, 7)
        assert (decoder.get_layer(last).get_weights()[1].shape, decoder.get_layer("hidden").units) == ((6,), 7)
        for each in (encoder, decoder):
            assert not [layer.name for layer in each.layers if layer.name.endswith("_norm")]
            assert {layer.activation.__name__ for layer in each.layers if layer.name.endswith("_act")} == {"elu"}


def captured_gradients(model, images, seed=0) -> tuple[list[np.ndarray], list[np.ndarray], dict]:
    """The gradients of one step in the encoder's weights and in the others, and its metrics; the weights stay as they are."""
    found = []
    model.apply = found.extend
    metrics = model.train_step([(images, tf.zeros([len(images)], tf.int32))], tf.constant([0, seed]))
    count = len(model.trained_encoder.trainable_variables)
    return [each.numpy() for each in found[:count]], [each.numpy() for each in found[count:]], metrics


def test_importance_weighted_gradients_are_those_of_the_bound():
    """On average over the noise: 20,000 copies of an image, against the gradient of the bound by plain reparametrization."""
    settings = {
        "normalization": "none",
        "network": "mlp",
        "encoder_widths": (6,),
        "decoder_widths": (6,),
        "hidden_units": 0,
    }
    model = build("vae", (2,), importance_samples=3, importance_start=0.0, latent_size=2, **settings)
    images = tf.tile([[0.7, -1.2]], [20_000, 1])
    in_encoder, in_others, metrics = captured_gradients(model, images)
    variables = model.trained_variables
    with tf.GradientTape() as tape:
        mean, log_variance = model.trained_encoder(images)
        codes = mean + tf.exp(0.5 * log_variance) * tf.random.stateless_normal([3, *mean.shape], [5, 6])
        raw = tf.reshape(model.trained_decoder(tf.reshape(codes, [-1, 2])), [3, -1, 2])
        log_joint = tfp.distributions.Normal(raw, tf.exp(model.log_scale)).log_prob(images)
        log_joint += tfp.distributions.Normal(0.0, 1.0).log_prob(codes)
        log_weights = tf.reduce_sum(
            log_joint - tfp.distributions.Normal(mean, tf.exp(0.5 * log_variance)).log_prob(codes), axis=-1
        )
        bound = tf.reduce_mean(tf.reduce_logsumexp(log_weights, axis=0)) - math.log(3)
    expected = [-gradient.numpy() for gradient in tape.gradient(bound, variables)]
    assert float(metrics["loss"]) == pytest.approx(-float(bound), rel=0.02)
    for gradient, plain in zip([*in_encoder, *in_others], expected, strict=True):
        np.testing.assert_allclose(gradient, plain, atol=0.04 * np.abs(plain).max() + 0.01)


def test_importance_weighted_gradients_vanish_at_the_posterior():
    """p(z) = N(0, I), p(x|z) = N(z, 0.5^2 I): the posterior is N(x / 1.25, 0.2 I), and each sample's gradient is zero there."""
    model = build("vae", (2,), importance_samples=4, importance_start=0.0, latent_size=2, scale=0.5)
    layer = keras.layers.Dense
    data = keras.Input((2,))
    model.trained_encoder = keras.Model(data, [layer(2)(data), layer(2)(data)])
    model.trained_encoder.set_weights([np.eye(2) / 1.25, np.zeros(2), np.zeros((2, 2)), np.full(2, math.log(0.2))])
    model.trained_decoder = keras.Sequential([keras.Input((2,)), layer(2, kernel_initializer="identity")])
    model.trained_variables = [*model.trained_encoder.trainable_variables, *model.trained_decoder.trainable_variables]
    images = tf.constant([[0.3, 1.0], [-2.0, 0.4], [1.5, -0.7]])
    in_encoder, in_others, metrics = captured_gradients(model, images)
    assert max(np.abs(gradient).max() for gradient in in_encoder) < 1e-5 < np.abs(in_others[0]).max()
    exact = tfp.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(images)  # every weight is p(x)
    assert float(metrics["loss"]) == pytest.approx(-float(tf.reduce_mean(tf.reduce_sum(exact, axis=1))), rel=1e-5)


def test_one_code_for_each_image_before_importance_weighting_begins():
    settings = {"importance_samples": 5, "importance_start": 0.5, "average_decay": 0.0}
    model = build("vae", (2,), **settings)  # of ten steps
    seen = []
    decoder = model.trained_decoder
    model.trained_decoder = lambda codes, training: (seen.append(len(codes)), decoder(codes, training=training))[1]
    images = tf.zeros([8, 2])
    for step in (0, 4, 5, 9):
        model.step.assign(step)
        captured_gradients(model, images)
    assert seen == [8, 8, 40, 40]
    with pytest.raises(ValueError, match="they need beta 1"):
        build("vae", importance_samples=2, beta=4.0)


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
    # A pixel is on with the probability that its grey level says: 3/4 for 0.5.
    observed = model.observed(tf.fill([200, 8, 8, 1], 0.5), [0, 1]).numpy()
    assert set(np.unique(observed)) == {-1.0, 1.0} and observed.mean() == pytest.approx(0.5, abs=0.03)


def test_discretized_logistic_is_a_distribution_over_pixel_values():
    model = build("vae", (8, 8, 1), likelihood="discretized_logistic")
    centre = tf.atanh(tf.constant(0.3))
    values = np.arange(256.0)
    images = tf.constant((values / 127.5 - 1).reshape(256, 1, 1, 1), tf.float32)
    probabilities = np.exp(model.log_likelihood(images, tf.fill([256, 1, 1, 1], centre)))
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-4)
    # 0.3 in [-1, 1] is 165.75 of 255, the initial scale 0.2 is 25.5. A value has the mass of the unit interval around it, the
    # first and the last that of all beyond.
    edges = 1 / (1 + np.exp(-(np.arange(255) + 0.5 - 165.75) / 25.5))
    np.testing.assert_allclose(probabilities, np.diff(edges, prepend=0, append=1), rtol=2e-3)


def test_importance_weighted_bound_against_the_exact_likelihood():
    """A linear decoder with a Gaussian likelihood has a known marginal: N(b, W W' + s^2 I)."""
    model = build("vae", (3,), likelihood="gaussian", scale=0.6, latent_size=2)
    random = np.random.default_rng(0)
    matrix, offset = random.normal(size=(2, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)
    model.raw_decoder = lambda: lambda codes, training: codes @ matrix + offset
    # A proposal that covers the posteriors: with the untrained encoder's the bound would need far more samples.
    model.averaged_encoder = lambda x, training: (tf.zeros([x.shape[0], 2]), tf.fill([x.shape[0], 2], 0.5))
    x = (random.normal(size=(4, 2)) @ matrix + offset + random.normal(0, 0.6, (4, 3))).astype(np.float32)
    exact = tfp.distributions.MultivariateNormalFullCovariance(
        offset, matrix.T @ matrix + 0.36 * np.eye(3, dtype=np.float32)
    )
    bound = model.importance_weighted_bound(tf.constant(x), 200_000, [0, 1]).numpy()
    np.testing.assert_allclose(bound, exact.log_prob(x), atol=0.05)
    loose = np.mean([model.importance_weighted_bound(tf.constant(x), 1, [0, k]).numpy() for k in range(50)], axis=0)
    assert np.all(loose < bound)
    measured = model.likelihood_metrics(tf.constant(x), 5000, 0)
    nll = -exact.log_prob(x).numpy()
    assert measured["nll"] == (pytest.approx(nll.mean(), abs=0.1), pytest.approx(nll.std() / 2, abs=0.1))
    divergence = 2 * 0.5 * (math.exp(0.5) - 0.5 - 1)  # of a mean of 0 and a log variance of 0.5, in two dimensions
    assert measured["kl"] == (pytest.approx(divergence, rel=1e-5), pytest.approx(0.0, abs=1e-6))
    bound, part = measured["negative_elbo"][0], measured["reconstruction"][0]
    assert bound > nll.mean() and bound == pytest.approx(part + divergence, rel=1e-5)
    assert measured["active_units"] == (0.0, None)


def test_a_steps_loss_by_hand():
    model, twin = (build("vae", likelihood="bernoulli") for _ in range(2))
    random = np.random.default_rng(0)
    images = tf.constant(np.sign(random.normal(size=(500, 12, 10, 1))), tf.float32)  # binarized already
    seen, decoder = [], model.trained_decoder

    def noted(codes, training):
        seen.extend([codes.numpy(), decoder(codes, training=training)])
        return seen[-1]

    model.trained_decoder = noted
    metrics = {name: float(value) for name, value in model.train_step([(images, None)], tf.constant([0, 1])).items()}
    mean, log_variance = (part.numpy() for part in twin.trained_encoder(images, training=True))
    codes, raw = seen[0], seen[1].numpy()
    noise = (codes - mean) / np.exp(log_variance / 2)
    assert np.std(log_variance) > 0.1 and stats.kstest(noise.ravel(), stats.norm.cdf).pvalue > 0.01
    expected = {
        "reconstruction": np.logaddexp(0, -2 * images * raw)
        .sum((1, 2, 3))
        .mean(),  # -log sigmoid(2 raw) of a pixel that is on
        "kl": 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1).mean(),
        "active_units": (mean.var(0) > 0.01).sum(),
    }
    expected["loss"] = expected["reconstruction"] + expected["kl"]
    expected["bits_per_dimension"] = expected["loss"] / (120 * math.log(2))
    assert metrics == {name: pytest.approx(value, rel=1e-4) for name, value in expected.items()}


def test_a_distance_of_features_counts_like_a_unit_gaussian():
    model = build("vae", likelihood="discriminator", discriminator="0")
    seen = []

    def squared(first, second):
        seen.append(tf.reduce_mean(tf.square(first - second), axis=[1, 2, 3]))
        return seen[-1]

    model.discriminator_distance = squared
    images = batches(model)[0][0]
    found = model.log_likelihood(images, tf.zeros_like(images))  # 120 dimensions, half a square each
    np.testing.assert_allclose(found, -60 * seen[0], rtol=1e-6)
    metrics = model.train_step(batches(model), tf.constant([0, 0]))
    assert float(metrics["feature_distance"]) == pytest.approx(float(tf.reduce_mean(seen[1])), rel=1e-5)
    measured = model.likelihood_metrics(images, 2, 0)["feature_distance"][0]
    expected = np.mean(np.square(images - model.reconstruct(images)))
    assert measured == pytest.approx(float(expected), rel=1e-5)


def test_the_divergence_is_paid_for_beyond_the_free_bits():
    def encoder(**settings):
        model = build("vae", likelihood="gaussian", scale=0.5, **settings)
        divergences = [float(model.train_step(batches(model), tf.constant([0, 0]))["kl"]) for _ in range(2)]
        return model.trained_encoder.get_weights(), divergences

    free, also_free = (encoder(beta=beta, free_bits=1e6)[0] for beta in (1.0, 1e4))
    for first, second in zip(free, also_free, strict=True):
        np.testing.assert_array_equal(first, second)
    paid, (before, after) = encoder(beta=1e4, learning_rate=1e-4)
    assert after < before and not np.array_equal(paid[0], free[0])


def test_the_raw_decoder_lacks_the_last_activation():
    model = build("vae")
    codes = model.sample_latents(range(3))
    np.testing.assert_allclose(tf.tanh(model.raw_decoder()(codes)), model.decoder(codes), rtol=1e-5)
    assert np.abs(model.raw_decoder()(codes) - model.decoder(codes)).max() > 1e-3


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
