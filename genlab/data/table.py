"""A CSV file of image files and their labels."""

from __future__ import annotations

import csv
import pathlib

import numpy as np

from genlab import files
from genlab.data.dataset import FIELDS, Dataset, Part
from genlab.data.folder import Files
from genlab.data.labels import classes_of
from genlab.data.records import Records
from genlab.errors import UsageError, decoding, listed, reason

SUFFIX = ".csv"
FILE, LABEL, SPLIT = "file", "label", "split"
"""Columns by the names in the first line."""


def load(path: pathlib.Path) -> Dataset:
    """Load the images that a CSV file names in its column `file`, relative to its folder, with the labels in `label`.

    A label is a name or a number; an empty one means that the image has none. A column `split` names train, validation or
    test; without it, all images are for training. The images have no frame yet. Raises UsageError if the file cannot be read,
    lacks a column, or names a file that is missing, elsewhere or named twice.
    """
    try:
        with decoding():
            files.check_regular(path)
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table: {reason(error)}.") from error
    columns = [name for name in rows[0] if name is not None] if rows else []
    if FILE not in columns or LABEL not in columns:
        raise UsageError(
            f"{path} has the columns {listed(columns) or 'of no row'}; its first line must name the columns {FILE} and {LABEL}, "
            f"and may name {SPLIT}."
        )
    folder = path.parent
    names: dict[str, list[str]] = {split: [] for split in FIELDS}
    texts: dict[str, list[str]] = {split: [] for split in FIELDS}
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UsageError(f"{path}, line {number}: it must have {len(columns)} values, as the first line has.")
        name, split = row[FILE], row.get(SPLIT) or "train"
        _check(path, number, name, split, seen)
        names[split].append(name)
        texts[split].append(row[LABEL].strip())
    if not names["train"]:
        raise UsageError(f"{path} names no images for training.")
    present = [split for split in FIELDS if names[split]]
    labels, class_names = classes_of([_values(texts[split], texts) for split in present])
    parts: dict[str, Part] = {
        split: (Records.all_of(Files(folder, names[split])), found if class_names else None)
        for split, found in zip(present, labels, strict=True)
    }
    images = parts["train"][0]
    dataset = Dataset(folder.resolve().name or path.stem, str(path), images, class_names=class_names)
    return dataset.with_parts(parts)


def _check(path: pathlib.Path, number: int, name: str, split: str, seen: set[str]) -> None:
    """Raise UsageError for a row whose file or split does not fit."""
    inside = pathlib.PurePath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise UsageError(f"{path}, line {number}: {name} must be the name of a file in {path.parent} or below it.")
    if not (path.parent / inside).is_file():
        raise UsageError(f"{path}, line {number}: there is no file {path.parent / inside}.")
    if split not in FIELDS:
        raise UsageError(f"{path}, line {number}: the split is {split}; it must be one of {', '.join(FIELDS)}.")
    if str(inside) in seen:
        raise UsageError(f"{path}, line {number}: {name} was named before. Leave one of the lines out.")
    seen.add(str(inside))


def _values(texts: list[str], every: dict[str, list[str]]) -> np.ndarray:
    """Return labels as whole numbers, -1 where there is none, if all of the table's are; else as text."""
    known = {text for part in every.values() for text in part if text}
    if known and all(text.isascii() and text.isdigit() and len(text) < 10 for text in known):
        return np.array([int(text) if text else -1 for text in texts], np.int64)
    return np.array(texts, str)
