"""Base of the GANs: a generator, a discriminator, and the training step that updates them in turn."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genlab.backend import Network, Tensor, Variable, keras, tf
from genlab.data.spec import DataSpec
from genlab.errors import UsageError
from genlab.models import _gan_hparams, base
from genlab.models._scores import Measure, Score
from genlab.networks import augmentation, blocks, features, losses, precision, priors, replicas

IMAGES_TO_FULL_AUGMENTATION = 150_000
"""Images of real batches after which the probability of adaptive augmentation can have gone from 0 to 1."""
COMPANIONS = 7
"""Generated images that a discriminator which compares images sees with each that it scores."""


class Adversarial(base.GenerativeModel):
    """A generator G and a discriminator D. A subclass defines their losses and may replace the penalty on D.

    The default penalty is R1, gamma/2 E |grad_x D(x)|^2 (Mescheder, Geiger & Nowozin 2018,
    https://arxiv.org/abs/1801.04406). Samples are drawn with averaged weights of G.
    """

    hparams: _gan_hparams.Hparams
    discriminator: Network
    averaged_discriminator: Network
    """D in float32 with averaged weights, a better backbone than D itself."""

    def __init__(
        self, hparams: _gan_hparams.Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None
    ):
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
    def heads(self) -> list[Network]:
        """Networks on D's features that are trained with it."""
        return [] if self.class_head is None else [self.class_head]

    @property
    def discriminator_variables(self) -> list[Variable]:
        """What D's optimizer trains."""
        return [variable for network in (self.discriminator, *self.heads) for variable in network.trainable_variables]

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
        for network in (self.discriminator, *self.heads):
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
