"""A folder of image files: `class/*.png` (and `unlabelled/*.png`) or `*.png`, below `train/`, `validation/` and `test/` or not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from PIL import Image

from genlab.data import image_files
from genlab.data.dataset import Dataset
from genlab.data.labels import UNLABELLED
from genlab.data.records import Reader, Records
from genlab.errors import UsageError, listed, reason

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
UNLABELLED_NAMES = ("unlabelled", "unlabeled")
"""Subfolders that are no class: their images have no label."""


class Files(Reader):
    """Reads image files below a folder by index."""

    def __init__(self, root: pathlib.Path, names: list[str]) -> None:
        self.root = root
        # A million names as Python strings would take ten times the memory.
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self._names)

    def path(self, index: int) -> pathlib.Path:
        return self.root / os.fsdecode(self._names[index])

    def opened(self, index: int) -> contextlib.AbstractContextManager[Image.Image]:
        return image_files.opened(self.path(index))

    def name(self, index: int) -> str:
        return os.fsdecode(self._names[index])

    def digest(self) -> str:
        digest = hashlib.sha256()
        for index, name in enumerate(self._names):
            digest.update(name + f" {self.path(index).stat().st_size}\n".encode())
        return digest.hexdigest()


def is_image_folder(folder: pathlib.Path) -> bool:
    """Whether there is an image file in the folder or below it."""
    return next(_image_files(folder), None) is not None


def load(folder: pathlib.Path) -> Dataset:
    """Load the images of a folder; subfolders are classes.

    `folder/class/*.png` gives labels, `folder/*.png` none. Images in `folder/unlabelled/` have none where others have one. If
    there is a `folder/train/`, then `folder/validation/` and `folder/test/` are the held-out splits, and `unlabelled/` may be
    in it or beside it. Images and classes are ordered by name. The images have no frame yet. Raises UsageError if only some
    images are in class folders, or if the splits have different classes.
    """
    places = {
        split: next((folder / name for name in names if (folder / name).is_dir()), None)
        for split, names in SPLITS.items()
    }
    if places["train"] is None:
        places = {"train": folder, "validation": None, "test": None}
        beside = None
    else:
        beside = next((folder / name for name in UNLABELLED_NAMES if (folder / name).is_dir()), None)
    found = {
        split: _part(place, beside if split == "train" else None)
        for split, place in places.items()
        if place is not None
    }
    images, labels, class_names = found["train"]
    for split, (_, _, names) in found.items():
        if names != class_names:
            raise UsageError(
                f"{places[split]} has the classes {listed(names) or 'none'}, and {places['train']} has "
                f"{listed(class_names) or 'none'}; all splits must have the same classes."
            )
    dataset = Dataset(folder.resolve().name, str(folder), images, labels, class_names=class_names)
    return dataset.with_parts({split: part[:2] for split, part in found.items()})


def _part(
    folder: pathlib.Path, beside: pathlib.Path | None = None
) -> tuple[Records, np.ndarray | None, tuple[str, ...]]:
    """Return the images of a folder, with those of the folder `beside` it as unlabelled, their labels, and the classes."""
    names = sorted(str(path.relative_to(folder)) for path in _image_files(folder))
    if not names:
        raise UsageError(f"{folder}: there are no images in it ({', '.join(SUFFIXES)}).")
    classes = [pathlib.PurePath(name).parts[0] if len(pathlib.PurePath(name).parts) > 1 else "" for name in names]
    class_names = tuple(sorted(set(classes) - set(UNLABELLED_NAMES)))
    if beside is not None:
        others = sorted(str(path.relative_to(folder.parent)) for path in _image_files(beside))
        names = [str(folder.relative_to(folder.parent) / name) for name in names] + others
        classes += [beside.name] * len(others)
    images = Records.all_of(Files(folder if beside is None else folder.parent, names))
    if class_names in (("",), ()):
        return images, None, ()
    if "" in class_names:
        stray = names[classes.index("")]
        raise UsageError(
            f"{folder}: {stray} is in no class folder, but other images are. Put every image into the folder of its class, "
            f"all of them into one folder, or those without a class into {UNLABELLED_NAMES[0]}/."
        )
    numbers = {name: number for number, name in enumerate(class_names)} | dict.fromkeys(UNLABELLED_NAMES, UNLABELLED)
    return images, np.array([numbers[name] for name in classes], np.int32), class_names


def _image_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield image files in a folder and below it, also where links lead, without hidden files and folders.

    Raises UsageError for a folder that cannot be read, and for one that links show twice.
    """
    seen: dict[tuple[int, int], str] = {}

    def refuse(error: OSError) -> NoReturn:
        raise UsageError(f"{error.filename} cannot be read: {reason(error)}. Change its permissions, or remove it.")

    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = pathlib.Path(root).stat()
        place = status.st_dev, status.st_ino
        if place in seen:  # its images would count twice; or it is around itself, and there is no end
            raise UsageError(f"{root} and {seen[place]} are the same folder. Remove the link.")
        seen[place] = root
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield pathlib.Path(root, name)
