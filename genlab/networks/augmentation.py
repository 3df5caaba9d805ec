"""Random augmentation of images: of training data, and differentiable in front of a discriminator.

All functions take images [B, H, W, C] float32 in [-1, 1] and an int32 seed pair, and depend on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from genlab.backend import Tensor, tf
from genlab.data.options import View
from genlab.networks import replicas

SHIFT = 1 / 8
"""Maximum shift in either direction, as a fraction of height and width."""
ANGLE = math.radians(10)
"""Maximum rotation in either direction, in radians."""
ZOOM = 0.1
"""Maximum relative change of size."""
TONE = 0.2
"""Maximum change of brightness (in units of half the value range) and relative change of contrast."""
TURNS = 4
"""Multiples of 90 degrees by which images are turned."""
AMOUNTS = {"color": 3, "translation": 2, "cutout": 2}
"""Random numbers of each differentiable augmentation, for an image; one more decides whether it is applied."""


def augmented(images: Tensor, seed: Tensor, names: Sequence[View], flip: bool = False) -> Tensor:
    """Return training images with the changes of these names; `flip` mirrors half of them."""
    if not names and not flip:
        return images
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = replicas.own_rows(
        lambda rows: tf.random.stateless_uniform([7, rows], seed, -1.0, 1.0, alg="philox"), count, axis=1
    )
    amounts = iter(tf.unstack(draws))
    mirror, right, down, turn, larger, brightness, contrast = (next(amounts) for _ in range(7))
    if flip:
        images = tf.where(mirror[:, None, None, None] < 0, images[:, :, ::-1], images)
    if {"shift", "rotate", "zoom"} & set(names):
        right = width * SHIFT * right if "shift" in names else tf.zeros_like(right)
        down = height * SHIFT * down if "shift" in names else tf.zeros_like(down)
        angle = ANGLE * turn if "rotate" in names else tf.zeros_like(turn)
        scale = 1.0 / (1.0 + ZOOM * larger) if "zoom" in names else tf.ones_like(larger)
        # The inverse map, from output to input pixels: rotate and scale about the centre, then shift.
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
            fill_mode="NEAREST",  # repeats the edge pixels, which suits any background
        )
    if "contrast" in names:
        mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        images = mean + (images - mean) * (1.0 + TONE * contrast[:, None, None, None])
    if "brightness" in names:
        images = images + TONE * brightness[:, None, None, None]
    return tf.clip_by_value(images, -1.0, 1.0)


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return square images [B, H, H, C] turned by 0, 90, 180, 270, 0, ... degrees, and these multiples of 90 degrees, int32 [B]."""
    turns = tf.range(tf.shape(images)[0]) % TURNS
    across = tf.transpose(images, [0, 2, 1, 3])
    # Turning by 90 degrees is mirroring the transposed image.
    versions = tf.stack([images, across[:, ::-1], images[:, ::-1, ::-1], across[:, :, ::-1]], axis=1)
    return tf.gather(versions, turns, batch_dims=1), turns


def differentiable(images: Tensor, seed: Tensor, names: Sequence[str], probability: Tensor | float = 1.0) -> Tensor:
    """Return augmented images, differentiable to second order. `names`: color, translation, cutout.

    With a probability below 1, each image gets each of them with that probability, independently.

    Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"
    (https://arxiv.org/abs/2006.10738), section 4, with the strengths of its code: brightness +-0.5, saturation x0 to x2,
    contrast x0.5 to x1.5; translation by up to 1/8; a square of half the size set to 0.
    """
    # One draw for everything, since every random operation with a seed makes the step take longer to trace.
    count = sum(AMOUNTS.values()) + len(AMOUNTS)
    draws = replicas.own_rows(
        lambda rows: tf.random.stateless_uniform([count, rows], seed, alg="philox"), tf.shape(images)[0], axis=1
    )
    amounts = tf.unstack(draws)
    for name, change in (("color", _coloured), ("translation", _translated), ("cutout", _with_hole)):
        chance, *own = (amounts.pop() for _ in range(1 + AMOUNTS[name]))
        if name in names:
            changed = change(images, *own)
            always = isinstance(probability, float) and probability == 1.0
            images = changed if always else tf.where(_per_image(chance) < probability, changed, images)
    return images


def _per_image(amounts: Tensor) -> Tensor:
    """Return amounts [B] as [B, 1, 1, 1]."""
    return amounts[:, None, None, None]


def _coloured(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    images = images + (_per_image(brightness) - 0.5)
    if images.shape[-1] > 1:
        grey = tf.reduce_mean(images, axis=3, keepdims=True)
        images = grey + (images - grey) * 2.0 * _per_image(saturation)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + (images - mean) * (_per_image(contrast) + 0.5)


def _translated(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    down_most, right_most = int(height * SHIFT + 0.5), int(width * SHIFT + 0.5)
    padded = tf.pad(images, [[0, 0], [down_most, down_most], [right_most, right_most], [0, 0]])
    rows = _places(down, 2 * down_most + 1) + tf.range(height)  # [B, H]
    columns = _places(right, 2 * right_most + 1) + tf.range(width)  # [B, W]
    # Pixels by number, all images in one list: XLA cannot compile the second derivative of a gather with batch dimensions.
    tall, wide = padded.shape[1], padded.shape[2]
    first = tall * wide * tf.range(count)
    numbers = first[:, None, None] + wide * rows[:, :, None] + columns[:, None, :]
    return tf.gather(tf.reshape(padded, [-1, images.shape[3]]), numbers)


def _places(amounts: Tensor, most: int) -> Tensor:
    """Turn amounts [B] in [0, 1) into integers [B, 1] in [0, most)."""
    return tf.cast(amounts[:, None] * most, tf.int32)


def _with_hole(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[1], images.shape[2]

    def inside(size: int, amounts: Tensor) -> Tensor:
        """Return a mask [B, size] of the hole along one axis. Its centre is anywhere, so it may cross the edge."""
        half = int(size * 0.5 + 0.5)
        start = _places(amounts, size + 1 - half % 2) - half // 2
        places = tf.range(size)
        return tf.logical_and(places >= start, places < start + half)

    hole = tf.logical_and(inside(height, down)[:, :, None, None], inside(width, right)[:, None, :, None])
    return images * tf.cast(tf.logical_not(hole), images.dtype)
