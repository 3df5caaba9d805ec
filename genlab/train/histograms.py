"""Weights and activations by layer, as TensorBoard histograms."""

from __future__ import annotations

from typing import Any

from genlab.backend import keras, tf


def write(networks: dict[str, Any], inputs: dict[str, Any]) -> None:
    """Histograms of every weight of the networks, and of what each layer of theirs puts out, to the current writer.

    `networks` are functional Keras models by name. `inputs` holds what may be fed to them by the names of their inputs:
    `latents` [B, latent], `images` [B, H, W, C] in [-1, 1], `labels` [B] or None. A network that asks for something
    else is shown by its weights alone, and a model within a network too.
    """
    for name, network in networks.items():
        for weight in network.weights:
            tf.summary.histogram(f"weights/{name}/{weight.path}", weight.value)
        fed = [inputs.get(each.name) for each in network.inputs]
        if any(value is None for value in fed):
            continue
        # A model among the layers knows its own graph alone, not what it puts out in this one.
        shown = [each for each in network.layers if not isinstance(each, keras.layers.InputLayer | keras.Model)]
        outputs = {layer.name: layer.output for layer in shown}
        fed = [tf.convert_to_tensor(value) for value in fed]
        for layer, value in keras.Model(network.inputs, outputs)(fed, training=False).items():
            tf.summary.histogram(f"activations/{name}/{layer}", value)
