"""Random changes of images."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, batches, build

import genlab
from genlab import models
from genlab.backend import tf
from genlab.data.spec import DataSpec
from genlab.evaluate import classifier
from genlab.networks import augmentation

SEED = tf.constant([3, 4])


def spots(count=64, size=16):
    """Black images with a white pixel in the middle of each."""
    images = np.full((count, size, size, 1), -1.0, np.float32)
    images[:, size // 2, size // 2] = 1.0
    return images


def brightest(images):
    """Row and column of each image's brightest pixel, [B, 2]."""
    images = np.asarray(images)
    return np.stack(np.unravel_index(images.reshape(len(images), -1).argmax(1), images.shape[1:3]), axis=1)


def test_no_names_no_change():
    images = tf.constant(spots())
    assert augmentation.augmented(images, SEED, ()) is images


def test_flip_mirrors_half_of_the_images():
    images = np.zeros((1000, 8, 9, 3), np.float32)
    images[:, :, :3] = 1.0
    flipped = augmentation.augmented(images, SEED, (), flip=True).numpy()
    mirrored = flipped[:, 0, 0, 0] == 0
    assert 0.45 < mirrored.mean() < 0.55
    np.testing.assert_array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(flipped[~mirrored], images[~mirrored])


def test_shift_moves_by_up_to_an_eighth_either_way():
    moved = brightest(augmentation.augmented(spots(400), SEED, ("shift",))) - 8
    assert moved.min() == -2 and moved.max() == 2
    assert abs(moved.mean()) < 0.2 and abs(np.corrcoef(moved.T)[0, 1]) < 0.15


def test_the_digits_extractor_was_trained_on_batches_that_move_as_a_whole():
    """Its weights' hash stands beside stored metrics, so the shift stays what it was."""
    moves = []
    for seed in range(60):
        tf.random.set_seed(seed)
        (own,) = np.unique(brightest(classifier.shifted(spots(5), 2)) - 8, axis=0)  # one move for all
        moves.append(own)
    assert np.min(moves) == -2 and np.max(moves) == 2 and len(np.unique(moves, axis=0)) > 15
    assert "as a whole" in classifier.train.__doc__


def test_rotation_and_zoom_leave_the_middle_in_place_and_agree_with_pillow():
    from PIL import Image

    random = np.random.default_rng(0)
    picture = np.asarray(Image.fromarray(random.uniform(-1, 1, (5, 5)).astype(np.float32)).resize((33, 33)))
    images = np.repeat(picture[None, :, :, None], 200, axis=0)
    turned = augmentation.augmented(images, SEED, ("rotate",)).numpy()
    np.testing.assert_allclose(turned[:, 16, 16, 0], picture[16, 16], atol=1e-4)
    angles = np.linspace(-10, 10, 81)
    inner = np.s_[8:25, 8:25]
    others = np.stack(
        [np.asarray(Image.fromarray(picture).rotate(angle, Image.Resampling.BILINEAR))[inner] for angle in angles]
    )
    errors = np.abs(turned[:, None, 8:25, 8:25, 0] - others[None]).max(axis=(2, 3))
    assert errors.min(axis=1).max() < 0.02  # each is one of Pillow's
    nearest = angles[errors.argmin(axis=1)]
    assert nearest.min() < -9 and nearest.max() > 9
    larger = augmentation.augmented(images, SEED, ("zoom",)).numpy()
    np.testing.assert_allclose(larger[:, 16, 16, 0], picture[16, 16], atol=1e-4)


def test_brightness_and_contrast_stay_in_range():
    images = np.random.default_rng(0).uniform(-1, 1, (300, 8, 8, 3)).astype(np.float32)
    darker = augmentation.augmented(0.5 * images, SEED, ("brightness",)).numpy() - 0.5 * images
    np.testing.assert_allclose(np.ptp(darker, axis=(1, 2, 3)), 0, atol=1e-6)
    assert darker.min() < -0.18 and 0.18 < darker.max() <= 0.2 + 1e-6
    contrast = augmentation.augmented(0.5 * images, SEED, ("contrast",)).numpy().std((1, 2, 3)) / (0.5 * images).std(
        (1, 2, 3)
    )
    assert 0.8 <= contrast.min() < 0.82 and 1.18 < contrast.max() <= 1.2 + 1e-6
    both = augmentation.augmented(images, SEED, ("brightness", "contrast")).numpy()
    assert both.min() == -1 and both.max() == 1


# -- in front of a discriminator ---------------------------------------------------------------------------------------


