"""The images that are scored: read like those of the run, with their names, and which of them count as strange."""

from __future__ import annotations

import dataclasses

import numpy as np

from genlab import data as sources
from genlab.data import DataOptions, Dataset, Records
from genlab.data.dataset import Images
from genlab.data.selection import class_numbers
from genlab.errors import UsageError
from genlab.run import Run

ON_DISK = 1e-6
"""`--memory` in GiB with which images stay on disk, and keep the names of their files."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Images of one split of a source, or some of them."""

    split: str
    images: Images
    rows: np.ndarray
    """Rows [N] of the images that are scored."""
    labels: np.ndarray | None
    """Classes of these rows, or None."""

    def name(self, index: int) -> str:
        """Return a name by which the user can find an image: that of its file, or its split and row."""
        row = int(self.rows[index])
        return self.images.name(row) if isinstance(self.images, Records) else f"{self.split} {row}"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The images that are scored."""

    name: str
    parts: list[Part]
    class_names: tuple[str, ...]
    kinds: np.ndarray
    """For each image: 1 if it counts as strange, 0 if as normal, -1 if neither."""
    stated: bool
    """Whether the user named the strange classes; else all images count as strange."""

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def names(self) -> list[str]:
        return [part.name(index) for part in self.parts for index in range(len(part.rows))]

    @property
    def labels(self) -> np.ndarray | None:
        """Classes [N], or None."""
        labels = [part.labels for part in self.parts if part.labels is not None]
        return np.concatenate(labels) if len(labels) == len(self.parts) else None

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Return the images of some numbers [N], uint8 [N, H, W, C]."""
        found = np.empty((len(numbers), *self.parts[0].images.shape[1:]), np.uint8)
        start = 0
        for part in self.parts:
            here = (numbers >= start) & (numbers < start + len(part.rows))
            found[here] = part.images[part.rows[numbers[here] - start]]
            start += len(part.rows)
        return found


def load(run: Run, source: str, split: str, limit: int | None, normal: str, strange: str) -> Chosen:
    """Load images to score, prepared like those of the run, but all classes of them.

    Raises UsageError if they have another shape, no such split or classes, or no images.
    """
    options = run.config.data_options
    as_they_are = {
        name: getattr(DataOptions(), name) for name in ("classes", "limit", "split", "balance", "flip", "augment")
    }
    dataset = sources.load(source, options=dataclasses.replace(options, **as_they_are, memory=ON_DISK))
    if list(dataset.spec.shape) != run.config.dataset["shape"]:
        raise UsageError(
            f"{dataset.name} has images of shape {list(dataset.spec.shape)}; {run.name} was trained on "
            f"{run.config.dataset['shape']}. Score images of that size, or train a run with --size."
        )
    parts = dataset.parts()
    wanted = list(parts) if split == "all" else [("test" if "test" in parts else "train") if split == "auto" else split]
    if missing := [name for name in wanted if name not in parts]:
        raise UsageError(f"{dataset.name} has no {missing[0]} images. Use --split {' or '.join(parts)}, or all.")
    numbers = _numbers([len(parts[name][0]) for name in wanted], limit)
    chosen = [
        Part(name, parts[name][0], rows, None if parts[name][1] is None else np.asarray(parts[name][1])[rows])
        for name, rows in zip(wanted, numbers, strict=True)
    ]
    return _with_kinds(dataset, chosen, normal, strange)


def _numbers(counts: list[int], limit: int | None) -> list[np.ndarray]:
    """Return the rows of each split: all, or at most `limit` in total, at random, in order."""
    total = sum(counts)
    if limit is None or limit >= total:
        return [np.arange(count) for count in counts]
    drawn = np.sort(np.random.default_rng(0).permutation(total)[:limit])
    ends = np.cumsum(counts)
    return [
        drawn[(drawn >= end - count) & (drawn < end)] - (end - count) for count, end in zip(counts, ends, strict=True)
    ]


def _with_kinds(dataset: Dataset, parts: list[Part], normal: str, strange: str) -> Chosen:
    total = sum(len(part.rows) for part in parts)
    if not normal and not strange:
        return Chosen(dataset.name, parts, dataset.class_names, np.ones(total, int), False)
    given = {
        flag: class_numbers(dataset, text, flag)
        for flag, text in (("--normal", normal), ("--strange", strange))
        if text
    }
    if both := set(given.get("--normal", ())) & set(given.get("--strange", ())):
        raise UsageError(f"{dataset.class_names[min(both)]} is in both --normal and --strange.")
    every = range(len(dataset.class_names))
    of_kind = {
        1: given.get("--strange", [label for label in every if label not in given.get("--normal", ())]),
        0: given.get("--normal", [label for label in every if label not in given.get("--strange", ())]),
    }
    kinds = np.full(len(dataset.class_names), -1)
    for kind, labels in of_kind.items():
        kinds[labels] = kind
    found = Chosen(dataset.name, parts, dataset.class_names, np.zeros(total, int), True)
    if found.labels is None:
        raise UsageError(f"--normal and --strange: the images of {dataset.name} have no labels.")
    return dataclasses.replace(found, kinds=kinds[found.labels])
