"""Convolutional autoencoder."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, TypeAlias

from genlab.backend import Tensor, tf
from genlab.data.spec import DataSpec
from genlab.models import _encoder_decoder
from genlab.networks import losses


@dataclasses.dataclass(frozen=True)
class Hparams(_encoder_decoder.Hparams):
    """Hyper-parameters of `autoencoder`."""

    latent_size: int = 30
    # MNIST, 3 epochs, one seed: a test error of 0.0038 with 4, 0.0036 with channels half as many again, at twice the time, 0.0042
    # without normalization, 0.0039 at twice the learning rate. Residual blocks learned more slowly, at three times the time.
    coarsest_size: int = 4
    loss: Literal["mse", "l1", "bce", "discriminator"] = "mse"
    """Reconstruction loss: squared error, absolute error, binary cross-entropy, or distance of discriminator features."""
    output: Literal["tanh", "linear"] = "tanh"
    """Activation of the decoder's output for images."""

    @property
    def measured_by_discriminator(self) -> bool:
        return self.loss == "discriminator"


class Autoencoder(_encoder_decoder.EncoderDecoder):
    """Convolutional autoencoder: compresses images to short codes; samples from a density fitted to the codes.

    Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"
    (https://doi.org/10.1126/science.1127647), with convolutions and no pretraining:

        L = E |x - D(E(x))|^2 / dimensions

    An autoencoder has no prior. Samples are drawn from a mixture of Gaussians fitted to the codes of training images.
    `--preset book` is the textbook's network with Adam at 1e-4, which is slow; the default learning rate is forty times
    that, with decay.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": {
            "latent_size": 20,
            "initializer": "glorot",
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "encoder_widths": (16, 32),
            "decoder_widths": (32,),
            "hidden_units": 0,
            "normalization": "none",
            "kernel_size": 5,
            "coarsest_size": 7,
            "activation": "relu",
            "learning_rate": 1e-4,
            "output": "linear",
        },
        # The paper's deep autoencoder, 784-1000-500-250-30 and back, without its layer-wise pretraining.
        "paper": {
            "network": "mlp",
            "encoder_widths": (1000, 500, 250),
            "decoder_widths": (1000, 500, 250),
            "hidden_units": 0,
            "normalization": "none",
            "loss": "bce",
        },
    }
    default_steps = 2500

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.build_networks(hparams.output if spec.is_image else "linear")

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, _),) = batches
        with tf.GradientTape() as tape:
            raw = self.trained_decoder(self.trained_encoder(images, training=True), training=True)
            reconstructions = tf.tanh(raw) if self.output_activation == "tanh" else raw
            match self.hparams.loss:
                case "mse":
                    loss = tf.reduce_mean(tf.square(images - reconstructions))
                case "l1":
                    loss = tf.reduce_mean(tf.abs(images - reconstructions))
                case "bce":
                    loss = losses.pixel_cross_entropy(images, raw)
                case _:
                    loss = tf.reduce_mean(self.discriminator_distance(images, reconstructions))
            scaled = self.scaled(self.optimizer, loss)
        self.update(tape, scaled)
        # A quarter, since published errors are for pixels in [0, 1], not [-1, 1].
        return {"loss": loss, "mse": 0.25 * tf.reduce_mean(tf.square(images - reconstructions))}