def test_translation_moves_whole_pixels_and_fills_with_zero():
    images = np.ones((300, 16, 16, 1), np.float32)
    moved = augmentation.differentiable(images, SEED, ("translation",)).numpy()[..., 0]
    rows, columns = (moved.max(axis=axis).sum(axis=1) for axis in (2, 1))
    assert set(np.unique(moved)) == {0, 1} and set(rows) == set(columns) == {14, 15, 16}
    offsets = brightest(augmentation.differentiable(spots(500), SEED, ("translation",))) - 8
    counts = np.bincount(offsets[:, 0] + 2, minlength=5)
    assert counts.sum() == 500 and counts.min() > 70  # -2 to 2, all alike


def test_cutout_sets_a_square_of_half_the_size_to_zero():
    holes = augmentation.differentiable(np.ones((2000, 16, 16, 3), np.float32), SEED, ("cutout",)).numpy() == 0
    sizes = holes[..., 0].sum(axis=(1, 2))
    assert sizes.max() == 64 and sizes.min() == 16  # a corner's quarter, where it reaches over both edges
    rows = holes[..., 0].any(axis=2).mean(axis=0)
    assert rows.min() > 0.25 and rows.max() < 0.6
    np.testing.assert_array_equal(holes[..., 0], holes[..., 2])


def test_colour_by_its_definition():
    images = np.random.default_rng(0).uniform(-1, 1, (500, 6, 6, 3)).astype(np.float32)
    changed = augmentation.differentiable(images, SEED, ("color",)).numpy()
    shift = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))  # brightness: neither of the others moves the mean
    assert -0.5 <= shift.min() < -0.48 and 0.48 < shift.max() <= 0.5
    grey = lambda x: x.mean(axis=3)  # noqa: E731
    contrast = grey(changed).std((1, 2)) / grey(images).std((1, 2))  # saturation leaves the grey of a pixel as it is
    assert 0.5 <= contrast.min() < 0.52 and 1.48 < contrast.max() <= 1.5 + 1e-4
    colour = lambda x: (x - x.mean(axis=3, keepdims=True)).std((1, 2, 3))  # noqa: E731
    saturation = colour(changed) / colour(images) / contrast
    assert saturation.min() < 0.05 and 1.95 < saturation.max() <= 2.001


def test_with_a_probability_each_image_is_changed_or_left():
    images = np.random.default_rng(0).uniform(-1, 1, (2000, 8, 8, 1)).astype(np.float32)
    whole = augmentation.differentiable(images, SEED, ("color",)).numpy()
    changed = augmentation.differentiable(images, SEED, ("color",), tf.constant(0.3)).numpy()
    left = np.array([np.array_equal(image, old) for image, old in zip(changed, images, strict=True)])
    assert 0.67 < left.mean() < 0.73  # four standard deviations of 2,000 draws are 0.04
    np.testing.assert_array_equal(changed[~left], whole[~left])
    for probability, expected in ((0.0, images), (1.0, whole)):
        found = augmentation.differentiable(images, SEED, ("color",), tf.constant(probability))
        np.testing.assert_array_equal(found, expected)


def test_each_change_is_drawn_on_its_own():
    images = np.ones((4000, 8, 8, 1), np.float32)
    changed = augmentation.differentiable(images, SEED, ("color", "cutout"), tf.constant(0.5)).numpy()
    with_hole, coloured = (changed == 0).any((1, 2, 3)), changed.max((1, 2, 3)) != 1
    assert 0.22 < (with_hole & coloured).mean() < 0.28


@pytest.mark.parametrize("name", ["color", "translation", "cutout"])
def test_first_and_second_gradients_pass(name):
    images = tf.random.stateless_normal([4, 8, 8, 3], SEED)
    with tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as inner:
            inner.watch(images)
            total = tf.reduce_sum(augmentation.differentiable(images, SEED, (name,)) ** 3)
        first = inner.gradient(total, images)
        penalty = tf.reduce_sum(first**2)
    second = outer.gradient(penalty, images)
    assert np.abs(first).max() > 0 and np.abs(second).max() > 0
    # Against differences of the same function.
    step = 1e-3 * tf.random.stateless_normal(images.shape, [1, 2])
    change = [tf.reduce_sum(augmentation.differentiable(images + sign * step, SEED, (name,)) ** 3) for sign in (1, -1)]
    assert float(change[0] - change[1]) == pytest.approx(2 * float(tf.reduce_sum(first * step)), rel=0.02, abs=1e-3)


