"""A small convolutional classifier, trained in a minute or two: the source of features, and the judge of samples."""

from __future__ import annotations

import numpy as np

from genlab import blocks
from genlab.backend import keras, tf

FEATURES = 64
"""Size of the last hidden layer, whose activations are the features."""


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
):
    """A Keras model, images [B, H, W, C] in [-1, 1] -> (features [B, 64], logits [B, K]), trained on uint8 images.

    `shift` moves each training image by up to so many pixels either way. Small data sets are gone through more often:
    at least 1,000 steps are trained with 12 epochs, and in proportion otherwise.
    """
    keras.utils.set_random_seed(seed)
    network = build(images.shape[1:], num_classes)
    steps = max(1, round(epochs * max(len(images) / batch_size, 1000 / 12)))
    stream = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=seed).repeat()

    def prepared(batch, answers):
        batch = tf.cast(batch, tf.float32) / 127.5 - 1.0
        if shift:
            padded = tf.pad(batch, [[0, 0], [shift, shift], [shift, shift], [0, 0]], "SYMMETRIC")
            batch = tf.image.random_crop(padded, tf.shape(batch))
        return batch, answers

    stream = stream.batch(batch_size).map(prepared).prefetch(4)
    trained = keras.Model(network.inputs[0], network.outputs[1])
    trained.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    trained.fit(stream, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    return network


def build(shape: tuple[int, ...], num_classes: int):
    """Three or more strided convolutions and two dense layers."""
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
