"""Deep convolutional GAN."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from genlab import blocks, losses, precision
from genlab.backend import tf
from genlab.models import base

DISCRIMINATOR_LOSSES = {
    "non_saturating": losses.non_saturating_discriminator,
    "minimax": losses.non_saturating_discriminator,  # the discriminator's side of both is the same
    "hinge": losses.hinge_discriminator,
}
GENERATOR_LOSSES = {
    "non_saturating": losses.non_saturating_generator,
    "minimax": losses.minimax_generator,
    "hinge": losses.hinge_generator,
}


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `dcgan`."""

    beta1: float = 0.0
    generator_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the generator per resolution, finest first; the last repeats where the image needs more."""
    discriminator_widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the discriminator per resolution, finest first; the last repeats where the image needs more."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    generator_learning_rate: float = 1e-3
    """The generator's learning rate, per update."""
    discriminator_learning_rate: float = 1e-3
    """The discriminator's learning rate, per update."""
    generator_updates: int = 1
    """Updates of the generator per step, each on fresh latents."""
    discriminator_updates: int = 1
    """Updates of the discriminator per step, each on a fresh real batch and fresh latents."""
    loss: Literal["non_saturating", "minimax", "hinge"] = "non_saturating"
    """Adversarial loss: non_saturating and minimax (Goodfellow et al. 2014), hinge (Miyato et al. 2018)."""
    r1_penalty: float = 5.0
    """Weight gamma of the R1 penalty gamma/2 |grad D|^2 on real images (Mescheder et al. 2018); 0: none."""
    r1_interval: int = 8
    """Discriminator updates from one gradient penalty to the next; the penalty is multiplied by it."""
    minibatch_standard_deviation: bool = True
    """Show the discriminator how much the images of its batch differ (Karras et al. 2018)."""
    generator_normalization: Literal["batch", "none"] = "batch"
    """Normalization of the generator's hidden layers."""
    discriminator_normalization: Literal["batch", "none"] = "none"
    """Normalization of the discriminator's hidden layers but the first."""
    spectral_normalization: bool = False
    """Divide each weight matrix of the discriminator by its largest singular value (Miyato et al. 2018)."""
    generator_dropout: float = 0.0
    """Share of the generator's hidden activations set to zero in training."""
    discriminator_dropout: float = 0.0
    """Share of the discriminator's hidden activations set to zero in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kernel_size", "generator_updates", "discriminator_updates", "r1_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.r1_penalty < 0:
            raise ValueError(f"r1_penalty is {self.r1_penalty}; it must be at least 0")

    @property
    def batches_per_step(self) -> int:
        return self.discriminator_updates


class DCGAN(base.GenerativeModel):
    """Deep convolutional GAN: a generator and a discriminator of strided convolutions that play against each other.

    Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks" (https://arxiv.org/abs/1511.06434). With D = sigmoid(logit):

        L_D = -E log D(x) - E log(1 - D(G(z))) [+ gamma/2 E |grad_x D(x)|^2],    L_G = -E log D(G(z))

    The default is not the paper's recipe. The discriminator has no batch normalization but the R1 penalty (Mescheder,
    Geiger & Nowozin 2018, https://arxiv.org/abs/1801.04406) and the standard deviation of its batch, both networks
    learn faster (1e-3, beta1 0) at a rate that decays over the second half, and samples come from averaged weights:
    that takes a fraction of the steps to the same quality. `--preset paper` gives the paper's own settings.
    """

    Hparams = Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch_size": 128,
            "latent_size": 100,
            "prior": "uniform",
            "initializer": "dcgan",
            "beta1": 0.5,
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "generator_widths": (128, 256, 512, 1024),
            "discriminator_widths": (128, 256, 512, 1024),
            "kernel_size": 5,
            "generator_learning_rate": 2e-4,
            "discriminator_learning_rate": 2e-4,
            "r1_penalty": 0.0,
            "minibatch_standard_deviation": False,
            "discriminator_normalization": "batch",
        },
    }
    default_steps = 2000

    def __init__(self, hparams: Any, spec: base.DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.generator = self._build_generator()
        with precision.scope("float32"):  # samples are drawn in full precision whatever the training ran in
            self.decoder = self._build_generator()
        self.generator_average = self.average((self.decoder, self.generator))
        self.discriminator = self._build_discriminator()
        self.generator_optimizer = self.make_optimizer(
            hparams.generator_learning_rate, self.generator.trainable_variables
        )
        self.discriminator_optimizer = self.make_optimizer(
            hparams.discriminator_learning_rate, self.discriminator.trainable_variables
        )

    def _build_generator(self):
        hparams = self.hparams
        style = blocks.Style(
            activation="relu",
            normalization=hparams.generator_normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            dropout=hparams.generator_dropout,
            seed=self.seed,
        )
        return blocks.generator(self.spec.shape, hparams.latent_size, hparams.generator_widths, style)

    def _build_discriminator(self):
        hparams = self.hparams
        style = blocks.Style(
            activation="leaky_relu",
            normalization=hparams.discriminator_normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            dropout=hparams.discriminator_dropout,
            spectral_normalization=hparams.spectral_normalization,
            seed=self.seed + 1,
        )
        return blocks.discriminator(
            self.spec.shape,
            hparams.discriminator_widths,
            style,
            minibatch_standard_deviation=hparams.minibatch_standard_deviation,
        )

    def train_step(self, batches, seed) -> dict[str, Any]:
        updates = self.hparams.discriminator_updates + self.hparams.generator_updates
        seeds = tf.unstack(tf.random.split(seed, updates))
        metrics: dict[str, Any] = {}
        for images, _ in batches:
            metrics |= self._update_discriminator(images, seeds.pop())
        for _ in range(self.hparams.generator_updates):
            metrics |= self._update_generator(seeds.pop())
        self.generator_average.update(self.generator_optimizer.iterations)
        return metrics

    def _update_discriminator(self, images, seed) -> dict[str, Any]:
        latents = self.draw_latents(tf.shape(images)[0], seed)
        fake = self.generator(latents, training=True)  # outside the tape: no gradient into G
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            # Real and fake pass apart, so that statistics over the batch never mix them.
            real_logits = self.discriminator(images, training=True)
            fake_logits = self.discriminator(fake, training=True)
            loss = DISCRIMINATOR_LOSSES[self.hparams.loss](real_logits, fake_logits)
            total = loss + self._r1_penalty(images)
            scaled = self.discriminator_optimizer.scale_loss(total)
        self.discriminator_optimizer.apply(tape.gradient(scaled, variables), variables)
        return {
            "discriminator_loss": loss,
            "real_score": tf.reduce_mean(tf.sigmoid(real_logits)),
            "fake_score": tf.reduce_mean(tf.sigmoid(fake_logits)),
        }

    def _r1_penalty(self, images):
        """gamma/2 E |grad D|^2 on every `r1_interval`-th update, times that interval; 0 on the others."""
        hparams = self.hparams
        if hparams.r1_penalty == 0:
            return 0.0
        weight = 0.5 * hparams.r1_penalty * hparams.r1_interval
        return tf.cond(
            tf.equal(self.discriminator_optimizer.iterations % hparams.r1_interval, 0),
            lambda: weight * losses.squared_gradient_norm(lambda x: self.discriminator(x, training=True), images),
            lambda: 0.0,
        )

    def _update_generator(self, seed) -> dict[str, Any]:
        latents = self.draw_latents(self.hparams.batch_size, seed)
        variables = self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            fake_logits = self.discriminator(self.generator(latents, training=True), training=True)
            loss = GENERATOR_LOSSES[self.hparams.loss](fake_logits)
            scaled = self.generator_optimizer.scale_loss(loss)
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        return {"generator_loss": loss}
