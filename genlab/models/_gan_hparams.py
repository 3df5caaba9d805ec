"""Hyper-parameters that the GANs share."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal, Self

from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.networks import blocks

# Clusters a hundredth as wide as the plane need a steep discriminator, a generator without batch statistics and ten times
# the steps. The default settings put 2% of points on a mode, these 93%.
POINTS = {
    "latent_size": 2,
    "differentiable_augmentation": (),
    "generator_widths": (128, 128, 128),
    "discriminator_widths": (128, 128, 128),
    "generator_learning_rate": 1e-3,
    "discriminator_learning_rate": 1e-3,
    "schedule": "cosine",
    "average_decay": 0.995,
    "average_share": 0.5,
    "generator_normalization": "none",
    "generator_units": 0,
    "discriminator_units": 0,
    "r1_penalty": 0.02,
}
"""Preset of the GAN family for points in the plane."""
POINTS_STEPS = 25_000
"""Training steps of that preset."""
FEW_IMAGES = 20_000
"""Up to this many training images, a discriminator may learn them by heart within an ordinary run."""
# `dcgan` on 10,000 colour images enlarged to 64x64, 400 steps, one run each, as multiples of the Frechet distance of real images, both at
# 32x32: 54 with rates of 1e-3 and an R1 penalty of 5 (D at 5e-4: 54), 67 with 10, 89 with rates of 2e-3 and 5. With 2e-3 and 1 the losses
# jump, and with 5e-4 and 1 D wins.
RATES = {"mlp": 1e-3, "conv": 2e-3}
"""Learning rates of images up to SIDE x SIDE pixels, by the kind of network."""
SIDE = 32
"""Height and width of the largest images, in pixels, that the rates and R1 penalty of small ones fit."""
# Samples of the requested class, and Frechet distance as a multiple of that of real images, of `cgan` with weights of
# - 0, 0.2 and 0.5 on MNIST, 2,000 steps, one run each: 98.4, 99.4 and 99.5% (real images: 99.5), 2.3, 2.5 and 2.6. With 2K classes
#   (ADC-GAN, Hou et al. 2022), 0.5 and 1: 99.1 and 98.9%, 2.5 and 2.6.
# - 0, 0.05 and 0.2 on 10,000 colour images, 3,125 steps, means of three runs: 50, 64 and 79% (real images: 58), 1.1, 1.1 and 1.3.
# - 0.05 and 0.2 on the same, 15,000 steps, one run each: 71 and 76%, 0.8 and 1.4; 0.2 draws one texture for all frogs.
CLASS_WEIGHT = 0.2
"""Weight of the auxiliary classifier of conditional models of grey images."""
COLOUR_CLASS_WEIGHT = 0.05
"""Weight of the auxiliary classifier of conditional models of images in colour."""


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters shared by all GANs."""

    follow_data: ClassVar[tuple[str, ...]] = ("schedule", "differentiable_augmentation")

    beta1: float = 0.0
    # Constant rates on grey images: the average of weights does what a falling rate would do, and the networks go on learning. MNIST, one
    # seed, as multiples of the Frechet distance of real images: `dcgan` 5.8 after 2,000 steps (cosine: 10.1), 2.1 after 6 epochs (3.3), 1.45
    # after 20; `gan` 31 after 6 epochs (54). Colour images are different: `dcgan` 5.5 and 6.2 in two runs on 10,000 images (3.4 and 2.8).
    schedule: base.Schedule = "auto"
    latent_size: int = 64
    """Dimensions of the latent space."""
    prior: Literal["normal", "uniform"] = "normal"
    """Distribution of each latent dimension: N(0, 1) or U(-1, 1)."""
    # Frechet distance with 32 clusters and without, as multiples of that of real images, one seed each: `dcgan` on MNIST 7.1 and 10.1
    # after 2,000 steps, 2.5 and 3.3 after 6 epochs, 1.8 and 1.9 after 20, where recall is 0.80 and 0.84; on 10,000 colour images 5.6 and
    # 3.3 after 3,000 steps, `cgan` 3.4 and 1.0. 64 plain latents and 32 clusters: 2.4 and 2.0 after 6 and 20 epochs.
    latent_clusters: int = 0
    """Latents that enter the generator as a softmax, nearly one-hot: they choose among as many clusters of images, which one
    Gaussian alone would connect by images in between. At most half of the latents; 0: none."""
    network: Literal["mlp", "conv"] = "mlp"
    """Dense layers or strided convolutions. Vectors always use dense layers."""
    conditioning: Literal["none", "concatenate", "projection"] = "none"
    """How the networks receive labels: not at all, by concatenation (Mirza & Osindero 2014), or with a projection
    discriminator (Miyato & Koyama 2018)."""
    auxiliary_classifier: base.Following = "auto"
    """With --conditioning projection: weight of a classifier on the discriminator's features, which learns from real images and
    teaches the generator (Odena et al. 2017); 0: none. auto: 0.2 for grey images, 0.05 in colour."""
    generator_widths: tuple[int, ...] = (512, 512)
    """Channels of the generator per resolution (units per layer of an MLP), nearest the image first; conv: the last
    width is repeated for larger images."""
    discriminator_widths: tuple[int, ...] = (512, 256)
    """Channels of the discriminator per resolution (units per layer of an MLP), nearest the image first."""
    generator_units: int = 0
    """Units of an extra dense layer of the generator, after the latents; 0: none."""
    discriminator_units: int = 0
    """Units of an extra dense layer of the discriminator, before the logit; 0: none."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    coarsest_size: int = 7
    """Convolutions halve height and width until the smaller is at most this, in pixels."""
    generator_learning_rate: base.Following = "auto"
    """The generator's learning rate, per update. auto: 1e-3 with dense layers and 2e-3 with convolutions, up to 32x32 pixels; less
    for larger images, half as much at 64x64."""
    discriminator_learning_rate: base.Following = "auto"
    """The discriminator's learning rate, per update. auto: as for the generator."""
    generator_updates: int = 1
    """Updates of the generator per step, each on fresh latents."""
    discriminator_updates: int = 1
    """Updates of the discriminator per step, each on a fresh real batch and fresh latents."""
    updates: Literal["alternating", "simultaneous"] = "alternating"
    """alternating: update D, then G through the new D on fresh latents (algorithm 1 of Goodfellow et al. 2014);
    simultaneous: update both from the same generated images and the old D, which is cheaper."""
    r1_penalty: base.Following = "auto"
    """Weight gamma of the R1 penalty gamma/2 |grad D|^2 on real images (Mescheder et al. 2018); 0: none. auto: 1 up to 32x32
    pixels, and in proportion to the pixels of larger images (Karras et al. 2020)."""
    r1_interval: int = 8
    """Training steps between R1 penalties (lazy regularization, Karras et al. 2020); the penalty is scaled up by it."""
    minibatch_standard_deviation: bool = True
    """Give the discriminator the standard deviation of its batch as a feature (Karras et al. 2018)."""
    minibatch_discrimination: int = 0
    """Kernels of minibatch discrimination on the discriminator's features (Salimans et al. 2016); 0: none."""
    minibatch_discrimination_size: int = 5
    """Dimensions of each kernel of minibatch discrimination."""
    differentiable_augmentation: tuple[Literal["auto", "color", "translation", "cutout"], ...] = ("auto",)
    """Augment real and generated images in front of the discriminator, for small data sets (Zhao et al. 2020). auto: translation for
    at most 20,000 images, else none."""
    # On 1,000 images of MNIST, 5,000 steps, seed 0: 8.7 times the Frechet distance of real images with 0.2, 14 with 0.3, 18 with 0.6, 22
    # if it is always applied.
    augmentation_target: float = 0.2
    """Adaptive --differentiable-augmentation: its probability rises from 0 while E sign D(x), the share of training images that
    D finds real minus the share that it does not, is above this target, and falls below it (Karras et al. 2020); 0: always 1."""
    generator_activation: Literal["relu", "leaky_relu", "elu", "gelu"] = "relu"
    """Activation of the generator's hidden layers."""
    generator_normalization: Literal["batch", "none"] = "batch"
    """Normalization of the generator's hidden layers."""
    discriminator_normalization: Literal["batch", "none"] = "none"
    """Normalization of the discriminator's hidden layers except the first."""
    spectral_normalization: bool = False
    """Divide each weight matrix of the discriminator by its largest singular value (Miyato et al. 2018)."""
    generator_dropout: float = 0.0
    """Dropout rate of the generator's hidden layers in training. 0 to 1."""
    dropout_in_sampling: bool = False
    """Keep dropout on in sampling (Isola et al. 2017). The latents choose the masks, so a seed still names an image."""
    discriminator_dropout: float = 0.0
    """Dropout rate of the discriminator's hidden layers in training. 0 to 1."""
    freeze_discriminator: int = 0
    """With --from: first layers of the discriminator that keep the other run's weights (Mo et al. 2020); 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout_in_sampling and not self.generator_dropout:
            raise ValueError("dropout_in_sampling needs a generator_dropout above 0")
        self.check_least(1, "generator_updates", "discriminator_updates", "r1_interval")
        if self.updates == "simultaneous" and (self.generator_updates, self.discriminator_updates) != (1, 1):
            raise ValueError("with simultaneous updates, generator_updates and discriminator_updates must be 1")
        if "auto" in self.differentiable_augmentation and len(self.differentiable_augmentation) > 1:
            raise ValueError(
                "differentiable_augmentation is auto and more; it must be auto alone, or names without auto"
            )
        if not 0 <= self.augmentation_target < 1:
            raise ValueError(f"augmentation_target is {self.augmentation_target}; it must be at least 0 and below 1")
        if self.conditioning != "projection" and self.auxiliary_classifier not in ("auto", 0):
            raise ValueError(
                f"auxiliary_classifier is {self.auxiliary_classifier}; it must be 0 unless conditioning is projection, since a "
                "discriminator that is given the class has nothing to recognize"
            )
        self.check_least(0, "r1_penalty", "auxiliary_classifier", "minibatch_discrimination", "latent_clusters")
        self.check_least(0, "freeze_discriminator")

    @property
    def batches_per_step(self) -> int:
        return self.discriminator_updates

    def for_data(self, spec: DataSpec, images: int) -> Self:
        resolved = super().for_data(spec, images)
        if self.differentiable_augmentation != ("auto",):
            return resolved
        few = spec.is_image and images <= FEW_IMAGES
        return dataclasses.replace(resolved, differentiable_augmentation=("translation",) if few else ())

    def for_spec(self, spec: DataSpec) -> Self:
        side = max(1.0, math.sqrt(math.prod(spec.shape[:2])) / SIDE) if spec.is_image else 1.0
        rate = RATES[self.network] / side
        class_weight = COLOUR_CLASS_WEIGHT if spec.in_colour else CLASS_WEIGHT
        return self.with_auto(
            schedule="cosine" if spec.in_colour else "constant",
            generator_learning_rate=rate,
            discriminator_learning_rate=rate,
            r1_penalty=side**2,
            auxiliary_classifier=class_weight if self.conditioning == "projection" and spec.is_image else 0.0,
        )

    @property
    def needs_ancestor(self) -> str:
        return "--freeze-discriminator" if self.freeze_discriminator else ""

    def check_data(self, spec: DataSpec) -> None:
        if self.conditioning != "none":
            base.check_all_labelled(spec)

    def width_limit(self, spec: DataSpec) -> int | None:
        return blocks.width_limit(spec.shape, self.network, self.coarsest_size)


@dataclasses.dataclass(frozen=True)
class ConvolutionalHparams(Hparams):
    """GAN hyper-parameters with defaults for strided convolutions."""

    network: Literal["mlp", "conv"] = "conv"
    generator_widths: tuple[int, ...] = (32, 64, 128, 256)
    discriminator_widths: tuple[int, ...] = (32, 64, 128, 256)
    # One dense layer per network, which sees the whole image, helped digits more than anything else tried: the Frechet
    # distance of a small classifier fell from 8.6 to 2.8 (real against real: 2.2) in half the steps.
    generator_units: int = 256
    discriminator_units: int = 256
