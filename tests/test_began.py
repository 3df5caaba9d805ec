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


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_rates_are_halved_on_a_stall(schedule):
    model = build("began", patience=3, generator_learning_rate=0.01, schedule=schedule)
    for convergence in (1.0, 0.9, 2.0, 2.0):
        model.halve_rates_on_a_stall(tf.constant(convergence))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(0.01)
    model.halve_rates_on_a_stall(tf.constant(2.0))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(0.005)


def test_the_papers_began_has_neither_norm_nor_dropout():
    paper = config.starting_hparams("began", "paper")
    style = {"discriminator_normalization": paper.discriminator_normalization}
    names = " ".join(layer.name for layer in build("began", **style).discriminator.layers)
    assert "norm" not in names and "dropout" not in names
    assert (paper.exponent, paper.pull_away, paper.generator_normalization) == (1, 0.0, "none")
