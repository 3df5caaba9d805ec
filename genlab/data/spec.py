"""What a model needs to know of its data, and pixel ranges: uint8 on disk and in the stream, [-1, 1] in a model."""

from __future__ import annotations

import dataclasses

import numpy as np

from genlab.backend import Tensor, tf


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a model needs to know of its data."""

    shape: tuple[int, ...]
    """(height, width, channels) of images, in pixels; (size,) of vectors."""
    num_classes: int = 0
    """Number of classes of the labels; 0: no labels."""
    partly_labelled: bool = False
    """Whether some training images have no label."""

    @property
    def is_image(self) -> bool:
        """Whether the data are images; else they are vectors, such as points in the plane."""
        return len(self.shape) == 3

    @property
    def in_colour(self) -> bool:
        """Whether the data are images of more than one channel."""
        return self.is_image and self.shape[-1] > 1

    @property
    def is_square(self) -> bool:
        """Whether the data are images as high as they are wide."""
        return self.is_image and self.shape[0] == self.shape[1]


def to_model_range(images: Tensor) -> Tensor:
    """Convert uint8 [...] to float32 in [-1, 1]. Vectors, which are floats, are not scaled."""
    if images.dtype != np.uint8:
        return tf.cast(images, tf.float32)
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_pixels(images: Tensor) -> np.ndarray:
    """Convert floats [...] in [-1, 1] to uint8, with rounding: the inverse of `to_model_range`."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)
