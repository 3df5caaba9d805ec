"""MNIST and the data sets made in its image: idx files in a folder, or Keras' cache and downloader."""

from __future__ import annotations

import gzip
import os
import pathlib
import struct

import numpy as np

from genlab.backend import keras
from genlab.data.dataset import Dataset, from_arrays
from genlab.errors import GenlabError, UsageError

NAMES = ("mnist", "fashion_mnist", "kmnist")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
KMNIST_SITE = "http://codh.rois.ac.jp/kmnist/dataset/kmnist"
KMNIST_MD5 = (
    "bdb82020997e1d708af4cf47b453dcf7",
    "e144d726b3acfaa3e44228e80efcd344",
    "5c965bf0a639b31b8f53240b1b52f4d7",
    "7320c461ea6c1c855c0b718fb2a4b134",
)


def load_named(name: str) -> Dataset:
    """`mnist`, `fashion_mnist` or `kmnist`: from the folder GENLAB_DATA, from Keras' cache, or downloaded by Keras."""
    folder = os.environ.get("GENLAB_DATA")
    if folder:
        root = pathlib.Path(folder).expanduser()
        for place in (root / name, root):
            if _find(place, FILES[0]):
                return load_folder(place, name=name)
    try:
        return _from_keras(name)
    except Exception as error:  # whatever the downloader raises: no network, a wrong checksum, a proxy's answer
        raise GenlabError(
            f"{name} could not be loaded (Keras' download failed: {str(error).splitlines()[0][:120]}). Either give the "
            f"folder of its idx files with --data PATH, or set GENLAB_DATA to the folder that holds them or a folder "
            f"{name} with them, or run once with a network: Keras keeps its copy in ~/.keras/datasets."
        ) from error


def load_folder(folder: pathlib.Path, name: str = "") -> Dataset:
    """Images and labels of the idx files in a folder, gzipped or not; the t10k files are the held-out split.

    The training images must be there; labels and held-out files may be missing. Raises UsageError where there is no
    such file or one is damaged.
    """
    paths = [_find(folder, file) for file in FILES]
    if paths[0] is None:
        raise UsageError(f"{folder} holds no training images; a file {FILES[0]} or {FILES[0]}.gz is needed.")
    arrays = [None if path is None else read(path) for path in paths]
    return _assemble(name or folder.resolve().name, str(folder), *arrays)


def read(path: pathlib.Path) -> np.ndarray:
    """The uint8 array of an idx file, gzipped or not. No more is read than the header promises."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, rank = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= rank <= 4:
                raise ValueError("it does not begin as an idx file of bytes does")
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


def _assemble(name, source, images, labels, test_images=None, test_labels=None) -> Dataset:
    names = {"fashion_mnist": FASHION, "kmnist": KUZUSHIJI}.get(name, ())
    train = from_arrays(images, labels, name=name, source=source)
    test = None if test_images is None else from_arrays(test_images, test_labels, name=name)
    if test is not None and test.spec.shape != train.spec.shape:
        raise UsageError(f"{source}: training images are {train.spec.shape} and held-out ones {test.spec.shape}.")
    return Dataset(
        name=name,
        source=source,
        images=train.images,
        labels=train.labels,
        test_images=None if test is None else test.images,
        test_labels=None if test is None else test.labels,
        class_names=names if len(names) == len(train.class_names) else train.class_names,
    )


def _from_keras(name: str) -> Dataset:
    if name == "kmnist":  # Keras has no loader for it, but its downloader checks and caches any file
        arrays = [
            read(pathlib.Path(keras.utils.get_file(f"kmnist-{file}.gz", f"{KMNIST_SITE}/{file}.gz", file_hash=md5)))
            for file, md5 in zip(FILES, KMNIST_MD5, strict=True)
        ]
        return _assemble(name, name, *arrays)
    module = {"mnist": keras.datasets.mnist, "fashion_mnist": keras.datasets.fashion_mnist}[name]
    (images, labels), (test_images, test_labels) = module.load_data()
    return _assemble(name, name, images, labels, test_images, test_labels)
