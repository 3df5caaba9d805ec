"""Features of trained networks: layers by name, and a distance between images in a discriminator's."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

from genlab.backend import Layer, Network, Tensor, keras, tf
from genlab.errors import UsageError, closest


def feature_distance(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of two batches [B, ...]: the mean squared difference of a network's hidden activations, [B].

    Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric"
    (https://arxiv.org/abs/1512.09300), equation 7, averaged over all hidden layers to weight coarse and fine features
    equally. `network` takes only images and is not trained further.
    """
    hidden = [layer.output for layer in network.layers if layer.name.endswith("_act")]
    activations = keras.Model(network.inputs[0], hidden)

    def distance(first: Tensor, second: Tensor) -> Tensor:
        pairs = zip(tf.nest.flatten(activations(first)), tf.nest.flatten(activations(second)), strict=True)
        squares = [tf.square(tf.cast(a, tf.float32) - tf.cast(b, tf.float32)) for a, b in pairs]
        return tf.add_n([tf.reduce_mean(each, axis=list(range(1, len(each.shape)))) for each in squares]) / len(hidden)

    return distance


def until(network: Network, pattern: str) -> Network:
    """Return the Keras model images -> output of the last layer whose name matches.

    Raises UsageError if no name does, ValueError if the layer depends on more than images, such as labels.
    """
    last = matching(network, pattern)[-1]
    # The output of a model within the network is one of its own graph, not of the network's.
    output = network.output if last is network.layers[-1] else last.output
    return keras.Model(network.inputs[0], output)


def matching(network: Network, pattern: str) -> list[Layer]:
    """Return the layers whose names match, in order. Raises UsageError, listing the names, if none does."""
    patterns = [each.strip() for each in pattern.split(",") if each.strip()]
    found = [layer for layer in network.layers if any(fnmatch.fnmatchcase(layer.name, each) for each in patterns)]
    if not found:
        names = [layer.name for layer in network.layers]
        raise UsageError(
            f"no layer is named {pattern!r}{closest(pattern, names).removesuffix('.')}; there are {', '.join(names)}."
        )
    return found
