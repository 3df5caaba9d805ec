"""What takes features from images: classifiers, by the names that `--extractor` knows.

`digits` is a small classifier of handwritten digits that comes with genlab; `classifier` one that is trained on the
labelled data at hand, once, and kept; `inception` Keras' InceptionV3; anything else the path of a Keras model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import pathlib
from typing import Any

import numpy as np

from genlab import files
from genlab.backend import in_parts, keras, tf
from genlab.data.dataset import Dataset, Images
from genlab.data.spec import to_model_range
from genlab.errors import GenlabError, UsageError
from genlab.evaluate import classifier

log = logging.getLogger("genlab")

BATCH = 250
CLASSIFIER_IMAGES = 100_000
"""Images that the data's own classifier is trained on, at most."""
DIGITS = pathlib.Path(__file__).parent / "digits.keras"
"""Trained on MNIST's 60,000 training images by benchmarks/digits_extractor.py, in batches that are shifted as a whole."""
DIGIT_SETS = ("digits", "mnist", "stacked", "stacked-digits")
"""Data of handwritten digits, by the name of the Dataset."""


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Images -> features, and the answers of a classifier where it is one."""

    name: str
    network: Any
    """Keras model: images [B, H, W, C] in [-1, 1] -> features [B, F], or (features, logits [B, K])."""
    shape: tuple[int, ...]
    """(height, width, channels) that the network takes, in pixels."""
    accuracy: float | None = None
    """Share of the data's held-out images that it classifies rightly, where that is known."""

    @property
    def sha256(self) -> str:
        """Hash of all weights: metrics of different extractors cannot be compared."""
        digest = hashlib.sha256()
        for weight in self.network.get_weights():
            digest.update(np.ascontiguousarray(weight).data)
        return digest.hexdigest()

    @property
    def num_classes(self) -> int:
        """Classes of its answers; 0 where it has none."""
        outputs = self.network.outputs
        return outputs[1].shape[-1] if len(outputs) == 2 else 0

    def __call__(self, images: Images) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 images [N, H, W, C] -> features [N, F] and logits [N, K] (None where it has none), float32."""
        predictions = self._compiled(tuple(images.shape[1:]))
        features, *logits = in_parts(lambda part: tf.nest.flatten(predictions(part)), images, size=BATCH)
        return features.reshape(len(features), -1), logits[0] if logits else None

    @functools.cached_property
    def _compiled(self):
        """The network as one graph, by the shape of the images that it is handed."""

        # Twice as fast as the network alone: convolution, bias, normalization and activation become one.
        @functools.cache
        def compiled(shape: tuple[int, ...]) -> Any:
            signature = [tf.TensorSpec((None, *shape), tf.uint8)]
            return tf.function(lambda images: self.network(self._fitted(images), training=False), signature)

        return compiled

    def accuracy_on(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Share of uint8 images [N, H, W, C] that it takes for what their labels [N] say."""
        logits = self(images)[1]
        assert logits is not None
        return float((logits.argmax(axis=1) == labels).mean())

    def _fitted(self, images):
        """Images in [-1, 1] of the network's own size and channels."""
        images = to_model_range(images)
        if images.shape[1:3] != self.shape[:2]:
            # As the graph of Heusel et al. does it: bilinear, corners as TensorFlow 1 took them, no anti-aliasing.
            images = tf.compat.v1.image.resize_bilinear(images, self.shape[:2])
        if images.shape[3] == 1 and self.shape[2] == 3:
            images = tf.image.grayscale_to_rgb(images)
        return images

    def protocol(self, data_shape: tuple[int, ...]) -> dict[str, Any]:
        """What a metric must be stored with."""
        resized = tuple(data_shape[:2]) != tuple(self.shape[:2])
        return {
            "extractor": self.name,
            "extractor_sha256": self.sha256,
            "resize": f"bilinear to {self.shape[0]}x{self.shape[1]}" if resized else "none",
        }


def load(name: str, dataset: Dataset) -> Extractor:
    """The extractor of that name for that data; `auto` is `digits` for 28x28 digits, `classifier` for other labels.

    Raises UsageError where it does not fit the data, GenlabError where its weights cannot be had.
    """
    if name == "auto":
        name = _fitting(dataset)
    match name:
        case "digits":
            return _digits(dataset)
        case "classifier":
            return _classifier(dataset)
        case "inception":
            return inception()
    return _from_file(name, dataset)


