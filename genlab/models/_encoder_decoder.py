"""What the autoencoder and the VAE share: an encoder, a decoder, their averages, and pictures of what they keep."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from genlab import blocks, pictures, precision
from genlab.backend import keras, tf
from genlab.models import base


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of models with an encoder and a decoder."""

    batch_size: int = 128
    network: Literal["mlp", "conv"] = "conv"
    """Dense layers or strided convolutions. Vectors always take dense layers."""
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the encoder per resolution (units per layer of an MLP), nearest the image first."""
    decoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the decoder per resolution (units per layer of an MLP), nearest the image first."""
    # A dense layer behind the codes too took 4 nats off the vae's likelihood after 6 epochs of MNIST, normalization and
    # twice the rate 2 more.
    hidden_units: int = 512
    """Units of one more dense layer on either side of the codes; 0: none."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    normalization: Literal["batch", "none"] = "batch"
    """Normalization of the hidden layers of both networks, but the first."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu"] = "gelu"
    """Activation of the hidden layers."""
    learning_rate: float = 4e-3
    """Learning rate, per step."""
    decay_start: float = 0.0
    discriminator: str = ""
    """Run whose discriminator's features measure distance, for --loss or --likelihood discriminator: folder or number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size < 1 or self.hidden_units < 0:
            raise ValueError("kernel_size must be at least 1 and hidden_units at least 0")
        if self.measured_by_discriminator != bool(self.discriminator):
            raise ValueError(
                "--loss (vae: --likelihood) discriminator and --discriminator RUN go together; one is missing"
            )

    @property
    def measured_by_discriminator(self) -> bool:
        return False


class EncoderDecoder(base.GenerativeModel):
    """Networks in training (`trained_encoder`, `trained_decoder`) and their averages in float32 (`encoder`, `decoder`)."""

    heads: ClassVar[tuple[str, ...]] = ("codes",)
    """The encoder's outputs; the first is the code."""
    output_activation: str
    """Between the trained decoder's raw output and images."""

    def build_networks(self, output_activation: str, extra_variables: list[Any] | None = None) -> None:
        """Networks, their averages and the optimizer; `extra_variables` are trained with the networks."""
        self.output_activation = output_activation
        self.trained_encoder = self._build_encoder()
        self.trained_decoder = self._build_decoder("linear")
        with precision.scope(
            "float32"
        ):  # codes and samples are computed in full precision whatever the training ran in
            self.averaged_encoder = self._build_encoder()
            self.decoder = self._build_decoder(output_activation)
        codes = self.averaged_encoder.outputs[0]
        self.encoder = keras.Model(self.averaged_encoder.inputs, codes, name="encoder")
        self.weight_average = self.average(
            (self.averaged_encoder, self.trained_encoder), (self.decoder, self.trained_decoder)
        )
        self.trained_variables = [
            *self.trained_encoder.trainable_variables,
            *self.trained_decoder.trainable_variables,
            *(extra_variables or []),
        ]
        self.optimizer = self.make_optimizer(self.hparams.learning_rate, self.trained_variables)
        self._distance: Any = None

    def _build_encoder(self):
        hparams = self.hparams
        return blocks.encoder(
            self.spec.shape,
            hparams.latent_size,
            hparams.encoder_widths,
            self._style(self.seed),
            network=hparams.network,
            heads=self.heads,
            hidden_units=hparams.hidden_units,
        )

    def _build_decoder(self, activation: str):
        hparams = self.hparams
        return blocks.generator(
            self.spec.shape,
            hparams.latent_size,
            hparams.decoder_widths,
            self._style(self.seed + 1),
            network=hparams.network,
            hidden_units=hparams.hidden_units,
            output_activation=activation,
            name="decoder",
        )

    def _style(self, seed: int) -> blocks.Style:
        hparams = self.hparams
        return blocks.Style(
            activation=hparams.activation,
            normalization=hparams.normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            seed=seed,
        )

    def update(self, tape, scaled_loss) -> None:
        """One step of the optimizer and of the averages."""
        self.optimizer.apply(tape.gradient(scaled_loss, self.trained_variables), self.trained_variables)
        self.weight_average.update(self.optimizer.iterations)

    def discriminator_distance(self, images, reconstructions):
        """Mean square distance between a trained discriminator's features; its run is opened at the first step only."""
        if self._distance is None:
            from genlab import features

            with tf.init_scope():  # the first step is traced; networks and checkpoints live outside its graph
                self._distance = features.discriminator_distance(self.hparams.discriminator, self.spec)
        return self._distance(images, reconstructions)

    def reconstruct(self, images):
        """Images [N, H, W, C] in [-1, 1] -> their reconstructions, through the averaged weights."""
        return self.decoder(self.encoder(images, training=False), training=False)

    def pictures(self, images, labels) -> dict[str, Any]:
        drawn = {"reconstructions": pictures.reconstructions(images, self.reconstruct(images[:32]))}
        if self.hparams.latent_size == 2 and len(self.spec.shape) == 3:
            codes = self.encoder(images, training=False)
            drawn["codes"] = pictures.scatter(codes, labels)
            drawn["manifold"] = pictures.manifold(self, codes)
        return drawn
