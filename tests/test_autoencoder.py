"""The autoencoder's losses, and the density that its codes are given; what it shares with the vae."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import batches, build, parameters, small_settings

import genlab
from genlab import models
from genlab.train import training


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
    genlab.fit("autoencoder", images, steps=2, checkpoint_every=1, **small_settings("autoencoder"))
    assert seen == [10, 10, 20]


@pytest.mark.parametrize("output", ["tanh", "linear"])
@pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
def test_autoencoder_losses_by_hand(loss, output):
    model = build("autoencoder", loss=loss, output=output, normalization="none")
    given = batches(model)
    images = given[0][0].numpy()
    raw = model.trained_decoder(model.trained_encoder(images)).numpy()
    difference = images - (np.tanh(raw) if output == "tanh" else raw)
    on, p = (images + 1) / 2, 1 / (1 + np.exp(-2 * raw))
    expected = {
        "mse": np.mean(difference**2),
        "l1": np.mean(np.abs(difference)),
        "bce": -np.mean(on * np.log(p) + (1 - on) * np.log(1 - p)),
    }
    metrics = model.train_step(given, tf.constant([0, 0]))
    assert float(metrics["loss"]) == pytest.approx(expected[loss], rel=1e-4)
    assert float(metrics["mse"]) == pytest.approx(expected["mse"] / 4, rel=1e-4)  # of pixels in [0, 1]
    assert build("autoencoder", (2,), output=output).output_activation == "linear"


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_both_averages_follow_their_networks(name):
    model = build(name, average_decay=0.0)
    model.train_step(batches(model), tf.constant([0, 0]))
    pairs = ((model.averaged_encoder, model.trained_encoder), (model.decoder, model.trained_decoder))
    for averaged, trained in pairs:
        for copy, weight in zip(averaged.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(copy, weight)


@pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
def test_autoencoder_losses_fall(loss, small_images):
    run = genlab.fit("autoencoder", small_images[0], steps=60, log_every=20, loss=loss, **small_settings("autoencoder"))
    first, *_, last = run.metrics()
    assert last["loss"] < first["loss"]


def test_reconstruction_through_a_discriminators_features(small_images, capsys):
    scorer = genlab.fit(
        "dcgan",
        small_images[0],
        steps=2,
        precision="float32",  # of the distance that is worked out below
        batch_size=8,
        generator_widths=(4,),
        discriminator_widths=(6,),
    )
    settings = small_settings("autoencoder") | {"loss": "discriminator", "discriminator": str(scorer.path)}
    run = genlab.fit("autoencoder", small_images[0], steps=40, log_every=10, **settings)
    first, *_, last = run.metrics()
    assert last["loss"] < first["loss"]
    run = genlab.fit(
        "vae",
        small_images[0],
        steps=2,
        precision="float32",
        **small_settings("vae"),
        likelihood="discriminator",
        discriminator=str(scorer.path),
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


def test_two_latents_draw_codes_and_manifold(small_images):
    images, labels = small_images
    for name in ("vae", "autoencoder"):
        run = genlab.fit(name, images, labels, steps=2, **small_settings(name) | {"latent_size": 2})
        drawn = {path.name for path in run.samples.glob("*-000002.png")}
        assert drawn == {f"{kind}step-000002.png" for kind in ("", "reconstructions-", "codes-", "manifold-")}


def test_the_textbooks_networks_have_its_parameters():
    expected = {"trained_encoder": 44_628, "trained_decoder": 59_361}
    found = parameters("autoencoder", "book")
    assert {network: found[network] for network in expected} == expected
