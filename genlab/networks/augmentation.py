"""Random changes of images: of the training data, and differentiable ones in front of a discriminator.

All take images [B, H, W, C] float32 in [-1, 1] and an int32 seed pair, and are functions of these alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from genlab.backend import tf
from genlab.networks import replicas

SHIFT = 1 / 8
"""How far images are moved either way, at most, as a share of their height and width."""
ANGLE = math.radians(10)
"""How far they are turned either way, at most."""
ZOOM = 0.1
"""By how much they are made larger or smaller, at most."""
TONE = 0.2
"""By how much brightness (in half the range of values) and contrast are changed, at most."""


def augmented(images, seed, names: Sequence[str], flip: bool = False):
    """Training images, changed a little: `names` of shift, rotate, zoom, brightness, contrast; `flip` mirrors half of them."""
    if not names and not flip:
        return images
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    amounts = iter(tf.unstack(tf.random.stateless_uniform([7, count], seed, -1.0, 1.0, alg="philox")))
    mirror, right, down, turn, larger, brightness, contrast = (next(amounts) for _ in range(7))
    if flip:
        images = tf.where(mirror[:, None, None, None] < 0, images[:, :, ::-1], images)
    if {"shift", "rotate", "zoom"} & set(names):
        right = width * SHIFT * right if "shift" in names else tf.zeros_like(right)
        down = height * SHIFT * down if "shift" in names else tf.zeros_like(down)
        angle = ANGLE * turn if "rotate" in names else tf.zeros_like(turn)
        scale = 1.0 / (1.0 + ZOOM * larger) if "zoom" in names else tf.ones_like(larger)
        # From where in the image each pixel is taken: turned and scaled about the middle, then moved.
        cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        zeros = tf.zeros_like(right)
        rows = [
            *(cosine, -sine, middle_x - cosine * middle_x + sine * middle_y - right),
            *(sine, cosine, middle_y - sine * middle_x - cosine * middle_y - down),
            *(zeros, zeros),
        ]
        images = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack(rows, axis=1),
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",  # what lies outside is as its nearest pixel, whatever the background
        )
    if "contrast" in names:
        mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        images = mean + (images - mean) * (1.0 + TONE * contrast[:, None, None, None])
    if "brightness" in names:
        images = images + TONE * brightness[:, None, None, None]
    return tf.clip_by_value(images, -1.0, 1.0)


def differentiable(images, seed, names: Sequence[str]):
    """Images changed in ways that gradients pass, second ones too: `names` of color, translation, cutout.

    Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"
    (https://arxiv.org/abs/2006.10738), section 4, with the strengths of its code: brightness by up to 0.5, saturation
    times up to 2, contrast times 0.5 to 1.5; moved by up to an eighth; a square of half the size set to 0.
    """
    colour_seed, move_seed, hole_seed = tf.unstack(tf.random.split(seed, 3, alg="philox"))
    if "color" in names:
        images = _coloured(images, colour_seed)
    if "translation" in names:
        images = _translated(images, move_seed)
    if "cutout" in names:
        images = _with_hole(images, hole_seed)
    return images


def _coloured(images, seed):
    draws = replicas.own_rows(
        lambda rows: tf.random.stateless_uniform([3, rows, 1, 1, 1], seed, alg="philox"), tf.shape(images)[0], axis=1
    )
    brightness, saturation, contrast = tf.unstack(draws)
    images = images + (brightness - 0.5)
    if images.shape[-1] > 1:
        grey = tf.reduce_mean(images, axis=3, keepdims=True)
        images = grey + (images - grey) * 2.0 * saturation
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translated(images, seed):
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    down_most, right_most = int(height * SHIFT + 0.5), int(width * SHIFT + 0.5)
    down_seed, right_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))

    def starts(most, seed):
        return _places(count, 2 * most + 1, seed)

    padded = tf.pad(images, [[0, 0], [down_most, down_most], [right_most, right_most], [0, 0]])
    moved = tf.gather(padded, starts(down_most, down_seed) + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(moved, starts(right_most, right_seed) + tf.range(width), axis=2, batch_dims=1)


def _places(count, most, seed):
    """An integer from 0 to below `most` for each image, [count, 1]."""
    return replicas.own_rows(
        lambda rows: tf.random.stateless_uniform([rows, 1], seed, 0, most, tf.int32, alg="philox"), count
    )


def _with_hole(images, seed):
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    row_seed, column_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))

    def inside(size, seed):
        """Where the hole is along one axis, [B, size]: its middle is anywhere, so that it may reach over the edge."""
        half = int(size * 0.5 + 0.5)
        start = _places(count, size + 1 - half % 2, seed) - half // 2
        places = tf.range(size)
        return tf.logical_and(places >= start, places < start + half)

    hole = tf.logical_and(inside(height, row_seed)[:, :, None, None], inside(width, column_seed)[:, None, :, None])
    return images * tf.cast(tf.logical_not(hole), images.dtype)