@pytest.mark.parametrize("name", ["dcgan", "wgan", "cgan"])
def test_models_train_with_both(name, small_images, monkeypatch):
    seen = []
    for kind in ("augmented", "differentiable"):
        change = getattr(augmentation, kind)
        monkeypatch.setattr(
            augmentation,
            kind,
            lambda images, *given, kind=kind, change=change: seen.append((kind, *given[1:])) or change(images, *given),
        )
    settings = {"augment": ("shift",), "flip": True, "differentiable_augmentation": ("color", "translation", "cutout")}
    settings["augmentation_target"] = 0.0
    run = genlab.fit(name, *small_images, steps=3, **TINY | settings)
    assert run.step == 3 and run.config.data_options.flip
    assert {("augmented", ("shift",), True), ("differentiable", ("color", "translation", "cutout"), 1.0)} <= set(seen)


def test_points_take_neither():
    with pytest.raises(genlab.UsageError, match="--flip is for images"):
        genlab.fit("gan", "ring", steps=1, flip=True)
    with pytest.raises(genlab.UsageError, match="--differentiable-augmentation is for images"):
        genlab.fit("gan", "ring", steps=1, differentiable_augmentation=("color",))


@pytest.mark.parametrize(("images", "expected"), [(20_000, ("translation",)), (20_001, ())])
def test_few_images_are_augmented_by_default(images, expected):
    kind = models.load("dcgan").Hparams
    spec = DataSpec((28, 28, 1), 10)
    assert kind().for_data(spec, images).differentiable_augmentation == expected
    assert kind().for_data(DataSpec((2,), 8), images).differentiable_augmentation == ()
    chosen = kind(differentiable_augmentation=("color",), schedule="linear")
    assert chosen.for_data(spec, images) == chosen.for_spec(spec)
    assert chosen.for_spec(spec).differentiable_augmentation == ("color",)


def test_a_run_that_starts_from_another_looks_at_its_own_data():
    ancestor = genlab.fit("dcgan", steps=1, limit=40, **TINY)
    assert ancestor.config.hparams.differentiable_augmentation == ()
    run = genlab.fit("dcgan", from_run=ancestor.name, steps=1, limit=40)
    assert run.config.hparams.differentiable_augmentation == ("translation",)


# -- adaptive ----------------------------------------------------------------------------------------------------------


def adaptive(**changes):
    return build("dcgan", differentiable_augmentation=("translation",), augmentation_target=0.5, **changes)


def test_the_probability_follows_the_share_of_training_images_found_real():
    model = adaptive(batch_size=1500)
    probability = model.augmentation_probability
    after = lambda overfitting: float(model.adapt_augmentation(probability, tf.constant(overfitting)))  # noqa: E731
    assert after(1.0) == pytest.approx(0.01) and after(0.5) == pytest.approx(0.01)  # at the target
    assert after(-1.0) == 0 and after(-1.0) == 0  # not below
    for _ in range(101):
        last = after(0.51)
    assert last == float(probability.numpy()) == 1


def test_overfitting_is_the_mean_sign_of_the_logits():
    model = adaptive(r1_penalty=0.0)
    model.judge = lambda images, labels, seed=None: (tf.constant([[1.0], [2.0], [3.0], [-0.1]]), None)
    images, labels = batches(model)[0]
    _, _, metrics = model.discriminator_objective(images, images, labels, tf.constant(SEED))
    assert float(metrics["overfitting"]) == 0.5


def test_training_logs_and_stores_the_probability(small_images):
    settings = TINY | {"differentiable_augmentation": ("translation",), "augmentation_target": 0.01, "log_every": 1}
    run = genlab.fit("dcgan", *small_images, steps=4, **settings)
    logged = run.metrics("augmentation")
    assert all(-1 <= line["overfitting"] <= 1 for line in logged) and len(logged) == 4
    stored = genlab.load(run.path).model.augmentation_probability
    assert (
        float(stored.numpy()) == pytest.approx(logged[-1]["augmentation"], rel=1e-3)
        and "augmentation_probability" in run.model.state()
    )


def test_a_discriminator_that_knows_every_image_is_warned_of():
    model = adaptive()
    metrics = {"discriminator_loss": 1.0, "generator_loss": 1.0, "overfitting": 0.95}
    assert not model.warnings(metrics | {"augmentation": 0.9})
    assert "by heart" in model.warnings(metrics | {"augmentation": 1.0})["overfitting"]


def test_a_critic_has_no_such_sign():
    with pytest.raises(ValueError, match="the sign of a critic means nothing"):
        build("wgan", augmentation_target=0.5)
