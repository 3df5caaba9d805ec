"""Boundary-equilibrium GAN."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from genlab import pictures
from genlab.backend import Network, Tensor, keras, tf
from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.models._scores import Score
from genlab.networks import blocks, losses, precision, priors, replicas


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `began`."""

    beta1: float = 0.5
    latent_size: int = 64
    """Dimensions of the latent space."""
    prior: Literal["normal", "uniform"] = "uniform"
    """Distribution of each latent dimension: N(0, 1) or U(-1, 1)."""
    # Frechet distance as a multiple of that of real images, one seed of MNIST after 6 and 20 epochs, by an earlier average of weights
    # and lambda_k: 10 and 4.9 with convolutions, a dense layer and a normalized code of 32 (3.2 after 20 today), at four times the
    # time per step of dense layers with a code of 16, which gave 52 and 22; those with a normalized code of 32 gave 47 after 6.
    network: Literal["mlp", "conv"] = "conv"
    """Dense layers or convolutions. Vectors always use dense layers."""
    generator_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the generator and of the discriminator's decoder per resolution (units per layer of an MLP), nearest
    the image first."""
    discriminator_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the discriminator's encoder per resolution (units per layer of an MLP), nearest the image first."""
    hidden_units: int = 256
    """Units of an extra dense layer next to the latents and to the code, in all networks; 0: none."""
    code_size: int = 32
    """Dimensions of the code between the discriminator's encoder and decoder."""
    code_normalization: Literal["batch", "none"] = "batch"
    """Normalization of the code."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    coarsest_size: int = 7
    """Convolutions halve height and width until the smaller is at most this, in pixels."""
    upsampling: Literal["nearest", "transpose"] = "transpose"
    """How the generator and the discriminator's decoder double the resolution."""
    activation: Literal["elu", "relu", "leaky_relu", "gelu"] = "elu"
    """Activation of the hidden layers."""
    generator_normalization: Literal["batch", "none"] = "batch"
    """Normalization of the generator's hidden layers."""
    discriminator_normalization: Literal["batch", "none"] = "batch"
    """Normalization of the discriminator's hidden layers except the first."""
    # With dense layers and a code of 12, a quarter of these rates gave Frechet distances of 20 on `digits` and 141 after 4 epochs
    # of MNIST.
    generator_learning_rate: float = 4e-3
    """The generator's learning rate, per step."""
    discriminator_learning_rate: float = 2e-3
    """The discriminator's learning rate, per step."""
    exponent: int = 2
    """Exponent eta of the pixel differences in L(v) = mean |v - D(v)|^eta: 1 or 2."""
    # Lower values (0.75, as for faces) drive k to 0 on digits: generated images are harder to reconstruct than such simple
    # real ones, so the discriminator stops using them.
    gamma: float = 1.0
    """Diversity ratio: target of L(G(z)) / L(x). Lower values give cleaner and less diverse images. 0 to 1."""
    # The squared errors of digits are near 0.005, so the paper's 0.001 would take a million steps to move k by 1. Frechet distance on
    # `digits` after the default steps by 0.5, 5, 20 and 100: 50, 32, 27 and 26; of MNIST after 6 epochs 10.2 and 10.3 times that of
    # real images by 0.5 and 20 (one seed each).
    lambda_k: float = 20.0
    """Proportional gain of k, per step."""
    pull_away: float = 0.02
    """Weight of the pull-away term on the codes of a generated batch, in the generator's loss (Zhao et al. 2017); 0: none."""
    patience: int = 1000
    """Halve both learning rates after this many steps without a new minimum of the convergence measure; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gamma <= 1 or self.lambda_k <= 0:
            raise ValueError("gamma must be above 0 and at most 1, and lambda_k above 0")
        self.check_least(0, "patience")
        if self.exponent not in (1, 2) or self.pull_away < 0:
            raise ValueError("exponent must be 1 or 2, and pull_away at least 0")

    def width_limit(self, spec: DataSpec) -> int | None:
        return blocks.width_limit(spec.shape, self.network, self.coarsest_size)


class BEGAN(base.GenerativeModel):
    """Boundary-equilibrium GAN: the discriminator is an autoencoder that reconstructs real images better than generated.

    Berthelot, Schumm & Metz 2017, "BEGAN: Boundary Equilibrium Generative Adversarial Networks"
    (https://arxiv.org/abs/1703.10717), section 3.4, with L(v) = mean |v - D(v)|^eta:

        L_D = L(x) - k_t L(G(z_D)),    L_G = L(G(z_G)) [+ pull_away P]
        k_{t+1} = clip(k_t + lambda_k (gamma L(x) - L(G(z_G))), 0, 1),    k_0 = 0
        M = L(x) + |gamma L(x) - L(G(z_G))|       (logged as `convergence`)

    Both learning rates are halved when a moving average of M reaches no new minimum for `patience` steps. With the paper's
    settings on digits, k stayed at 0 and the generator drew one blob. Five changes fixed this, each adding to the last: the
    pull-away term P of Zhao, Mathieu & LeCun 2017 (https://arxiv.org/abs/1609.03126), batch normalization, squared errors,
    gamma 1 and a larger gain. Other differences from the paper: strided convolutions with one layer per resolution, a dense
    layer next to the latents and to the code, a code of normalized dimensions, tanh outputs, a learning-rate schedule, samples
    from averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    discriminator: Network
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch_size": 16,
            "beta1": 0.5,
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "generator_widths": (64, 128, 192, 256),
            "discriminator_widths": (64, 128, 192, 256),
            "hidden_units": 0,
            "code_size": 64,
            "code_normalization": "none",
            "kernel_size": 3,
            "upsampling": "nearest",
            "generator_normalization": "none",
            "discriminator_normalization": "none",
            "generator_learning_rate": 1e-4,
            "discriminator_learning_rate": 1e-4,
            "exponent": 1,
            "gamma": 0.5,
            "lambda_k": 0.001,
            "pull_away": 0.0,
        },
    }
    default_steps = 3000

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.prior = priors.make(hparams.prior, hparams.latent_size)
        self.generator = self._build_decoder(hparams.latent_size, seed, "generator")
        with precision.scope("float32"):  # samples use full precision, whatever the precision of training
            self.decoder = self._build_decoder(hparams.latent_size, seed, "generator", fused=False)
        self.generator_average = self.average((self.decoder, self.generator))
        self.discriminator = self._build_discriminator()
        self.generator_optimizer = self.make_optimizer(
            hparams.generator_learning_rate, self.generator.trainable_variables
        )
        self.discriminator_optimizer = self.make_optimizer(
            hparams.discriminator_learning_rate, self.discriminator.trainable_variables
        )
        self.k = tf.Variable(0.0, name="k")
        self.mean_convergence = tf.Variable(0.0, name="mean_convergence")
        self.lowest_convergence = tf.Variable(np.inf, dtype=tf.float32, name="lowest_convergence")
        self.steps_without_low = tf.Variable(0, name="steps_without_low")

    def _style(self, seed: int, normalization: str, *, fused: bool = True) -> blocks.Style:
        hparams = self.hparams
        return blocks.Style(
            activation=hparams.activation,
            normalization=normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            coarsest_size=hparams.coarsest_size,
            upsampling=hparams.upsampling,
            fused=fused,
            seed=seed,
        )

    def _build_decoder(self, size: int, seed: int, name: str, *, fused: bool = True) -> Network:
        hparams = self.hparams
        generator = name == "generator"
        normalization = hparams.generator_normalization if generator else hparams.discriminator_normalization
        style = self._style(seed, normalization, fused=fused)
        return blocks.generator(
            self.spec.shape,
            size,
            hparams.generator_widths,
            style,
            network=hparams.network,
            hidden_units=hparams.hidden_units,
            name=name,
        )

    def _build_discriminator(self) -> Network:
        hparams = self.hparams
        encoder = blocks.encoder(
            self.spec.shape,
            hparams.code_size,
            hparams.discriminator_widths,
            self._style(self.seed + 1, hparams.discriminator_normalization),
            network=hparams.network,
            hidden_units=hparams.hidden_units,
            normalized=hparams.code_normalization == "batch",
        )
        decoder = self._build_decoder(hparams.code_size, self.seed + 2, "decoder")
        codes = encoder.outputs[0]
        return keras.Model(encoder.inputs[0], [decoder(codes), codes], name="discriminator")

    def reconstruction(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return L(v) = mean |v - D(v)|^eta, a scalar, and the codes [B, code] of images v [B, H, W, C]."""
        rebuilt, codes = self.discriminator(images, training=True)
        return tf.reduce_mean(tf.abs(images - rebuilt) ** self.hparams.exponent), codes

    @property
    def feature_network(self) -> Network:
        return self.discriminator

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        def parts(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rebuilt, codes = (
                np.asarray(tf.cast(each, tf.float32)) for each in self.discriminator(images, training=False)
            )
            return rebuilt, codes

        def error(images: np.ndarray) -> np.ndarray:
            errors = np.abs(images - parts(images)[0]) ** self.hparams.exponent
            return errors.mean(axis=tuple(range(1, errors.ndim)))

        neighbours = "local outlier factor of the discriminator's code among those of training images"
        return {
            "neighbours": Score("vector", neighbours, lambda images: parts(images)[1]),
            "discriminator": Score("number", "the discriminator's reconstruction error", error),
        }

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, _),) = batches
        discriminator_seed, generator_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        count = tf.shape(images)[0]

        fake = self.generator(self.draw_latents(count, discriminator_seed), training=True)
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            real_loss, _ = self.reconstruction(images)
            discriminator_loss = real_loss - self.k * self.reconstruction(fake)[0]
            scaled = self.scaled(self.discriminator_optimizer, discriminator_loss)
        self.discriminator_optimizer.apply(tape.gradient(scaled, variables), variables)

        variables = self.generator.trainable_variables
        latents = self.draw_latents(count, generator_seed)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            # The gradient flows through both v and D(v).
            generator_loss, codes = self.reconstruction(self.generator(latents, training=True))
            similarity = losses.pull_away(codes)
            scaled = self.scaled(self.generator_optimizer, generator_loss + self.hparams.pull_away * similarity)
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        self.generator_average.update()

        real_loss, generator_loss = replicas.mean(real_loss), replicas.mean(generator_loss)  # one k for all replicas
        balance = self.hparams.gamma * real_loss - generator_loss
        self.k.assign(tf.clip_by_value(self.k + self.hparams.lambda_k * balance, 0.0, 1.0))
        convergence = real_loss + tf.abs(balance)
        self.halve_rates_on_a_stall(convergence)
        return {
            "discriminator_loss": discriminator_loss,
            "generator_loss": generator_loss,
            "real_loss": real_loss,
            "code_similarity": similarity,
            "k": self.k.value(),
            "convergence": convergence,
        }

    def halve_rates_on_a_stall(self, convergence: Tensor) -> None:
        """Halve both learning rates if the running mean of M has made no new low for `patience` steps."""
        if not self.hparams.patience:
            return
        first = tf.equal(self.mean_convergence, 0.0)
        self.mean_convergence.assign(tf.where(first, convergence, 0.99 * self.mean_convergence + 0.01 * convergence))
        low = self.mean_convergence < self.lowest_convergence
        self.lowest_convergence.assign(tf.minimum(self.lowest_convergence, self.mean_convergence))
        self.steps_without_low.assign(tf.where(low, 0, self.steps_without_low + 1))
        stalled = self.steps_without_low >= self.hparams.patience
        self.rate_factor.assign(tf.where(stalled, 0.5 * self.rate_factor, self.rate_factor))
        self.steps_without_low.assign(tf.where(stalled, 0, self.steps_without_low))

    def warnings(self, metrics: dict[str, float]) -> dict[str, str]:
        if metrics["k"] > 1e-4:
            return {}
        return {
            "k": "k is 0: the discriminator ignores generated images. Try a smaller --code-size, a larger --lambda-k, --gamma 1 "
            "or --pull-away."
        }

    def pictures(self, images: Tensor, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        rebuilt, _ = self.discriminator(images[:32], training=False)
        return {"reconstructions": pictures.reconstructions(images, rebuilt)}
