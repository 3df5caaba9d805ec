"""Distance between images in the features of a trained discriminator."""

from __future__ import annotations

from collections.abc import Callable

from genlab.backend import Network, Tensor, keras, tf


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
