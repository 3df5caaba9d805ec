"""Weights and activations by layer, as TensorBoard histograms."""

from __future__ import annotations

from collections.abc import Mapping

from genlab.backend import Network, Tensor, keras, tf


def write(networks: Mapping[str, Network], inputs: Mapping[str, Tensor | None]) -> None:
    """Write histograms of every weight and of every layer's output to the current summary writer.

    `networks` are functional Keras models by name. `inputs` holds values by the names of the networks' inputs: `latents`
    [B, latent], `images` [B, H, W, C] in [-1, 1], `labels` [B] or None. A network with other inputs, or a model nested in a
    network, gets histograms of its weights only.
    """
    for name, network in networks.items():
        for weight in network.weights:
            tf.summary.histogram(f"weights/{name}/{weight.path}", weight.value)
        fed = [inputs.get(each.name) for each in network.inputs]
        if any(value is None for value in fed):
            continue
        # A nested model has outputs only in its own graph, not in this one.
        shown = [each for each in network.layers if not isinstance(each, keras.layers.InputLayer | keras.Model)]
        outputs = {layer.name: layer.output for layer in shown}
        fed = [tf.convert_to_tensor(value) for value in fed]
        for layer, value in keras.Model(network.inputs, outputs)(fed, training=False).items():
            tf.summary.histogram(f"activations/{name}/{layer}", value)
