"""Data sets by name: from a local folder, from Keras' cache, or downloaded by Keras."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from genlab.backend import keras
from genlab.data import idx
from genlab.data.arrays import from_arrays
from genlab.data.dataset import Dataset
from genlab.errors import GenlabError, reason

NAMES = ("mnist", "fashion_mnist", "kmnist", "cifar10")
CLASSES = {
    "fashion_mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


class Site(NamedTuple):
    """Where Keras' downloader gets idx files, and the SHA-256 of each, in the order of `idx.FILES`."""

    address: str
    folder: str
    """Folder in Keras' cache."""
    prefix: str
    """What is put before the names of the files there."""
    sha256: tuple[str, ...]


SITES = {
    # Keras has a loader for it, which checks no hash. These are the files of its makers.
    "fashion_mnist": Site(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "datasets/fashion-mnist",
        "",
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    # Keras has no loader for it.
    "kmnist": Site(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist",
        "datasets",
        "kmnist-",
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
}
"""Data sets whose files are downloaded here. Keras' own loaders of mnist and cifar10 use https and check a SHA-256."""


def load(name: str) -> Dataset:
    """Load a data set of `NAMES` from idx files in the folder GENLAB_DATA, from Keras' cache, or downloaded by Keras.

    Raises GenlabError, listing all options, if none of these works.
    """
    folder = os.environ.get("GENLAB_DATA")
    if folder:
        root = pathlib.Path(folder).expanduser()
        for place in (root / name, root):
            if idx.is_idx_folder(place):
                return idx.load_folder(place, name=name, class_names=CLASSES.get(name, ()))
    try:
        return _from_keras(name)
    except Exception as error:  # whatever the downloader raises: no network, a wrong checksum, a proxy's reply
        ways = (
            f"Type --data PATH with the folder of its idx files, or set GENLAB_DATA to that folder or to the parent of a folder "
            f"{name} with them, or run once with network access: Keras caches it in ~/.keras/datasets."
        )
        if name == "cifar10":
            ways = (
                "Run once with network access: Keras caches it in ~/.keras/datasets. Or type --data PATH with a folder of "
                "its images or an .npz file."
            )
        raise GenlabError(f"{name} could not be loaded (Keras' download failed: {reason(error)}). {ways}") from error


def _from_keras(name: str) -> Dataset:
    if name in SITES:
        images, labels, test_images, test_labels = (idx.read(path) for path in _files(SITES[name]))
    else:
        (images, labels), (test_images, test_labels) = getattr(keras.datasets, name).load_data()
    return from_arrays(
        images,
        labels.ravel(),  # CIFAR-10 has labels [N, 1]
        name=name,
        source=name,
        held_out=(test_images, test_labels.ravel()),
        class_names=CLASSES.get(name, ()),
    )


def _files(site: Site) -> Iterator[pathlib.Path]:
    """Yield the idx files of a site, from Keras' cache or downloaded. Whatever has another hash is downloaded again."""
    for file, sha256 in zip(idx.FILES, site.sha256, strict=True):
        name = f"{site.prefix}{file}.gz"
        address = f"{site.address}/{file}.gz"
        yield pathlib.Path(
            keras.utils.get_file(name, address, cache_subdir=site.folder, file_hash=sha256, hash_algorithm="sha256")
        )
