"""Images from arrays, passed by a program or stored in .npz and .npy files."""

from __future__ import annotations

import pathlib
import zipfile

import numpy as np
import numpy.typing as npt

from genlab.backend import Stream, tf
from genlab.data.dataset import Dataset
from genlab.data.spec import to_pixels
from genlab.errors import UsageError


def from_arrays(
    images: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    name: str = "array",
    source: str = "",
    value_range: tuple[float, float] | None = None,
) -> Dataset:
    """Create a Dataset from images [N, H, W] or [N, H, W, C], uint8 or floats in [0, 1] or [-1, 1].

    `value_range` gives the values of black and white in other arrays. Labels are integers [N]; the number of classes is the
    largest plus one. Raises UsageError for another shape, dtype or range.
    """
    try:
        images = np.asarray(images)
    except ValueError:
        raise UsageError(
            "images are not an array; they must be [N, H, W] or [N, H, W, C], with any labels as a separate argument."
        ) from None
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or not 1 <= images.shape[-1] <= 4:
        raise UsageError(
            f"images have the shape {list(images.shape)}; it must be [N, H, W] or [N, H, W, C] with C from 1 to 4."
        )
    if len(images) and (images.dtype != np.uint8 or value_range not in (None, (0.0, 255.0))):
        images = _to_pixels(images, value_range)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            raise UsageError(
                f"labels have the shape {list(labels.shape)} and type {labels.dtype}; "
                f"they must be {len(images)} integers from 0 up, one for each image."
            )
        labels = labels.astype(np.int32)
    classes = 0 if labels is None else int(labels.max(initial=0)) + 1
    class_names = tuple(str(index) for index in range(classes))
    return Dataset(name, source, np.ascontiguousarray(images), labels, class_names=class_names)


def _to_pixels(images: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    if value_range is None and not np.issubdtype(images.dtype, np.floating):
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
    """Read a finite tf.data.Dataset of single images or (image, label) pairs into memory."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UsageError("the tf.data.Dataset is endless; call take() to limit the number of images.")
    rows = list(dataset.as_numpy_iterator())
    if not rows:
        raise UsageError("the tf.data.Dataset is empty.")
    if isinstance(rows[0], tuple):
        images, labels = (np.stack(column) for column in zip(*rows, strict=True))
        return from_arrays(images, labels, name="tf-data")
    return from_arrays(np.stack(rows), name="tf-data")


def with_held_out(train: Dataset, test: Dataset | None, class_names: tuple[str, ...] = ()) -> Dataset:
    """Return the training images of one data set with those of another as held out. Raises UsageError if shapes differ."""
    if test is not None and test.spec.shape != train.spec.shape:
        raise UsageError(
            f"{train.source or train.name}: training images have shape {train.spec.shape}, held-out ones {test.spec.shape}; "
            "they must be equal."
        )
    count = max(len(train.class_names), len(test.class_names) if test is not None else 0)
    names = class_names if len(class_names) == count else tuple(str(index) for index in range(count))
    return Dataset(
        name=train.name,
        source=train.source,
        images=train.images,
        labels=train.labels,
        test_images=None if test is None else test.images,
        test_labels=None if test is None else test.labels,
        class_names=names if train.labels is not None else (),
    )


def load_file(path: pathlib.Path, value_range: tuple[float, float] | None = None) -> Dataset:
    """Load the images of an .npy file, or of an .npz file with labels and held-out images.

    An .npz holds `images` (or `x_train`, `arr_0`), and optionally `labels` (`y_train`), `test_images` (`x_test`),
    `test_labels` (`y_test`) and `class_names`. Raises UsageError if it has no images or cannot be read.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects" if "pickle" in str(error) else str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read as an array: {reason.rstrip('.')}.") from error

    def found(*names: str) -> np.ndarray | None:
        return next((arrays[name] for name in names if name in arrays), None)

    images = found("images", "x_train", "arr_0")
    if images is None:
        raise UsageError(f"{path} holds {', '.join(arrays) or 'nothing'}; it must hold an array `images`.")
    labels, test_images, test_labels = (
        found("labels", "y_train"),
        found("test_images", "x_test"),
        found("test_labels", "y_test"),
    )
    train = from_arrays(images, labels, name=path.stem, source=str(path), value_range=value_range)
    test = None
    if test_images is not None:
        test = from_arrays(test_images, test_labels, name=path.stem, value_range=value_range)
    names = found("class_names")
    return with_held_out(train, test, () if names is None else tuple(str(name) for name in names))
