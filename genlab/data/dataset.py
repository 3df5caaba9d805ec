"""Training and held-out images, and the endless, seekable stream of batches that training reads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypedDict

import numpy as np

from genlab.backend import Stream, Tensor, tf
from genlab.console import one_line
from genlab.data.records import Records
from genlab.data.spec import DataSpec
from genlab.errors import UsageError, listed

Images = np.ndarray | Records
"""Images in memory, or on disk and read on demand."""
Part = tuple[Images, np.ndarray | None]
"""Images and their labels."""
Batch: TypeAlias = tuple[Tensor, Tensor]
"""A batch of the stream: images uint8 [B, H, W, C], later float32 in [-1, 1], and labels int32 [B]."""
FIELDS = {"train": ("images", "labels")} | {
    split: (f"{split}_images", f"{split}_labels") for split in ("validation", "test")
}
"""Attributes of a Dataset with the images and labels of each split."""


class Facts(TypedDict):
    """Facts about the data of a run, as config.json stores them."""

    name: str
    source: str
    shape: list[int]
    num_classes: int
    class_names: list[str]
    train_images: int
    test_images: int
    validation_images: int
    split: dict[str, Any]
    skipped: list[str]
    sha256: str


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training images and held-out images, with labels."""

    name: str
    """Short name, part of the run's name: one line of text that can be printed."""
    source: str
    """Value of `--data` that loads it again; empty for arrays passed by a program."""
    images: Images
    """uint8 [N, H, W, C], or vectors, float32 [N, D]."""
    labels: np.ndarray | None = None
    """int32 [N] in 0..num_classes-1, or None."""
    test_images: Images | None = None
    """Held-out images, like `images`; None if the source has none."""
    test_labels: np.ndarray | None = None
    """Labels of the held-out images."""
    validation_images: Images | None = None
    """Validation set, for decisions during training such as the best checkpoint."""
    validation_labels: np.ndarray | None = None
    """Labels of the validation set."""
    class_names: tuple[str, ...] = ()
    """One name per class, each one line of text that can be printed; empty without labels."""
    modes: np.ndarray | None = None
    """Centres [K, 2] of the Gaussians that vectors were drawn from, if known."""
    deviation: float = 0.0
    """Standard deviation of those Gaussians."""
    balance: str = "none"
    """How `stream` balances classes: none, oversample, weight."""
    split: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Shares, seed and hash of the indices, if genlab made the split."""
    skipped: tuple[str, ...] = ()
    """Unreadable files that were skipped."""

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise UsageError(f"{self.name}: there are no images in it.")
        # Names of folders and labels of strangers may hold anything; everything after this may write them anywhere.
        shown = tuple(map(one_line, (self.name, *self.class_names)))
        object.__setattr__(self, "name", shown[0])
        object.__setattr__(self, "class_names", shown[1:])

    def parts(self) -> dict[str, Part]:
        """Return images and labels of the existing splits: train, validation, test."""
        found = {split: (getattr(self, images), getattr(self, labels)) for split, (images, labels) in FIELDS.items()}
        return {split: part for split, part in found.items() if part[0] is not None}

    def with_parts(self, parts: dict[str, Part], **changes: Any) -> Dataset:
        """Return a copy with other images and labels; splits that are not named are dropped."""
        for split, names in FIELDS.items():
            changes |= dict(zip(names, parts.get(split, (None, None)), strict=True))
        return dataclasses.replace(self, **changes)

    @property
    def spec(self) -> DataSpec:
        return DataSpec(tuple(self.images.shape[1:]), len(self.class_names))

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of everything a run depends on: training and held-out images and labels, in order.

        For images that stay on disk, it covers the names and sizes of the files, not their content.
        """
        digest = hashlib.sha256()
        parts = self.parts()
        for array in [array for split in ("train", "test", "validation") for array in parts.get(split, ())]:
            if isinstance(array, Records):
                digest.update(array.sha256().encode())
            elif array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def examples(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return at most `count` training images of all classes with their labels, the same at each call."""
        return _drawn(self.images, self.labels, count)

    def example_batches(self, count: int, size: int = 500) -> Iterator[np.ndarray]:
        """Yield the images of `examples` in batches [at most size, H, W, C]."""
        rows = _rows(len(self.images), count)
        for start in range(0, len(rows), size):
            yield self.images[rows[start : start + size]]

    def held_out(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Like `examples`, from the validation set, else the test images, else the training images."""
        part = self.parts().get("validation")
        return self.tested(count) if part is None else _drawn(*part, count)

    def tested(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Like `examples`, from the test images, else the training images."""
        part = self.parts().get("test")
        return self.examples(count) if part is None else _drawn(*part, count)

    def class_counts(self, most: int = 12) -> str:
        """Describe the number of training images per class: `0: 143, 1: 146, ...`."""
        assert self.labels is not None
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        named = [f"{name}: {count:,}" for name, count in zip(self.class_names, counts, strict=True)]
        if len(named) > most:
            return f"{len(named):,}, with {counts.min():,} to {counts.max():,} images each"
        return listed(named, most)

    def facts(self) -> Facts:
        """Return the facts about the data that config.json stores."""
        return {
            "name": self.name,
            "source": self.source,
            "shape": list(self.spec.shape),
            "num_classes": self.spec.num_classes,
            "class_names": list(self.class_names),
            "train_images": len(self.images),
            "test_images": 0 if self.test_images is None else len(self.test_images),
            "validation_images": 0 if self.validation_images is None else len(self.validation_images),
            "split": self.split,
            "skipped": list(self.skipped),
            "sha256": self.sha256,
        }

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Stream:
        """Return an endless tf.data.Dataset of (images uint8 [B, H, W, C], labels int32 [B]), from batch number `start`.

        Every epoch shuffles all images. The order depends only on the seed and the number of the epoch; images on disk are
        read by index. A batch may span two epochs, so all batches have the same size and no image is skipped. Labels are
        zeros if there are none.

        With `balance` `oversample`, an epoch repeats images of smaller classes, each as often as the others of its class or
        once more. With `weight`, it has as many images as the data, drawn with replacement.
        """
        first, position = divmod(start * batch_size, self.epoch_size)

        def order(epoch: Tensor) -> Tensor:
            rows = self._order(tf.stack([tf.constant(seed, tf.int64), epoch]))
            return rows[tf.where(epoch == first, position, 0) :]

        # Whole epochs are cut into batches: passing single rows took longer than everything else here.
        # Endless in effect. Dataset.counter would leave a function in TensorFlow's global graph with every stream.
        epochs = tf.data.Dataset.range(first, tf.int64.max)
        rows = epochs.map(order).rebatch(batch_size, drop_remainder=True)
        options = tf.data.Options()
        options.autotune.enabled = False  # nothing to tune here, and its thread can hang the interpreter's exit
        options.experimental_optimization.apply_default_optimizations = False  # they copy all images twice
        return rows.map(self._gathering()).prefetch(4).with_options(options)

    @property
    def epoch_size(self) -> int:
        """Number of images in an epoch of the stream."""
        if self.balance != "oversample":
            return len(self.images)
        counts = np.bincount(self._class_of)
        return int(counts.max() * len(counts[counts > 0]))

    @functools.cached_property
    def _class_of(self) -> np.ndarray:
        assert self.labels is not None
        return np.unique(self.labels, return_inverse=True)[1]

    def _order(self, seeds: Tensor) -> Tensor:
        """Return the rows of one epoch, [epoch_size] int32."""
        count = len(self.images)
        shuffle = tf.random.experimental.stateless_shuffle
        if self.balance == "none":
            return shuffle(tf.range(count), seeds)
        by_class = [
            np.flatnonzero(self._class_of == index).astype(np.int32) for index in range(self._class_of.max() + 1)
        ]
        if self.balance == "oversample":
            largest = max(map(len, by_class))
            parts = []
            for index, rows in enumerate(by_class):
                mixed = shuffle(tf.constant(rows), seeds + tf.constant([0, index << 32], tf.int64))
                parts.append(tf.tile(mixed, [-(-largest // len(rows))])[:largest])
            return shuffle(tf.concat(parts, 0), seeds)
        rows = tf.constant(np.concatenate(by_class))
        sizes = tf.constant([len(part) for part in by_class])
        picked = tf.random.stateless_uniform([2, count], seeds, dtype=tf.float64)
        chosen = tf.cast(picked[0] * len(by_class), tf.int32)
        size = tf.gather(sizes, chosen)
        within = tf.cast(picked[1] * tf.cast(size, tf.float64), tf.int32)
        return tf.gather(rows, tf.gather(tf.cumsum(sizes, exclusive=True), chosen) + within)

    def _gathering(self) -> Callable[[Tensor], Batch]:
        """Return a function of rows [B] that returns their images and labels."""
        count = len(self.images)
        labels = tf.constant(np.zeros(count, np.int32) if self.labels is None else self.labels)
        if isinstance(self.images, np.ndarray):
            images = tf.constant(self.images)  # captured, not embedded in the graph as a numpy array would be
            return lambda rows: (tf.gather(images, rows), tf.gather(labels, rows))
        records = self.images

        def read(rows: Tensor) -> Batch:
            images = tf.numpy_function(records.__getitem__, [rows], tf.uint8, stateful=False)
            return tf.ensure_shape(images, (rows.shape[0], *records.shape[1:])), tf.gather(labels, rows)

        return read


def _rows(total: int, count: int) -> np.ndarray:
    # Shuffled, since sources may be sorted by class.
    return np.random.default_rng(0).permutation(total)[:count]


def _drawn(images: Images, labels: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    rows = _rows(len(images), count)
    return images[rows], None if labels is None else labels[rows]
