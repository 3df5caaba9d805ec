"""Base of the GANs: a generator, a discriminator, and the training step that updates them in turn."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from genlab.backend import Network, Tensor, Variable, keras, tf
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models import base
from genlab.models._scores import Measure, Score
from genlab.networks import augmentation, blocks, features, losses, precision, priors, replicas

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
FEW_IMAGES = 20_000
"""Up to so many training images, a discriminator may learn them by heart within an ordinary run."""
IMAGES_TO_FULL_AUGMENTATION = 150_000
"""Images of real batches after which the probability of adaptive augmentation can have gone from 0 to 1."""
# `dcgan` on 10,000 colour images enlarged to 64x64, 400 steps, one run each, as multiples of the Frechet distance of real images, both at
# 32x32: 54 with rates of 1e-3 and an R1 penalty of 5 (D at 5e-4: 54), 67 with 10, 89 with rates of 2e-3 and 5. With 2e-3 and 1 the losses
# jump, and with 5e-4 and 1 D wins.
RATES = {"mlp": 1e-3, "conv": 2e-3}
"""Learning rates of images up to SIDE x SIDE pixels, by the kind of network."""
SIDE = 32
"""Height and width of the largest images, in pixels, that the rates and R1 penalty of small ones fit."""
CLASS_WEIGHT = 0.2
"""Weight of the auxiliary classifier of conditional models of images."""
COMPANIONS = 7
"""Generated images that a discriminator which compares images sees with each that it scores."""
POINTS_STEPS = 25_000
"""Training steps of that preset."""


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
    # `cgan` on MNIST, one seed, 2,000 steps: 98.4% of samples are of the class asked for without, 99.4% with 0.2 and 99.5% with 0.5, at 2.3,
    # 2.5 and 2.6 times the Frechet distance of real images. With 2K classes (ADC-GAN, Hou et al. 2022), 0.5 and 1: 99.1% and 98.9%, 2.5 and 2.6.
    auxiliary_classifier: base.Following = "auto"
    """With --conditioning projection: weight of a classifier on the discriminator's features, which learns from real images and
    teaches the generator (Odena et al. 2017); 0: none. auto: 0.2 for images."""
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
        for name in ("kernel_size", "generator_updates", "discriminator_updates", "r1_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
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
        for name in (
            "r1_penalty",
            "auxiliary_classifier",
            "minibatch_discrimination",
            "latent_clusters",
            "freeze_discriminator",
        ):
            value = getattr(self, name)
            if value != "auto" and value < 0:
                raise ValueError(f"{name} is {value}; it must be at least 0")

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
        in_colour = spec.is_image and spec.shape[-1] > 1
        side = max(1.0, math.sqrt(math.prod(spec.shape[:2])) / SIDE) if spec.is_image else 1.0
        rate = RATES[self.network] / side
        values: dict[str, Any] = {
            "schedule": "cosine" if in_colour else "constant",
            "generator_learning_rate": rate,
            "discriminator_learning_rate": rate,
            "r1_penalty": side**2,
            "auxiliary_classifier": CLASS_WEIGHT if self.conditioning == "projection" and spec.is_image else 0.0,
        }
        return dataclasses.replace(
            self, **{name: each for name, each in values.items() if getattr(self, name) == "auto"}
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


class Adversarial(base.GenerativeModel):
    """A generator G and a discriminator D. A subclass defines their losses and may replace the penalty on D.

    The default penalty is R1, gamma/2 E |grad_x D(x)|^2 (Mescheder, Geiger & Nowozin 2018,
    https://arxiv.org/abs/1801.04406). Samples are drawn with averaged weights of G.
    """

    hparams: Hparams
    discriminator: Network
    averaged_discriminator: Network
    """D in float32 with averaged weights, a better backbone than D itself."""

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        hparams = self.hparams
        self.prior = priors.make(hparams.prior, hparams.latent_size)
        self.conditional = hparams.conditioning != "none"
        self.num_classes = spec.num_classes if self.conditional else 0
        hparams.check_data(spec)
        if hparams.differentiable_augmentation not in ((), ("auto",)) and not spec.is_image:
            raise UsageError("--differentiable-augmentation is for images, and the data holds vectors. Leave it out.")
        self.augmentations = tuple(name for name in hparams.differentiable_augmentation if name != "auto")
        self.augmentation_probability: Variable | None = None
        """Probability of an adaptive augmentation; None: it is always applied."""
        if self.augmentations and hparams.augmentation_target:
            self.augmentation_probability = tf.Variable(0.0, name="augmentation_probability")
        self.generator = self._build_generator(averaged=False)
        with precision.scope("float32"):  # samples use full precision, whatever the precision of training
            self.decoder = self._build_generator(averaged=True)
        self.generator_average = self.average((self.decoder, self.generator))
        self.discriminator = self._build_discriminator()
        # Its features fine-tuned on 100 and 1,000 labels of MNIST, three draws: 87.8% and 95.6% after 6 epochs (D itself 85.9% and 95.1%),
        # 84.2% and 93.5% after 22 epochs, with a decay of 0.998 over the last 2,000 steps (81.0% and 92.0%).
        with precision.scope("float32"):
            self.averaged_discriminator = self._build_discriminator(averaged=True)
        self.discriminator_average = self.average((self.averaged_discriminator, self.discriminator))
        self.class_head: Network | None = None
        """D's features -> logits [B, K] of its auxiliary classifier; None if there is none."""
        if hparams.auxiliary_classifier:
            self.class_head = blocks.class_head(
                self.discriminator, self.num_classes, self._discriminator_style(averaged=False)
            )
        self._judging = self._build_judging()
        blocks.freeze(self.discriminator, hparams.freeze_discriminator)
        self.generator_optimizer = self.make_optimizer(
            float(hparams.generator_learning_rate), self.generator.trainable_variables
        )
        self.discriminator_optimizer = self.make_optimizer(
            float(hparams.discriminator_learning_rate), self.discriminator_variables
        )

    def _build_generator(self, *, averaged: bool) -> Network:
        hparams = self.hparams
        style = blocks.Style(
            activation=hparams.generator_activation,
            normalization=hparams.generator_normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            coarsest_size=hparams.coarsest_size,
            dropout=hparams.generator_dropout,
            fused=not averaged,
            seed=self.seed,
        )
        return blocks.generator(
            self.spec.shape,
            hparams.latent_size,
            hparams.generator_widths,
            style,
            network=hparams.network,
            num_classes=self.num_classes,
            clusters=min(hparams.latent_clusters, hparams.latent_size // 2),
            hidden_units=hparams.generator_units,
            sampling_dropout=averaged and hparams.dropout_in_sampling,
        )

    def _discriminator_style(self, *, averaged: bool) -> blocks.Style:
        hparams = self.hparams
        return blocks.Style(
            activation="leaky_relu",
            normalization=hparams.discriminator_normalization,
            initializer=hparams.initializer,
            kernel_size=hparams.kernel_size,
            coarsest_size=hparams.coarsest_size,
            dropout=hparams.discriminator_dropout,
            spectral_normalization=hparams.spectral_normalization,
            fused=not averaged,
            seed=self.seed + 1,
        )

    def _build_discriminator(self, *, averaged: bool = False) -> Network:
        hparams = self.hparams
        return blocks.discriminator(
            self.spec.shape,
            hparams.discriminator_widths,
            self._discriminator_style(averaged=averaged),
            network=hparams.network,
            num_classes=self.num_classes,
            projection=hparams.conditioning == "projection",
            hidden_units=hparams.discriminator_units,
            minibatch_standard_deviation=hparams.minibatch_standard_deviation,
            minibatch_discrimination=(hparams.minibatch_discrimination, hparams.minibatch_discrimination_size),
        )

    def _build_judging(self) -> Callable[[Any], tuple[Tensor, Tensor | None]]:
        """Return a function of D's inputs: its logits [B, 1], and those of its auxiliary classifier [B, K] or None, in training mode."""
        if self.class_head is None:
            return lambda inputs: (self.discriminator(inputs, training=True), None)
        features = self.discriminator.get_layer("logit_dense").input
        both = keras.Model(self.discriminator.inputs, [self.discriminator.output, self.class_head(features)])
        return lambda inputs: tuple(both(inputs, training=True))

    @property
    def discriminator_variables(self) -> list[Variable]:
        """What D's optimizer trains."""
        own = self.discriminator.trainable_variables
        return own if self.class_head is None else [*own, *self.class_head.trainable_variables]

    @property
    def feature_network(self) -> Network:
        return self.averaged_discriminator

    @property
    def compares_images(self) -> bool:
        """Whether what D says of an image depends on the others of its batch."""
        hparams = self.hparams
        return hparams.minibatch_standard_deviation or hparams.minibatch_discrimination > 0

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        sentence = "minus the discriminator's logit"
        scores = {
            "discriminator": Score(
                "number", sentence + (", for the class that fits best" * self.conditional), self._doubt()
            )
        }
        try:
            network = features.until(self.discriminator, self.feature_layers)
        except (UsageError, ValueError):  # it has no such layers, or they depend on the class too
            return scores

        def vectors(images: np.ndarray) -> np.ndarray:
            found = np.asarray(tf.cast(network(images, training=False), tf.float32))
            return found.reshape(len(found), -1)

        sentence = "local outlier factor of the discriminator's features among those of training images"
        return {"neighbours": Score("vector", sentence, vectors)} | scores

    def _doubt(self) -> Measure:
        """Return minus D's logit as a function of images [N, ...], the smallest over classes, [N].

        A discriminator that compares the images of a batch sees each with the same generated ones.
        """

        @functools.cache
        def compiled() -> tf.types.experimental.GenericFunction:
            seeds = np.arange(COMPANIONS if self.compares_images else 0)
            companions = np.asarray(self.sample(self.sample_latents(seeds), self.default_labels(seeds)))

            def logit(image: Tensor, label: int) -> Tensor:
                batch = tf.concat([image[tf.newaxis], companions], axis=0)
                labels = tf.fill([len(seeds) + 1], label)
                return tf.cast(self.judged(batch, labels)[0, 0], tf.float32)

            def smallest(image: Tensor) -> Tensor:
                return -tf.reduce_max(tf.stack([logit(image, label) for label in range(max(1, self.num_classes))]))

            signature = [tf.TensorSpec([None, *self.spec.shape])]
            return tf.function(lambda images: tf.map_fn(smallest, images), signature, autograph=False)

        return lambda images: np.asarray(compiled()(tf.convert_to_tensor(images)))

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        if self.hparams.updates == "simultaneous":
            ((images, labels),) = batches
            metrics |= self.update_both(images, labels, seed)
        else:
            updates = self.hparams.discriminator_updates + self.hparams.generator_updates
            seeds = tf.unstack(tf.random.split(seed, updates, alg="philox"))
            for images, labels in batches:
                metrics |= self.update_discriminator(images, labels, seeds.pop())
            labels = batches[-1][1]
            for _ in range(self.hparams.generator_updates):
                metrics |= self.update_generator(labels, seeds.pop())
        if self.augmentation_probability is not None:
            metrics["augmentation"] = self.adapt_augmentation(self.augmentation_probability, metrics["overfitting"])
        self.generator_average.update()
        self.discriminator_average.update()
        return metrics

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return generated images [B, H, W, C] in training mode; `labels` are used if the model is conditional."""
        return self.generator([latents, labels] if self.conditional else latents, training=True)

    def discriminate(self, images: Tensor, labels: Tensor, seed: Tensor | None = None) -> Tensor:
        """Return D's logits [B, 1] in training mode, see `judge`."""
        return self.judge(images, labels, seed)[0]

    def judge(self, images: Tensor, labels: Tensor, seed: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return D's logits [B, 1], and those of its auxiliary classifier [B, K] or None, in training mode.

        `labels` are used if the model is conditional. With a seed, --differentiable-augmentation is applied to the images first;
        without one it is not.
        """
        if self.augmentations and seed is not None:
            probability = 1.0 if self.augmentation_probability is None else self.augmentation_probability
            images = augmentation.differentiable(images, seed, self.augmentations, probability)
        return self._judging([images, labels] if self.conditional else images)

    def judged(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return D's logits of "real" [B, 1] outside training; `labels` are used if the model is conditional."""
        return self.discriminator([images, labels] if self.conditional else images, training=False)

    @abc.abstractmethod
    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return D's loss, a scalar, from its logits [B, 1] for real and for generated images."""

    @abc.abstractmethod
    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        """Return G's loss, a scalar, from D's logits [B, 1] for generated images."""

    def penalty(self, images: Tensor, fake: Tensor, labels: Tensor, seed: Tensor) -> Tensor:
        """Return r1_interval * gamma/2 E |grad D|^2 every `r1_interval` training steps, and 0 in between."""
        hparams = self.hparams
        gamma = float(hparams.r1_penalty)
        if gamma == 0:
            return 0.0
        weight = 0.5 * gamma * hparams.r1_interval
        due = tf.equal(self.step % hparams.r1_interval, 0)

        def squared_norm() -> Tensor:
            return weight * losses.squared_gradient_norm(lambda x: self.discriminate(x, labels, seed), images)

        if replicas.count() > 1 and hparams.discriminator_normalization != "none":
            return tf.where(due, squared_norm(), 0.0)  # replicas cannot synchronize batch statistics inside a branch
        return tf.cond(due, squared_norm, lambda: 0.0)

    def update_discriminator(self, images: Tensor, labels: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Update D once, on a real batch and as many generated images with the same labels."""
        latent_seed, objective_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        fake = self.generate(self.draw_latents(tf.shape(images)[0], latent_seed), labels)  # no gradient into G
        variables = self.discriminator_variables
        self._iterate_spectral_norms()
        with tf.GradientTape() as tape:
            total, _, metrics = self.discriminator_objective(images, fake, labels, objective_seed)
            scaled = self.scaled(self.discriminator_optimizer, total)
        self.apply_to_discriminator(tape.gradient(scaled, variables))
        return metrics

    def update_generator(self, labels: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Update G once through D, on fresh latents."""
        latents = self.draw_latents(tf.shape(labels)[0], seed)
        image_seed = tf.random.fold_in(seed, 1, alg="philox")
        variables = self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            judged = self.judge(self.generate(latents, labels), labels, image_seed)
            total, metrics = self.generator_objective(judged, labels)
            scaled = self.scaled(self.generator_optimizer, total)
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        return metrics

    def update_both(self, images: Tensor, labels: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Update D and G once, both from the old D's logits for the same generated images."""
        latent_seed, objective_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        latents = self.draw_latents(tf.shape(images)[0], latent_seed)
        variables = self.generator.trainable_variables
        self._iterate_spectral_norms()
        with tf.GradientTape(watch_accessed_variables=False) as generator_tape:
            generator_tape.watch([variable.value for variable in variables])
            fake = self.generate(latents, labels)
            with tf.GradientTape() as discriminator_tape:
                total, judged, metrics = self.discriminator_objective(images, fake, labels, objective_seed)
                scaled = self.scaled(self.discriminator_optimizer, total)
            generator_total, generator_metrics = self.generator_objective(judged, labels)
            generator_scaled = self.scaled(self.generator_optimizer, generator_total)
        gradients = generator_tape.gradient(generator_scaled, variables)
        self.apply_to_discriminator(discriminator_tape.gradient(scaled, self.discriminator_variables))
        self.generator_optimizer.apply(gradients, variables)
        return metrics | generator_metrics

    def discriminator_objective(
        self, images: Tensor, fake: Tensor, labels: Tensor, seed: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor | None], dict[str, Tensor]]:
        """Return D's loss with what is added to it, what it says of the generated images (see `judge`), and metrics for the log."""
        real_seed, fake_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        # Real and generated images go through D separately, so that batch statistics never mix them.
        real_logits, class_logits = self.judge(images, labels, real_seed)
        judged = self.judge(fake, labels, fake_seed)
        loss = self.discriminator_loss(real_logits, judged[0])
        metrics = {"discriminator_loss": loss} | self.scores(loss, real_logits, judged[0])
        if self.augmentation_probability is not None:
            metrics["overfitting"] = tf.reduce_mean(tf.sign(real_logits))
        total = loss + self.penalty(images, fake, labels, seed)
        if class_logits is not None:  # of real images alone: D should not learn classes from a generator's mistakes
            metrics["class_loss"] = losses.cross_entropy(class_logits, labels)
            total += self.hparams.auxiliary_classifier * metrics["class_loss"]
        return total, judged, metrics

    def generator_objective(
        self, judged: tuple[Tensor, Tensor | None], labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G's loss with what is added to it, from what D says of its images (see `judge`), and metrics for the log."""
        logits, class_logits = judged
        loss = self.generator_loss(logits)
        metrics = {"generator_loss": loss}
        if class_logits is None:
            return loss, metrics
        metrics["generator_class_loss"] = losses.cross_entropy(class_logits, labels)
        return loss + self.hparams.auxiliary_classifier * metrics["generator_class_loss"], metrics

    def _iterate_spectral_norms(self) -> None:
        for network in filter(None, (self.discriminator, self.class_head)):
            blocks.iterate_spectral_norms(network)

    def adapt_augmentation(self, probability: Variable, overfitting: Tensor) -> Tensor:
        """Move the probability of the augmentation by E sign D(x) of a batch of real images, and return it.

        Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (https://arxiv.org/abs/2006.06676),
        equation 1 and section 3.1, after each training step: from 0 to 1 in IMAGES_TO_FULL_AUGMENTATION images.
        """
        direction = tf.sign(replicas.mean(overfitting) - self.hparams.augmentation_target)
        moved = probability + direction * self.hparams.batch_size / IMAGES_TO_FULL_AUGMENTATION
        probability.assign(tf.clip_by_value(moved, 0.0, 1.0))
        return probability.value()

    def apply_to_discriminator(self, gradients: Sequence[Tensor]) -> None:
        """Take one step of D's optimizer, then enforce any constraint on D's weights."""
        self.discriminator_optimizer.apply(gradients, self.discriminator_variables)

    def scores(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """Return scalars by name to log along with D's loss."""
        return {}
