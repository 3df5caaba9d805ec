"""Semi-supervised GAN."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, TypeAlias

from genlab.backend import Network, Tensor, keras, tf
from genlab.data.options import View
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models import _adversarial, _gan_hparams, base
from genlab.networks import augmentation, blocks, features, losses, replicas

UNSUITED = {
    "conditioning": "none",
    "minibatch_standard_deviation": False,
    "minibatch_discrimination": 0,
    "spectral_normalization": False,
    "updates": "alternating",
    "differentiable_augmentation": (),
    "augmentation_target": 0.0,
}
"""Options of GANs that this one lacks, with the value that they keep: its discriminator classifies single images, and its
generator matches means."""


@dataclasses.dataclass(frozen=True)
class Hparams(_gan_hparams.ConvolutionalHparams):
    """Hyper-parameters of `semi_gan`."""

    generator_learning_rate: float = 1e-3
    """The generator's learning rate, per update."""
    discriminator_learning_rate: float = 1e-3
    """The discriminator's learning rate, per update."""
    schedule: base.Schedule = "cosine"
    beta1: float = 0.5
    minibatch_standard_deviation: bool = False
    """Not available: the discriminator classifies single images."""
    differentiable_augmentation: tuple[Literal["auto", "color", "translation", "cutout"], ...] = ()
    """Not available: see --views."""
    augmentation_target: float = 0.0
    """Not available."""
    # MNIST, 100 labels of one draw, 2,344 steps with --consistency-alignment, accuracy on 10,000 training images set aside:
    # 98.3%. With a dropout of 0.3 97.9%; with that and an average share of 0.5 96.8%; with both and no normalization 95.8%.
    # Before all of these and alignment, an R1 penalty of 1 gave 66% instead of 94.1%.
    # CIFAR-10, 500 labels, 1,000 steps with rotations, accuracy on 2,000 training images set aside: with batch normalization 44.5%, and
    # samples are noise, also with the non-saturating loss (42.4%); as here 43.8%, and samples are pictures; as here with that loss and a
    # penalty of 1 42.4%, and a collapse; with batch normalization and no unlabelled or generated images 45.1%.
    r1_penalty: base.Following = "auto"
    """Weight gamma of the R1 penalty gamma/2 |grad D|^2 on real images (Mescheder et al. 2018); 0: none. auto: 0.1 for images in
    colour, else 0."""
    discriminator_normalization: Literal["auto", "batch", "none"] = "auto"  # type: ignore[assignment]  # others have no auto
    """Normalization of the discriminator's hidden layers except the first. auto: none for images in colour, else batch."""
    discriminator_dropout: float = 0.1
    average_decay: float = 0.999
    """Largest decay per step of the moving average of weights, of the decoder and of the classifier; 0: no average. 0 to 1."""
    average_share: float = 0.1
    unlabelled_weight: float = 1.0
    """Weight of the losses of unlabelled and generated images, compared with that of labelled ones."""
    feature_matching: bool = True
    """Let the generator match the mean features of real images; off: the non-saturating loss."""
    discriminator_input_noise: float = 0.0
    """Standard deviation of Gaussian noise on the discriminator's input in training, for images in [-1, 1]."""
    discriminator_noise: float = 0.0
    """Standard deviation of Gaussian noise after each hidden layer of the discriminator in training."""
    discriminator_residual_blocks: int = 0
    """Residual blocks of two convolutions at each resolution of the discriminator below the image's."""
    views: tuple[View, ...] = ("shift", "rotate", "zoom")
    """Change the images that the discriminator sees, as --augment does. The classifier, from unchanged images, gives the
    targets of consistency."""
    consistency_weight: base.Following = "auto"
    """Weight of consistency: changed unlabelled images should be classified as the averaged classifier does the unchanged; 0:
    none (Sohn et al. 2020; Tarvainen & Valpola 2017). auto: 0 for square images in colour, else 1."""
    consistency_alignment: bool = False
    """Correct the targets of consistency, so that classes are predicted as often as they occur among labelled images: if that is
    how often they occur (Berthelot et al. 2020)."""
    consistency_threshold: float = 0.95
    """Probability of a class from which the averaged classifier's prediction is a target of consistency. 0 to 1."""
    rotation_weight: base.Following = "auto"
    """Weight of a second task of the discriminator: to tell by which multiple of 90 degrees an image is turned; 0: none (Chen et
    al. 2019). auto: 1 for square images in colour, else 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in UNSUITED.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; semi_gan's discriminator classifies single images, and it must be "
                    f"{value or 'left out'}"
                )
        self.check_least(
            0, "unlabelled_weight", "consistency_weight", "rotation_weight", "discriminator_residual_blocks"
        )
        self.check_least(0, "discriminator_input_noise", "discriminator_noise")
        if not 0 <= self.consistency_threshold <= 1:
            raise ValueError(f"consistency_threshold is {self.consistency_threshold}; it must be from 0 to 1")

    @property
    def labelled_batches_per_step(self) -> int:
        return self.discriminator_updates

    def for_spec(self, spec: DataSpec) -> Self:
        turned = spec.in_colour and spec.is_square
        own = self.with_auto(
            r1_penalty=0.1 if spec.in_colour else 0.0,
            discriminator_normalization="none" if spec.in_colour else "batch",
            consistency_weight=0.0 if turned else 1.0,
            rotation_weight=1.0 if turned else 0.0,
        )
        return super(Hparams, own).for_spec(spec)  # after these, since it would choose another R1 penalty

    def check_data(self, spec: DataSpec) -> None:
        if not spec.num_classes:
            raise UsageError(
                "semi_gan needs labels of some images, and the data has none. Put a few images into folders of their classes, "
                "the others into unlabelled/."
            )
        if self.rotation_weight and not spec.is_square:
            of = "x".join(map(str, spec.shape))
            raise UsageError(f"--rotation-weight turns square images; the data has the shape {of}. Leave it out.")


class SemiGAN(_adversarial.Adversarial):
    """Semi-supervised GAN: the discriminator is a classifier that learns from few labels and many unlabelled images.

    Salimans et al. 2016, "Improved Techniques for Training GANs" (https://arxiv.org/abs/1606.03498), sections 3.1 and 5. The
    discriminator has a logit l_y for each of K classes. With Z(x) = sum_y exp l_y(x), an image is real with probability
    D(x) = Z(x) / (Z(x) + 1), as if "generated" were one more class, of logit 0:

        L_D = -E log softmax(l(x))_y + w [-E log D(u) - E log(1 - D(G(z)))] [+ c C(u)],    L_G = |E f(u) - E f(G(z))|^2

    for labelled images x with labels y and unlabelled ones u, which are all training images without their labels; f are D's
    hidden layers. C is consistency: images that are shifted, turned and zoomed at random should have the class that the
    averaged classifier is sure of before (Sohn et al. 2020, "FixMatch", https://arxiv.org/abs/2001.07685, with the teacher of
    Tarvainen & Valpola 2017, "Mean teachers are better role models", https://arxiv.org/abs/1703.01780). With --rotation-weight, a
    second head of D tells by which multiple of 90 degrees u is turned (Chen et al. 2019, "Self-Supervised GANs via Auxiliary
    Rotation Loss", https://arxiv.org/abs/1811.11212, equation 3; G has no part in it here).

    Differs from the paper: convolutions, all hidden layers in f instead of one, random changes of the images, consistency,
    dropout instead of noise in D, and batch instead of weight normalization; in colour none, with an R1 penalty, and rotations
    instead of consistency. Batch normalization takes the statistics of real and of generated images separately, also where f
    compares them. With moving statistics for both, samples are better and the classifier is worse (MNIST, 100 labels: 96.8% instead of
    97.9%, with a dropout of 0.3), as Dai et al. 2017 found, "Good Semi-supervised Learning That Requires a Bad GAN"
    (https://arxiv.org/abs/1705.09783). The discriminator with averaged weights is `classifier`.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    classifier: Network
    rotation_head: Network | None = None
    """D's features -> logits [B, 4] of by how much an image is turned; None if that is no task of it."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The settings of the authors' program for MNIST, from memory: softplus and batch normalization in G, 5 hidden layers
        # with noise in D (0.3 on pixels in [0, 1]), Adam with 0.003. It also normalizes D's weights, and scales them.
        "paper": {
            "batch_size": 100,
            "latent_size": 100,
            "prior": "uniform",
            "initializer": "glorot",
            "beta1": 0.5,
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.9999,
            "average_share": 0.5,
            "discriminator_normalization": "none",
            "network": "mlp",
            "generator_widths": (500, 500),
            "discriminator_widths": (1000, 500, 250, 250, 250),
            "generator_units": 0,
            "discriminator_units": 0,
            "generator_learning_rate": 3e-3,
            "discriminator_learning_rate": 3e-3,
            "discriminator_dropout": 0.0,
            "discriminator_input_noise": 0.6,
            "discriminator_noise": 0.5,
            "views": (),
            "consistency_weight": 0.0,
            "r1_penalty": 0.0,
            "rotation_weight": 0.0,
        },
        # Those of the other GANs, which are not for matching features.
        "points": _gan_hparams.POINTS
        | {
            "beta1": 0.0,
            "average_decay": 0.995,
            "feature_matching": False,
            "discriminator_normalization": "none",
            "discriminator_dropout": 0.0,
            "views": (),
            "consistency_weight": 0.0,
            "rotation_weight": 0.0,
        },
    }
    default_steps = 2000
    preset_steps: ClassVar[dict[str, int]] = {"points": _gan_hparams.POINTS_STEPS}

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.classifier = self.averaged_discriminator
        del self.averaged_discriminator  # checkpoints have it under one name
        self._features = self._hidden()
        self._turns = self._rotations()
        equal = [1 / spec.num_classes] * spec.num_classes
        self.predicted = tf.Variable(equal, name="predicted")
        """Mean prediction of the averaged classifier for any images, [K]."""
        self.shares = tf.Variable(equal, name="shares")
        """Shares of the classes among labelled images, [K]."""

    def _build_discriminator(self, *, averaged: bool = False) -> Network:
        hparams = self.hparams
        style = dataclasses.replace(
            self._discriminator_style(averaged=averaged),
            residual_blocks=hparams.discriminator_residual_blocks,
            noise=hparams.discriminator_noise,
        )
        network = blocks.discriminator(
            self.spec.shape,
            hparams.discriminator_widths,
            style,
            network=hparams.network,
            hidden_units=hparams.discriminator_units,
            input_noise=hparams.discriminator_input_noise,
            num_logits=self.spec.num_classes,
            name="classifier" if averaged else "discriminator",
        )
        if hparams.rotation_weight and not averaged:
            self.rotation_head = blocks.class_head(network, augmentation.TURNS, style, name="rotation_head")
        return network

    @property
    def heads(self) -> list[Network]:
        return [] if self.rotation_head is None else [self.rotation_head]

    @property
    def feature_network(self) -> Network:
        return self.classifier

    def _hidden(self) -> Callable[[Tensor], list[Tensor]]:
        """Return a function of images [B, H, W, C]: D's hidden layers in training mode, [B, ...] each, before dropout and noise."""
        # 800 steps of digits with 100 labels, one seed, Frechet distance: last convolution 271, the last two layers 188, all 157.
        hidden = [layer.output for layer in features.matching(self.discriminator, "*_act")]
        network = keras.Model(self.discriminator.inputs[0], hidden)
        return lambda images: tf.nest.flatten(network(images, training=True))

    def _rotations(self) -> Callable[[Tensor], Tensor] | None:
        """Return a function of images [B, H, W, C]: logits [B, 4] of by how much they are turned, in training mode; None without a head."""
        if self.rotation_head is None:
            return None
        features = self.discriminator.get_layer("logit_dense").input
        network = keras.Model(self.discriminator.inputs[0], self.rotation_head(features))
        return lambda images: network(images, training=True)

    def discriminate(self, images: Tensor, labels: Tensor, seed: Tensor | None = None) -> Tensor:
        """Return log Z of images, [B, 1], the logit of "real", in training mode."""
        return losses.class_evidence(self.discriminator(images, training=True))

    def judged(self, images: Tensor, labels: Tensor) -> Tensor:
        return losses.class_evidence(self.discriminator(images, training=False))

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return losses.non_saturating_discriminator(real_logits, fake_logits)

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return losses.non_saturating_generator(fake_logits)

    def viewed(self, images: Tensor, seed: Tensor) -> Tensor:
        """Return images [B, H, W, C] with the random changes of --views; vectors stay."""
        if not self.spec.is_image:
            return images
        return augmentation.augmented(images, seed, self.hparams.views)

    def targets(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the targets of consistency, [B, K]: the averaged classifier's predictions for images, aligned if wanted.

        `labels` are those of the labelled batch, whose shares of classes are averaged, as the predictions are.
        """
        predictions = tf.nn.softmax(self.classifier(images, training=False))
        if not self.hparams.consistency_alignment:
            return predictions
        of_labels = tf.reduce_mean(tf.one_hot(labels, self.spec.num_classes), axis=0)
        for average, values in ((self.predicted, tf.reduce_mean(predictions, axis=0)), (self.shares, of_labels)):
            average.assign(0.99 * average + 0.01 * replicas.mean(values))
        return losses.aligned(predictions, tf.identity(self.shares), tf.identity(self.predicted))

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        hparams = self.hparams
        updates = hparams.discriminator_updates
        seeds = tf.unstack(tf.random.split(seed, updates + hparams.generator_updates, alg="philox"))
        metrics: dict[str, Tensor] = {}
        for (images, _), (labelled, labels) in zip(batches[:updates], batches[updates:], strict=True):
            metrics |= self.update_classifier(images, labelled, labels, seeds.pop())
        for _ in range(hparams.generator_updates):
            metrics |= self.match_features(images, seeds.pop())
        self.generator_average.update()
        self.discriminator_average.update()
        return metrics

    def update_classifier(self, images: Tensor, labelled: Tensor, labels: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Update D once, on a batch of any images, one of labelled images with their labels, and generated ones."""
        hparams = self.hparams
        latent_seed, *view_seeds, penalty_seed = tf.unstack(tf.random.split(seed, 5, alg="philox"))
        fake = self.generate(self.draw_latents(tf.shape(images)[0], latent_seed), labels)  # no gradient into G
        targets = self.targets(images, labels) if hparams.consistency_weight else None
        views = [self.viewed(each, own) for each, own in zip((labelled, images, fake), view_seeds, strict=True)]
        variables = self.discriminator_variables
        with tf.GradientTape() as tape:
            class_logits, unlabelled_logits, fake_logits = (self.discriminator(view, training=True) for view in views)
            labelled_loss = losses.cross_entropy(class_logits, labels)
            evidence = [losses.class_evidence(each) for each in (unlabelled_logits, fake_logits)]
            unlabelled_loss = self.discriminator_loss(*evidence)
            loss = labelled_loss + hparams.unlabelled_weight * unlabelled_loss
            metrics = {"labelled_loss": labelled_loss, "unlabelled_loss": unlabelled_loss}
            if targets is not None:
                consistency, confident = losses.confident_cross_entropy(
                    unlabelled_logits, targets, hparams.consistency_threshold
                )
                loss += float(hparams.consistency_weight) * consistency
                metrics |= {"consistency_loss": consistency, "confident": confident}
            if self._turns is not None:
                turned, turns = augmentation.turned(views[1])
                metrics["rotation_loss"] = losses.cross_entropy(self._turns(turned), turns)
                loss += float(hparams.rotation_weight) * metrics["rotation_loss"]
            total = loss + self.penalty(images, fake, labels, penalty_seed)
            scaled = self.scaled(self.discriminator_optimizer, total)
        self.apply_to_discriminator(tape.gradient(scaled, variables))
        right = tf.equal(tf.argmax(class_logits, axis=1, output_type=tf.int32), labels)
        return {
            "discriminator_loss": loss,
            **metrics,
            "labelled_accuracy": tf.reduce_mean(tf.cast(right, tf.float32)),
            "real_score": tf.reduce_mean(tf.sigmoid(evidence[0])),
            "fake_score": tf.reduce_mean(tf.sigmoid(evidence[1])),
        }

    def match_features(self, images: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """Update G once, on fresh latents, so that its images have the mean features of real images [B, H, W, C].

        Without --feature-matching, so that D takes them for real.
        """
        latents = self.draw_latents(tf.shape(images)[0], seed)
        variables = self.generator.trainable_variables
        matched = self._features(images) if self.hparams.feature_matching else None
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            fake = self.generate(latents, None)
            if matched is None:
                loss = self.generator_loss(self.discriminate(fake, None))
            else:
                pairs = zip(matched, self._features(fake), strict=True)
                loss = tf.add_n([losses.feature_matching(*pair) for pair in pairs])
            scaled = self.scaled(self.generator_optimizer, loss)
        self.generator_optimizer.apply(tape.gradient(scaled, variables), variables)
        return {"generator_loss": loss}
