"""Convert images and labels between the caller's range, type and format and those of genlab's networks."""

from __future__ import annotations

from genlab.backend import Tensor, tf
from genlab.errors import UsageError, reason


def usual_range(images: Tensor) -> tuple[float, float]:
    """Return the default values of black and white for images of that dtype."""
    return (0.0, 255.0) if images.dtype.is_integer else (0.0, 1.0)


def to_model_range(images: Tensor, low: float, high: float) -> Tensor:
    """Convert images [B, H, W, C] or [B, H, W] between `low` and `high` to [B, H, W, C] float32 in [-1, 1].

    Raises UsageError for another rank or type, and for values out of range (in a graph: tf.errors.InvalidArgumentError).
    """
    if not (images.dtype.is_integer or images.dtype.is_floating):
        raise UsageError(f"images are {images.dtype.name}; they must be integers or floats.")
    if images.dtype.is_integer and not images.dtype.min <= low < high <= images.dtype.max:
        raise UsageError(
            f"images are {images.dtype.name}, which cannot hold values from {low:g} to {high:g}; name their value_range."
        )
    if images.shape.rank not in (3, 4):
        raise UsageError(f"images have the shape {images.shape}; it must be [B, H, W, C] or [B, H, W].")
    images = images[..., tf.newaxis] if images.shape.rank == 3 else images
    values = tf.cast(images, tf.float32)
    inside = tf.logical_and(tf.reduce_min(values) >= low - 1e-3, tf.reduce_max(values) <= high + 1e-3)
    message = f"images are not in the range from {low:g} to {high:g}; tell the Augmenter their value_range."
    return (required(inside, message, values) - low) * (2.0 / (high - low)) - 1.0


def from_model_range(scaled: Tensor, like: Tensor, low: float, high: float) -> Tensor:
    """Convert images [B, H, W, C] in [-1, 1] to the range from `low` to `high`, with the dtype and rank of `like`."""
    values = (scaled + 1.0) * (0.5 * (high - low)) + low
    if like.dtype.is_integer:
        values = tf.round(values)
    values = tf.cast(tf.clip_by_value(values, low, high), like.dtype)
    return values[..., 0] if like.shape.rank == 3 else values


def fitted(images: Tensor, like: Tensor) -> Tensor:
    """Convert images [B, H, W, C] to the height, width and channels of `like`.

    Raises UsageError if the channels differ, unless they are 1 and 3.
    """
    if images.shape[3] != like.shape[3]:
        if (images.shape[3], like.shape[3]) == (1, 3):
            images = tf.image.grayscale_to_rgb(images)
        elif (images.shape[3], like.shape[3]) == (3, 1):
            images = tf.image.rgb_to_grayscale(images)
        else:
            raise UsageError(
                f"the batch has {like.shape[3]} channels and the run's images {images.shape[3]}; only grey and colour can be "
                "converted."
            )
    if images.shape[1:3] != like.shape[1:3]:
        images = tf.image.resize(images, tf.shape(like)[1:3], antialias=True)
        images.set_shape([None, *like.shape[1:]])
    return images


def label_numbers(labels: Tensor) -> Tensor:
    """Convert labels [B], [B, 1] or one-hot [B, K] to integers [B].

    Raises UsageError for any other shape or type, and for other values (in a graph: tf.errors.InvalidArgumentError).
    """
    if labels.shape.rank not in (1, 2) or (labels.shape.rank == 2 and labels.shape[1] is None):
        raise UsageError(
            f"labels have the shape {labels.shape}; it must be [B] or [B, 1] (integers), or [B, K] (one-hot)."
        )
    if not (labels.dtype.is_integer or labels.dtype.is_floating or labels.dtype.is_bool):
        raise UsageError(f"labels are {labels.dtype.name}; they must be integers, or one-hot rows of zeros and ones.")
    values = tf.cast(labels, tf.float64)
    if is_one_hot(labels):
        zeros_and_ones = tf.reduce_all(tf.logical_or(values == 0, values == 1))
        one_each = tf.reduce_all(tf.reduce_sum(values, axis=1) == 1)
        message = "labels [B, K] must be one-hot: a single 1 in each row, and zeros."
        numbers = tf.argmax(values, axis=1, output_type=tf.int32)
        return required(tf.logical_and(zeros_and_ones, one_each), message, numbers)
    values = tf.reshape(values, [-1])
    integers = tf.reduce_all(tf.logical_and(values == tf.round(values), tf.abs(values) < 2.0**31))
    return tf.cast(required(integers, "labels must be integers of 32 bits.", values), tf.int32)


def is_one_hot(labels: Tensor) -> bool:
    """Return whether labels have the shape [B, K] of one-hot ones."""
    return labels.shape.rank == 2 and labels.shape[1] != 1


def tensor(values: Tensor, name: str) -> Tensor:
    """Convert values to a tensor. Raises UsageError for what is none, such as rows of different lengths."""
    try:
        return tf.convert_to_tensor(values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name} are no array: {reason(error)}.") from None


def labels_like(numbers: Tensor, like: Tensor) -> Tensor:
    """Convert integers [n] to the format of the labels `like`."""
    if like.shape.rank == 1:
        return tf.cast(numbers, like.dtype)
    if like.shape[1] == 1:
        return tf.cast(numbers[:, None], like.dtype)
    return tf.one_hot(numbers, like.shape[1], dtype=like.dtype)


def required(condition: Tensor, message: str, values: Tensor) -> Tensor:
    """Return the values if the condition holds; else raise UsageError (in a graph: tf.errors.InvalidArgumentError)."""
    if tf.executing_eagerly():
        if not bool(condition):
            raise UsageError(message)
        return values
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(values)
