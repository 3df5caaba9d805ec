"""Metrics of samples against closed forms, worked numbers and a reference package."""

from __future__ import annotations

import math

import numpy as np
import prdc
import pytest
import tensorflow as tf

import genlab
from genlab.errors import UsageError
from genlab.evaluate.metrics import classes, distances, neighbours
from genlab.evaluate.metrics.modes import mode_metrics
from genlab.evaluate.metrics.reconstruction import reconstruction_metrics


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
    first = exactly(np.array([0.5, 1.0, -1.0]), np.diag([1.0, 4.0, 9.0]))
    second = exactly(np.array([1.5, -1.0, -0.5]), np.diag([4.0, 1.0, 16.0]))
    assert distances.frechet_distance(first, second) == pytest.approx(5.25 + 1 + 1 + 1, rel=1e-9)
    assert distances.frechet_distance(0.1 * first, 0.1 * second) == pytest.approx(0.0825, rel=1e-9)
    # One feature, of variance 5/8 and nine times that: 1 + (3 - 1)^2 5/8.
    one = np.linspace(-1, 1, 5)[:, np.newaxis]
    assert distances.frechet_distance(one, 3 * one + 1) == pytest.approx(3.5, rel=1e-9)
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
    assert deviation is None  # two rows leave no subsets to compare
    spreads = [distances.kernel_distance(features(rows), features(9), subsets=5)[1] for rows in (3, 4)]
    assert spreads[0] is None and spreads[1] > 0
    assert distances.kernel_distance(features(9), features(9, seed=1), subsets=1)[1] is None
    with pytest.raises(UsageError, match="at least 2 images"):
        distances.kernel_distance(features(9), features(1))


def test_kernel_distance_is_unbiased_and_sees_a_shift():
    same = [distances.kernel_distance(features(400, seed=2 * s), features(400, seed=2 * s + 1))[0] for s in range(20)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(20) + 1e-3
    assert distances.kernel_distance(features(400), features(400, mean=0.5, seed=1))[0] > 10 * np.std(same)


@pytest.mark.parametrize(
    ("sizes", "shift", "low", "high"),
    [((60, 60), 0.0, 1.0, 1.8), ((60, 60), 0.5, 0.7, 1.3), ((60, 240), 0.5, 0.7, 1.3)],
)
def test_kernel_distance_spread_of_small_sets_is_about_the_standard_error(sizes, shift, low, high):
    """Compared with the deviation over many independent pairs of sets of that size."""
    found = []
    for seed in range(120):
        first, second = features(sizes[0], seed=2 * seed), features(sizes[1], mean=shift, seed=2 * seed + 1)
        found.append(distances.kernel_distance(first, second, subsets=20, seed=seed))
    values, spreads = np.transpose(found)
    assert low < np.mean(spreads) / np.std(values, ddof=1) < high


def test_kernel_distance_spread_of_large_sets_is_over_the_subsets():
    spread = distances.kernel_distance(features(400), features(500, mean=0.5, seed=1), subset_size=60)[1]
    independent = [
        distances.kernel_distance(features(60, seed=2 * s), features(60, mean=0.5, seed=2 * s + 1), subsets=1)[0]
        for s in range(200)
    ]
    assert spread == pytest.approx(np.std(independent), rel=0.3)


# -- neighbours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.7, 0.6), (3.0, 1.5)])
@pytest.mark.parametrize("k", [3, 5])
def test_neighbour_metrics_are_those_of_the_reference_package(mean, scale, k):
    real, generated = features(300), features(250, mean=mean, scale=scale, seed=1)
    expected = prdc.compute_prdc(real, generated, nearest_k=k)
    precision, recall = neighbours.precision_and_recall(real, generated, k)
    density, coverage = neighbours.density_and_coverage(real, generated, k)
    for name, value in (("precision", precision), ("recall", recall), ("density", density), ("coverage", coverage)):
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-9), name


def test_neighbour_metrics_by_hand():
    real, generated = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [6.0]])
    # Each real image is 2 from its nearest. 1 is inside two of their balls; 6 is on the edge of one, which is outside.
    assert neighbours.density_and_coverage(real, generated, k=1) == (1.0, pytest.approx(2 / 3))
    # The generated images are 5 from each other, and no real one is farther than that from the nearer.
    assert neighbours.precision_and_recall(real, generated, k=1) == (0.5, 1.0)


