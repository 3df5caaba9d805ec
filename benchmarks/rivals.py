"""Training steps compared by step_time.py, each in its own process: genlab's, and hand-written equivalents.

    python benchmarks/rivals.py WORKLOAD IMPLEMENTATION PRECISION

It runs its turns according to turns.py. `tutorial` is the loop of TensorFlow's DCGAN tutorial, `keras` a custom train_step
with fit, each with the networks, batch and optimizer of the workload; torch_step.py is PyTorch's, jax_step.py JAX's. All
have the plain objective: no penalty, no moving average of weights.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import turns

from genlab import config, models
from genlab import data as sources
from genlab.backend import keras, tf
from genlab.data.spec import DataSpec
from genlab.models import dcgan
from genlab.networks import blocks, layers
from genlab.networks.precision import scope
from genlab.state import State
from genlab.train import distribution
from genlab.train import fit as training
from genlab.train.steps import Steps

IMAGES = 4096
LATENT = 100


@dataclasses.dataclass(frozen=True)
class Workload:
    """Networks and batch that every implementation trains."""

    model: str
    batch: int
    shape: tuple[int, int, int] = (28, 28, 1)
    width: int = 1
    """Factor on the channels and units of genlab's default networks."""

    @property
    def of_tutorial(self) -> bool:
        return self.model == "tutorial"


WORKLOADS = {
    "tutorial-256": Workload("tutorial", 256),
    "dcgan-64": Workload("dcgan", 64),
    "dcgan-128": Workload("dcgan", 128),
    "gan-64": Workload("gan", 64),
    "vae-64": Workload("vae", 64),
    "dcgan-64x64-rgb": Workload("dcgan", 64, (64, 64, 3)),
}
SIZES = {
    **{f"dcgan-{batch}": Workload("dcgan", batch) for batch in (16, 32, 64, 128, 256, 512)},
    "dcgan-64x64-rgb": WORKLOADS["dcgan-64x64-rgb"],
    "dcgan-128x128-rgb": Workload("dcgan", 16, (128, 128, 3)),
    "dcgan-64-twice-as-wide": Workload("dcgan", 64, width=2),
    "dcgan-64-four-times-as-wide": Workload("dcgan", 64, width=4),
}
"""Workloads for the cost of a step by batch size, image size and width of the networks."""


def images(workload: Workload) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *workload.shape), np.uint8)


def hparams(workload: Workload) -> Any:
    """Return the hyper-parameters of genlab's model for the plain objective."""
    chosen: dict[str, Any] = {"batch_size": workload.batch, "average_decay": 0.0, "schedule": "constant"}
    if workload.model == "vae":
        chosen |= {"components": 0}
    else:
        chosen |= {"r1_penalty": 0.0, "minibatch_standard_deviation": False, "differentiable_augmentation": ()}
        chosen["latent_size"] = LATENT
    kind = models.load("dcgan" if workload.of_tutorial else workload.model).Hparams
    if workload.width > 1:
        settings = kind()
        for name in ("generator_widths", "discriminator_widths"):
            chosen[name] = tuple(workload.width * each for each in getattr(settings, name))
        for name in ("generator_units", "discriminator_units"):
            chosen[name] = workload.width * getattr(settings, name)
    return kind(**chosen).for_spec(DataSpec(workload.shape))  # learning rates follow the shape


def tutorial_generator(normalization: Any = None, to_image: Any = None, shape: Sequence[int] = (28, 28, 1)) -> Any:
    """Return the tutorial's generator of images [B, H, W, C], whose sides are multiples of 4."""
    stock = keras.layers
    height, width = shape[0] // 4, shape[1] // 4
    normalization, to_image = normalization or stock.BatchNormalization, to_image or stock.Conv2DTranspose
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            stock.Dense(height * width * 256, use_bias=False),
            normalization(),
            stock.LeakyReLU(),
            stock.Reshape((height, width, 256)),
            stock.Conv2DTranspose(128, 5, padding="same", use_bias=False),
            normalization(),
            stock.LeakyReLU(),
            stock.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            normalization(),
            stock.LeakyReLU(),
            to_image(shape[2], 5, strides=2, padding="same", use_bias=False),
            stock.Activation("tanh", dtype="float32"),
        ]
    )


