"""Select images of a data set by class, limit and split."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import numpy as np

from genlab.data.dataset import FIELDS, Dataset, Part, part_of
from genlab.data.labels import UNLABELLED
from genlab.data.options import DataOptions
from genlab.errors import UsageError, closest, listed


def select(dataset: Dataset, options: DataOptions) -> Dataset:
    """Apply the options for classes, split, limit and balance. Raises UsageError if they do not fit the data."""
    if options.classes:
        dataset = of_classes(dataset, options.classes)
    if options.shares is not None:
        dataset = split(dataset, options.shares, options.split_seed)
    if options.limit is not None:
        parts = dataset.parts()
        rows = np.sort(stratified_order(len(dataset.images), parts["train"][1], options.split_seed)[: options.limit])
        dataset = dataset.with_parts(parts | {"train": part_of(parts["train"], rows)})
    if options.labelled is not None:
        dataset = with_few_labels(dataset, options.labelled, options.labelled_seed)
    if options.balance != "none":
        if dataset.labels is None:
            lacking = f"{'some images of ' * dataset.spec.partly_labelled}{dataset.name}"
            raise UsageError(f"--balance {options.balance} needs labels, and {lacking} has none.")
        dataset = dataclasses.replace(dataset, balance=options.balance)
    return dataset


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
    """Return the images of some classes, given by name or number like `3,7`, renumbered in their original order.

    Images without a label stay: nobody knows their class.
    """
    names, chosen = dataset.class_names, class_numbers(dataset, text)
    numbers = np.full(len(names), -1, np.int32)
    numbers[chosen] = np.arange(len(chosen))

    parts: dict[str, Part] = {}
    for split, (images, labels) in dataset.parts().items():
        if labels is None:
            raise UsageError(f"--classes {listed([text])}: the images for {split} have no labels.")
        known = labels != UNLABELLED
        parts[split] = part_of(
            (images, np.where(known, numbers[labels], UNLABELLED)), np.flatnonzero(~known | (numbers[labels] >= 0))
        )
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
    count, whole = len(dataset.images), dataset.parts()["train"]
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    order = stratified_order(count, whole[1], seed)
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
            parts[name] = part_of(whole, rows)
    made = {"shares": list(shares), "seed": seed, "indices_sha256": digest.hexdigest()}
    return dataset.with_parts(parts, split=made)


def with_few_labels(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return the data with the labels of `count` training images; those of all others are gone.

    They are random images, equally many of each class: the first come from each class in turn, until it has no more. With the
    same seed, a larger count adds labels to those of a smaller one. Raises UsageError for a count below the number of classes,
    for more labels than there are, and if every image would keep its label.
    """
    labels = dataset.parts()["train"][1]
    if labels is None:
        raise UsageError(f"--labelled {count:,}: {dataset.name} has no labels.")
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[labels[order] != UNLABELLED]
    classes, most = len(dataset.class_names), min(len(order), len(labels) - 1)
    if not classes <= count <= most:
        raise UsageError(
            f"--labelled {count:,}: it must be from {classes:,}, one for each class, to {most:,}: {dataset.name} has "
            f"{len(order):,} labelled training images, and at least one must be left without a label."
        )
    turn = np.empty(len(order), np.int64)
    for label in range(classes):
        of_class = labels[order] == label
        turn[of_class] = np.arange(of_class.sum())
    kept = order[np.argsort(turn, kind="stable")[:count]]
    few = np.full_like(labels, UNLABELLED)
    few[kept] = labels[kept]
    parts = dataset.parts()
    return dataset.with_parts(parts | {"train": (parts["train"][0], few)})


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
