"""Training and held-out images, and the endless, seekable stream of batches that training reads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict

import numpy as np

from genlab.backend import Stream, Tensor, tf
from genlab.console import one_line
from genlab.data.labels import UNLABELLED
from genlab.data.records import Records
from genlab.data.spec import DataSpec
from genlab.errors import UsageError, listed

Images = np.ndarray | Records
"""Images in memory, or on disk and read on demand."""
Part = tuple[Images, np.ndarray | None]
"""Images and their labels, which may be UNLABELLED."""
Batch: TypeAlias = tuple[Tensor, Tensor]
"""A batch of the stream: images uint8 [B, H, W, C], later float32 in [-1, 1], and labels int32 [B]."""
LABELLED_SEEDS = 2**31
"""Added to the seed of a training for the order of its labelled images: no training has as large a seed."""
FIELDS = {"train": ("images", "labels")} | {
    split: (f"{split}_images", f"{split}_labels") for split in ("validation", "test")
}
"""Attributes of a Dataset with the images and labels of each split."""


def part_of(part: Part, rows: np.ndarray) -> Part:
    """Return some rows of images and labels, without reading images on disk."""
    images, labels = part
    chosen = images.take(rows) if isinstance(images, Records) else images[rows]
    return chosen, None if labels is None else labels[rows]


class Facts(TypedDict):
    """Facts about the data of a run, as config.json stores them."""

    name: str
    source: str
    shape: list[int]
    num_classes: int
    class_names: list[str]
    train_images: int
    labelled_images: NotRequired[int]
    """Training images with a label; early versions lack it, and have all or none."""
    test_images: int
    validation_images: int
    split: dict[str, Any]
    skipped: list[str]
    sha256: str


def spec_of(facts: Facts) -> DataSpec:
    """Return what a model needs to know of the data of these facts."""
    labelled = facts.get("labelled_images", facts["train_images"])
    partly = facts["num_classes"] > 0 and labelled < facts["train_images"]
    return DataSpec(tuple(facts["shape"]), facts["num_classes"], partly)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training images and held-out images, with labels: all of a split, some (`partial_labels`), or none."""

    name: str
    """Short name, part of the run's name: one line of text that can be printed."""
    source: str
    """Value of `--data` that loads it again; empty for arrays passed by a program."""
    images: Images
    """uint8 [N, H, W, C], or vectors, float32 [N, D]."""
    labels: np.ndarray | None = None
    """int32 [N] in 0..num_classes-1; None unless every image has one."""
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
    partial_labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Labels of the splits of which some images have none, by split: int32 [N], UNLABELLED for these. They are kept apart, so
    that whatever needs a label for every image finds none."""
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
        """Return images and labels, which may be UNLABELLED, of the existing splits: train, validation, test."""
        found = {split: (getattr(self, images), getattr(self, labels)) for split, (images, labels) in FIELDS.items()}
        return {
            split: (images, self.partial_labels.get(split) if labels is None else labels)
            for split, (images, labels) in found.items()
            if images is not None
        }

    def with_parts(self, parts: dict[str, Part], **changes: Any) -> Dataset:
        """Return a copy with other images and labels, which may be UNLABELLED; splits that are not named are dropped."""
        partial = {}
        for split, names in FIELDS.items():
            images, labels = parts.get(split, (None, None))
            if labels is not None and (labels == UNLABELLED).any():
                partial[split], labels = labels, None
            changes |= dict(zip(names, (images, labels), strict=True))
        return dataclasses.replace(self, partial_labels=partial, **changes)

    def labelled_part(self) -> Dataset:
        """Return the data without the images, of every split, that have no label.

        Raises UsageError if no training image has one.
        """
        parts: dict[str, Part] = {}
        for split, (images, labels) in self.parts().items():
            rows = np.flatnonzero(np.zeros(0) if labels is None else labels != UNLABELLED)
            if len(rows):
                parts[split] = (images, labels) if len(rows) == len(images) else part_of((images, labels), rows)
        if "train" not in parts:
            raise UsageError(f"{self.name}: no training image has a label.")
        return self.with_parts(parts)

    @property
    def spec(self) -> DataSpec:
        return DataSpec(tuple(self.images.shape[1:]), len(self.class_names), "train" in self.partial_labels)

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
        if self.validation_images is None:
            return self.tested(count)
        return _drawn(self.validation_images, self.validation_labels, count)

    def tested(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Like `examples`, from the test images, else the training images."""
        if self.test_images is None:
            return self.examples(count)
        return _drawn(self.test_images, self.test_labels, count)

    def class_counts(self, most: int = 12) -> str:
        """Describe the number of labelled training images per class: `0: 143, 1: 146, ...`; and how many have no label."""
        counts = self.images_by_class
        named = [f"{name}: {count:,}" for name, count in zip(self.class_names, counts, strict=True)]
        if len(named) > most:
            text = f"{len(named):,}, with {counts.min():,} to {counts.max():,} images each"
        else:
            text = listed(named, most)
        others = len(self.images) - counts.sum()
        return f"{text}; {others:,} without a label" if others else text

    @property
    def images_by_class(self) -> np.ndarray:
        """Number of labelled training images of each class, [num_classes]."""
        labels = self.parts()["train"][1]
        known = np.zeros(0, np.int32) if labels is None else labels[labels != UNLABELLED]
        return np.bincount(known, minlength=len(self.class_names))

    def facts(self) -> Facts:
        """Return the facts about the data that config.json stores."""
        return {
            "name": self.name,
            "source": self.source,
            "shape": list(self.spec.shape),
            "num_classes": self.spec.num_classes,
            "class_names": list(self.class_names),
            "train_images": len(self.images),
            "labelled_images": int(self.images_by_class.sum()),
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
        return rows.map(self._gathering()).prefetch(4).with_options(_options())

    def labelled_stream(self, batch_size: int, seed: int, start: int = 0) -> Stream:
        """Return a stream like `stream` of the labelled training images alone, in an order of its own.

        Raises UsageError if no image has a label.
        """
        return self.labelled_part().stream(batch_size, seed + LABELLED_SEEDS, start)

    def step_stream(self, batch_size: int, seed: int, counts: tuple[int, int], start: int = 0) -> Stream:
        """Return the stream of the batches of training steps, from step number `start`.

        A step has `counts` batches: first of `stream`, then of `labelled_stream`.
        """
        every, labelled = counts
        if not labelled:
            return self.stream(batch_size, seed, start * every)
        parts = [
            self.stream(batch_size, seed, start * every),
            self.labelled_stream(batch_size, seed, start * labelled),
        ]
        of_step = tf.data.Dataset.from_tensor_slices(tf.constant([0] * every + [1] * labelled, tf.int64))
        return tf.data.Dataset.choose_from_datasets(parts, of_step.repeat()).prefetch(4).with_options(_options())

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


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune here, and its thread can hang the interpreter's exit
    options.experimental_optimization.apply_default_optimizations = False  # they copy all images twice
    return options


def _rows(total: int, count: int) -> np.ndarray:
    # Shuffled, since sources may be sorted by class.
    return np.random.default_rng(0).permutation(total)[:count]


def _drawn(images: Images, labels: np.ndarray | None, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    rows = _rows(len(images), count)
    return images[rows], None if labels is None else labels[rows]
