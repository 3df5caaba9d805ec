"""Load training data: a name, a path or an array becomes a Dataset."""

from __future__ import annotations

import pathlib
from typing import TypeAlias

import numpy.typing as npt

from genlab.backend import Stream
from genlab.data import arrays, digits, folder, idx, named, points, preparation, shards, stacked, table, tfds
from genlab.data.arrays import from_arrays, from_tf_data
from genlab.data.dataset import Dataset
from genlab.data.options import DataOptions
from genlab.data.records import Records
from genlab.errors import UsageError, closest, listed, reason

__all__ = ["DataOptions", "Dataset", "Records", "from_arrays", "from_tf_data", "load", "names"]

Source: TypeAlias = str | pathlib.Path | npt.ArrayLike | Stream | Dataset
"""What is loaded: a name or a path, an array [N, H, W(, C)], a finite tf.data.Dataset, or a Dataset."""

SOURCES = (
    "the path of a folder of images (class/*.png, or *.png), of idx files, or of TFRecord files; of an .npz, .npy, "
    ".tfrecord or .csv file; stacked:SOURCE; or tfds:NAME"
)


def names() -> list[str]:
    """Return the names of the built-in data sets."""
    return ["digits", *named.NAMES, *points.NAMES, "stacked"]


def load(source: Source, labels: npt.ArrayLike | None = None, options: DataOptions | None = None) -> Dataset:
    """Load a Dataset from a name, a path, an array [N, H, W(, C)], a tf.data.Dataset, or a Dataset.

    Names: see `names`, and `stacked:SOURCE` and `tfds:NAME`. Paths: a folder of images (`class/*.png`, perhaps with
    `unlabelled/*.png`, or `*.png`), of idx files or of TFRecord shards; an .npz, .npy, .tfrecord or .csv file. `options` control the preparation: size, classes, split
    and so on. Raises UsageError if the source does not exist or cannot be read.
    """
    options = options or DataOptions()
    if isinstance(source, Dataset) and options == DataOptions():
        return source
    return preparation.prepare(find(source, labels, options), options)


def find(source: Source, labels: npt.ArrayLike | None = None, options: DataOptions | None = None) -> Dataset:
    """Find a source without preparing it: images on disk may have any size, and some may be unreadable."""
    options = options or DataOptions()
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str | pathlib.Path):
        if hasattr(source, "element_spec"):
            return from_tf_data(source)
        return from_arrays(source, labels, value_range=options.low_and_high)
    name = str(source)
    kind, _, rest = name.partition(":")
    if name == "digits":
        return digits.load()
    if name in points.NAMES:
        return points.load(name)
    if name in named.NAMES:
        return named.load(name)
    if kind == "stacked":
        if rest.partition(":")[0] == "stacked":
            raise UsageError("--data stacked:stacked: stacked images cannot be stacked again.")
        return stacked.stack(load(rest or "mnist"))
    if kind == "tfds" and rest:
        return tfds.load(rest)
    try:
        path = pathlib.Path(name).expanduser()
    except RuntimeError as error:  # a home folder of nobody
        raise UsageError(f"--data {listed([name])}: {reason(error)}.") from error
    try:
        return _at(path, options)
    except OSError as error:  # a folder without permission, or a name that is too long
        raise UsageError(f"--data {listed([name])} cannot be read: {reason(error)}.") from error


def _at(path: pathlib.Path, options: DataOptions) -> Dataset:
    """Find the source at a path."""
    name = listed([path])
    keys = shards.Keys(options.tfrecord_image, options.tfrecord_label, options.raw_shape)
    if path.is_dir():
        if idx.is_idx_folder(path):
            return idx.load_folder(path)
        if shards.is_shard_folder(path):
            return shards.load(path, keys)
        if folder.is_image_folder(path):
            return folder.load(path)
        raise UsageError(f"--data {name} holds no training images. Use {SOURCES}.")
    if path.is_file():
        if path.suffix in (".npz", ".npy"):
            return arrays.load_file(path, options.low_and_high)
        if path.name.endswith(shards.SUFFIXES):
            return shards.load(path, keys)
        if path.suffix == table.SUFFIX:
            return table.load(path)
        raise UsageError(f"--data {name} is a file of a kind that genlab does not read. Use {SOURCES}.")
    if path.exists():
        raise UsageError(f"--data {name} is neither a folder nor a regular file. Use {SOURCES}.")
    raise UsageError(
        f"--data {name}: there is no such data set or path{closest(name, names())} Data sets: {', '.join(names())}; or {SOURCES}."
    )
