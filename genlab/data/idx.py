"""Idx files, the format of MNIST and its successors."""

from __future__ import annotations

import gzip
import math
import pathlib
import struct

import numpy as np

from genlab import files
from genlab.data.arrays import from_arrays
from genlab.data.dataset import Dataset
from genlab.errors import UsageError, decoding

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
    return from_arrays(
        images,
        labels,
        name=name or folder.resolve().name,
        source=str(folder),
        held_out=None if test_images is None else (test_images, test_labels),
        class_names=class_names,
    )


def read(path: pathlib.Path) -> np.ndarray:
    """Read the uint8 array of an idx file, gzipped or not. Raises UsageError if the file is damaged."""
    try:
        with decoding():
            files.check_regular(path)
            zipped, stored = path.suffix == ".gz", path.stat().st_size
            with gzip.open(path) if zipped else path.open("rb") as file:
                shape = _shape(file)
                size = math.prod(shape)
                content = files.read_exactly(file, size, stored if zipped else stored - file.tell(), compressed=zipped)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as an idx file: {error}.") from error
    return content.reshape(shape)


def _shape(file: files.Readable) -> tuple[int, ...]:
    """Read the header of an idx file."""
    begin = file.read(4)
    if len(begin) < 4 or begin[:3] != b"\0\0\x08" or not 1 <= begin[3] <= 4:
        raise ValueError("it does not start like an idx file of bytes")
    return struct.unpack(f">{begin[3]}I", file.read(4 * begin[3]))


def _find(folder: pathlib.Path, file: str) -> pathlib.Path | None:
    candidates = (folder / file, folder / f"{file}.gz", folder / file.replace("-idx", ".idx"))
    return next((path for path in candidates if path.is_file()), None)