def test_nearest_skips_a_point_itself():
    points = np.array([[0.0], [1.0], [3.0]])
    distances, indices = neighbours.nearest(points, points)
    assert list(distances) == [0, 0, 0] and list(indices) == [0, 1, 2]
    distances, indices = neighbours.nearest(points, points, np.arange(3))
    assert list(distances) == [1, 1, 2] and list(indices) == [1, 0, 1]
    distances, indices = neighbours.nearest(points[:1], points, np.array([0]))
    assert list(distances) == [1] and list(indices) == [1]
    distances, indices = neighbours.nearest(points, points, np.array([-1, 1, -1]))
    assert list(distances) == [0, 1, 0] and list(indices) == [0, 0, 2]


def test_memorization_finds_the_copies():
    training, held_out = features(500), features(300, seed=1)
    fresh = features(300, seed=2)
    assert neighbours.memorization(training, held_out, fresh).share < 0.05
    copied = np.concatenate([fresh[:200], training[10:110] + 1e-4])
    found = neighbours.memorization(training, held_out, copied)
    assert found.share == pytest.approx(1 / 3, abs=0.05)
    assert set(found.generated[:100]) == set(range(200, 300))
    np.testing.assert_array_equal(found.training[:100] - 10, found.generated[:100] - 200)


@pytest.mark.parametrize("count", [40, 80, 300])
@pytest.mark.parametrize("trained_on", [False, True])
def test_memorization_of_a_perfect_generator_is_its_floor(count, trained_on):
    """Over many draws of everything from one distribution; `trained_on`: the real images are training images too."""
    shares, floors = [], []
    for seed in range(120):
        training, fresh = features(400, 3, seed=3 * seed), features(200, 3, seed=3 * seed + 1)
        rows = np.arange(count) if trained_on else None
        real = training[rows] if trained_on else features(count, 3, seed=3 * seed + 2)
        found = neighbours.memorization(training, real, fresh, rows)
        shares.append(found.share)
        floors.append(found.floor)
    error = np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(max(0.01, 1 / (count + 1)), abs=4 * error)
    # The two real images that are nearest to each other tie where they are compared with each other.
    assert 1.0 <= np.mean(floors) / max(0.01, 1 / count) < 1.25


def test_memorization_finds_copies_of_the_real_images_it_was_trained_on():
    training, rows = features(500), np.arange(100, 400)
    copies = training[::2]
    assert neighbours.memorization(training, training[rows], copies, rows).share == 1.0
    # Not all of the training images need be searched: rows are -1 where a real image is not among them.
    searched = training[:250]
    rows = np.where(rows < 250, rows, -1)
    assert neighbours.memorization(searched, training[100:400], searched, rows).share == 1.0


def test_memorization_where_real_images_are_duplicates_of_training_images():
    training, held_out = features(500), features(300, seed=1)
    held_out[:15] = training[:15]  # a twentieth, in as many places
    noise = np.random.default_rng(0).normal(0, 1e-6, (200, 6))  # features of one image differ by rounding
    copied = (training[100:300] + noise).astype(np.float32)
    found = neighbours.memorization(training, held_out, copied)
    assert found.share == 1.0 and found.floor == pytest.approx(0.05)
    assert neighbours.memorization(training, held_out, features(300, seed=2)).share < 0.02
    # Duplicates within the training images, some of them among the real ones.
    training[20:40] = training[:20]
    rows = np.arange(300)
    found = neighbours.memorization(training, training[rows], copied, rows)
    assert found.share == 1.0 and found.floor == pytest.approx(40 / 300)


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

    # Two splits: all images alike, which scores 1, and two sure classes, which score 2.
    sure = 50.0 * np.eye(2)[np.repeat([0, 0, 0, 1], 5)]
    assert classes.inception_score(sure, splits=2) == (pytest.approx(1.5), pytest.approx(0.5))


