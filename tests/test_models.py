"""One test of conformance over every model, any new file in models/ included; then each model's own traps."""

from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import fails, state_of

import genlab
from genlab import config, models, sample
from genlab.data.spec import DataSpec
from genlab.evaluate.metrics.modes import mode_metrics
from genlab.models import vae
from genlab.networks import losses
from genlab.train import __main__ as train
from genlab.train import training

SMALL = {
    "batch_size": 8,
    "latent_size": 4,
    "generator_widths": (4, 6),
    "discriminator_widths": (4, 6),
    "encoder_widths": (4, 6),
    "decoder_widths": (4, 6),
    "hidden_units": 8,
    "generator_units": 8,
    "discriminator_units": 8,
    "components": 2,
    "minibatch_discrimination": 3,
    "discriminator_updates": 2,
}


def small(name: str, **changes):
    """Hyper-parameters of a network that trains in no time."""
    kind = models.load(name).Hparams
    known = set(kind.__dataclass_fields__)
    chosen = {key: value for key, value in SMALL.items() if key in known}
    if name not in ("minibatch_gan",):
        chosen.pop("minibatch_discrimination", None)
    return kind(**chosen | changes)


def build(name: str, shape=(12, 10, 1), classes=3, seed=0, **changes):
    return models.load(name)(small(name, **changes), DataSpec(shape, classes), seed=seed, schedule_steps=10)


def batches(model, shape, seed=0):
    random = np.random.default_rng(seed)
    return [
        (
            tf.constant(random.uniform(-1, 1, (model.hparams.batch_size, *shape)).astype(np.float32)),
            tf.constant(random.integers(0, 3, model.hparams.batch_size).astype(np.int32)),
        )
        for _ in range(model.hparams.batches_per_step)
    ]


ALL = models.names()


def test_the_eight_are_there():
    expected = {"autoencoder", "vae", "gan", "dcgan", "wgan", "began", "cgan", "minibatch_gan"}
    assert expected <= set(ALL)


@pytest.mark.parametrize("shape", [(12, 10, 1), (9, 17, 3), (2,)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_a_step_changes_every_weight_and_samples_fit(name, shape):
    model = build(name, shape)
    trained = {
        f"{network_name}/{weight.path}": weight
        for network_name, network in model.networks.items()
        for weight in network.trainable_weights
        # The averaged copies follow; they are no subject of training.
        if network_name not in ("encoder",)
    }
    before = {path: weight.numpy() for path, weight in trained.items()}
    step = tf.function(model.train_step, autograph=False)
    for number in range(3):  # began's k is 0 in the first step, a batch norm's gamma may rest in one
        metrics = step(batches(model, shape, number), tf.constant([0, number]))
    for value in metrics.values():
        assert value.shape == () and np.isfinite(value)
    still = [path for path, weight in trained.items() if np.array_equal(before[path], weight.numpy())]
    # The bias of a critic's score cancels in the difference of two scores.
    assert still == (["discriminator/logit_dense/bias"] if name == "wgan" else [])
    seeds = [3, 1, 2]
    drawn = model.sample(model.sample_latents(seeds), model.default_labels(seeds)).numpy()
    assert drawn.shape == (3, *shape) and drawn.dtype == np.float32
    if len(shape) == 3 and getattr(model.hparams, "output", "tanh") == "tanh":
        assert np.abs(drawn).max() <= 1
    alone = model.sample(model.sample_latents([1]), model.default_labels([1])).numpy()
    np.testing.assert_array_equal(alone[0], drawn[1])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("name", ALL)
def test_an_update_lowers_its_own_loss(name, optimizer):
    """Against sign errors: what a learning rate of its own trains is logged as a loss of the same name."""
    # Penalties and what steers the balance are no part of the losses that are logged.
    apart = {
        "r1_penalty": 0.0,
        "gradient_penalty": 0.0,
        "pull_away": 0.0,
        "lambda_k": 1e-12,
        "discriminator_updates": 1,
    }
    known = models.load(name).Hparams.__dataclass_fields__
    rates = [field for field in known if field.endswith("learning_rate")]
    for trained in rates:
        chosen = {rate: 1e-4 if rate == trained else 1e-12 for rate in rates}
        chosen |= {key: value for key, value in apart.items() if key in known}
        model = build(name, optimizer=optimizer, beta1=0.0, **chosen)
        loss = trained.replace("learning_rate", "loss")
        first, second = (
            float(model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 7]))[loss]) for _ in range(2)
        )
        assert second < first, trained


