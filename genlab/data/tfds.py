"""Image data sets of tensorflow-datasets, if that is installed."""

from __future__ import annotations

import numpy as np

from genlab.data.arrays import from_arrays
from genlab.data.dataset import Dataset
from genlab.errors import GenlabError, UsageError, reason


def load(name: str) -> Dataset:
    """Read the `train` split and, if there is one, the `test` split of a data set into memory, with labels if it has any.

    Raises UsageError if tensorflow-datasets is not installed or the images do not have one size, GenlabError if the data
    set cannot be loaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UsageError(
            f"--data tfds:{name} needs tensorflow-datasets, which is not installed: pip install tensorflow-datasets"
        ) from None
    try:
        splits, info = tfds.load(name, with_info=True)
    except Exception as error:  # its own exceptions, and network errors
        raise GenlabError(f"tfds:{name} could not be loaded: {reason(error)}.") from error
    if "image" not in info.features or "train" not in splits:
        raise UsageError(f"tfds:{name} has no training split with an `image`.")
    label = info.features.get("label")

    def part(split: str) -> tuple[np.ndarray, np.ndarray | None]:
        rows = list(tfds.as_numpy(splits[split]))
        shapes = {row["image"].shape for row in rows}
        if len(shapes) > 1:
            raise UsageError(
                f"tfds:{name} has images of {len(shapes)} sizes; save them as files and use --data FOLDER."
            )
        labels = None if label is None else np.array([row["label"] for row in rows])
        return np.stack([row["image"] for row in rows]), labels

    return from_arrays(
        *part("train"),
        name=name,
        source=f"tfds:{name}",
        held_out=part("test") if "test" in splits else None,
        class_names=() if label is None else label.names,
    )
