"""Labels of the conditional GAN."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import batches, build, fails, small_settings

import genlab
from genlab import sample


def test_labels_are_needed_and_checked(small_images, capsys):
    with pytest.raises(genlab.UsageError, match="needs labels"):
        genlab.fit("cgan", small_images[0], steps=1, batch_size=8)
    model = build("cgan")
    latents = model.sample_latents([0, 1])
    with pytest.raises(genlab.UsageError, match="labels from 0 to 2"):
        model.sample(latents)
    with pytest.raises(genlab.UsageError, match="knows 0 to 2"):
        model.sample(latents, [0, 3])
    assert list(model.default_labels([0, 4, 5])) == [0, 1, 2] and build("dcgan").default_labels([0]) is None
    with pytest.raises(genlab.UsageError, match="without labels"):
        build("dcgan").sample(latents, [0, 1])


@pytest.mark.parametrize("conditioning", ["projection", "concatenate"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_both_networks_see_the_label(conditioning, network):
    model = build("cgan", conditioning=conditioning, network=network)
    images = batches(model)[0][0]
    ones, twos = tf.fill([8], 1), tf.fill([8], 2)
    assert not np.allclose(model.discriminate(images, ones), model.discriminate(images, twos))
    latents = model.sample_latents(range(8))
    assert not np.allclose(model.sample(latents, ones), model.sample(latents, twos))


def test_label_option_by_name_and_number(small_images, capsys):
    run = genlab.fit("cgan", "digits", steps=1, **small_settings("cgan"))
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


def test_the_auxiliary_classifier_learns_from_real_images_and_teaches_the_generator():
    model = build("cgan", auxiliary_classifier=0.5, r1_penalty=0.0)
    plain = build("cgan", auxiliary_classifier=0.0, r1_penalty=0.0)
    images, labels = batches(model)[0]
    fake, seed = tf.zeros_like(images), tf.constant([0, 1])
    total, judged, metrics = model.discriminator_objective(images, fake, labels, seed)
    assert float(plain.discriminator_objective(images, fake, labels, seed)[0]) == pytest.approx(
        float(metrics["discriminator_loss"]), rel=1e-5
    )

    def surprise(logits):
        logits = logits.numpy().astype(np.float64)
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), labels])

    of_real, of_fake = surprise(model.judge(images, labels)[1]), surprise(judged[1])
    assert float(metrics["class_loss"]) == pytest.approx(of_real, rel=1e-5)
    assert float(total) == pytest.approx(float(metrics["discriminator_loss"]) + 0.5 * of_real, rel=1e-5)
    total, metrics = model.generator_objective(judged, labels)
    assert float(total) == pytest.approx(float(metrics["generator_loss"]) + 0.5 * of_fake, rel=1e-5)


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_the_auxiliary_classifier_recognizes_classes_after_some_steps(updates):
    model = build(
        "cgan", auxiliary_classifier=1.0, updates=updates, discriminator_updates=1, discriminator_learning_rate=0.01
    )
    images, labels = batches(model)[0]
    metrics = [model.train_step([(images, labels)], tf.constant([0, step])) for step in range(30)]
    assert float(metrics[-1]["class_loss"]) < 0.5 * float(metrics[0]["class_loss"])
    assert model.discriminator(  # what the augmenter and the evaluation use: a single logit
        [images, labels]
    ).shape == (len(images), 1)


@pytest.mark.parametrize(
    ("name", "changes", "shape", "expected"),
    [
        ("cgan", {}, (12, 10, 1), True),
        ("cgan", {"conditioning": "concatenate"}, (12, 10, 1), False),
        ("cgan", {}, (2,), False),
        ("dcgan", {}, (12, 10, 1), False),
        ("dcgan", {"conditioning": "projection"}, (12, 10, 1), True),
        ("wgan", {"conditioning": "projection"}, (12, 10, 1), False),
    ],
)
def test_an_auxiliary_classifier_is_there_by_default_where_the_discriminator_does_not_see_the_class(
    name, changes, shape, expected
):
    assert (build(name, shape, **changes).class_head is not None) == expected


@pytest.mark.parametrize(("channels", "expected"), [(1, 0.2), (3, 0.05), (4, 0.05)])
def test_the_auxiliary_classifier_weighs_less_in_colour(channels, expected):
    assert build("cgan", (12, 10, channels)).hparams.auxiliary_classifier == expected
    assert build("cgan", (12, 10, channels), auxiliary_classifier=0.5).hparams.auxiliary_classifier == 0.5


def test_the_auxiliary_classifier_is_normalized_like_the_discriminator():
    model = build("cgan", auxiliary_classifier=1.0, spectral_normalization=True)
    model.train_step(batches(model), tf.constant([0, 1]))
    (layer,) = (layer for layer in model.class_head.layers if layer.name == "class_logits")
    kernel = layer.normalized_weights()[0]
    assert 0.2 < np.linalg.svd(kernel, compute_uv=False)[0] < 5
