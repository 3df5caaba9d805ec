"""Conditional GAN."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from genlab.models import _adversarial, base, dcgan, gan


@dataclasses.dataclass(frozen=True)
class Hparams(dcgan.Hparams):
    """Hyper-parameters of `cgan`."""

    conditioning: Literal["none", "concatenate", "projection"] = "projection"


class CGAN(gan.GAN):
    """Conditional GAN: both networks know the class, so that samples can be asked for by label.

    Mirza & Osindero 2014, "Conditional Generative Adversarial Nets" (https://arxiv.org/abs/1411.1784):

        L_D = -E log D(x|y) - E log(1 - D(G(z|y)|y)),    L_G = -E log D(G(z|y)|y)

    Generated images take the labels of the real batch. Not as in the paper: convolutions (the paper: maxout layers), the
    recipe of `dcgan`, and by default the projection discriminator (Miyato & Koyama 2018,
    https://arxiv.org/abs/1802.05637), which adds embed(y) . features(x) to the logit; `--conditioning concatenate` hands
    D the label's embedding as one more channel. G takes the label's embedding beside z in both.
    """

    Hparams: ClassVar[type[base.Hparams]] = Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": gan.GAN.presets["book"] | {"network": "mlp", "conditioning": "concatenate", "beta1": 0.5},
        # Section 4.1 of the paper: 100 numbers of uniform noise, minibatches of 100, a momentum of 0.5, dropout of 0.5,
        # a learning rate of 0.1; dense layers in place of maxout.
        "paper": gan.GAN.presets["paper"] | {"network": "mlp", "conditioning": "concatenate"},
        "points": _adversarial.POINTS,
    }
    default_steps = 2000