@pytest.mark.parametrize("preset", ["book", "paper"])
@pytest.mark.parametrize("name", ALL)
def test_presets_build(name, preset):
    presets = models.load(name).presets
    if preset not in presets:
        assert name in ("dcgan", "wgan", "cgan", "began") and preset == "book"
        return
    models.load(name).Hparams(**presets[preset])


@pytest.mark.parametrize("name", ALL)
def test_the_command_line_trains_resumes_and_samples(name, capsys):
    hparams = small(name)
    flags = ["--log-every", "2"]
    for key, value in SMALL.items():
        if hasattr(hparams, key) and getattr(hparams, key) == value:
            flags += [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    train.main([name, "--steps", "4", "--schedule-steps", "4", "--out", "whole", *flags])
    train.main([name, "--steps", "2", "--schedule-steps", "4", "--out", "parts", *flags])
    train.main([name, "--resume", "--steps", "4", "--out", "parts"])
    whole, parts = genlab.load(out="whole"), genlab.load(out="parts")
    first, second = state_of(whole), state_of(parts)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    sample.main(["--runs", "whole", "--count", "4", "--array", "four.npz"])
    assert np.load("four.npz")["images"].shape == (4, 28, 28, 1)
    assert (whole.samples / "progress.gif").exists() and (whole.samples / "step-000004.png").exists()


def test_a_ninth_model_is_one_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "ninth.py").write_text(
        '"""Ninth."""\n'
        "from genlab.models import base, gan\n\n\n"
        "class Ninth(gan.GAN):\n"
        '    """Ninth model: dropped in as a file."""\n'
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert "ninth" in models.names() and models.summary("ninth").startswith("Ninth model")
    train.main(["ninth", "--steps", "2", "--generator-widths", "8", "--batch-size", "8"])
    sample.main(["--count", "4"])
    assert genlab.load().config.model == "ninth"


# -- networks of the textbook ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        ("autoencoder", {"trained_encoder": 44_628, "trained_decoder": 59_361}),
        ("vae", {"trained_encoder": 76_008, "trained_decoder": 46_145}),
        ("gan", {"discriminator": 267_009, "generator": 1_956_624}),
    ],
)
def test_textbook_networks_have_the_textbooks_parameters(name, networks):
    kind = models.load(name)
    model = kind(kind.Hparams(**kind.presets["book"]), DataSpec((28, 28, 1)))
    assert {network: model.networks[network].count_params() for network in networks} == networks


# -- autoencoder -------------------------------------------------------------------------------------------------------


def test_autoencoder_draws_from_the_density_of_its_codes():
    model = build("autoencoder", components=2)
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(-3, 0.5, (3000, 4)), random.normal(4, 1.5, (1000, 4))]).astype(np.float32)
    model.encoder = lambda images, training: images[:, 0, 0, :4]
    model.fit_prior([np.tile(random.permutation(codes)[:, None, None, :], (1, 2, 2, 1))])
    drawn = model.sample_latents(range(4000)).numpy()
    assert drawn.shape == (4000, 4)
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), rtol=0.1, atol=0.3)
    assert np.mean(drawn[:, 0] > 0) == pytest.approx(0.25, abs=0.03)


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


def test_the_density_is_fitted_to_more_codes_in_the_end(monkeypatch, small_images):
    images, _ = small_images
    seen = []
    kind = models.load("autoencoder")
    fit = kind.fit_prior

    def counted(self, batches):
        batches = list(batches)
        seen.append(sum(map(len, batches)))
        fit(self, batches)

    monkeypatch.setattr(kind, "fit_prior", counted)
    monkeypatch.setattr(training, "PRIOR_IMAGES", 10)
    monkeypatch.setattr(training, "FINAL_PRIOR_IMAGES", 20)
    genlab.fit("autoencoder", images, steps=2, checkpoint_every=1, **_fitting("autoencoder"))
    assert seen == [10, 10, 20]