def test_class_balance_by_hand():
    real = np.array([0, 0, 1, 1])
    found = classes.balance(np.array([0, 0, 0, 1]), real, 2)
    assert found["smallest_class"] == pytest.approx(0.5)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert found["class_entropy"] == pytest.approx(entropy)
    assert classes.balance(np.array([0, 0, 2, 1]), real, 3)["smallest_class"] == pytest.approx(0.5)  # no real 2 to lack
    assert list(classes.class_shares(np.array([], int), 2)) == [0, 0]
    count, kl = classes.captured(np.array([0, 0, 0, 1]), real, 2)
    assert count == 2 and kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_labels_in_the_shares_of_others_by_hand():
    # Shares 1/2, 1/3, 0, 1/6 of 10: 5, 3 1/3, 0 and 1 2/3; the one that is left goes to the largest remainder.
    labels = np.array([0, 1, 0, 3, 1, 0])
    found = classes.in_shares(labels, 4, 10, seed=3)
    assert found.dtype == np.int32 and list(np.bincount(found, minlength=4)) == [5, 3, 0, 2]
    np.testing.assert_array_equal(found, classes.in_shares(labels, 4, 10, seed=3))
    assert not np.array_equal(found, classes.in_shares(labels, 4, 10, seed=4))
    for count in (1, 2, 7, 60, 61):
        counts = np.bincount(classes.in_shares(labels, 4, count, 0), minlength=4)
        assert counts.sum() == count
        assert np.abs(counts - count * np.array([3, 2, 0, 1]) / 6).max() < 1
    # Any part of them is mixed: inception scores are taken of consecutive tenths.
    mixed = classes.in_shares(np.repeat([0, 1], 500), 2, 1000, 0)
    assert all(20 < part.sum() < 80 for part in np.split(mixed, 10))


# -- reconstructions ---------------------------------------------------------------------------------------------------


def test_reconstruction_metrics():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 16, 12, 1)).astype(np.float32)
    same = reconstruction_metrics(images, images)
    assert same == {"mse": 0.0, "psnr": 100.0, "ssim": pytest.approx(1.0)}
    # Off by 0.2 in [-1, 1] is off by 0.1 in [0, 1]: 20 dB.
    off = reconstruction_metrics(images, images - 0.2)
    assert off["mse"] == pytest.approx(0.01, rel=1e-4) and off["psnr"] == pytest.approx(20.0, abs=1e-2)
    assert off["ssim"] < 1.0
    assert np.isfinite(reconstruction_metrics(tf.zeros([2, 8, 8, 3]).numpy(), np.zeros((2, 8, 8, 3)))["ssim"])


def test_ssim_of_one_window_by_hand():
    """Wang et al. 2004, equation 13, with the weights of a Gaussian of 1.5 pixels over a window of 11."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, 11, 11)).astype(np.float32)
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / np.outer(bell, bell).sum()
    x, y = (images + 1) / 2
    mx, my, xx, yy, xy = ((weights * part).sum() for part in (x, y, x * x, y * y, x * y))
    expected = (2 * mx * my + 1e-4) * (2 * (xy - mx * my) + 9e-4)
    expected /= (mx**2 + my**2 + 1e-4) * (xx - mx**2 + yy - my**2 + 9e-4)
    first, second = images[:, np.newaxis, :, :, np.newaxis]
    assert reconstruction_metrics(first, second)["ssim"] == pytest.approx(expected, rel=1e-3)


def test_points_and_their_modes():
    ring, grid = genlab.data.load("ring"), genlab.data.load("grid")
    assert ring.images.shape == (50_000, 2) and len(ring.modes) == 8 and len(grid.modes) == 25
    assert np.linalg.norm(ring.images, axis=1).mean() == pytest.approx(1.0, abs=1e-3)
    real = mode_metrics(grid.images[:2500], grid.modes, grid.deviation)
    # Within three deviations of the centre lies 1 - exp(-9/2) = 98.9% of a plane Gaussian.
    assert real["modes"] == 25 and real["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.006)
    two = np.array([ring.modes[0], ring.modes[0] + 0.02, ring.modes[3] + 0.5])
    # Both good points are of one mode: the divergence from equal shares is log 8.
    expected = {"modes": 1.0, "high_quality": pytest.approx(2 / 3), "modes_kl": pytest.approx(math.log(8))}
    assert mode_metrics(two, ring.modes, ring.deviation) == expected
    assert real["modes_kl"] == pytest.approx(0.0, abs=0.02)
    far = {"modes": 0.0, "high_quality": 0.0, "modes_kl": pytest.approx(math.log(8))}
    assert mode_metrics(two + 9, ring.modes, ring.deviation) == far
