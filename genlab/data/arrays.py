"""Images from arrays, passed by a program or stored in .npz and .npy files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genlab import files, npy
from genlab.backend import Stream, tf
from genlab.data.dataset import Dataset
from genlab.data.labels import classes_of
from genlab.data.spec import to_pixels
from genlab.errors import UsageError, listed, reason


def from_arrays(
    images: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    name: str = "array",
    source: str = "",
    value_range: tuple[float, float] | None = None,
    held_out: tuple[npt.ArrayLike, npt.ArrayLike | None] | None = None,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Create a Dataset from images [N, H, W] or [N, H, W, C], uint8 or floats in [0, 1] or [-1, 1].

    `value_range` gives the values of black and white in other arrays. Labels [N] are whole numbers from 0 up, or text; -1 or
    empty text for an image without one; see `classes_of` for how they become classes. `held_out` are images and labels (or None) of the test split. Raises UsageError
    for another shape, dtype or range.
    """
    train_images, test_images = _images(images, value_range), None
    labelled = [] if labels is None else [_one_each(labels, train_images)]
    if held_out is not None:
        test_images = _images(held_out[0], value_range)
        if test_images.shape[1:] != train_images.shape[1:]:
            raise UsageError(
                f"{source or name}: training images have shape {train_images.shape[1:]}, held-out ones "
                f"{test_images.shape[1:]}; they must be equal."
            )
        if not len(test_images):
            test_images = None
        elif labelled and held_out[1] is not None:
            labelled.append(_one_each(held_out[1], test_images))
    classes, names = classes_of(labelled, class_names)
    labels_of = dict(zip(("train", "test"), classes, strict=False)) if names else {}
    images_of = {"train": train_images} | ({} if test_images is None else {"test": test_images})
    dataset = Dataset(name, source, train_images, class_names=names if classes else ())
    return dataset.with_parts({split: (images, labels_of.get(split)) for split, images in images_of.items()})


def _images(source: npt.ArrayLike, value_range: tuple[float, float] | None) -> np.ndarray:
    """Return images as uint8 [N, H, W, C]."""
    try:
        images = np.asarray(source)
    except (ValueError, TypeError):
        raise UsageError(
            "images are not an array; they must be [N, H, W] or [N, H, W, C], with any labels as a separate argument."
        ) from None
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or not 1 <= images.shape[-1] <= 4 or 0 in images.shape[1:]:
        raise UsageError(
            f"images have the shape {list(images.shape)}; it must be [N, H, W] or [N, H, W, C] with C from 1 to 4."
        )
    if len(images) and (images.dtype != np.uint8 or value_range not in (None, (0.0, 255.0))):
        images = _to_pixels(images, value_range)
    return np.ascontiguousarray(images)


def _one_each(source: npt.ArrayLike, images: np.ndarray) -> np.ndarray:
    """Return labels as an array with one for each image."""
    try:
        labels = np.asarray(source)
    except (ValueError, TypeError):
        raise UsageError("labels are not an array; they must be [N], one for each image.") from None
    if labels.shape != images.shape[:1]:
        raise UsageError(f"labels have the shape {list(labels.shape)}; it must be [{len(images)}], one for each image.")
    return labels


def _to_pixels(images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    if images.dtype.kind not in "biuf" or (value_range is None and images.dtype.kind != "f"):
        raise UsageError(
            f"images are {images.dtype}; they must be uint8, or floats in [0, 1] or [-1, 1]. Or add --value-range LOW,HIGH."
        )
    low, high = float(images.min()), float(images.max())
    allowed = value_range or (-1.0, 1.0)
    if not (np.isfinite(low) and np.isfinite(high)) or low < allowed[0] or high > allowed[1]:
        wanted = f"[{value_range[0]:g}, {value_range[1]:g}]" if value_range else "[0, 1] or [-1, 1]"
        raise UsageError(
            f"images have a range from {low:g} to {high:g}; it must be {wanted}. Or change --value-range LOW,HIGH."
        )
    darkest, lightest = value_range or (-1.0 if low < 0 else 0.0, 1.0)
    return to_pixels((images.astype(np.float32) - darkest) * (2.0 / (lightest - darkest)) - 1.0)


def from_tf_data(dataset: Stream) -> Dataset:
    """Read a finite tf.data.Dataset of single images or (image, label) pairs into memory.

    Raises UsageError if it is endless, empty, or larger than memory, and for other elements.
    """
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UsageError("the tf.data.Dataset is endless; call take() to limit the number of images.")
    rows, size = [], 0
    for row in dataset.as_numpy_iterator():
        rows.append(row if isinstance(row, tuple) else (row,))
        size += sum(getattr(part, "nbytes", 0) for part in rows[-1])
        if size > files.memory():
            raise UsageError(
                f"the tf.data.Dataset is larger than memory, after {len(rows):,} images; call take() to limit their number."
            )
    if not rows:
        raise UsageError("the tf.data.Dataset is empty.")
    try:
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
    except (ValueError, TypeError) as error:
        raise UsageError(f"the tf.data.Dataset has images that do not go together: {reason(error)}.") from error
    if len(columns) > 2:
        raise UsageError(
            f"the tf.data.Dataset has elements of {len(columns)} parts; they must be images, or (image, label)."
        )
    return from_arrays(*columns, name="tf-data")


def load_file(path: pathlib.Path, value_range: tuple[float, float] | None = None) -> Dataset:
    """Load the images of an .npy file, or of an .npz file with labels and held-out images.

    An .npz holds `images` (or `x_train`, `arr_0`), and optionally `labels` (`y_train`), `test_images` (`x_test`),
    `test_labels` (`y_test`) and `class_names`; other arrays are not read. Raises UsageError if it has no images or cannot be
    read.
    """
    try:
        with npy.opened(path) as arrays:

            def found(*names: str) -> np.ndarray | None:
                return next((arrays[name] for name in names if name in arrays), None)

            holds = listed(arrays) or "nothing"
            images, labels = found("images", "x_train", npy.SINGLE), found("labels", "y_train")
            test_images, test_labels = found("test_images", "x_test"), found("test_labels", "y_test")
            names = found("class_names")
            class_names = [] if names is None else names.astype(str).ravel().tolist()
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as an array: {error}.") from error
    if images is None:
        raise UsageError(f"{path} holds {holds}; it must hold an array `images`.")
    return from_arrays(
        images,
        labels,
        name=path.stem,
        source=str(path),
        value_range=value_range,
        held_out=None if test_images is None else (test_images, test_labels),
        class_names=class_names,
    )
