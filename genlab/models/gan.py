"""The original GAN."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, TypeAlias

from genlab.backend import Tensor, tf
from genlab.models import _adversarial, _gan_hparams
from genlab.networks import losses

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
class Hparams(_gan_hparams.Hparams):
    """Hyper-parameters of `gan`."""

    loss: Literal["non_saturating", "minimax", "hinge"] = "non_saturating"
    """Adversarial loss: non_saturating and minimax (Goodfellow et al. 2014), hinge (Miyato et al. 2018)."""


class GAN(_adversarial.Adversarial):
    """Original GAN: a generator and a discriminator of dense layers, trained against each other.

    Goodfellow et al. 2014, "Generative Adversarial Networks" (https://arxiv.org/abs/1406.2661). With D = sigmoid(logit):

        L_D = -E log D(x) - E log(1 - D(G(z)))
        L_G = -E log D(G(z))                      (non-saturating, section 3; or minimax: E log(1 - D(G(z))))

    Differs from the paper: ReLU and batch normalization in G and leaky ReLU in D (the paper has rectifiers and sigmoids in
    G, maxout and dropout in D), Adam instead of momentum, the R1 penalty (Mescheder, Geiger & Nowozin 2018,
    https://arxiv.org/abs/1801.04406), minibatch standard deviation in D, and samples from averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": {
            "latent_size": 100,
            "prior": "uniform",
            "initializer": "glorot",
            "beta1": 0.5,
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "differentiable_augmentation": (),
            "generator_widths": (1024, 1024),
            "discriminator_widths": (256, 256),
            "generator_normalization": "none",
            "generator_learning_rate": 1e-3,
            "discriminator_learning_rate": 1e-3,
            "r1_penalty": 0.0,
            "minibatch_standard_deviation": False,
        },
        # The paper gives no table of settings; these are the ones of its text: noise from a uniform prior, dropout in
        # D, momentum, no normalization.
        "paper": {
            "batch_size": 100,
            "latent_size": 100,
            "prior": "uniform",
            "initializer": "glorot",
            "optimizer": "sgd",
            "beta1": 0.5,
            "schedule": "constant",
            "average_decay": 0.0,
            "differentiable_augmentation": (),
            "generator_widths": (1200, 1200),
            "discriminator_widths": (240, 240),
            "generator_learning_rate": 0.1,
            "discriminator_learning_rate": 0.1,
            "generator_normalization": "none",
            "discriminator_dropout": 0.5,
            "r1_penalty": 0.0,
            "minibatch_standard_deviation": False,
        },
        "points": _gan_hparams.POINTS,
    }
    default_steps = 4000
    preset_steps: ClassVar[dict[str, int]] = {"points": _gan_hparams.POINTS_STEPS}

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return DISCRIMINATOR_LOSSES[self.hparams.loss](real_logits, fake_logits)

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return GENERATOR_LOSSES[self.hparams.loss](fake_logits)

    def scores(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        return {
            "real_score": tf.reduce_mean(tf.sigmoid(real_logits)),
            "fake_score": tf.reduce_mean(tf.sigmoid(fake_logits)),
        }

    def warnings(self, metrics: dict[str, float]) -> dict[str, str]:
        found = {}
        if metrics["discriminator_loss"] < 0.1:
            found["discriminator"] = (
                "the discriminator separates nearly all images, which leaves the generator no signal. Try a lower "
                "--discriminator-learning-rate, a higher --r1-penalty or --spectral-normalization."
            )
        if self.hparams.loss == "non_saturating" and metrics["generator_loss"] < 0.1:
            found["generator"] = (
                "the generator's loss is near 0: it exploits a weakness of the discriminator, and mode collapse is near. Try a "
                "higher --discriminator-learning-rate, a lower --generator-learning-rate or --minibatch-discrimination."
            )
        if metrics.get("augmentation", 0.0) == 1.0 and metrics["overfitting"] > 0.9:
            found["overfitting"] = (
                "the discriminator knows the training images by heart, although all are augmented. Try more images, --flip, another "
                "--differentiable-augmentation, or --from a run on similar images."
            )
        return found
