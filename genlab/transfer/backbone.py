"""A trained encoder or discriminator as the backbone of a classifier."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from genlab.backend import Network
from genlab.errors import UsageError
from genlab.networks.features import matching, until

if TYPE_CHECKING:
    from genlab import run as runs


def classifier(
    run: str | os.PathLike[str] | runs.Run,
    num_classes: int | None = None,
    *,
    layers: str = "",
    trainable: str = "*",
    pretrained: bool = True,
    seed: int = 0,
) -> Network:
    """Return a Keras model, images [B, H, W, C] in [-1, 1] -> logits [B, num_classes], with a trained backbone.

    `run` is a Run, or its folder, number or `latest`. The backbone is the run's encoder (autoencoder, vae) or discriminator,
    up to the last layer whose name matches `layers`, comma-separated patterns like `down*_act`. A dense layer `class_logits`
    is added. Layers of the backbone whose names match `trainable` are trained, the others are frozen (see `freeze`). The
    run itself does not change. `num_classes` defaults to that of the run's data. Without `pretrained`, the backbone has
    initial weights from `seed`: the same network from scratch. Raises UsageError if a pattern matches nothing or the run
    has no such network.
    """
    from genlab import bounds
    from genlab import run as runs
    from genlab.backend import keras
    from genlab.data.dataset import spec_of
    from genlab.networks import blocks

    if num_classes is not None:
        bounds.whole("num_classes", num_classes, 1)
    bounds.whole("seed", seed)
    opened = run if isinstance(run, runs.Run) else runs.open(run)
    facts = opened.config.dataset
    num_classes = num_classes or facts["num_classes"]
    if not num_classes:
        raise UsageError(f"{opened.name} was trained without labels. Pass the number of classes, num_classes=10.")
    trained = feature_network(opened)
    # A separate model: training it must not change the run's.
    fresh = type(opened.model)(opened.config.hparams, spec_of(facts), seed=seed)
    network = fresh.feature_network
    assert network is not None
    if pretrained:
        network.set_weights(trained.get_weights())
    pattern = layers or opened.model.feature_layers
    try:
        backbone = blocks.stock(until(network, pattern))
    except ValueError:  # raised by Keras if the layer depends on the labels
        raise UsageError(
            f"layer {matching(network, pattern)[-1].name} of {opened.name} needs inputs other than images; cut before it, with --layers."
        ) from None
    images, features = backbone.inputs[0], backbone.output
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="trunk_features")(features)
    initializer = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(num_classes, kernel_initializer=initializer, dtype="float32", name="class_logits")
    model = keras.Model(images, head(features), name="classifier")
    freeze(model)
    unfreeze(model, f"{trainable},class_logits" if trainable else "class_logits")
    return model


def freeze(model: Network, pattern: str = "*") -> int:
    """Freeze the layers whose names match the comma-separated patterns. Return the number of weights still trained.

    Raises UsageError if nothing matches. Compile the model again if it was compiled before.
    """
    return _set_trainable(model, pattern, False)


def unfreeze(model: Network, pattern: str = "*") -> int:
    """Unfreeze the layers whose names match, see `freeze`. Return the number of weights trained."""
    return _set_trainable(model, pattern, True)


def _set_trainable(model: Network, pattern: str, value: bool) -> int:
    for layer in matching(model, pattern):
        layer.trainable = value
    return weights_trained(model)


def weights_trained(model: Network) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def feature_network(run: runs.Run) -> Network:
    """Return the network that the backbone is cut from. Raises UsageError if the run has none."""
    if not run.model.spec.is_image:
        raise UsageError(f"{run.path} was trained on points, not images.")
    if run.model.feature_network is None:
        raise UsageError(
            f"{run.config.model} has no network to transfer. Use a run of an autoencoder, a vae, a flow or a GAN."
        )
    return run.model.feature_network
