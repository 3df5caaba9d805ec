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
