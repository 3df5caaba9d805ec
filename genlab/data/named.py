"""Data sets by name: from a local folder, from Keras' cache, or downloaded by Keras."""

from __future__ import annotations

import os
import pathlib

from genlab.backend import keras
from genlab.data import idx
from genlab.data.arrays import from_arrays, with_held_out
from genlab.data.dataset import Dataset
from genlab.errors import GenlabError

NAMES = ("mnist", "fashion_mnist", "kmnist", "cifar10")
CLASSES = {
    "fashion_mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
KMNIST_SITE = "http://codh.rois.ac.jp/kmnist/dataset/kmnist"
KMNIST_MD5 = (
    "bdb82020997e1d708af4cf47b453dcf7",
    "e144d726b3acfaa3e44228e80efcd344",
    "5c965bf0a639b31b8f53240b1b52f4d7",
    "7320c461ea6c1c855c0b718fb2a4b134",
)


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
        raise GenlabError(
            f"{name} could not be loaded (Keras' download failed: {str(error).splitlines()[0][:120]}). {ways}"
        ) from error


def _from_keras(name: str) -> Dataset:
    if name == "kmnist":  # Keras has no loader for it, but its downloader checks and caches any file
        paths = [
            keras.utils.get_file(f"kmnist-{file}.gz", f"{KMNIST_SITE}/{file}.gz", file_hash=md5)
            for file, md5 in zip(idx.FILES, KMNIST_MD5, strict=True)
        ]
        images, labels, test_images, test_labels = (idx.read(pathlib.Path(path)) for path in paths)
    else:
        (images, labels), (test_images, test_labels) = getattr(keras.datasets, name).load_data()
    return with_held_out(
        from_arrays(images, labels.ravel(), name=name, source=name),  # CIFAR-10 has labels [N, 1]
        from_arrays(test_images, test_labels.ravel(), name=name),
        CLASSES.get(name, ()),
    )
