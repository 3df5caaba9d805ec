"""Figures of samples against closed forms, worked numbers and a reference package."""

from __future__ import annotations

import math

import numpy as np
import prdc
import pytest
import tensorflow as tf

from genlab.errors import UsageError
from genlab.evaluate.metrics import classes, distances, neighbours
from genlab.evaluate.metrics.reconstruction import reconstruction_figures


def features(count, size=6, mean=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, scale, (count, size)).astype(np.float32)


# -- distances ---------------------------------------------------------------------------------------------------------


def exactly(mean, covariance, count=50):
    """Features whose sample mean and covariance are exactly these."""
    noise = features(count, len(mean)).astype(np.float64)
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_in_closed_form():
    # Covariances that commute: |mu|^2 + sum (sqrt a - sqrt b)^2.
    first = exactly(np.array([0.0, 0.0, 0.0]), np.diag([1.0, 4.0, 9.0]))
    second = exactly(np.array([1.0, -2.0, 0.5]), np.diag([4.0, 1.0, 16.0]))
    assert distances.frechet_distance(first, second) == pytest.approx(5.25 + 1 + 1 + 1, rel=1e-9)
    assert distances.frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute():
    # In two dimensions tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])
    expected = np.trace(a) + np.trace(b) - 2 * math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    zero = np.zeros(2)
    assert distances.frechet_distance(exactly(zero, a), exactly(zero, b)) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_survives_a_feature_that_never_varies_and_refuses_too_few():
    dead = features(40)
    dead[:, 2] = 0.0
    assert np.isfinite(distances.frechet_distance(dead, features(40, seed=1)))
    with pytest.raises(UsageError, match="needs more than 6 images"):
        distances.frechet_distance(features(6), features(40))


def test_kernel_distance_by_hand():
    # One feature: k(x, y) = (x y + 1)^3. Real 0 and 1, generated 1 and 2.
    within_real = (0 * 1 + 1) ** 3  # both ordered pairs give the same
    within_generated = (1 * 2 + 1) ** 3
    across = np.mean([(x * y + 1) ** 3 for x in (0, 1) for y in (1, 2)])
    mean, deviation = distances.kernel_distance(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), subsets=3)
    assert mean == pytest.approx(within_real + within_generated - 2 * across, rel=1e-12)
    assert deviation == pytest.approx(0.0, abs=1e-12)


def test_kernel_distance_is_unbiased_and_sees_a_shift():
    same = [distances.kernel_distance(features(400, seed=2 * s), features(400, seed=2 * s + 1))[0] for s in range(20)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(20) + 1e-3
    assert distances.kernel_distance(features(400), features(400, mean=0.5, seed=1))[0] > 10 * np.std(same)


# -- neighbours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.7, 0.6), (3.0, 1.5)])
@pytest.mark.parametrize("k", [3, 5])
def test_neighbour_figures_are_those_of_the_reference_package(mean, scale, k):
    real, generated = features(300), features(250, mean=mean, scale=scale, seed=1)
    expected = prdc.compute_prdc(real, generated, nearest_k=k)
    precision, recall = neighbours.precision_and_recall(real, generated, k)
    density, coverage = neighbours.density_and_coverage(real, generated, k)
    for name, value in (("precision", precision), ("recall", recall), ("density", density), ("coverage", coverage)):
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-9), name


def test_memorization_finds_the_copies():
    training, held_out = features(500), features(300, seed=1)
    fresh = features(300, seed=2)
    assert neighbours.memorization(training, held_out, fresh).share < 0.05
    copied = np.concatenate([fresh[:200], training[10:110] + 1e-4])
    found = neighbours.memorization(training, held_out, copied)
    assert found.share == pytest.approx(1 / 3, abs=0.05)
    assert set(found.generated[:100]) == set(range(200, 300))
    np.testing.assert_array_equal(found.training[:100] - 10, found.generated[:100] - 200)


def test_neighbours_need_more_images_than_they_are():
    with pytest.raises(UsageError, match="need more than 5 images"):
        neighbours.density_and_coverage(features(5), features(30))


# -- classes -----------------------------------------------------------------------------------------------------------


def test_inception_score_of_sure_answers_is_the_number_of_classes():
    sure = 50.0 * np.eye(4)[np.arange(400) % 4]
    assert classes.inception_score(sure)[0] == pytest.approx(4.0, rel=1e-6)
    assert classes.inception_score(np.zeros((400, 4)))[0] == pytest.approx(1.0)


def test_inception_score_by_hand():
    # Half of the images (3/4, 1/4), half (1/4, 3/4): p(y) is even, and the KL of each ln 2 - H(1/4).
    logits = np.log(np.array([[3.0, 1.0], [1.0, 3.0]]))[np.arange(20) % 2]
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert classes.inception_score(logits, splits=2) == (pytest.approx(math.exp(kl)), pytest.approx(0.0, abs=1e-12))


def test_class_balance_by_hand():
    real = np.array([0, 0, 1, 1])
    found = classes.balance(np.array([0, 0, 0, 1]), real, 2)
    assert found["smallest_class"] == pytest.approx(0.5)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert found["class_entropy"] == pytest.approx(entropy)
    count, kl = classes.captured(np.array([0, 0, 0, 1]), real, 2)
    assert count == 2 and kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


# -- reconstructions ---------------------------------------------------------------------------------------------------


def test_reconstruction_figures():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 12, 1)).astype(np.float32)
    same = reconstruction_figures(images, images)
    assert same["mse"] == 0.0 and same["ssim"] == pytest.approx(1.0)
    # Off by 0.2 in [-1, 1] is off by 0.1 in [0, 1]: 20 dB.
    off = reconstruction_figures(images, images - 0.2)
    assert off["mse"] == pytest.approx(0.01, rel=1e-4) and off["psnr"] == pytest.approx(20.0, abs=1e-2)
    assert off["ssim"] < 1.0
    assert np.isfinite(reconstruction_figures(tf.zeros([2, 8, 8, 3]).numpy(), np.zeros((2, 8, 8, 3)))["ssim"])
