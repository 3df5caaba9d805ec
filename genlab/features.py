"""The features of a trained discriminator, as a distance between images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genlab import run as runs
from genlab.backend import keras, tf
from genlab.errors import UsageError


def discriminator_distance(run: str, spec: Any) -> Callable[[Any, Any], Any]:
    """A function of two batches [B, ...]: mean square difference of the discriminator's hidden activations, [B].

    Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric"
    (https://arxiv.org/abs/1512.09300), equation 7, averaged over all hidden layers, so that coarse and fine features
    count alike. The discriminator is not trained further. Raises UsageError where the run has no discriminator or was
    trained on another shape.
    """
    opened = runs.open(run)
    if tuple(opened.config.dataset["shape"]) != tuple(spec.shape):
        raise UsageError(
            f"--discriminator {run} was trained on {opened.config.dataset['shape']}, not {list(spec.shape)}."
        )
    discriminator = getattr(opened.model, "discriminator", None)
    if discriminator is None or len(discriminator.inputs) != 1:
        raise UsageError(f"--discriminator {run}: {opened.config.model} has no discriminator of images alone.")
    hidden = [layer.output for layer in discriminator.layers if layer.name.endswith("_act")]
    network = keras.Model(discriminator.inputs[0], hidden)

    def distance(first, second):
        pairs = zip(tf.nest.flatten(network(first)), tf.nest.flatten(network(second)), strict=True)
        squares = [tf.square(tf.cast(a, tf.float32) - tf.cast(b, tf.float32)) for a, b in pairs]
        return tf.add_n([tf.reduce_mean(each, axis=list(range(1, len(each.shape)))) for each in squares]) / len(hidden)

    return distance
