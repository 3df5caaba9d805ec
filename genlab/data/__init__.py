"""Where training data comes from: a name or a path becomes a Dataset in memory."""

from __future__ import annotations

import pathlib
from typing import Any

from genlab.data import digits, idx, points, stacked
from genlab.data.dataset import Dataset, from_arrays, from_tf_data
from genlab.errors import UsageError, closest

__all__ = ["Dataset", "from_arrays", "from_tf_data", "load", "names"]


def names() -> list[str]:
    """The data sets that are known by name."""
    return ["digits", *idx.NAMES, *points.NAMES, "stacked"]


def load(source: Any, labels: Any = None) -> Dataset:
    """A Dataset from a name, a folder of idx files, an array [N, H, W(, C)], a tf.data.Dataset, or a Dataset.

    Raises UsageError where the source does not exist or cannot be read.
    """
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str | pathlib.Path):
        return from_tf_data(source) if hasattr(source, "element_spec") else from_arrays(source, labels)
    name = str(source)
    if name == "digits":
        return digits.load()
    if name == "ring":
        return points.ring()
    if name == "grid":
        return points.grid()
    if name.partition(":")[0] == "stacked":
        return stacked.stack(load(name.partition(":")[2] or "mnist"))
    if name in idx.NAMES:
        return idx.load_named(name)
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return idx.load_folder(path)
    if path.exists():
        raise UsageError(
            f"--data {name} is a file. genlab reads a folder of idx files (train-images-idx3-ubyte[.gz], ...)."
        )
    raise UsageError(
        f"--data {name}: there is no such data set or folder{closest(name, names())} "
        f"Data sets: {', '.join(names())}; or the path of a folder of idx files."
    )