def tutorial_discriminator(dropout: Any = None, of_image: Any = None, shape: Sequence[int] = (28, 28, 1)) -> Any:
    stock = keras.layers
    dropout, of_image = dropout or stock.Dropout, of_image or stock.Conv2D
    return keras.Sequential(
        [
            keras.Input(tuple(shape)),
            of_image(64, 5, strides=2, padding="same"),
            stock.LeakyReLU(),
            dropout(0.3),
            stock.Conv2D(128, 5, strides=2, padding="same"),
            stock.LeakyReLU(),
            dropout(0.3),
            stock.Flatten(),
            stock.Dense(1, dtype="float32"),
        ]
    )


def networks(workload: Workload) -> tuple[Any, Any]:
    """Return generator and discriminator, or encoder and decoder, with Keras' own layers."""
    if workload.of_tutorial:
        return tutorial_generator(), tutorial_discriminator()
    settings = hparams(workload)
    spec = DataSpec(workload.shape)
    model = models.load(workload.model)(settings, spec)
    pair = (
        (model.trained_encoder, model.trained_decoder)
        if workload.model == "vae"
        else (model.generator, model.discriminator)
    )
    return tuple(blocks.stock(network) for network in pair)


class TutorialNetworks(dcgan.DCGAN):
    """genlab's step on the tutorial's networks, with genlab's layers."""

    def _build_generator(self, *, averaged: bool) -> Any:
        fused = () if averaged else (layers.FusedBatchNormalization, layers.FewChannelsConv2DTranspose)
        return tutorial_generator(*fused)

    def _build_discriminator(self, *, averaged: bool = False) -> Any:
        return tutorial_discriminator(*(() if averaged else (layers.ByteDropout, layers.FewChannelsConv2D)))


def genlab_step(workload: Workload, precision: str, **changes: Any) -> Callable[[int], Any]:
    settings = dataclasses.replace(hparams(workload), **changes)
    dataset = sources.load(images(workload))
    name = "dcgan" if workload.of_tutorial else workload.model
    options = config.Options(steps=10**6, precision=precision, out=tempfile.mkdtemp())
    resolved = training.resolve(name, "default", settings, options, dataset, sources.DataOptions())
    kind = TutorialNetworks if workload.of_tutorial else models.load(name)
    with scope(precision):
        model = kind(settings, dataset.spec)
    return Steps(resolved, model, State(model), dataset, distribution.Distribution(options, workload.batch))


def simultaneous_step(workload: Workload, precision: str) -> Callable[[int], Any]:
    """Return genlab's step with `--updates simultaneous`, the algorithm of the tutorial."""
    return genlab_step(workload, precision, updates="simultaneous")


def batches(workload: Workload) -> Any:
    """Return batches as in the tutorial: scaled once, float32, shuffled."""
    scaled = (images(workload).astype(np.float32) - 127.5) / 127.5
    return tf.data.Dataset.from_tensor_slices(scaled).shuffle(IMAGES).batch(workload.batch, drop_remainder=True)


def optimizers(workload: Workload, count: int) -> list[Any]:
    settings = hparams(workload)
    rate = settings.learning_rate if workload.model == "vae" else settings.generator_learning_rate
    return [keras.optimizers.Adam(rate, settings.beta1, settings.beta2) for _ in range(count)]


def cross_entropy(logits: Any, real: bool) -> Any:
    """Return the cross-entropy of a discriminator's logits with the label real or generated."""
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    return entropy(tf.ones_like(logits) if real else tf.zeros_like(logits), logits)


def vae_loss(encoder: Any, decoder: Any, observed: Any) -> Any:
    """Return the negative evidence lower bound of randomly binarized images, in nats per image."""
    binary = tf.cast(tf.random.uniform(tf.shape(observed), -1.0, 1.0) < observed, tf.float32)
    mean, log_variance = encoder(2.0 * binary - 1.0, training=True)
    codes = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))
    logits = 2.0 * decoder(codes, training=True)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=binary, logits=logits)
    kl = -0.5 * tf.reduce_sum(1.0 + log_variance - mean**2 - tf.exp(log_variance), axis=1)
    return tf.reduce_mean(tf.reduce_sum(entropy, axis=[1, 2, 3]) + kl)


