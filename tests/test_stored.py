"""What earlier versions wrote still opens and gives the same images: runs, an export, a classifier with an Augmenter inside."""

from __future__ import annotations

import pathlib
import shutil

import keras
import numpy as np
import pytest

import genlab
from genlab.train import __main__ as train

STORED = pathlib.Path(__file__).parent / "stored"


@pytest.fixture(scope="module")
def expected():
    """What they gave when they were written."""
    with np.load(STORED / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def images():
    return genlab.data.load("digits").images[:4].astype(np.float32)


@pytest.mark.parametrize("model", ["cgan", "vae"])
def test_a_stored_run_samples_and_goes_on(model, expected, capsys):
    shutil.copytree(STORED / "runs", "runs")
    run = genlab.load(model=model)
    drawn = run.model.sample(run.model.sample_latents([0, 1, 2]), run.model.default_labels([0, 1, 2]))
    np.testing.assert_allclose(drawn, expected[model], atol=1e-5)
    train.main(["--resume", str(run.path), "--steps", "3"])
    assert [line["step"] for line in genlab.load(run.path).metrics()] == [1, 2, 3]


def test_the_discriminator_of_a_run_without_an_average_of_it_is_the_average():
    shutil.copytree(STORED / "runs", "runs")
    model = genlab.load(model="cgan").model
    for average, weight in zip(model.averaged_discriminator.weights, model.discriminator.weights, strict=True):
        np.testing.assert_array_equal(average.numpy(), weight.numpy())


def test_a_stored_export_augments():
    augment = genlab.Augmenter.from_export(STORED / "exported", seed=0)
    images, labels = augment.generate(4, labels=[7, 9])
    assert images.shape == (4, 28, 28, 1) and list(labels) == [7, 9, 7, 9]


def test_a_stored_classifier_has_its_augmenter_inside(expected, images):
    model = keras.saving.load_model(STORED / "classifier.keras")
    np.testing.assert_allclose(model.predict(images, verbose=0), expected["classifier"], atol=1e-4)
    augment = next(layer for layer in model.layers if isinstance(layer, genlab.Augmenter))
    np.testing.assert_allclose(augment(images, training=True), expected["varied"], atol=0.01)
