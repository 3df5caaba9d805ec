"""Labels of a source, any numbers or names, become classes from 0 with a name each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genlab.errors import UsageError, decoding, listed

MOST_CLASSES = 10_000
"""Maximum number of classes that labels can make."""
UNLABELLED = -1
"""Class of an image without a label, where others have one."""


def classes_of(parts: Sequence[npt.ArrayLike], names: Sequence[str] = ()) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Convert the labels of one source's splits, each [N], to classes: int32 [N] for each split, and the names of the classes.

    Labels are whole numbers of at least 0, or text; -1 and empty text mean that an image has none, which becomes UNLABELLED.
    Numbers keep their meaning, so that label 3 is class 3, if at least half
    of the numbers up to the largest occur, or if `names` has a name for each. Otherwise, and for text, every different label
    is a class: in ascending order, or in the order of `names`. Raises UsageError for other labels, for more than
    MOST_CLASSES of them, and if `names` do not fit.
    """
    try:
        with decoding():  # text in a damaged file may be no Unicode
            arrays = [_checked(np.asarray(part)) for part in parts]
            if len({array.dtype.kind == "U" for array in arrays}) > 1:
                raise ValueError("some are numbers and some are text")
            found = [np.unique(array, return_inverse=True) for array in arrays]
            for distinct, _ in found:
                _check_count(len(distinct))
            values = sorted({value for each, _ in found for value in each.tolist()} - {UNLABELLED, ""})
            _check_count(len(values))
            _check_count(len(names))
            known, class_names = _numbered(values, tuple(str(name) for name in names))
    except ValueError as error:
        raise UsageError(f"labels cannot be used: {error}.") from error
    known |= {UNLABELLED: UNLABELLED, "": UNLABELLED}
    return [
        np.array([known[value] for value in each.tolist()], np.int32)[inverse] for each, inverse in found
    ], class_names


def _checked(labels: np.ndarray) -> np.ndarray:
    """Return labels as int64, uint64 or text."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise ValueError(
            f"they have the shape {list(labels.shape)} and type {labels.dtype}; they must be whole numbers from 0 up, or names, "
            "one for each image"
        )
    if labels.dtype.kind != "U" and labels.min(initial=0) < UNLABELLED:
        raise ValueError(f"one is {labels.min()}; they must be whole numbers from 0 up (-1: no label), or names")
    return labels


def _check_count(count: int) -> None:
    if count > MOST_CLASSES:
        raise ValueError(
            f"they would be {count:,} classes, and there can be {MOST_CLASSES:,}. Leave labels out that are no classes, such as "
            "numbers of the images"
        )


def _numbered(values: list[Any], names: tuple[str, ...]) -> tuple[dict[Any, int], tuple[str, ...]]:
    """Return the class of each value, and the names of the classes."""
    if values and isinstance(values[0], str):
        numbers = {name: number for number, name in enumerate(names or values)}
        if unknown := set(values) - set(numbers):
            raise ValueError(f"class_names lacks {listed(sorted(unknown))}")
        return numbers, names or tuple(values)
    largest = values[-1] if values else 0
    if names and largest >= len(names) and len(values) != len(names):
        raise ValueError(
            f"class_names has {len(names):,} names, and the labels have {len(values):,} values up to {largest:,}"
        )
    if largest < (len(names) or min(2 * len(values), MOST_CLASSES)):
        return {value: value for value in values}, names or tuple(map(str, range(largest + 1)))
    return {value: number for number, value in enumerate(values)}, names or tuple(map(str, values))


def in_shares(seeds: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return a class for each seed [N], int32, so that classes have these shares, [K], among any consecutive seeds.

    A class depends on its seed alone. It is that of the seed's place in the sequence of multiples of the golden ratio modulo 1,
    which fills the unit interval so evenly that the number of images of a class is off by a few, among millions too.
    """
    multiples = np.asarray(seeds).astype(np.uint64) * np.uint64(
        11400714819323198485
    )  # 2^64 / golden ratio, modulo 2^64
    places = (multiples >> np.uint64(11)) * 2.0**-53
    ends = np.cumsum(shares)
    ends[np.flatnonzero(shares)[-1] :] = 1.0  # whatever the sum was rounded to
    return np.searchsorted(ends, places, side="right").astype(np.int32)