def tutorial_gan(generator: Any, discriminator: Any, rates: list[Any], batch: int) -> Callable[[Any], None]:
    """Return the tutorial's step, which updates both networks from the same generated images."""

    @tf.function
    def train(real):
        noise = tf.random.normal([batch, generator.inputs[0].shape[1]])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake = generator(noise, training=True)
            real_logits, fake_logits = discriminator(real, training=True), discriminator(fake, training=True)
            generator_loss = cross_entropy(fake_logits, True)
            discriminator_loss = cross_entropy(real_logits, True) + cross_entropy(fake_logits, False)
        for tape, loss, network, optimizer in (
            (generator_tape, generator_loss, generator, rates[0]),
            (discriminator_tape, discriminator_loss, discriminator, rates[1]),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    return train


def tutorial_step(workload: Workload, precision: str) -> Callable[[int], Any]:
    """tensorflow.org/tutorials/generative/dcgan and .../cvae: one tf.function per step, called from Python."""
    with scope(precision):
        first, second = networks(workload)
    rates = optimizers(workload, 2)

    @tf.function
    def train_vae(observed):
        variables = first.trainable_variables + second.trainable_variables
        with tf.GradientTape() as tape:
            loss = vae_loss(first, second, observed)
        rates[0].apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    train = train_vae if workload.model == "vae" else tutorial_gan(first, second, rates, workload.batch)
    stream = iter(batches(workload).repeat())

    def run(count: int) -> None:
        for _ in range(count):
            train(next(stream))
        first.trainable_variables[0].numpy()  # waits for the last step

    return run


def keras_step(workload: Workload, precision: str) -> Callable[[int], Any]:
    """keras.io/examples/generative/dcgan_overriding_train_step and .../vae: a custom train_step with fit."""
    with scope(precision):
        first, second = networks(workload)

    class Adversaries(keras.Model):
        def compile(self):
            super().compile()
            self.rates = optimizers(workload, 2)

        def train_step(self, real):
            real = real[0] if isinstance(real, tuple) else real
            size = first.inputs[0].shape[1]
            fake = first(tf.random.normal([workload.batch, size]), training=True)
            with tf.GradientTape() as tape:
                loss = cross_entropy(second(real, training=True), True)
                loss += cross_entropy(second(fake, training=True), False)
            gradients = tape.gradient(loss, second.trainable_variables)
            self.rates[1].apply(gradients, second.trainable_variables)
            with tf.GradientTape() as tape:
                generated = first(tf.random.normal([workload.batch, size]), training=True)
                generator_loss = cross_entropy(second(generated, training=True), True)
            self.rates[0].apply(tape.gradient(generator_loss, first.trainable_variables), first.trainable_variables)
            return {"discriminator_loss": loss, "generator_loss": generator_loss}

    class Coder(keras.Model):
        def train_step(self, observed):
            observed = observed[0] if isinstance(observed, tuple) else observed
            variables = first.trainable_variables + second.trainable_variables
            with tf.GradientTape() as tape:
                loss = vae_loss(first, second, observed)
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    if workload.model == "vae":
        model = Coder()
        model.compile(optimizers(workload, 1)[0])
    else:
        model = Adversaries()
        model.compile()
    stream = batches(workload).repeat()
    return lambda count: model.fit(stream, epochs=1, steps_per_epoch=count, verbose=0)


def described(workload: Workload) -> dict[str, Any]:
    """Describe the workload for a process without TensorFlow: layers by shape, and settings."""
    settings = hparams(workload)
    vae = workload.model == "vae"
    return {
        "model": workload.model,
        "batch": workload.batch,
        "shape": workload.shape,
        "images": IMAGES,
        "latent": LATENT,
        "rate": settings.learning_rate if vae else settings.generator_learning_rate,
        "betas": [settings.beta1, settings.beta2],
        "networks": [_layers(network) for network in networks(workload)],
    }


def _layers(network: Any) -> dict[str, Any]:
    layers = [layer for layer in network.layers if type(layer).__name__ != "InputLayer"]
    several = len(network.outputs) > 1
    ends = {id(output) for output in network.outputs} if several else set()
    facts: dict[str, Any] = {"layers": [], "heads": []}
    for layer in layers:
        size, stride = (getattr(layer, name, (0,)) for name in ("kernel_size", "strides"))
        activation = getattr(layer, "activation", None)
        facts["heads" if id(layer.output) in ends else "layers"].append(
            {
                "kind": type(layer).__name__,
                "inputs": layer.input.shape[1:],
                "outputs": layer.output.shape[1:],
                "use_bias": getattr(layer, "use_bias", False),
                "kernel_size": size[0],
                "strides": stride[0],
                "activation": getattr(activation, "__name__", ""),
                "rate": getattr(layer, "rate", 0.0),
            }
        )
    return facts


IMPLEMENTATIONS = {
    "genlab": genlab_step,
    "simultaneous": simultaneous_step,
    "tutorial": tutorial_step,
    "keras": keras_step,
}


def main() -> None:
    workload, implementation, precision = sys.argv[1:]
    run = IMPLEMENTATIONS[implementation]((WORKLOADS | SIZES)[workload], precision)
    turns.serve(run)


if __name__ == "__main__":
    main()