def test_pixel_cross_entropy_by_hand():
    images, raw = tf.constant([[1.0, -1.0, 0.0]]), tf.constant([[0.5, 0.5, 0.0]])
    p = 1 / (1 + math.exp(-1.0))
    expected = -(math.log(p) + math.log(1 - p) + math.log(0.5)) / 3
    assert float(losses.pixel_cross_entropy(images, raw)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
def test_autoencoder_losses_fall(loss, small_images):
    run = genlab.fit("autoencoder", small_images[0], steps=60, log_every=20, loss=loss, **_fitting("autoencoder"))
    first, *_, last = run.metrics()
    assert last["loss"] < first["loss"]


def test_reconstruction_through_a_discriminators_features(small_images, capsys):
    scorer = genlab.fit(
        "dcgan", small_images[0], steps=2, batch_size=8, generator_widths=(4,), discriminator_widths=(4, 6)
    )
    settings = _fitting("autoencoder") | {"loss": "discriminator", "discriminator": str(scorer.path)}
    run = genlab.fit("autoencoder", small_images[0], steps=40, log_every=10, **settings)
    first, *_, last = run.metrics()
    assert last["loss"] < first["loss"]
    run = genlab.fit(
        "vae", small_images[0], steps=2, **_fitting("vae"), likelihood="discriminator", discriminator=str(scorer.path)
    )
    last = run.metrics()[-1]
    assert np.isfinite(last["loss"]) and not {"reconstruction", "bits_per_dimension"} & set(last)
    with pytest.raises(genlab.UsageError, match="not a density"):
        run.model.importance_weighted_bound(tf.zeros([2, 12, 10, 1]), 3, [0, 0])
    # Each pair of images has its distance: the mean over hidden layers, worked one layer after the other.
    first, second = np.random.default_rng(0).uniform(-1, 1, (2, 5, 12, 10, 1)).astype(np.float32)
    hidden = [layer.name for layer in scorer.model.discriminator.layers if layer.name.endswith("_act")]
    expected = []
    for name in hidden:
        part = tf.keras.Model(scorer.model.discriminator.inputs, scorer.model.discriminator.get_layer(name).output)
        difference = np.asarray(part(first)) - np.asarray(part(second))
        expected.append([np.mean(each**2) for each in difference])
    found = run.model.discriminator_distance(first, second)
    assert found.shape == (5,) and len(hidden) > 1
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)
    with pytest.raises(genlab.UsageError, match="one is missing"):
        genlab.fit("autoencoder", small_images[0], steps=1, loss="discriminator")
    with pytest.raises(genlab.UsageError, match="has no discriminator"):
        genlab.fit("autoencoder", small_images[0], steps=1, **settings | {"discriminator": str(run.path)})
    with pytest.raises(genlab.UsageError, match="trained on"):
        genlab.fit("autoencoder", np.zeros((40, 9, 9), np.uint8), steps=1, **settings)


def _fitting(name):
    kind = models.load(name).Hparams
    return {key: value for key, value in SMALL.items() if key in kind.__dataclass_fields__ and "minibatch" not in key}


# -- VAE ---------------------------------------------------------------------------------------------------------------


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
    model._raw_decoder = lambda: lambda codes, training: codes @ matrix + offset
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
        trained = model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 0]))
        measured = model.likelihood_metrics(batches(model, (12, 10, 1))[0][0], 2, 0)
        assert ("bits_per_dimension" in trained, "bits_per_dimension" in measured) == (discrete, discrete)
        assert {"nll", "negative_elbo", "reconstruction", "kl"} <= set(measured)


def test_importance_noise_is_of_the_seed_and_of_no_other_stream(monkeypatch):
    model = build("vae", likelihood="gaussian")
    images = batches(model, (12, 10, 1))[0][0]
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
        model.train_step(batches(model, (12, 10, 1), number), tf.constant([0, number]))
    newest = float(model.log_scale[0])
    assert newest != pytest.approx(math.log(0.2), abs=1e-4)
    zero = tf.zeros([1, 12, 10, 1])
    expected = -120 * (newest + 0.5 * math.log(2 * math.pi))
    assert float(model.log_likelihood(zero, zero)[0]) == pytest.approx(expected, rel=1e-5)


def test_warm_up_free_bits_and_a_learned_scale():
    model = build("vae", warm_up_steps=4, beta=2.0)
    assert float(model._beta()) == 0.0
    model.step.assign(2)
    assert float(model._beta()) == 1.0
    model.step.assign(9)
    assert float(model._beta()) == 2.0
    learned, stated = build("vae", likelihood="gaussian"), build("vae", likelihood="gaussian", scale=0.3)
    for model in (learned, stated):
        model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 0]))
    assert float(learned.log_scale[0]) != pytest.approx(math.log(0.2), abs=1e-6)
    assert float(stated.log_scale[0]) == pytest.approx(math.log(0.3))


def test_reconstruction_uses_the_mean():
    model = build("vae")
    images = batches(model, (12, 10, 1))[0][0]
    mean = model.averaged_encoder(images)[0]
    np.testing.assert_array_equal(model.reconstruct(images), model.decoder(mean))


