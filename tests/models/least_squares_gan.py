"""Least-squares GAN."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from genlab.backend import Network, Tensor, tf
from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.networks import blocks, precision, priors


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `least_squares_gan`."""

    beta1: float = 0.5
    latent_size: int = 64
    """Numbers in a latent vector."""
    conditional: bool = False
    """Generate images by class: both networks take the label (section 3.3)."""
    generator_widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the generator by resolution, nearest the image first."""
    discriminator_widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the discriminator by resolution, nearest the image first."""
    generator_learning_rate: float = 1e-3
    """Learning rate of the generator."""
    discriminator_learning_rate: float = 1e-3
    """Learning rate of the discriminator."""
    targets: tuple[float, float, float] = (0.0, 1.0, 1.0)
    """a, b, c: D's target for generated and for real images, and G's for its own. (-1, 1, 0) minimizes Pearson's
    chi-square divergence (section 3.2.3)."""


class LeastSquaresGAN(base.GenerativeModel):
    """Least-squares GAN: the discriminator fits targets, so that images far on the right side still give a gradient.

    Mao et al. 2017, "Least Squares Generative Adversarial Networks" (https://arxiv.org/abs/1611.04076), equation 2:

        L_D = 1/2 E (D(x) - b)^2 + 1/2 E (D(G(z)) - a)^2
        L_G = 1/2 E (D(G(z)) - c)^2

    Differs from the paper: smaller networks, no batch normalization in D, labels by projection (Miyato & Koyama 2018),
    samples from averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    discriminator: Network

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.conditional = hparams.conditional
        if self.conditional:
            base.check_all_labelled(spec)
        self.prior = priors.Normal(hparams.latent_size)
        self.generator = self._build_generator()
        with precision.scope("float32"):
            self.decoder = self._build_generator()
        self.generator_average = self.average((self.decoder, self.generator))
        self.discriminator = blocks.discriminator(
            spec.shape,
            hparams.discriminator_widths,
            blocks.Style(activation="leaky_relu", initializer=hparams.initializer, seed=seed + 1),
            num_classes=spec.num_classes if self.conditional else 0,
            projection=True,
        )
        self.generator_optimizer = self.make_optimizer(
            hparams.generator_learning_rate, self.generator.trainable_variables
        )
        self.discriminator_optimizer = self.make_optimizer(
            hparams.discriminator_learning_rate, self.discriminator.trainable_variables
        )

    def _build_generator(self) -> Network:
        hparams = self.hparams
        return blocks.generator(
            self.spec.shape,
            hparams.latent_size,
            hparams.generator_widths,
            blocks.Style(normalization="batch", initializer=hparams.initializer, seed=self.seed),
            num_classes=self.spec.num_classes if self.conditional else 0,
        )

    @property
    def feature_network(self) -> Network:
        return self.discriminator

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """L_D by the outputs [B, 1] for real and generated images."""
        a, b, _ = self.hparams.targets
        return 0.5 * tf.reduce_mean(tf.square(real - b)) + 0.5 * tf.reduce_mean(tf.square(fake - a))

    def generator_loss(self, fake: Tensor) -> Tensor:
        """L_G by the outputs [B, 1] for generated images."""
        return 0.5 * tf.reduce_mean(tf.square(fake - self.hparams.targets[2]))

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, labels),) = batches
        seeds = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        count = tf.shape(images)[0]

        def with_labels(inputs: Tensor) -> Tensor | list[Tensor]:
            return [inputs, labels] if self.conditional else inputs

        fake = self.generator(with_labels(self.draw_latents(count, seeds[0])), training=True)
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            real_output = self.discriminator(with_labels(images), training=True)
            fake_output = self.discriminator(with_labels(fake), training=True)
            discriminator_loss = self.discriminator_loss(real_output, fake_output)
            scaled = self.scaled(self.discriminator_optimizer, discriminator_loss)
        self.discriminator_optimizer.apply(tape.gradient(scaled, variables), variables)

        variables = self.generator.trainable_variables
        with tf.GradientTape() as tape:
            fake = self.generator(with_labels(self.draw_latents(count, seeds[1])), training=True)
            generator_loss = self.generator_loss(self.discriminator(with_labels(fake), training=True))
            scaled = self.scaled(self.generator_optimizer, generator_loss)
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        self.generator_average.update()
        return {
            "discriminator_loss": discriminator_loss,
            "generator_loss": generator_loss,
            "real_output": tf.reduce_mean(real_output),
            "fake_output": tf.reduce_mean(fake_output),
        }
