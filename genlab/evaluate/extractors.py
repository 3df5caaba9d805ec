"""Feature extractors, by the names of `--extractor`.

`digits` is a small classifier of handwritten digits, included in genlab. `classifier` is trained once on the run's labelled
data and cached. `inception` is Keras' InceptionV3. Anything else is the path of a Keras model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genlab import files
from genlab.backend import Network, Tensor, in_parts, keras, tf
from genlab.data.dataset import Dataset, Images
from genlab.data.spec import to_model_range
from genlab.errors import GenlabError, UsageError, reason
from genlab.evaluate import classifier
from genlab.networks import keras_files

log = logging.getLogger("genlab")

BATCH = 250
CLASSIFIER_IMAGES = 100_000
"""Maximum number of images to train a data set's classifier on."""
DIGITS = pathlib.Path(__file__).parent / "digits.keras"
"""Trained by benchmarks/digits_extractor.py on MNIST's 60,000 training images, each batch shifted as a whole."""
DIGIT_SETS = ("digits", "mnist", "stacked", "stacked-digits")
"""Names of data sets of handwritten digits."""


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Maps images to features, and to logits if it is a classifier."""

    name: str
    network: Network
    """Keras model: images [B, H, W, C] in [-1, 1] -> features [B, F], or (features, logits [B, K])."""
    shape: tuple[int, ...]
    """(height, width, channels) of the network's input, in pixels."""
    accuracy: float | None = None
    """Accuracy on the data's held-out images; None if unknown."""

    @property
    def sha256(self) -> str:
        """Hash of all weights. Metrics of different extractors cannot be compared."""
        digest = hashlib.sha256()
        for weight in self.network.get_weights():
            digest.update(np.ascontiguousarray(weight).data)
        return digest.hexdigest()

    @property
    def num_classes(self) -> int:
        """Number of classes of its logits; 0 if it has none."""
        outputs = self.network.outputs
        return outputs[1].shape[-1] if len(outputs) == 2 else 0

    def __call__(self, images: Images) -> tuple[np.ndarray, np.ndarray | None]:
        """Map uint8 images [N, H, W, C] to features [N, F] and logits [N, K] (None if it has none), float32."""
        outputs = self._compiled(tuple(images.shape[1:]))
        features, *logits = in_parts(lambda part: tf.nest.flatten(outputs(part)), images, size=BATCH)
        if not all(np.isfinite(each).all() for each in (features, *logits)):
            raise GenlabError(
                f"the extractor {self.name} gives features that are not finite for these images. Use another one."
            )
        return features.reshape(len(features), -1), logits[0] if logits else None

    @functools.cached_property
    def _compiled(self) -> Callable[[tuple[int, ...]], Callable[[Tensor], Tensor]]:
        """Function that returns the network as one graph, for a shape of images."""

        # Twice as fast as the network itself: convolution, bias, normalization and activation are fused.
        @functools.cache
        def compiled(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
            signature = [tf.TensorSpec((None, *shape), tf.uint8)]
            return tf.function(lambda images: self.network(self._fitted(images), training=False), signature)

        return compiled

    def accuracy_on(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the accuracy on uint8 images [N, H, W, C] with labels [N]."""
        logits = self(images)[1]
        assert logits is not None
        return float((logits.argmax(axis=1) == labels).mean())

    def _fitted(self, images: Tensor) -> Tensor:
        """Convert images to [-1, 1] and to the network's size and channels."""
        images = to_model_range(images)
        if images.shape[1:3] != self.shape[:2]:
            # As in the graph of Heusel et al.: bilinear, with TensorFlow 1's corner alignment, no anti-aliasing.
            images = tf.compat.v1.image.resize_bilinear(images, self.shape[:2])
        if images.shape[3] == 1 and self.shape[2] == 3:
            images = tf.image.grayscale_to_rgb(images)
        return images

    def protocol(self, data_shape: tuple[int, ...]) -> dict[str, Any]:
        """Return the protocol entries to store with a metric."""
        resized = tuple(data_shape[:2]) != tuple(self.shape[:2])
        return {
            "extractor": self.name,
            "extractor_sha256": self.sha256,
            "resize": f"bilinear to {self.shape[0]}x{self.shape[1]}" if resized else "none",
        }


def load(name: str, dataset: Dataset) -> Extractor:
    """Return an extractor by name; `auto` is `digits` for 28x28 digits, `classifier` for other labelled data.

    Raises UsageError if it does not fit the data, GenlabError if its weights are unavailable.
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
        raise UsageError(f"--extractor digits is for images of 28x28 pixels, and these have {_by(shape)}.")
    network = keras_files.load(DIGITS)
    if shape[2] == 1:
        return Extractor("digits", network, shape)
    return Extractor("digits of each channel", _stacked(network), shape)


def _stacked(network: Network) -> Network:
    """Apply the network to each of three channels: concatenated features, and logits of the three-digit number."""
    images = keras.Input((28, 28, 3))
    channels = [network(images[..., index : index + 1]) for index in range(3)]
    features = keras.layers.Concatenate()([features for features, _ in channels])
    first, second, third = (keras.ops.log_softmax(logits) for _, logits in channels)
    joint = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :]
    return keras.Model(images, [features, keras.layers.Reshape((1000,))(joint)])


def _classifier(dataset: Dataset) -> Extractor:
    if dataset.spec.num_classes < 2 or not dataset.images_by_class.any():
        raise UsageError(
            "--extractor classifier needs labels to train on, and the data has none. Use --extractor inception."
        )
    labelled = dataset.labelled_part()
    path = files.cache_folder() / f"classifier-{dataset.sha256[:16]}.keras"
    network = _cached(path, dataset)
    if network is None:
        log.info(f"training a classifier on {dataset.name} as feature extractor, once; cached in {path}")
        images, labels = labelled.examples(CLASSIFIER_IMAGES)
        assert labels is not None
        network = classifier.train(images, labels, dataset.spec.num_classes)
        files.replace(path, network.save)
    images, labels = labelled.tested(CLASSIFIER_IMAGES)
    extractor = Extractor("classifier", network, dataset.spec.shape)
    assert labels is not None
    accuracy = extractor.accuracy_on(images, labels)
    kind = "held-out" if labelled.test_images is not None else "training (none is held out)"
    log.info(f"the classifier has an accuracy of {accuracy:.1%} on {len(images):,} {kind} images")
    return dataclasses.replace(extractor, accuracy=accuracy)


def _cached(path: pathlib.Path, dataset: Dataset) -> Network | None:
    """Return the classifier in the cache; None if there is none that can be used."""
    if not path.exists():
        return None
    try:
        network = keras_files.load(path)
    except GenlabError as error:
        log.warning(f"{error} It is trained again.")
        return None
    shapes = [tuple(each.shape[1:]) for each in (*network.inputs, *network.outputs)]
    if shapes != [dataset.spec.shape, (classifier.FEATURES,), (dataset.spec.num_classes,)]:
        log.warning(f"{path} is not a classifier of {dataset.name}. It is trained again.")
        return None
    return network


def inception(weights: str | None = "imagenet") -> Extractor:
    """Return Keras' InceptionV3: 2,048 pooled features and 1,000 logits; `weights` None gives random ones.

    Published FIDs use a different network, a graph of 2015 with other weights and 1,008 classes. So these metrics cannot
    be compared with published ones. Raises GenlabError if the weights cannot be fetched.
    """
    try:
        network = keras.applications.InceptionV3(weights=weights, classifier_activation=None)
    except Exception as error:  # Keras raises bare exceptions when a download fails
        raise GenlabError(
            "the weights of InceptionV3 cannot be fetched: no network access. Put them into Keras' cache "
            "(~/.keras/models), or use --extractor classifier (with labels) or --extractor PATH.keras."
        ) from error
    pooled = network.get_layer("avg_pool").output
    return Extractor("inception", keras.Model(network.inputs[0], [pooled, network.outputs[0]]), (299, 299, 3))


def _from_file(path: str, dataset: Dataset) -> Extractor:
    if not pathlib.Path(path).is_file():
        raise UsageError(
            f"--extractor {path}: there is no such file. Built-in extractors: digits, classifier, inception."
        )
    try:
        network = keras_files.load(path)
    except GenlabError as error:
        raise UsageError(f"--extractor: {error}") from error
    shape = network.inputs[0].shape[1:]
    if len(network.inputs) != 1 or len(shape) != 3 or len(network.outputs) > 2:
        raise UsageError(
            f"--extractor {path} has {len(network.inputs)} inputs and {len(network.outputs)} outputs; it must have one input, "
            "images [B, H, W, C], and as outputs features, or features and logits."
        )
    channels = dataset.spec.shape[2]
    if shape[2] not in (channels, 3 if channels == 1 else channels):
        raise UsageError(f"--extractor {path} takes {shape[2]} channels, and the images have {channels}.")
    fitted = tuple(size or own for size, own in zip(shape, dataset.spec.shape, strict=True))
    extractor = Extractor(pathlib.Path(path).name, network, fitted)
    try:
        features, logits = extractor(np.zeros((2, *dataset.spec.shape), np.uint8))
    except GenlabError:
        raise
    except Exception as error:  # layers raise errors of all kinds about sizes that do not fit
        raise UsageError(
            f"--extractor {path} cannot be applied to images of {_by(dataset.spec.shape)}: {reason(error)}."
        ) from error
    if len(features) != 2 or (logits is not None and (logits.ndim != 2 or logits.shape[1] < 2)):
        raise UsageError(f"--extractor {path}: its outputs must be features [B, ...] and, if any, logits [B, K].")
    return extractor


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