def test_two_latents_draw_codes_and_manifold(small_images):
    images, labels = small_images
    for name in ("vae", "autoencoder"):
        run = genlab.fit(name, images, labels, steps=2, **_fitting(name) | {"latent_size": 2})
        drawn = {path.name for path in run.samples.glob("*-000002.png")}
        assert drawn == {f"{kind}step-000002.png" for kind in ("", "reconstructions-", "codes-", "manifold-")}


# -- GAN family --------------------------------------------------------------------------------------------------------


def test_generator_update_leaves_the_discriminator_and_the_other_way_round():
    model = build("dcgan", average_decay=0.0)
    images, labels = batches(model, (12, 10, 1))[0]
    before = [weight.numpy() for weight in model.discriminator.trainable_weights]
    model.update_generator(labels, tf.constant([0, 1]))
    for old, new in zip(before, model.discriminator.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    before = [weight.numpy() for weight in model.generator.trainable_weights]
    model.update_discriminator(images, labels, tf.constant([0, 2]))
    for old, new in zip(before, model.generator.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


@pytest.mark.parametrize("name", ["gan", "cgan", "wgan"])
def test_simultaneous_updates_are_both_of_the_networks_before(name):
    settings = {"updates": "simultaneous", "discriminator_updates": 1, "average_decay": 0.0}
    one, fast, other = (build(name, **settings, discriminator_learning_rate=rate) for rate in (1e-3, 0.5, 1e-3))
    images, labels = batches(one, (12, 10, 1))[0]
    seed = tf.constant([3, 4])
    before = [weight.numpy() for weight in one.generator.trainable_weights]
    metrics = one.update_both(images, labels, seed)
    fast.update_both(images, labels, seed)
    # The generator does not feel how far the discriminator has just moved, and it does move.
    for slow, quick in zip(one.generator.trainable_weights, fast.generator.trainable_weights, strict=True):
        np.testing.assert_allclose(slow.numpy(), quick.numpy(), atol=1e-7)
    assert not np.array_equal(before[0], one.generator.trainable_weights[0].numpy())
    # The discriminator's update is the one that it has when they alternate.
    alone = other.update_discriminator(images, labels, seed)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(alone["discriminator_loss"]), rel=1e-5)
    for both, single in zip(one.discriminator.trainable_weights, other.discriminator.trainable_weights, strict=True):
        np.testing.assert_allclose(both.numpy(), single.numpy(), atol=2e-5)
    if name == "gan":  # -log D of the images that D saw: no less than that of their mean score
        assert float(metrics["generator_loss"]) >= -math.log(float(metrics["fake_score"])) - 1e-6


def test_simultaneous_updates_are_one_of_each():
    with pytest.raises(ValueError, match="must be 1"):
        small("dcgan", updates="simultaneous", discriminator_updates=2)


def test_r1_is_lazy_and_keeps_its_mean_weight():
    model = build("dcgan", r1_interval=4, r1_penalty=3.0, minibatch_standard_deviation=False)
    images, labels = batches(model, (12, 10, 1))[0]
    whole = float(losses.squared_gradient_norm(lambda x: model.discriminate(x, labels), images))
    values = []
    for number in range(8):
        model.step.assign(number)
        values.append(float(model.penalty(images, images, labels, tf.constant([0, 0]))))
    assert values[1:4] == [0, 0, 0] and values[0] == pytest.approx(values[4])
    assert np.mean(values) == pytest.approx(1.5 * whole, rel=1e-4)


def test_prior_of_the_training_is_the_prior_of_the_samples():
    model = build("gan", prior="uniform")
    drawn = model.draw_latents(4000, tf.constant([1, 2])).numpy()
    assert drawn.min() >= -1 and drawn.max() < 1 and model.prior.name == "uniform"


# -- WGAN --------------------------------------------------------------------------------------------------------------


def test_critic_loss_has_the_papers_sign():
    real, fake = tf.constant([[3.0], [5.0]]), tf.constant([[1.0], [2.0]])
    assert float(losses.critic(real, fake)) == pytest.approx(1.5 - 4.0)


def test_critic_weights_are_clipped_after_every_update():
    model = build("wgan", penalty="clip", discriminator_updates=1)
    images, labels = batches(model, (12, 10, 1))[0]
    model.update_discriminator(images, labels, tf.constant([0, 0]))
    largest = max(float(tf.reduce_max(tf.abs(weight))) for weight in model.discriminator.trainable_weights)
    assert largest == pytest.approx(0.01)


def test_each_critic_update_has_a_fresh_batch(monkeypatch):
    model = build("wgan", discriminator_updates=3)
    seen = []
    update = type(model).update_discriminator
    monkeypatch.setattr(
        type(model),
        "update_discriminator",
        lambda self, images, *rest: seen.append(images) or update(self, images, *rest),
    )
    model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 0]))
    assert len(seen) == 3 and not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[1], seen[2])


