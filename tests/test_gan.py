"""What the GANs share: their updates, the R1 penalty, points in the plane."""

from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import batches, build, fails, parameters, resting, small

import genlab
from genlab import sample
from genlab.networks import losses
from genlab.train import __main__ as train


def test_generator_update_leaves_the_discriminator_and_the_other_way_round():
    model = build("dcgan", average_decay=0.0)
    images, labels = batches(model)[0]
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
    images, labels = batches(one)[0]
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
    images, labels = batches(model)[0]
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


def test_the_textbooks_networks_have_its_parameters():
    expected = {"discriminator": 267_009, "generator": 1_956_624}
    found = parameters("gan", "book")
    assert {network: found[network] for network in expected} == expected


@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_every_weight_is_trained(name):
    assert resting(build(name))[0] == []
