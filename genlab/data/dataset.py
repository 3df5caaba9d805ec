"""Images in memory, and the endless, seekable stream of batches that training reads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

from genlab.backend import tf
from genlab.errors import UsageError
from genlab.models.base import DataSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training images with what is held out from training."""

    name: str
    """Short name, part of the run's name."""
    source: str
    """What `--data` loads it again from; empty for arrays that a program passed."""
    images: np.ndarray
    """uint8 [N, H, W, C], or vectors, float32 [N, D]."""
    labels: np.ndarray | None = None
    """int32 [N] in 0..num_classes-1, or None."""
    test_images: np.ndarray | None = None
    """Held-out images, as `images`; None where the source has none."""
    test_labels: np.ndarray | None = None
    """Labels of the held-out images."""
    class_names: tuple[str, ...] = ()
    """One name a class; empty without labels."""
    modes: np.ndarray | None = None
    """Centres [K, 2] of the Gaussians that the vectors were drawn from, where they are known."""
    deviation: float = 0.0
    """Standard deviation of those Gaussians."""

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise UsageError(f"{self.name}: there are no images in it.")

    @property
    def spec(self) -> DataSpec:
        return DataSpec(tuple(self.images.shape[1:]), len(self.class_names))

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of everything a run depends on: training and held-out images and labels, in order."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.test_images, self.test_labels):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def held_out(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The first `count` held-out images with their labels; of the training images where none are held out."""
        if self.test_images is None:
            return self.images[:count], None if self.labels is None else self.labels[:count]
        return self.test_images[:count], None if self.test_labels is None else self.test_labels[:count]

    def facts(self) -> dict[str, Any]:
        """What config.json keeps of the data."""
        return {
            "name": self.name,
            "source": self.source,
            "shape": list(self.spec.shape),
            "num_classes": self.spec.num_classes,
            "class_names": list(self.class_names),
            "train_images": len(self.images),
            "test_images": 0 if self.test_images is None else len(self.test_images),
            "sha256": self.sha256,
        }

    def stream(self, batch_size: int, seed: int, start: int = 0):
        """An endless tf.data.Dataset of (images uint8 [B, H, W, C], labels int32 [B]), from batch number `start` on.

        Every epoch is a new permutation, a function of the seed and the epoch's number. A batch that reaches the end
        of an epoch goes on into the next one: all batches have the same size, and no image is left out. Labels are
        zeros where there are none.
        """
        count = len(self.images)
        images = tf.constant(self.images)  # captured, not embedded in the graph as a numpy array would be
        labels = tf.constant(np.zeros(count, np.int32) if self.labels is None else self.labels)

        def order(epoch):
            seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
            indices = tf.random.experimental.stateless_shuffle(tf.range(count), seeds)
            return tf.data.Dataset.from_tensor_slices(indices)

        epoch, position = divmod(start * batch_size, count)
        indices = tf.data.Dataset.counter(epoch).flat_map(order).skip(position).batch(batch_size, drop_remainder=True)
        batches = indices.map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows))).prefetch(4)
        options = tf.data.Options()
        options.autotune.enabled = False  # nothing here to tune, and its thread can hang the interpreter's exit
        return batches.with_options(options)


def to_model_range(images):
    """uint8 0..255 -> float32 in [-1, 1]: the one place where it is done. Vectors stay as they are."""
    if images.dtype != np.uint8:
        return tf.cast(images, tf.float32)
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_pixels(images) -> np.ndarray:
    """float [-1, 1] -> uint8 0..255, rounded: the inverse of `to_model_range`."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def from_arrays(images: Any, labels: Any = None, *, name: str = "array", source: str = "") -> Dataset:
    """A Dataset from images [N, H, W] or [N, H, W, C], uint8 or floats that plainly lie in [0, 1] or [-1, 1].

    Labels are integers [N]; their number of classes is the largest plus one. Raises UsageError for another shape,
    type or range.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or not 1 <= images.shape[-1] <= 4:
        raise UsageError(
            f"images have the shape {list(images.shape)}; [N, H, W] or [N, H, W, C] with C from 1 to 4 is needed."
        )
    if min(images.shape[1:3]) < 8:
        raise UsageError(f"images are {images.shape[1]}x{images.shape[2]} pixels; at least 8x8 is needed.")
    if len(images) and images.dtype != np.uint8:
        images = _floats_to_pixels(images)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            raise UsageError(
                f"labels have the shape {list(labels.shape)} and type {labels.dtype}; "
                f"{len(images)} integers from 0 on are needed, one for each image."
            )
        labels = labels.astype(np.int32)
    classes = 0 if labels is None else int(labels.max(initial=0)) + 1
    class_names = tuple(str(index) for index in range(classes))
    return Dataset(name, source, np.ascontiguousarray(images), labels, class_names=class_names)


def _floats_to_pixels(images: np.ndarray) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        raise UsageError(f"images are {images.dtype}; uint8, or floats in [0, 1] or [-1, 1], are needed.")
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < -1.0 or high > 1.0:
        raise UsageError(f"images are floats from {low:g} to {high:g}; a range of [0, 1] or [-1, 1] is needed.")
    return to_pixels(images if low < 0 else images * 2.0 - 1.0)


def from_tf_data(dataset: Any) -> Dataset:
    """A Dataset from a finite tf.data.Dataset of single images or of (image, label) pairs, read into memory."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UsageError("the tf.data.Dataset is endless; take() as many images as should be read.")
    rows = list(dataset.as_numpy_iterator())
    if not rows:
        raise UsageError("the tf.data.Dataset is empty.")
    if isinstance(rows[0], tuple):
        images, labels = (np.stack(column) for column in zip(*rows, strict=True))
        return from_arrays(images, labels, name="tf-data")
    return from_arrays(np.stack(rows), name="tf-data")
