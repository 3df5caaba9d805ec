"""GAN with minibatch discrimination."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeAlias

from genlab.models import _gan_hparams, dcgan, gan


@dataclasses.dataclass(frozen=True)
class Hparams(dcgan.Hparams):
    """Hyper-parameters of `minibatch_gan`."""

    minibatch_discrimination: int = 32
    minibatch_standard_deviation: bool = False


class MinibatchGAN(gan.GAN):
    """GAN with minibatch discrimination: the discriminator sees how close each image is to the rest of its batch.

    Salimans et al. 2016, "Improved Techniques for Training GANs" (https://arxiv.org/abs/1606.03498), section 3.2: on
    the features f of D, M = f T in R^(kernels x size), and o(x_i)_b = sum over j != i of exp(-|M_i,b - M_j,b|_1) is
    concatenated to f. This lets D detect mode collapse. The losses are those of `gan`.

    Real and generated batches go through D separately. In data-parallel training, the batch is the replica's. The paper
    has 100 kernels of size 5 (`--preset paper`). The default has 32 of size 5 and the recipe of `dcgan` without minibatch
    standard deviation, which this layer replaces.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "batch_size": 100,
            "latent_size": 100,
            "prior": "uniform",
            "initializer": "dcgan",
            "beta1": 0.5,
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "differentiable_augmentation": (),
            "generator_widths": (128, 256, 512),
            "discriminator_widths": (96, 192, 192),
            "generator_units": 0,
            "discriminator_units": 0,
            "kernel_size": 5,
            "generator_learning_rate": 3e-4,
            "discriminator_learning_rate": 3e-4,
            "r1_penalty": 0.0,
            "discriminator_normalization": "batch",
            "minibatch_discrimination": 100,
        },
        "book": gan.GAN.presets["book"]
        | {
            "network": "mlp",
            "minibatch_discrimination": 5,
            "minibatch_discrimination_size": 3,
            "generator_learning_rate": 2e-3,
            "discriminator_learning_rate": 2e-3,
        },
        "points": _gan_hparams.POINTS | {"minibatch_discrimination": 8, "minibatch_discrimination_size": 3},
    }
    default_steps = 2000
    preset_steps: ClassVar[dict[str, int]] = {"points": _gan_hparams.POINTS_STEPS}