def test_no_batch_norm_in_the_critic():
    with pytest.raises(ValueError, match="critic"):
        small("wgan", discriminator_normalization="batch")
    assert not any("norm" in layer.name for layer in build("wgan").discriminator.layers)


def test_gradient_penalty_of_known_critics():
    random = np.random.default_rng(0)
    real, fake = (tf.constant(random.normal(size=(6, 3, 4, 2)).astype(np.float32)) for _ in range(2))
    weights = random.normal(size=(3, 4, 2)).astype(np.float32)
    linear = lambda x: tf.reduce_sum(x * weights, [1, 2, 3])[:, None]  # noqa: E731
    # The gradient is `weights` everywhere; its norm goes over H, W and C together.
    expected = (np.sqrt((weights**2).sum()) - 1) ** 2
    assert float(losses.gradient_penalty(linear, real, fake, [0, 1])) == pytest.approx(float(expected), rel=1e-4)
    assert np.isfinite(losses.gradient_penalty(lambda x: 0.0 * linear(x), real, fake, [0, 1]))


def test_alpha_is_uniform_and_one_for_each_example():
    seen = []

    def spy(x):
        seen.append(x)
        return tf.reduce_sum(x, [1, 2, 3])[:, None]

    real, fake = tf.ones([3000, 2, 2, 1]), tf.zeros([3000, 2, 2, 1])
    losses.gradient_penalty(spy, real, fake, [3, 4])
    alpha = seen[0].numpy().reshape(3000, 4)  # real 1, fake 0: the mixture is alpha itself
    assert np.ptp(alpha, axis=1).max() == 0
    quantiles = np.quantile(alpha[:, 0], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, [0.1, 0.5, 0.9], atol=0.03)
    assert alpha.min() >= 0 and alpha.max() <= 1


# -- BEGAN -------------------------------------------------------------------------------------------------------------


def test_k_follows_the_papers_rule_and_is_saved(small_images):
    model = build("began", gamma=0.5, lambda_k=0.1)
    metrics = model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 0]))
    balance = 0.5 * metrics["real_loss"] - metrics["generator_loss"]
    assert float(metrics["k"]) == pytest.approx(float(np.clip(0.1 * balance, 0, 1)), abs=1e-6)
    assert float(metrics["convergence"]) == pytest.approx(float(metrics["real_loss"] + abs(balance)), rel=1e-5)
    assert "k" in model.state()
    model.k.assign(0.9999)
    model.hparams = model.hparams.__class__(**vars(model.hparams) | {"lambda_k": 50.0, "gamma": 1.0})
    assert 0.0 <= float(model.train_step(batches(model, (12, 10, 1)), tf.constant([0, 1]))["k"]) <= 1.0


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_rates_are_halved_on_a_stall(schedule):
    model = build("began", patience=3, generator_learning_rate=0.01, schedule=schedule)
    for convergence in (1.0, 0.9, 2.0, 2.0):
        model._halve_rates_on_a_stall(tf.constant(convergence))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(0.01)
    model._halve_rates_on_a_stall(tf.constant(2.0))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(0.005)


def test_the_papers_began_has_neither_norm_nor_dropout():
    paper = config.starting_hparams("began", "paper")
    style = {"discriminator_normalization": paper.discriminator_normalization}
    names = " ".join(layer.name for layer in build("began", **style).discriminator.layers)
    assert "norm" not in names and "dropout" not in names
    assert (paper.exponent, paper.pull_away, paper.generator_normalization) == (1, 0.0, "none")


# -- conditional -------------------------------------------------------------------------------------------------------


def test_labels_are_needed_and_checked(small_images, capsys):
    with pytest.raises(genlab.UsageError, match="needs labels"):
        genlab.fit("cgan", small_images[0], steps=1, batch_size=8)
    model = build("cgan")
    latents = model.sample_latents([0, 1])
    with pytest.raises(genlab.UsageError, match="labels from 0 to 2"):
        model.sample(latents)
    with pytest.raises(genlab.UsageError, match="knows 0 to 2"):
        model.sample(latents, [0, 3])
    with pytest.raises(genlab.UsageError, match="without labels"):
        build("dcgan").sample(latents, [0, 1])


