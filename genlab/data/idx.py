"""Idx files, the format of MNIST and its successors."""

from __future__ import annotations

import gzip
import pathlib
import struct

import numpy as np

from genlab.data.arrays import from_arrays, with_held_out
from genlab.data.dataset import Dataset
from genlab.errors import UsageError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def is_idx_folder(folder: pathlib.Path) -> bool:
    """Whether the folder holds idx files with training images."""
    return _find(folder, FILES[0]) is not None


def load_folder(folder: pathlib.Path, name: str = "", class_names: tuple[str, ...] = ()) -> Dataset:
    """Load images and labels from the idx files in a folder, gzipped or not; the t10k files are the held-out split.

    Training images are required; labels and held-out files are optional. Raises UsageError if the training images are
    missing or a file is damaged.
    """
    first, *others = (_find(folder, file) for file in FILES)
    if first is None:
        raise UsageError(f"{folder} holds no training images; it must hold a file {FILES[0]} or {FILES[0]}.gz.")
    images = read(first)
    labels, test_images, test_labels = (None if path is None else read(path) for path in others)
    name = name or folder.resolve().name
    train = from_arrays(images, labels, name=name, source=str(folder))
    test = None if test_images is None else from_arrays(test_images, test_labels, name=name)
    return with_held_out(train, test, class_names)


def read(path: pathlib.Path) -> np.ndarray:
    """Read the uint8 array of an idx file, gzipped or not. Reads no more than the header promises."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, rank = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= rank <= 4:
                raise ValueError("it does not start like an idx file of bytes")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            size = int(np.prod(shape, dtype=object))
            if size > 2**36:
                raise ValueError(f"its header promises {size} bytes")
            content = file.read(size + 1)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UsageError(f"{path} cannot be read as an idx file: {error}.") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"{len(content):,}"
        raise UsageError(f"{path} is damaged: its header promises {size:,} bytes and it holds {found}.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _find(folder: pathlib.Path, file: str) -> pathlib.Path | None:
    candidates = (folder / file, folder / f"{file}.gz", folder / file.replace("-idx", ".idx"))
    return next((path for path in candidates if path.is_file()), None)
