"""Images and labels from the caller's range, type and form to those of genlab's networks, and back."""

from __future__ import annotations

from typing import Any

from genlab.backend import tf
from genlab.errors import UsageError


def usual_range(images: Any) -> tuple[float, float]:
    """What black and white are in images of that type, unless the caller says otherwise."""
    return (0.0, 255.0) if images.dtype.is_integer else (0.0, 1.0)


def to_model_range(images: Any, low: float, high: float) -> Any:
    """Images [B, H, W, C] or [B, H, W] between `low` and `high` as [B, H, W, C] float32 in [-1, 1].

    Raises UsageError for another rank, and for values outside of the range (tf.errors.InvalidArgumentError in a graph).
    """
    if images.shape.rank not in (3, 4):
        raise UsageError(f"images have the shape {images.shape}; batches [B, H, W, C] or [B, H, W] are needed.")
    images = images[..., tf.newaxis] if images.shape.rank == 3 else images
    values = tf.cast(images, tf.float32)
    inside = tf.logical_and(tf.reduce_min(values) >= low - 1e-3, tf.reduce_max(values) <= high + 1e-3)
    message = f"images are not in the range from {low:g} to {high:g}; tell the Augmenter their value_range."
    return (required(inside, message, values) - low) * (2.0 / (high - low)) - 1.0


def from_model_range(scaled: Any, like: Any, low: float, high: float) -> Any:
    """Images [B, H, W, C] in [-1, 1] in the range from `low` to `high`, the type and the rank of `like`."""
    values = (scaled + 1.0) * (0.5 * (high - low)) + low
    if like.dtype.is_integer:
        values = tf.round(values)
    values = tf.cast(tf.clip_by_value(values, low, high), like.dtype)
    return values[..., 0] if like.shape.rank == 3 else values


def fitted(images: Any, like: Any) -> Any:
    """Images [B, H, W, C] of the height, width and channels of `like`.

    Raises UsageError where channels cannot be turned into each other: neither equal nor grey and colour.
    """
    if images.shape[3] != like.shape[3]:
        if (images.shape[3], like.shape[3]) == (1, 3):
            images = tf.image.grayscale_to_rgb(images)
        elif (images.shape[3], like.shape[3]) == (3, 1):
            images = tf.image.rgb_to_grayscale(images)
        else:
            raise UsageError(
                f"the batch has {like.shape[3]} channels and the run's images {images.shape[3]}; grey and colour alone can be "
                "turned into each other."
            )
    if images.shape[1:3] != like.shape[1:3]:
        images = tf.image.resize(images, tf.shape(like)[1:3], antialias=True)
        images.set_shape([None, *like.shape[1:]])
    return images


def label_numbers(labels: Any) -> Any:
    """Labels [B], [B, 1] or one-hot [B, K] as integers [B]; raises UsageError for any other shape."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1:
        return tf.cast(labels, tf.int32)
    if labels.shape.rank == 2 and labels.shape[1] == 1:
        return tf.cast(labels[:, 0], tf.int32)
    if labels.shape.rank == 2 and labels.shape[1] is not None:
        return tf.argmax(labels, axis=1, output_type=tf.int32)
    raise UsageError(f"labels have the shape {labels.shape}; integers [B] or [B, 1], or one-hot [B, K], are needed.")


def labels_like(numbers: Any, like: Any) -> Any:
    """Integers [n] in the form that the labels `like` have."""
    like = tf.convert_to_tensor(like)
    if like.shape.rank == 1:
        return tf.cast(numbers, like.dtype)
    if like.shape[1] == 1:
        return tf.cast(numbers[:, None], like.dtype)
    return tf.one_hot(numbers, like.shape[1], dtype=like.dtype)


def required(condition: Any, message: str, values: Any) -> Any:
    """The values, where the condition holds; else UsageError, or in a graph tf.errors.InvalidArgumentError."""
    if tf.executing_eagerly():
        if not bool(condition):
            raise UsageError(message)
        return values
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(values)
