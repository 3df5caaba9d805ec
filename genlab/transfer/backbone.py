"""A trained encoder or discriminator as the trunk of a classifier."""

from __future__ import annotations

import fnmatch
import math
from typing import Any

from genlab.errors import UsageError, closest

# On 100 labels of MNIST a vae's encoder cut here gains 8 points over its like from scratch; with its dense layer, none.
TRUNK = "down*_act,dense*_act"
"""Where the trunk ends by default: before what compares the images of a batch with one another, and before the codes."""


def classifier(
    run: Any,
    num_classes: int | None = None,
    *,
    layers: str = "",
    trainable: str = "*",
    pretrained: bool = True,
    seed: int = 0,
) -> Any:
    """An ordinary Keras model, images [B, H, W, C] in [-1, 1] -> logits [B, num_classes], with a trained trunk.

    `run` is a Run, or its folder, number or `latest`. The trunk is the run's encoder (autoencoder, vae), else its
    discriminator, up to the last layer whose name matches `layers`, comma-separated patterns like `down*_act`; a dense layer
    `class_logits` is put on. Layers of the trunk whose names match `trainable` are trained, the others frozen (see
    `freeze`). The run itself is not changed. `num_classes` is by default that of the run's data. Without `pretrained` the
    trunk has initial weights, of that seed: the same network from scratch. Raises UsageError where a pattern matches
    nothing or the run has no such network.
    """
    from genlab import run as runs
    from genlab.backend import keras
    from genlab.data.spec import DataSpec
    from genlab.networks import blocks

    opened = run if isinstance(run, runs.Run) else runs.open(run)
    facts = opened.config.dataset
    num_classes = num_classes or facts["num_classes"]
    if not num_classes:
        raise UsageError(f"{opened.name} was trained without labels: tell how many classes are to be told apart.")
    trained = feature_network(opened)
    spec = DataSpec(tuple(facts["shape"]), facts["num_classes"])
    # A model of its own: training it must not touch the run's.
    fresh = type(opened.model)(opened.config.hparams, spec, seed=seed)
    network = fresh.feature_network
    if pretrained:
        network.set_weights(trained.get_weights())
    images = network.inputs[0]
    last = _matching(network, layers or TRUNK)[-1]
    try:
        trunk = blocks.stock(keras.Model(images, last.output))
    except ValueError:  # Keras finds that it needs the labels too
        raise UsageError(f"layer {last.name} of {opened.name} needs labels beside the images; cut before it.") from None
    images, features = trunk.inputs[0], trunk.output
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="trunk_features")(features)
    initializer = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(num_classes, kernel_initializer=initializer, dtype="float32", name="class_logits")
    model = keras.Model(images, head(features), name="classifier")
    freeze(model)
    unfreeze(model, f"{trainable},class_logits" if trainable else "class_logits")
    return model


def freeze(model: Any, pattern: str = "*") -> int:
    """Freeze the layers whose names match the comma-separated patterns; returns how many weights are still trained.

    Raises UsageError where nothing matches. A model that was compiled before must be compiled anew.
    """
    return _set_trainable(model, pattern, False)


def unfreeze(model: Any, pattern: str = "*") -> int:
    """The other way round: train these layers again; returns how many weights are trained."""
    return _set_trainable(model, pattern, True)


def _set_trainable(model: Any, pattern: str, value: bool) -> int:
    for layer in _matching(model, pattern):
        layer.trainable = value
    return weights_trained(model)


def weights_trained(model: Any) -> int:
    """How many numbers training the model changes."""
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def _matching(network: Any, pattern: str) -> list[Any]:
    """Layers whose names match, in order. Raises UsageError where none does, with the names there are."""
    patterns = [each.strip() for each in pattern.split(",") if each.strip()]
    found = [layer for layer in network.layers if any(fnmatch.fnmatchcase(layer.name, each) for each in patterns)]
    if not found:
        names = [layer.name for layer in network.layers]
        raise UsageError(
            f"no layer is named {pattern!r}{closest(pattern, names).removesuffix('.')}; there are {', '.join(names)}."
        )
    return found


def feature_network(run: Any) -> Any:
    """The network that the trunk is cut from. Raises UsageError where the run has none."""
    if not run.model.spec.is_image:
        raise UsageError(f"{run.path} was trained on points, not images.")
    if run.model.feature_network is None:
        raise UsageError(
            f"{run.config.model} has no network to transfer. Take a run of an autoencoder, a vae or a GAN."
        )
    return run.model.feature_network
