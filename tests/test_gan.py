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


@pytest.mark.parametrize("network, first", [("conv", "up1_conv"), ("mlp", "dense1")])
def test_options_reach_both_networks(network, first):
    settings = {"generator_widths": (5,), "discriminator_widths": (6,), "generator_units": 7, "discriminator_units": 8}
    model = build("dcgan", (28, 28, 1), network=network, generator_normalization="none", **settings)
    for generator in (model.generator, model.decoder):
        assert (generator.get_layer(first).get_weights()[1].shape, generator.get_layer("hidden").units) == ((5,), 7)
        assert not [layer.name for layer in generator.layers if layer.name.endswith("_norm")]
    last = "down1_conv" if network == "conv" else "dense1"
    assert model.discriminator.get_layer(last).get_weights()[0].shape[-1] == 6
    assert model.discriminator.get_layer("hidden").units == 8


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


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_the_penalty_is_added_to_the_loss(name):
    model = build(name)
    images, labels = batches(model)[0]
    fake = model.generate(model.sample_latents(range(8)), labels)
    total, _, metrics = model.discriminator_objective(images, fake, labels, tf.constant([3, 4]))
    penalty = float(model.penalty(images, fake, labels, tf.constant([3, 4])))
    assert penalty > 0.01
    assert float(total) == pytest.approx(float(metrics["discriminator_loss"]) + penalty, rel=1e-3)
    assert build("dcgan", r1_penalty=0.0).penalty(images, fake, labels, tf.constant([3, 4])) == 0


def test_each_update_has_latents_of_its_own_and_the_generators_the_labels_of_the_last_batch(monkeypatch):
    model = build("cgan", discriminator_updates=3, generator_updates=2)
    given, labels, seeds = batches(model), [], []
    for name in ("update_discriminator", "update_generator"):
        update = getattr(model, name)

        def noted(*arguments, update=update):
            labels.append(arguments[-2].numpy().tolist())
            seeds.append(tuple(arguments[-1].numpy()))
            return update(*arguments)

        monkeypatch.setattr(model, name, noted)
    model.train_step(given, tf.constant([0, 0]))
    first, second, last = (batch[1].numpy().tolist() for batch in given)
    assert labels == [first, second, last, last, last] and last not in (first, second)
    assert len(set(seeds)) == 5


def test_both_networks_are_trained_in_training_mode():
    model = build("dcgan", discriminator_dropout=0.5)
    images, labels = batches(model)[0]
    before = [weight.numpy() for weight in model.generator.non_trainable_weights]
    model.generate(model.sample_latents(range(8)), labels)
    after = model.generator.non_trainable_weights
    assert before and not any(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert not np.array_equal(model.discriminate(images, labels), model.discriminate(images, labels))


def test_images_are_augmented_if_there_is_a_seed():
    model = build("dcgan", differentiable_augmentation=("color",), augmentation_target=0.0)
    images, labels = batches(model)[0]
    plain, again = (model.discriminate(images, labels) for _ in range(2))
    np.testing.assert_array_equal(plain, again)
    assert not np.allclose(plain, model.discriminate(images, labels, tf.constant([0, 1])))


def test_scores_are_mean_probabilities():
    real, fake = tf.constant([[0.0], [math.log(3)]]), tf.constant([[-math.log(3)], [-math.log(3)]])
    found = build("gan").scores(tf.constant(0.0), real, fake)
    assert {name: float(value) for name, value in found.items()} == {
        "real_score": pytest.approx((1 / 2 + 3 / 4) / 2),
        "fake_score": pytest.approx(1 / 4),
    }


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
