"""The judge of the benchmarks: a small convolutional classifier, trained once on the data's real images.

Its features and answers are a yardstick of this repository alone: figures measured with another classifier cannot be
compared with them.
"""

from __future__ import annotations

import pathlib

import numpy as np

from genlab.backend import keras
from genlab.data import Dataset

CACHE = pathlib.Path(__file__).parent / "cache"


def load(dataset: Dataset):
    """The classifier of that data, trained at the first call: a Keras model images -> (features [N, 64], logits)."""
    path = CACHE / f"classifier-{dataset.sha256[:12]}.keras"
    if path.exists():
        return keras.models.load_model(path)
    keras.utils.set_random_seed(0)
    images = keras.Input(dataset.spec.shape)
    x = images
    for channels in (32, 64, 128):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
    features = keras.layers.Dense(64, activation="relu")(x)
    logits = keras.layers.Dense(dataset.spec.num_classes)(features)
    trained = keras.Model(images, logits)
    epochs, batch_size = 12, 128
    steps = epochs * len(dataset.images) // batch_size
    trained.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trained.fit(scaled(dataset.images), dataset.labels, batch_size=batch_size, epochs=epochs, verbose=2)
    classifier = keras.Model(images, [features, logits])
    CACHE.mkdir(exist_ok=True)
    classifier.save(path)
    return classifier


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1.0


def judge(classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 64], float64, and classes [N] of uint8 images."""
    parts = [classifier(scaled(images[start : start + 500]), training=False) for start in range(0, len(images), 500)]
    features = np.concatenate([part[0] for part in parts]).astype(np.float64)
    return features, np.concatenate([np.argmax(part[1], axis=1) for part in parts])


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Of Gaussians fitted to two sets of features (Heusel et al. 2017, equation 6)."""
    difference = first.mean(0) - second.mean(0)
    covariance, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the root of a product of covariances is the sum of the roots of its eigenvalues.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(covariance @ other).real, 0.0))
    return float(difference @ difference + np.trace(covariance) + np.trace(other) - 2 * roots.sum())
