"""The Wasserstein GAN's critic."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import batches, build, resting, small

from genlab.networks import losses


def test_critic_weights_are_clipped_after_every_update():
    model = build("wgan", penalty="clip", discriminator_updates=1)
    images, labels = batches(model)[0]
    model.update_discriminator(images, labels, tf.constant([0, 0]))
    weights = np.concatenate([weight.numpy().ravel() for weight in model.discriminator.trainable_weights])
    assert (weights.min(), weights.max()) == (pytest.approx(-0.01), pytest.approx(0.01))
    assert model.penalty(images, images, labels, tf.constant([0, 0])) == 0


def test_the_gradient_penalty_has_its_weight_and_no_part_in_the_estimate():
    settings = {"conditioning": "projection", "differentiable_augmentation": ("translation",)}
    model = build("wgan", gradient_penalty=3.0, discriminator_updates=1, **settings)
    images, labels = batches(model)[0]
    fake, seed = model.generate(model.sample_latents(range(8)), labels), tf.constant([0, 1])
    expected = 3 * losses.gradient_penalty(lambda x: model.discriminate(x, labels, seed), images, fake, seed)
    assert float(model.penalty(images, fake, labels, seed)) == pytest.approx(float(expected), rel=1e-5)
    metrics = model.update_discriminator(images, labels, seed)
    assert float(metrics["wasserstein_estimate"]) == -float(metrics["discriminator_loss"])


def test_each_critic_update_has_a_fresh_batch(monkeypatch):
    model = build("wgan", discriminator_updates=3)
    seen = []
    update = type(model).update_discriminator
    monkeypatch.setattr(
        type(model),
        "update_discriminator",
        lambda self, images, *rest: seen.append(images) or update(self, images, *rest),
    )
    model.train_step(batches(model), tf.constant([0, 0]))
    assert len(seen) == 3 and not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[1], seen[2])


def test_a_critic_has_no_second_penalty():
    with pytest.raises(ValueError, match="r1_penalty is 1"):
        small("wgan", r1_penalty=1.0)


def test_no_batch_norm_in_the_critic():
    with pytest.raises(ValueError, match="critic"):
        small("wgan", discriminator_normalization="batch")
    assert not any("norm" in layer.name for layer in build("wgan").discriminator.layers)


def test_the_bias_of_the_score_cancels():
    """It is the only weight that training leaves alone, with its average: the critic's loss is a difference of two scores."""
    bias = "discriminator/logit_dense/bias"
    assert resting(build("wgan"))[0] == [bias, f"averaged_{bias}"]
