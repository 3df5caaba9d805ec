"""Wasserstein GAN."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from genlab.backend import Tensor, tf
from genlab.models import _adversarial, _gan_hparams, base
from genlab.networks import losses


@dataclasses.dataclass(frozen=True)
class Hparams(_gan_hparams.ConvolutionalHparams):
    """Hyper-parameters of `wgan`; the papers call the discriminator a critic."""

    penalty: Literal["clip", "gradient"] = "gradient"
    """How the critic is kept Lipschitz: weight clipping (Arjovsky et al. 2017) or WGAN-GP (Gulrajani et al. 2017)."""
    clip: float = 0.01
    """Largest absolute weight of the critic, for --penalty clip."""
    gradient_penalty: float = 10.0
    """Weight lambda of the gradient penalty, for --penalty gradient."""
    # Two time scales and one critic update (Heusel et al. 2017) instead of several. After 2,000 steps of MNIST, one seed, one
    # update is at 16.3 times the Frechet distance of real images; three updates, which see three times the images, are at
    # 13.1, and at 55.5 with both rates 3e-4 (benchmarks/results/critic_updates-mnist.md). A generator's rate of 2e-3 is better after 6
    # epochs, 2.3 instead of 2.6, and not after 20, 1.6 instead of 1.5 (one seed of it, three of 1e-3); a gradient penalty of 1 gives 3.4 after 6.
    beta2: float = 0.99
    generator_learning_rate: float = 1e-3
    """The generator's learning rate, per update."""
    discriminator_learning_rate: float = 2e-3
    """The discriminator's learning rate, per update."""
    auxiliary_classifier: base.Following = 0.0
    minibatch_standard_deviation: bool = False
    # A critic's sign does not show how well it knows the training images, so its augmentation cannot adapt.
    differentiable_augmentation: tuple[Literal["auto", "color", "translation", "cutout"], ...] = ()
    augmentation_target: float = 0.0
    r1_penalty: float = 0.0
    """Not available: see --penalty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discriminator_normalization == "batch":
            raise ValueError(
                "discriminator_normalization is batch; it must be none, since a critic scores each image on its own"
            )
        if self.augmentation_target:
            raise ValueError(
                f"augmentation_target is {self.augmentation_target}; it must be 0, since the sign of a critic means nothing"
            )
        if self.r1_penalty:
            raise ValueError(
                f"r1_penalty is {self.r1_penalty}; it must be 0, since penalty is what constrains a critic"
            )
        if self.clip <= 0 or self.gradient_penalty < 0:
            raise ValueError("clip must be above 0 and gradient_penalty at least 0")


class WGAN(_adversarial.Adversarial):
    """Wasserstein GAN: a critic without sigmoid, whose loss tracks sample quality.

    Arjovsky, Chintala & Bottou 2017, "Wasserstein GAN" (https://arxiv.org/abs/1701.07875); with the gradient penalty of
    Gulrajani et al. 2017, "Improved Training of Wasserstein GANs" (https://arxiv.org/abs/1704.00028):

        L_D = E D(G(z)) - E D(x) [+ lambda E (|grad D(x_hat)| - 1)^2],    L_G = -E D(G(z))

    `--penalty clip` clips every weight of the critic to [-0.01, 0.01] after each critic update. Each update gets a fresh
    real batch. The default is the gradient penalty with one critic update per step at twice the generator's learning rate
    (two time scales: Heusel et al. 2017, https://arxiv.org/abs/1706.08500), where the papers use five updates. The critic
    has no batch normalization. `wasserstein_estimate` is minus the critic's loss without the penalty; with clipping its
    scale is unknown.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "latent_size": 100,
            "initializer": "dcgan",
            "optimizer": "rmsprop",
            "beta1": 0.0,
            "beta2": 0.9,
            "schedule": "constant",
            "average_decay": 0.0,
            "generator_widths": (64, 128, 256, 512),
            "discriminator_widths": (64, 128, 256, 512),
            "generator_units": 0,
            "discriminator_units": 0,
            "penalty": "clip",
            "discriminator_updates": 5,
            "generator_learning_rate": 5e-5,
            "discriminator_learning_rate": 5e-5,
        },
        "gradient-penalty-paper": {
            "latent_size": 128,
            "beta1": 0.0,
            "beta2": 0.9,
            "schedule": "constant",
            "average_decay": 0.0,
            "generator_widths": (64, 128, 256, 512),
            "discriminator_widths": (64, 128, 256, 512),
            "generator_units": 0,
            "discriminator_units": 0,
            "kernel_size": 5,
            "discriminator_updates": 5,
            "generator_learning_rate": 1e-4,
            "discriminator_learning_rate": 1e-4,
        },
    }
    default_steps = 2000

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return losses.critic(real_logits, fake_logits)

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return losses.hinge_generator(fake_logits)  # -E D(G(z)), as in the hinge loss

    def penalty(self, images: Tensor, fake: Tensor, labels: Tensor, seed: Tensor) -> Tensor:
        if self.hparams.penalty == "clip":
            return 0.0
        score = lambda x: self.discriminate(x, labels, seed)  # noqa: E731
        return self.hparams.gradient_penalty * losses.gradient_penalty(score, images, fake, seed)

    def scores(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        return {"wasserstein_estimate": -loss}

    def apply_to_discriminator(self, gradients: Sequence[Tensor]) -> None:
        super().apply_to_discriminator(gradients)
        if self.hparams.penalty == "clip":
            for weight in self.discriminator.trainable_variables:
                weight.assign(tf.clip_by_value(weight.value, -self.hparams.clip, self.hparams.clip))