def _fitting(dataset: Dataset) -> str:
    if dataset.name in DIGIT_SETS and dataset.spec.shape[:2] == (28, 28):
        return "digits"
    return "classifier" if dataset.spec.num_classes > 1 else "inception"


def _digits(dataset: Dataset) -> Extractor:
    shape = dataset.spec.shape
    if shape not in ((28, 28, 1), (28, 28, 3)):
        raise UsageError(f"--extractor digits is for images of 28x28 pixels, and these are {_by(shape)}.")
    network = keras.models.load_model(DIGITS, compile=False)
    if shape[2] == 1:
        return Extractor("digits", network, shape)
    return Extractor("digits of each channel", _stacked(network), shape)


def _stacked(network):
    """Three digits as one image's channels: features side by side, and logits of the number that they read."""
    images = keras.Input((28, 28, 3))
    channels = [network(images[..., index : index + 1]) for index in range(3)]
    features = keras.layers.Concatenate()([features for features, _ in channels])
    first, second, third = (keras.ops.log_softmax(logits) for _, logits in channels)
    joint = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]
    return keras.Model(images, [features, keras.layers.Reshape((1000,))(joint)])


def _classifier(dataset: Dataset) -> Extractor:
    if dataset.spec.num_classes < 2 or dataset.labels is None:
        raise UsageError(
            "--extractor classifier is trained on labels, and the data has none. Give --extractor inception."
        )
    path = files.cache_folder() / f"classifier-{dataset.sha256[:16]}.keras"
    if path.exists():
        network = keras.models.load_model(path, compile=False)
    else:
        log.info(f"training a classifier of {dataset.name} for its features, once; it is kept in {path}")
        images, labels = dataset.examples(CLASSIFIER_IMAGES)
        assert labels is not None
        network = classifier.train(images, labels, dataset.spec.num_classes)
        files.replace(path, network.save)
    images, labels = dataset.tested(CLASSIFIER_IMAGES)
    extractor = Extractor("classifier", network, dataset.spec.shape)
    assert labels is not None
    accuracy = extractor.accuracy_on(images, labels)
    kind = "held-out" if dataset.test_images is not None else "training (none is held out)"
    log.info(f"the classifier is right on {accuracy:.1%} of {len(images):,} {kind} images")
    return dataclasses.replace(extractor, accuracy=accuracy)


def inception(weights: str | None = "imagenet") -> Extractor:
    """Keras' InceptionV3: 2,048 pooled features and 1,000 logits; `weights` None takes random ones.

    It is not the network of the published FIDs: those come from a graph of 2015 with other weights and 1,008 classes.
    Metrics are alike in kind and cannot be compared with published ones. Raises GenlabError where the weights
    cannot be fetched.
    """
    try:
        network = keras.applications.InceptionV3(weights=weights, classifier_activation=None)
    except Exception as error:  # Keras raises bare exceptions when a download fails
        raise GenlabError(
            "the weights of InceptionV3 cannot be fetched: there is no network, or no right to use it. Put them into Keras' "
            "cache (~/.keras/models), or take --extractor classifier (with labels) or --extractor PATH.keras."
        ) from error
    pooled = network.get_layer("avg_pool").output
    return Extractor("inception", keras.Model(network.inputs[0], [pooled, network.outputs[0]]), (299, 299, 3))


def _from_file(path: str, dataset: Dataset) -> Extractor:
    if not pathlib.Path(path).is_file():
        raise UsageError(f"--extractor {path}: there is no such file; or name one of digits, classifier, inception.")
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError) as error:
        raise UsageError(f"--extractor {path}: Keras cannot read it: {str(error).splitlines()[0][:200]}") from error
    shape = network.inputs[0].shape[1:]
    if len(network.inputs) != 1 or len(shape) != 3 or len(network.outputs) > 2:
        raise UsageError(
            f"--extractor {path}: a model of one input, images [B, H, W, C], and one output, features, or two, features and "
            f"logits, is needed; this one has {len(network.inputs)} and {len(network.outputs)}."
        )
    channels = dataset.spec.shape[2]
    if shape[2] not in (channels, 3 if channels == 1 else channels):
        raise UsageError(f"--extractor {path} takes {shape[2]} channels, and the images have {channels}.")
    fitted = tuple(size or own for size, own in zip(shape, dataset.spec.shape, strict=True))
    return Extractor(pathlib.Path(path).name, network, fitted)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
