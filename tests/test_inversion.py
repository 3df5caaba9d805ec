"""Latents of given images, and truncated latents: against closed forms and numbers worked by hand."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from test_priors import in_bulk, mixture

import genlab
from genlab import grids, sample
from genlab.backend import tf
from genlab.data.spec import to_model_range
from genlab.networks import inversion, priors

MATRIX = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
"""A linear decoder: latents [N, 3] -> images [N, 2, 6, 1]."""


OTHER = priors.Mixture(np.ones(1, "f4"), np.full((1, 3), 2, "f4"), 0.5 * np.eye(3, dtype="f4")[np.newaxis])
"""N(2, 0.25) in each dimension."""


def decode(latents, labels=None):
    images = tf.reshape(latents @ MATRIX, [-1, 2, 6, 1])
    return images if labels is None else images + tf.cast(labels, tf.float32)[:, None, None, None]


def inverted(prior, images, labels=None, drawn_labels=None, steps=300):
    latents = np.asarray(prior.draw(50, tf.constant([1, 2])))
    drawn = decode(latents, drawn_labels)
    return inversion.invert(decode, prior, images, drawn, labels, (latents, drawn_labels), steps)


@pytest.mark.parametrize("prior", [priors.Normal(3), OTHER], ids=["normal", "fitted"])
def test_a_linear_decoder_is_inverted_as_ridge_regression_does(prior):
    images = np.random.default_rng(1).normal(size=(2, 2, 6, 1)).astype(np.float32)
    found = inverted(prior, images)
    # max log N(x; z A, s^2 I) + log N(z; m, V): z = m + (A A^T / s^2 + V^-1)^-1 A (x - m A) / s^2
    noise, mean, precision = inversion.NOISE**2, prior.mean(), np.linalg.inv(prior.covariance())
    rest = images.reshape(2, 12) - mean @ MATRIX
    expected = mean + np.linalg.solve(MATRIX @ MATRIX.T / noise + precision, MATRIX @ rest.T / noise).T
    np.testing.assert_allclose(found.latents, expected, atol=0.01)
    np.testing.assert_allclose(found.errors, np.square(decode(expected) - images).mean(axis=(1, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(found.images, decode(found.latents), rtol=1e-6)
    assert found.labels is None


def test_latents_of_a_uniform_prior_stay_where_it_draws():
    outside = np.asarray(decode(np.array([[3.0, -3.0, 0.2]], np.float32)))
    found = inverted(priors.Uniform(3), outside)
    assert np.abs(found.latents).max() <= 1 and found.latents[0, 0] == 1 and found.latents[0, 1] == -1


def test_the_class_is_that_of_the_closest_candidate_unless_it_is_given():
    classes = np.arange(50) % 3
    image = np.asarray(decode(np.zeros((1, 3), np.float32), np.array([2])))
    assert inverted(priors.Normal(3), image, None, classes).labels == [2]
    found = inverted(priors.Normal(3), image, np.array([1]), classes)
    assert found.labels == [1]
    np.testing.assert_allclose(found.images, decode(found.latents, np.array([1])), rtol=1e-6)


def test_truncation_moves_latents_towards_the_mean():
    latents = np.array([[2.0, -4.0]], np.float32)
    np.testing.assert_allclose(priors.Normal(2).truncated(latents, 0.5), [[1, -2]])
    # 0.25 (-4, 0) + 0.75 (2, 1) = (0.5, 0.75)
    np.testing.assert_allclose(mixture().mean(), [0.5, 0.75])
    np.testing.assert_allclose(mixture().truncated(latents, 0.5), [[1.25, -1.625]])
    np.testing.assert_allclose(mixture().truncated(latents, 0), [[0.5, 0.75]])


def test_the_covariance_of_a_mixture_is_that_of_its_draws():
    drawn = in_bulk(mixture(), 20_000)
    np.testing.assert_allclose(mixture().covariance(), np.cov(drawn.T), atol=0.1)
    np.testing.assert_allclose(priors.Uniform(2).covariance(), np.eye(2) / 3, rtol=1e-6)


def test_models_find_their_own_samples_again(small_run):
    run = small_run("cgan")
    latents = run.model.sample_latents([3, 4])
    images = run.model.sample(latents, np.array([3, 4]))
    found = run.model.invert(images, steps=20)
    assert list(found.labels) == [3, 4] and found.errors.max() < 1e-3  # seeds 3 and 4 are among the candidates
    with pytest.raises(genlab.UsageError, match=r"images have the shape \[2, 9, 9, 1\]; it must be \[N, 28, 28, 1\]"):
        run.model.invert(np.zeros((2, 9, 9, 1)))
    with pytest.raises(genlab.UsageError, match="steps"):
        run.model.invert(images, steps=0)


def test_the_command_truncates_and_inverts(small_run, capsys):
    run = small_run("cgan")
    call = ["--run", str(run.path)]
    sample.main([*call, "--seeds", "5", "--truncation", "0.5", "--array", "half.npz"])
    with np.load("half.npz") as half:
        np.testing.assert_allclose(half["latents"], 0.5 * np.asarray(run.model.sample_latents([5])), rtol=1e-6)
    real = run.data().images[:2]
    for number, image in enumerate(real):
        grids.save_image(image.repeat(2, axis=0).repeat(2, axis=1), f"{number}.png")  # it is brought to the run's size
    sample.main([*call, "--invert", "0.png", "1.png", "--label", "7", "--array", "found.npz"])
    picture = pathlib.Path(f"samples/{run.name}-label7-inverted.png")
    assert capsys.readouterr().out.split() == ["half.npz", str(picture), "found.npz"]
    with np.load("found.npz") as found:
        assert list(found["labels"]) == [7, 7] and found["latents"].shape == (2, 4)
        again = run.model.sample(found["latents"], found["labels"])
        errors = np.square(again - to_model_range(real)).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found["errors"], errors, atol=0.02)  # the files were scaled up and down again
