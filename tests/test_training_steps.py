"""Schedules, warm-ups, averages and lazy penalties follow training steps, whatever the number of updates in a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import TINY

import genlab
from genlab import models
from genlab.backend import tf
from genlab.data.spec import DataSpec


def built(**settings):
    kind = models.load("dcgan")
    small = {"batch_size": 4, "latent_size": 4, "generator_widths": (3,), "discriminator_widths": (3,)}
    hparams = kind.Hparams(**small | {"generator_units": 0, "discriminator_units": 0} | settings)
    return kind(hparams, DataSpec((12, 10, 1)), schedule_steps=10)


def stepped(model, steps):
    """Yields after each training step, as the loop takes them."""
    images = tf.random.stateless_uniform([model.hparams.batch_size, 12, 10, 1], [0, 1], -1.0, 1.0)
    labels = tf.zeros([model.hparams.batch_size], tf.int32)
    for number in range(steps):
        model.train_step([(images, labels)] * model.hparams.batches_per_step, tf.constant([0, number]))
        yield number
        model.step.assign_add(1)


@pytest.mark.parametrize("updates", [(1, 1), (3, 1), (1, 2), (3, 2)], ids=str)
def test_rates_fall_by_training_steps(updates):
    """A cosine from the middle of ten steps on, to a hundredth."""
    discriminator, generator = updates
    model = built(
        schedule="cosine",
        discriminator_updates=discriminator,
        generator_updates=generator,
        generator_learning_rate=1e-3,
    )
    for number in stepped(model, 10):
        share = max(0, number - 5) / 5
        expected = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        assert float(model.generator_optimizer.learning_rate) == pytest.approx(1e-3 * expected, rel=1e-5)
        assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(2e-3 * expected, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ("dcgan", (28, 28, 1), "constant"),
        ("dcgan", (32, 32, 3), "cosine"),
        ("gan", (2,), "constant"),
        ("cgan", (28, 28, 1), "cosine"),
        ("vae", (28, 28, 1), "cosine"),
    ],
)
def test_the_schedule_that_suits_the_images(model, shape, expected):
    kind = models.load(model).Hparams
    assert kind().for_data(DataSpec(shape), 100).schedule == expected
    assert kind(schedule="step").for_data(DataSpec(shape), 100).schedule == "step"


@pytest.mark.parametrize(
    ("model", "shape", "rate", "penalty"),
    [
        ("dcgan", (28, 28, 1), 2e-3, 1),
        ("cgan", (32, 32, 3), 2e-3, 1),
        ("minibatch_gan", (64, 64, 3), 1e-3, 4),
        ("dcgan", (32, 128, 3), 1e-3, 4),
        ("dcgan", (128, 128, 3), 5e-4, 16),
        ("gan", (64, 64, 1), 5e-4, 4),
        ("gan", (2,), 1e-3, 1),
    ],
)
def test_the_rates_and_the_penalty_that_suit_the_size_of_the_images(model, shape, rate, penalty):
    hparams = models.load(model).Hparams().for_data(DataSpec(shape), 100)
    assert hparams.generator_learning_rate == hparams.discriminator_learning_rate == pytest.approx(rate)
    assert hparams.r1_penalty == pytest.approx(penalty)
    chosen = models.load(model).Hparams(generator_learning_rate=0.5, r1_penalty=0.0).for_data(DataSpec(shape), 100)
    assert (chosen.generator_learning_rate, chosen.r1_penalty) == (0.5, 0)


def test_a_model_that_no_run_resolved_has_that_schedule_too():
    model = built(schedule="auto")
    model.step.assign(10)
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(model.hparams.generator_learning_rate)


@pytest.mark.parametrize("generator_updates", [1, 3])
def test_the_averages_are_the_weighted_means_of_the_steps(generator_updates):
    model = built(average_share=1 / 3, generator_updates=generator_updates, generator_learning_rate=0.05)
    pairs = ((model.decoder, model.generator), (model.averaged_discriminator, model.discriminator))
    seen = [[[weight.numpy() for weight in trained.weights] for _, trained in pairs] for _ in stepped(model, 5)]
    weights = np.array([1, 3, 5, 7, 9])  # differences of squares
    for number, (averaged, _) in enumerate(pairs):
        by_weight = zip(*(each[number] for each in seen), strict=True)
        for average, values in zip(averaged.weights, by_weight, strict=True):
            expected = np.average(np.stack(values), axis=0, weights=weights)
            np.testing.assert_allclose(average.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert model.feature_network is model.averaged_discriminator


def test_a_lazy_penalty_is_due_in_every_update_of_its_step():
    model = built(discriminator_updates=2, r1_interval=3, minibatch_standard_deviation=False)
    due = []
    penalty = model.penalty
    model.penalty = lambda *given: due.append(float(penalty(*given))) or penalty(*given)
    for _ in stepped(model, 6):
        pass
    assert [value > 0 for value in due] == [True, True, False, False, False, False] * 2


@pytest.mark.parametrize("settings", [{"average_decay": 0.1}, {"average_share": 0.4}], ids=str)
def test_the_average_matters_in_a_short_run(settings):
    short, long = (genlab.fit("dcgan", steps=20, **changed, **TINY) for changed in (settings, {}))
    drawn = [run.model.sample(run.model.sample_latents(range(4))).numpy() for run in (short, long)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    for name in ("generator", "discriminator"):  # of training itself the average is no part
        for first, second in zip(*(run.model.networks[name].get_weights() for run in (short, long)), strict=True):
            np.testing.assert_array_equal(first, second)