@pytest.mark.parametrize("conditioning", ["projection", "concatenate"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_both_networks_see_the_label(conditioning, network):
    model = build("cgan", conditioning=conditioning, network=network)
    images = batches(model, (12, 10, 1))[0][0]
    ones, twos = tf.fill([8], 1), tf.fill([8], 2)
    assert not np.allclose(model.discriminate(images, ones), model.discriminate(images, twos))
    latents = model.sample_latents(range(8))
    assert not np.allclose(model.sample(latents, ones), model.sample(latents, twos))


def test_label_option_by_name_and_number(small_images, capsys):
    run = genlab.fit("cgan", "digits", steps=1, **_fitting("cgan"))
    sample.main(["--label", "7", "--count", "4", "--array", "sevens.npz"])
    stored = np.load("sevens.npz")
    assert list(stored["labels"]) == [7] * 4
    expected = genlab.grids.as_pixels(run.model.sample(stored["latents"], [7] * 4))
    np.testing.assert_array_equal(stored["images"], expected)
    sample.main([])
    from imageio.v3 import imread

    assert imread(f"samples/{run.name}-seed0.png").shape == (8 * 58 + 2, 10 * 58 + 2)  # a column a class
    status, message = fails(lambda: sample.main(["--label", "eleven"]), capsys)
    assert status == 2 and "the classes of" in message


# -- minibatch discrimination ------------------------------------------------------------------------------------------


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


# -- vectors -----------------------------------------------------------------------------------------------------------


def test_points_and_their_modes():
    ring, grid = genlab.data.load("ring"), genlab.data.load("grid")
    assert ring.images.shape == (50_000, 2) and len(ring.modes) == 8 and len(grid.modes) == 25
    assert np.linalg.norm(ring.images, axis=1).mean() == pytest.approx(1.0, abs=1e-3)
    real = mode_metrics(grid.images[:2500], grid.modes, grid.deviation)
    # Within three deviations of the centre lies 1 - exp(-9/2) = 98.9% of a plane Gaussian.
    assert real["modes"] == 25 and real["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.006)
    two = np.array([ring.modes[0], ring.modes[0] + 0.02, ring.modes[3] + 0.5])
    # Both good points are of one mode: the divergence from equal shares is log 8.
    expected = {"modes": 1.0, "high_quality": pytest.approx(2 / 3), "modes_kl": pytest.approx(math.log(8))}
    assert mode_metrics(two, ring.modes, ring.deviation) == expected
    assert real["modes_kl"] == pytest.approx(0.0, abs=0.02)


def test_points_take_their_own_preset(capsys):
    for flags, preset, units, steps in (
        (["--data", "grid"], "points", 0, 25_000),
        (["--data=ring", "--r1-penalty", "3", "--steps", "7"], "points", 0, 7),
        (["--data", "grid", "--preset", "default"], "default", 256, 2000),
        ([], "default", 256, 2000),
    ):
        train.main(["minibatch_gan", *flags, "--dry-run"])
        shown = json.loads(capsys.readouterr().out)
        found = (shown["preset"], shown["hparams"]["generator_units"], shown["options"]["steps"])
        assert found == (preset, units, steps), flags
    run = genlab.fit("gan", "ring", steps=1, batch_size=8)
    assert run.config.preset == "points"
    status, message = fails(lambda: train.main(["gan", "--resume", str(run.path), "--preset", "default"]), capsys)
    assert status == 2 and "began from the preset points" in message


def test_vectors_train_and_log_their_modes(capsys):
    train.main(["gan", "--data", "ring", "--steps", "4", "--log-every", "2", "--batch-size", "16"])
    run = genlab.load()
    assert {"modes", "high_quality"} <= run.metrics()[-1].keys()
    sample.main(["--array", "points.npz", "--count", "10"])
    assert np.load("points.npz")["images"].shape == (10, 2)
    sample.main([])
    assert pathlib.Path(f"samples/{run.name}-seed0.png").exists()
    status, message = fails(lambda: sample.main(["--individual"]), capsys)
    assert status == 2 and "draws points" in message
    status, message = fails(lambda: train.main(["vae", "--data", "ring", "--likelihood", "bernoulli"]), capsys)
    assert status == 2 and "vectors take gaussian" in message
