"""A small convolutional classifier, trained in a minute or two: a feature extractor, and a scorer of samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from genlab.backend import LazyModule, Network, Stream, Tensor, in_parts, keras, tf
from genlab.data.dataset import Images
from genlab.data.options import View
from genlab.data.spec import to_model_range
from genlab.networks import augmentation, blocks

optimizers = LazyModule("genlab.networks.optimizers")

FEATURES = 64
"""Size of the last hidden layer, whose activations are the features."""
VIEWS: tuple[View, ...] = ("shift", "rotate", "zoom")
"""Changes of training images that keep the class of most."""


def train(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    epochs: float = 12,
    batch_size: int = 128,
    shift: int = 0,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Network:
    """Train on uint8 images. Return a Keras model, images [B, H, W, C] in [-1, 1] -> (features [B, 64], logits [B, K]).

    `shift` moves each batch as a whole by at most this many pixels, see `shifted`. Small data sets get more passes: 12 epochs are
    at least 1,000 steps, and other numbers of epochs in proportion.
    """
    keras.utils.set_random_seed(seed)
    network = build(images.shape[1:], num_classes)
    steps = max(1, round(epochs * max(len(images) / batch_size, 1000 / 12)))
    stream = batches(images, labels, batch_size, seed)

    def prepared(batch: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        batch = to_model_range(batch)
        return shifted(batch, shift) if shift else batch, classes

    stream = stream.map(prepared).prefetch(4)
    trained = keras.Model(network.inputs[0], network.outputs[1])
    fit(trained, stream, steps, learning_rate)
    return network


def shifted(images: Tensor, most: int) -> Tensor:
    """Shift images [B, H, W, C] by up to `most` pixels along each axis, with mirrored edges: one shift for the whole batch.

    `augmentation.augmented` shifts each image separately. digits.keras was trained with this function, and stored metrics
    contain the hash of its weights, so it must not change.
    """
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]], "SYMMETRIC")
    return tf.image.random_crop(padded, tf.shape(images))


def batches(images: np.ndarray, labels: np.ndarray, size: int, seed: int) -> Stream:
    """Return an endless shuffled tf.data stream of batches (images, labels)."""
    stream = tf.data.Dataset.from_tensor_slices((images, labels.astype(np.int32)))
    return stream.shuffle(len(images), seed=seed).repeat().batch(size)


def stream(images: np.ndarray, labels: np.ndarray, size: int, seed: int) -> Stream:
    """Return the same stream with images in [-1, 1], for training."""
    return batches(images, labels, size, seed).map(lambda batch, classes: (to_model_range(batch), classes)).prefetch(4)


def changing(stream: Stream, views: Sequence[View], seed: int, *, flip: bool = False) -> Stream:
    """Change the images of a stream of batches in [-1, 1] at random, differently in each batch; see `augmentation.augmented`."""

    def changed(number: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return augmentation.augmented(images, tf.stack([tf.cast(number, tf.int32), seed]), views, flip), labels

    return stream.enumerate().map(changed)


def mixed(*streams: Stream) -> Stream:
    """Concatenate the batches (images [B, H, W, C], labels [B]) of one or more streams."""
    return tf.data.Dataset.zip(streams).map(
        lambda *batches: tuple(tf.concat(parts, axis=0) for parts in zip(*batches, strict=True))
    )


def fit(model: Network, stream: Stream, steps: int, learning_rate: float) -> None:
    """Train a model images -> logits for `steps` batches of the stream, using Adam with cosine decay to 0."""
    model.compile(
        optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that many models are traced, which is intended
    try:
        model.fit(stream, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    finally:
        logger.setLevel(level)


def predicted(model: Network, images: Images) -> np.ndarray:
    """Return the predicted class of each uint8 image, [N]."""
    return in_parts(lambda part: model(to_model_range(part), training=False), images, size=500).argmax(axis=1)


def untrained(shape: tuple[int, ...], num_classes: int) -> Network:
    """Build a classifier with initial weights, images [B, H, W, C] in [-1, 1] -> logits [B, K]."""
    network = build(shape, num_classes)
    return keras.Model(network.inputs[0], network.outputs[1], name="classifier")


def build(shape: tuple[int, ...], num_classes: int) -> Network:
    """Build the classifier and its features: two or more strided convolutions and two dense layers."""
    images = keras.Input(tuple(shape), name="images")
    x = images
    for index in range(max(2, len(blocks.resolutions(shape)))):
        x = keras.layers.Conv2D(min(128, 32 * 2**index), 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.3)(x)
    features = keras.layers.Dense(FEATURES, activation="relu", name="features")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(features)
    return keras.Model(images, [features, logits], name="classifier")
