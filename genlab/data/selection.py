"""Select images of a data set by class, limit and split."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import numpy as np

from genlab.data.dataset import FIELDS, Dataset, Part
from genlab.data.options import DataOptions
from genlab.data.records import Records
from genlab.errors import UsageError, closest, listed


def select(dataset: Dataset, options: DataOptions) -> Dataset:
    """Apply the options for classes, split, limit and balance. Raises UsageError if they do not fit the data."""
    if options.classes:
        dataset = of_classes(dataset, options.classes)
    if options.shares is not None:
        dataset = split(dataset, options.shares, options.split_seed)
    if options.limit is not None:
        rows = np.sort(stratified_order(len(dataset.images), dataset.labels, options.split_seed)[: options.limit])
        parts = dataset.parts()
        dataset = dataset.with_parts(parts | {"train": part_of(parts["train"], rows)})
    if options.balance != "none":
        if dataset.labels is None:
            raise UsageError(f"--balance {options.balance} needs labels, and {dataset.name} has none.")
        dataset = dataclasses.replace(dataset, balance=options.balance)
    return dataset


def part_of(part: Part, rows: np.ndarray) -> Part:
    """Return some rows of images and labels, without reading images on disk."""
    images, labels = part
    chosen = images.take(rows) if isinstance(images, Records) else images[rows]
    return chosen, None if labels is None else labels[rows]


def class_numbers(dataset: Dataset, text: str, flag: str = "--classes") -> list[int]:
    """Return the numbers of classes given by name or number like `3,7`, in order. Raises UsageError, about `flag`, for others."""
    names = dataset.class_names
    if not names:
        raise UsageError(f"{flag} {listed([text])}: {dataset.name} has no labels.")
    chosen = set()
    for word in (word.strip() for word in text.split(",")):
        if word in names:
            chosen.add(names.index(word))
        elif re.fullmatch("[0-9]{1,9}", word) and int(word) < len(names):
            chosen.add(int(word))
        else:
            raise UsageError(
                f"{flag} {listed([text])}: the classes of {dataset.name} are {listed(names)}{closest(word, names)}"
            )
    return sorted(chosen)


def of_classes(dataset: Dataset, text: str) -> Dataset:
    """Return the images of some classes, given by name or number like `3,7`, renumbered in their original order."""
    names, chosen = dataset.class_names, class_numbers(dataset, text)
    numbers = np.full(len(names), -1, np.int32)
    numbers[chosen] = np.arange(len(chosen))

    parts: dict[str, Part] = {}
    for split, (images, labels) in dataset.parts().items():
        if labels is None:
            raise UsageError(f"--classes {listed([text])}: the images for {split} have no labels.")
        parts[split] = part_of((images, numbers[labels]), np.flatnonzero(numbers[labels] >= 0))
    return dataset.with_parts(
        parts,
        class_names=tuple(names[index] for index in chosen),
        modes=None if dataset.modes is None else dataset.modes[chosen],
    )


def split(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> Dataset:
    """Split the training images into training, validation and test, stratified by class.

    Raises UsageError if the source has its own split, or a part would be empty.
    """
    if dataset.test_images is not None:
        raise UsageError(f"--split: {dataset.name} has held-out images of its own. Leave it out.")
    count = len(dataset.images)
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    order = stratified_order(count, dataset.labels, seed)
    rows_by_split = dict(
        zip(FIELDS, map(np.sort, np.split(order, ends[:2])), strict=True)
    )  # the source's order is kept
    parts: dict[str, Part] = {}
    digest = hashlib.sha256()
    for (name, rows), share in zip(rows_by_split.items(), shares, strict=True):
        if share and not len(rows):
            raise UsageError(
                f"--split: {count:,} images are too few for shares of {'/'.join(f'{share:g}' for share in shares)}."
            )
        digest.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
        if share:
            parts[name] = part_of((dataset.images, dataset.labels), rows)
    made = {"shares": list(shares), "seed": seed, "indices_sha256": digest.hexdigest()}
    return dataset.with_parts(parts, split=made)


def stratified_order(count: int, labels: np.ndarray | None, seed: int) -> np.ndarray:
    """Return a shuffled order of the rows, in which every prefix has (nearly) the class proportions of the whole."""
    order = np.random.default_rng(seed).permutation(count)
    if labels is None:
        return order
    place = np.empty(count)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return order[np.argsort(place[order], kind="stable")]
