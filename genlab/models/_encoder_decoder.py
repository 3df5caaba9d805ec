"""Base of the autoencoder and the VAE: encoder, decoder, their averaged weights, and pictures of reconstructions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np

from genlab import pictures
from genlab.backend import Network, Tensor, Variable, keras, tf
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models import base
from genlab.models._scores import Score
from genlab.networks import blocks, features, precision, priors


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of models with an encoder and a decoder."""

    latent_size: int = 64
    """Dimensions of the latent space."""
    network: Literal["mlp", "conv"] = "conv"
    """Dense layers or strided convolutions. Vectors always use dense layers."""
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the encoder per resolution (units per layer of an MLP), nearest the image first."""
    decoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the decoder per resolution (units per layer of an MLP), nearest the image first."""
    # After 6 epochs of MNIST, adding the dense layer after the codes lowered the VAE's negative log-likelihood by 4 nats;
    # normalization, twice the learning rate and half the batch by 2 more.
    hidden_units: int = 512
    """Units of an extra dense layer on both sides of the codes; 0: none."""
    residual_blocks: int = 0
    """Residual blocks of two convolutions at each resolution below the image's, in both networks."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    coarsest_size: int = 7
    """Convolutions halve height and width until the smaller is at most this, in pixels."""
    normalization: Literal["batch", "none"] = "batch"
    """Normalization of the hidden layers of both networks, except the first."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu"] = "gelu"
    """Activation of the hidden layers."""
    learning_rate: float = 4e-3
    """Learning rate, per step."""
    decay_start: float = 0.0
    # The density of codes limits samples. MNIST, as multiples of the Frechet distance of real images, one seed: an autoencoder
    # of 4 epochs, coarsest_size 4, gives 8.2 with 40 components (20,000 codes, 50 steps of EM), 3.0 with 320 (60,000 codes, 4
    # steps), and 1.7 from the codes themselves.
    components: int = 320
    """Maximum number of Gaussians in the mixture fitted to the training codes, for sampling."""
    discriminator: str = ""
    """Run (folder or number) whose discriminator features measure distance, for --loss or --likelihood discriminator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(0, "residual_blocks")
        self.check_least(self.least_components, "components")
        if self.measured_by_discriminator != bool(self.discriminator):
            raise ValueError(
                "--loss discriminator (vae: --likelihood discriminator) and --discriminator RUN need each other; one is missing"
            )

    @property
    def measured_by_discriminator(self) -> bool:
        return False

    def width_limit(self, spec: DataSpec) -> int | None:
        return blocks.width_limit(spec.shape, self.network, self.coarsest_size)

    @property
    def least_components(self) -> int:
        """Smallest number of components; 0 if the model also has a prior of its own to sample from."""
        return 1


class EncoderDecoder(base.GenerativeModel):
    """Trained networks (`trained_encoder`, `trained_decoder`) and their float32 averages (`encoder`, `decoder`).

    Samples are drawn from a mixture of Gaussians, fitted to the codes of training images and stored with the run
    (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", https://arxiv.org/abs/1903.12436, section 4).
    """

    hparams: Hparams
    encoder: Network
    heads: ClassVar[tuple[str, ...]] = ("codes",)
    """The encoder's outputs; the first is the code."""
    output_activation: str
    """Activation that maps the trained decoder's raw output to images."""

    def build_networks(self, output_activation: str, extra_variables: Sequence[Variable] = ()) -> None:
        """Build the networks, their averages and the optimizer. `extra_variables` are trained with the networks."""
        self.output_activation = output_activation
        self.trained_encoder = self._build_encoder(averaged=False)
        self.trained_decoder = self._build_decoder("linear", averaged=False)
        # Codes and samples use full precision, whatever the precision of training.
        with precision.scope("float32"):
            self.averaged_encoder = self._build_encoder(averaged=True)
            self.decoder = self._build_decoder(output_activation, averaged=True)
        codes = self.averaged_encoder.outputs[0]
        self.encoder = keras.Model(self.averaged_encoder.inputs[0], codes, name="encoder")
        self.weight_average = self.average(
            (self.averaged_encoder, self.trained_encoder), (self.decoder, self.trained_decoder)
        )
        self.trained_variables = [
            *self.trained_encoder.trainable_variables,
            *self.trained_decoder.trainable_variables,
            *extra_variables,
        ]
        self.optimizer = self.make_optimizer(self.hparams.learning_rate, self.trained_variables)
        self._distance: Callable[[Tensor, Tensor], Tensor] | None = None
        components, size = self.hparams.components, self.hparams.latent_size
        self.prior = priors.Mixture.to_fit(components, size) if components else priors.Normal(size)

    def _build_encoder(self, *, averaged: bool) -> Network:
        hparams = self.hparams
        return blocks.encoder(
            self.spec.shape,
            hparams.latent_size,
            hparams.encoder_widths,
            self._style(self.seed, averaged),
            network=hparams.network,
            heads=self.heads,
            hidden_units=hparams.hidden_units,
        )

    def _build_decoder(self, activation: str, *, averaged: bool) -> Network:
        hparams = self.hparams
        return blocks.generator(
            self.spec.shape,
            hparams.latent_size,
            hparams.decoder_widths,
            self._style(self.seed + 1, averaged),
            network=hparams.network,
            hidden_units=hparams.hidden_units,
            output_activation=activation,
            name="decoder",
        )

    def _style(self, seed: int, averaged: bool) -> blocks.Style:
        hparams = self.hparams
        return blocks.Style(
            activation=hparams.activation,
            normalization=hparams.normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            coarsest_size=hparams.coarsest_size,
            residual_blocks=hparams.residual_blocks,
            fused=not averaged,
            seed=seed,
        )

    @property
    def feature_network(self) -> Network:
        return self.averaged_encoder

    def update(self, tape: tf.GradientTape, scaled_loss: Tensor) -> None:
        """Take one step of the optimizer and update the averages."""
        self.apply(tape.gradient(scaled_loss, self.trained_variables))

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Take one step of the optimizer by the gradients of `trained_variables`, and update the averages."""
        self.optimizer.apply(gradients, self.trained_variables)
        self.weight_average.update()

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        def codes(images: np.ndarray) -> np.ndarray:
            return self.encoder(images, training=False).numpy()

        def rarity(images: np.ndarray) -> np.ndarray:
            return -self.prior.log_density(codes(images)).numpy()

        def error(images: np.ndarray) -> np.ndarray:
            squares = np.square(images - np.asarray(self.reconstruct(images)))
            return 0.25 * squares.mean(axis=tuple(range(1, squares.ndim)))  # a quarter: pixels from 0 to 1

        density = "the mixture fitted to those of training images" if self.prior.is_fitted else "the prior"
        return {
            "neighbours": Score("vector", "local outlier factor of its code among those of training images", codes),
            "codes": Score("number", f"minus the log density of its code by {density}, in nats", rarity),
            "reconstruction": Score("number", "mean squared error of its reconstruction, pixels from 0 to 1", error),
        }

    def fit_prior(self, batches: Iterable[Tensor]) -> None:
        """Fit the mixture of Gaussians to the codes of batches of images [N, H, W, C] in [-1, 1]."""
        assert isinstance(self.prior, priors.Mixture)
        self.prior.fit(np.concatenate([self.encoder(images, training=False) for images in batches]))

    def _borrowed_discriminator(self) -> Network:
        name = self.hparams.discriminator
        if self.open_run is None:
            raise UsageError(f"--discriminator {name}: the model was built outside a run and cannot open another run.")
        other = self.open_run(name)
        if other.spec.shape != self.spec.shape:
            raise UsageError(
                f"--discriminator {name} was trained on shape {list(other.spec.shape)}; the data has {list(self.spec.shape)}."
            )
        if other.discriminator is None or len(other.discriminator.inputs) != 1:
            raise UsageError(
                f"--discriminator {name}: {type(other).__name__} has no discriminator that takes only images. "
                "Name a run of an unconditional GAN."
            )
        return other.discriminator

    def discriminator_distance(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Return the mean squared distance [B] between a trained discriminator's features. Its run is opened on first use."""
        if self._distance is None:
            with tf.init_scope():  # the first step is traced; networks and checkpoints must live outside its graph
                self._distance = features.feature_distance(self._borrowed_discriminator())
        return self._distance(images, reconstructions)

    def pictures(self, images: Tensor, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        drawn = {"reconstructions": pictures.reconstructions(images, self.reconstruct(images[:32]))}
        if self.latent_size == 2 and self.spec.is_image:
            codes = self.encoder(images, training=False)
            drawn["codes"] = pictures.scatter(codes, labels)
            drawn["manifold"] = pictures.manifold(self, codes)
        return drawn
