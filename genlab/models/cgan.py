"""Conditional GAN."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, TypeAlias

from genlab.models import _gan_hparams, base, dcgan, gan


@dataclasses.dataclass(frozen=True)
class Hparams(dcgan.Hparams):
    """Hyper-parameters of `cgan`."""

    conditioning: Literal["none", "concatenate", "projection"] = "projection"
    # A falling rate, other than for `dcgan`: 2,500 steps on 10,000 colour images gave 1.2 and with a constant rate 3.5 times the Frechet
    # distance of real images, the digits 1.3 and 1.5 times, one seed each.
    schedule: base.Schedule = "cosine"


class CGAN(gan.GAN):
    """Conditional GAN: both networks receive the class, so samples can be drawn by label.

    Mirza & Osindero 2014, "Conditional Generative Adversarial Nets" (https://arxiv.org/abs/1411.1784):

        L_D = -E log D(x|y) - E log(1 - D(G(z|y)|y)),    L_G = -E log D(G(z|y)|y)

    Generated images use the labels of the real batch. Differs from the paper: convolutions instead of maxout layers, the
    recipe of `dcgan`, and by default the projection discriminator (Miyato & Koyama 2018,
    https://arxiv.org/abs/1802.05637), which adds embed(y) . features(x) to the logit. `--conditioning concatenate` gives
    D the label's embedding as an extra channel. In both, G receives the label's embedding concatenated to z. With the
    projection, D has an auxiliary classifier of weight w on its features (Odena, Olah & Shlens 2017,
    https://arxiv.org/abs/1610.09585), which learns from real images alone: L_D has -w E log p(y|x) added, L_G -w E log p(y|G(z|y)).
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": gan.GAN.presets["book"]
        | {
            "network": "mlp",
            "conditioning": "concatenate",
            "beta1": 0.5,
            "generator_learning_rate": 2e-3,
            "discriminator_learning_rate": 2e-3,
        },
        # Section 4.1 of the paper: 100 dimensions of uniform noise, minibatches of 100, momentum 0.5, dropout 0.5 and
        # learning rate 0.1; dense layers instead of maxout.
        "paper": gan.GAN.presets["paper"] | {"network": "mlp", "conditioning": "concatenate"},
        "points": _gan_hparams.POINTS,
    }
    default_steps = 2000
    preset_steps: ClassVar[dict[str, int]] = {"points": _gan_hparams.POINTS_STEPS}
