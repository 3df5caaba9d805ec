"""The boundary-equilibrium GAN's k, and its learning rates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import batches, build

from genlab import config


def test_k_follows_the_papers_rule_and_is_saved(small_images):
    model = build("began", gamma=0.5, lambda_k=0.1)
    metrics = model.train_step(batches(model), tf.constant([0, 0]))
    balance = 0.5 * metrics["real_loss"] - metrics["generator_loss"]
    assert float(metrics["k"]) == pytest.approx(float(np.clip(0.1 * balance, 0, 1)), abs=1e-6)
    assert float(metrics["convergence"]) == pytest.approx(float(metrics["real_loss"] + abs(balance)), rel=1e-5)
    assert "k" in model.state()
    model.k.assign(0.9999)
    model.hparams = model.hparams.__class__(**vars(model.hparams) | {"lambda_k": 50.0, "gamma": 1.0})
    assert 0.0 <= float(model.train_step(batches(model), tf.constant([0, 1]))["k"]) <= 1.0


@pytest.mark.parametrize("exponent", [1, 2])
def test_reconstruction_error_by_hand(exponent):
    model = build("began", exponent=exponent)
    images = batches(model)[0][0]
    rebuilt, codes = (part.numpy() for part in model.discriminator(images, training=True))
    error, found = model.reconstruction(images)
    assert float(error) == pytest.approx(np.mean(np.abs(images.numpy() - rebuilt) ** exponent), rel=1e-5)
    np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_the_code_is_normalized_over_the_batch_and_the_run_has_the_extra_dense_layer(normalization):
    model = build("began", code_normalization=normalization)
    _, codes = model.reconstruction(batches(model)[0][0])
    # Momentum and gain of the normalization leave mean 0 and variance 1 at the start, of a batch of 8 images.
    mean, deviation = np.abs(codes.numpy().mean(0)).max(), np.abs(codes.numpy().std(0) - 1).max()
    assert (max(mean, deviation) < 0.01) == (normalization == "batch")
    for network in (model.generator, model.decoder, model.discriminator.get_layer("decoder")):
        assert network.get_layer("hidden").units == 8
    names = [layer.name for layer in build("began", hidden_units=0).discriminator.layers]
    assert "hidden" not in names and "codes_norm" in names


def test_k_weighs_the_generated_images():
    model, twin = (build("began", gamma=0.8, lambda_k=0.1) for _ in range(2))
    model.k.assign(0.5)
    seed = tf.constant([0, 3])
    metrics = {name: float(value) for name, value in model.train_step(batches(model), seed).items()}
    latents = twin.draw_latents(8, tf.random.split(seed, 2, alg="philox")[0])
    generated = float(twin.reconstruction(twin.generator(latents, training=True))[0])
    assert metrics["discriminator_loss"] == pytest.approx(metrics["real_loss"] - 0.5 * generated, rel=1e-4)
    balance = 0.8 * metrics["real_loss"] - metrics["generator_loss"]
    assert metrics["k"] == pytest.approx(0.5 + 0.1 * balance, rel=1e-5)


def test_the_pull_away_term_makes_codes_differ():
    still = {"discriminator_learning_rate": 1e-12, "lambda_k": 1e-12}
    model = build("began", pull_away=1e4, generator_learning_rate=1e-4, **still)
    first, second = (float(model.train_step(batches(model), tf.constant([0, 7]))["code_similarity"]) for _ in range(2))
    assert second < first


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_rates_are_halved_on_a_stall(schedule):
    model = build(
        "began", patience=3, generator_learning_rate=0.01, discriminator_learning_rate=0.002, schedule=schedule
    )
    for convergence in (1.0, 0.9, 2.0, 2.0):
        model.halve_rates_on_a_stall(tf.constant(convergence))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(0.01)
    for expected in (0.005, 0.005, 0.005, 0.0025):  # another three steps for the next time
        model.halve_rates_on_a_stall(tf.constant(2.0))
        assert float(model.generator_optimizer.learning_rate) == pytest.approx(expected)
        assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(expected / 5)


def test_without_patience_rates_are_never_halved():
    model = build("began", patience=0)
    for _ in range(3):
        model.halve_rates_on_a_stall(tf.constant(2.0))
    assert float(model.rate_factor) == 1.0


def test_the_papers_began_has_neither_norm_nor_dropout():
    paper = config.starting_hparams("began", "paper")
    style = {name: getattr(paper, name) for name in ("discriminator_normalization", "code_normalization")}
    names = " ".join(layer.name for layer in build("began", **style).discriminator.layers)
    assert "norm" not in names and "dropout" not in names
    assert (paper.exponent, paper.pull_away, paper.generator_normalization) == (1, 0.0, "none")
    assert (paper.network, paper.hidden_units, paper.code_normalization) == ("conv", 0, "none")


def test_a_run_from_before_the_dense_layer_and_the_normalized_code_has_neither():
    stored = {"model": "began", "hparams": {"code_size": 16}, "format": 4}
    assert config.upgraded(stored)["hparams"] == {"code_size": 16, "hidden_units": 0, "code_normalization": "none"}
    newer = stored | {"format": 5}
    assert config.upgraded(newer)["hparams"] == {"code_size": 16}
