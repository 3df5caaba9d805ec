"""Rectified flow."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from genlab import grids
from genlab.backend import Network, Tensor, in_parts, keras, tf
from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.models._scores import Score
from genlab.networks import ode, precision, priors, replicas, unet

# 3.422, 3.443 and 3.451 bits per dimension in 16, 32 and 64 steps: MNIST, 2,000 training steps, 50 images.
LIKELIHOOD_STEPS = 32
"""Steps of Heun's method for a likelihood."""
LIKELIHOOD_BATCH = 50
"""Batch size in images for a likelihood."""
DENOISED_FROM = (0.3, 0.5, 0.7, 0.8, 0.9)
"""Times of the noisy images that the score `denoising` denoises."""
STRENGTHS = (0.25, 0.5, 0.75)
"""Strengths of re-noising in the picture that training draws."""


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `flow`."""

    # Frechet distance on MNIST as a multiple of that of real images, 1,000 samples, one seed: 25 after 900 steps, which take 127
    # seconds of CPU time; with 48 and 96 channels and a block more 23 after 700 steps, which take 160.
    widths: tuple[int, ...] = (32, 96)
    """Channels of the U-Net per resolution, nearest the image first; the last width is repeated. Units of its dense layers
    for vectors."""
    residual_blocks: int = 1
    """Residual blocks of two convolutions per resolution, on the way down and again on the way up."""
    patch_size: int = 2
    """Pixels per side for each place of the U-Net's finest resolution: 1 keeps the image's resolution, 2 halves it."""
    time_units: int = 128
    """Units of the two dense layers that embed time and class."""
    learning_rate: float = 2e-3
    """Learning rate, per step."""
    # After 700 steps of MNIST, 8 steps of Euler's method: 23 times the Frechet distance of real images by logit-normal times, 35
    # by uniform ones (1,000 samples, one seed).
    times: Literal["logit_normal", "uniform"] = "logit_normal"
    """Distribution of the times in training: the sigmoid of N(0, 1) (Esser et al. 2024), or U(0, 1)."""
    ode_steps: int = 8
    """Steps of the solver from noise to image."""
    # Frechet distance of one run as a multiple of that of real images, 20 epochs of MNIST, 1,000 samples, by 8 evaluations of the
    # network: 37 by Euler's method, 360 by Heun's, 24 by Adams and Bashforth's; with a shift of 2, 4, 7, 10 and 14, 19, 15, 12, 9.3 and
    # 9.8 (Euler's 31 by 2 and by 4, 65 by 10). Shifts above 4 give codes a larger error of reconstruction: 0.0011 by 7 instead of 0.0004.
    # Their samples are no better by precision (0.71 by 4, 0.69 by 10) and recall (0.90, 0.91), and have more contrast than real images:
    # 5.7% and 8.3% of pixels are white, 6.6% of real ones (3,000 images, a run with batches of 32).
    solver: Literal["euler", "heun", "adams_bashforth"] = "adams_bashforth"
    """Solver of the samples: euler evaluates the network once per step, heun twice; adams_bashforth once, and extrapolates from
    the step before."""
    time_shift: float = 4.0
    """How much closer the solver's steps are near the noise than near the image (Esser et al. 2024); 1: all are equally
    long. Above 0, to 100."""
    conditioning: Literal["none", "labels"] = "none"
    """labels: draw images by class."""
    label_dropout: float = 0.1
    """Fraction of training images whose label is withheld, for --guidance and for likelihoods. 0 to 1."""
    guidance: float = 1.0
    """Scale of classifier-free guidance (Ho & Salimans 2022), with --conditioning labels; 1: none. Above 1, samples are more
    typical of their class and less diverse, and take twice the time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "residual_blocks", "patch_size", "time_units", "ode_steps")
        self.check_least(0, "guidance")
        if not 0 < self.time_shift <= 100:
            raise ValueError(f"time_shift is {self.time_shift}; it must be above 0 and at most 100")
        if self.guidance != 1 and (self.conditioning == "none" or not self.label_dropout):
            raise ValueError("guidance other than 1 needs --conditioning labels and a --label-dropout above 0")

    def check_data(self, spec: DataSpec) -> None:
        if self.conditioning == "labels":
            base.check_all_labelled(spec)

    def width_limit(self, spec: DataSpec) -> int | None:
        return len(unet.resolutions(spec.shape, self.patch_size)) if spec.is_image else None


class Flow(base.GenerativeModel):
    """Rectified flow: an ordinary differential equation from noise to images, along lines as straight as possible.

    Liu, Gong & Liu 2023, "Flow Straight and Fast" (https://arxiv.org/abs/2209.03003), equation 1; Lipman et al. 2023, "Flow
    Matching for Generative Modeling" (https://arxiv.org/abs/2210.02747), with noise x_0 ~ N(0, I), images x_1 and times t:

        L = E |v(x_t, t, y) - (x_1 - x_0)|^2 / dimensions,    x_t = (1 - t) x_0 + t x_1

    Samples solve dx/dt = v(x, t, y) from t = 0 to 1 in a fixed number of steps (`genlab/networks/ode.py`), all of them in the
    decoder. With labels y and guidance w (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598), v is replaced by

        v(x, t) + w (v(x, t, y) - v(x, t))

    where v(x, t) is the velocity without a class, learned from images whose label was withheld. Latents are the noise: as many
    dimensions as the image has values.

    Differs from the papers: a small U-Net without attention at half the image's resolution, no reflow, pixels are dequantized
    by uniform noise in training too, times of a batch are spread evenly (Kingma et al. 2021,
    https://arxiv.org/abs/2107.00630, appendix I.1), averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # Of the U-Net for CIFAR-10 in table 3 of Lipman et al., what this one has: no attention, and no warm-up of the rate.
        "paper": {
            "batch_size": 256,
            "beta2": 0.999,
            "schedule": "linear",
            "decay_start": 0.0,
            "average_decay": 0.999,
            "average_share": 0.5,
            "widths": (256, 512, 512, 512),
            "residual_blocks": 2,
            "patch_size": 1,
            "time_units": 1024,
            "learning_rate": 5e-4,
            "ode_steps": 50,
            "solver": "euler",
            "time_shift": 1.0,
        },
        # 94% of points near a centre of the ring after 3,000 steps; by logit-normal times and 8 steps of Euler's, 52% after 2,000.
        "points": {
            "batch_size": 256,
            "widths": (128, 128, 128),
            "times": "uniform",
            "ode_steps": 32,
            "solver": "euler",
            "time_shift": 1.0,
        },
    }
    preset_steps: ClassVar[dict[str, int]] = {"points": 3000}
    feature_layers = "features"

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.conditional = hparams.conditioning == "labels"
        hparams.check_data(spec)
        self.prior = priors.Normal(math.prod(spec.shape))
        self.trained_velocity = self._build_velocity(averaged=False)
        with precision.scope("float32"):  # samples are computed in float32, whatever training runs in
            self.averaged_velocity = self._build_velocity(averaged=True)
            self.decoder = self.build_decoder()
            self.renoiser = self._build_renoiser()
            # With labels, a code would need the label to give its image again.
            self.encoder = None if self.conditional else self._build_encoder()
            self.features = self._build_features()
        self.weight_average = self.average((self.averaged_velocity, self.trained_velocity))
        self.variables = self.trained_velocity.trainable_variables
        self.optimizer = self.make_optimizer(hparams.learning_rate, self.variables)

    # -- networks ------------------------------------------------------------------------------------------------------

    def _build_velocity(self, *, averaged: bool) -> Network:
        """Build v: x_t [B, ...], t [B] [, labels [B]] -> [B, ...]."""
        hparams = self.hparams
        style = unet.Style(
            widths=hparams.widths,
            residual_blocks=hparams.residual_blocks,
            patch_size=hparams.patch_size,
            time_units=hparams.time_units,
            initializer=hparams.initializer,
            fused=not averaged,
            seed=self.seed,
        )
        classes = self.spec.num_classes if self.conditional else 0
        return unet.build(self.spec.shape, style, num_classes=classes, name="velocity")

    def velocity(self, labels: Tensor | None = None, guidance: float = 1.0) -> ode.Velocity:
        """Return v(x, t) with averaged weights: of the labels [B] with guidance, or without a class. May be symbolic."""
        network = self.averaged_velocity
        if not self.conditional:
            return lambda x, t: network([x, t], training=False)

        def without_class(x: Tensor, t: Tensor) -> Tensor:
            nothing = keras.ops.full_like(t, self.spec.num_classes, dtype="int32")
            return network([x, t, nothing], training=False)

        def guided(x: Tensor, t: Tensor) -> Tensor:
            by_class = network([x, t, labels], training=False)
            if guidance == 1:
                return by_class
            unconditional = without_class(x, t)
            return unconditional + guidance * (by_class - unconditional)

        return without_class if labels is None else guided

    def _labels(self) -> list[Tensor]:
        return [keras.Input((), dtype="int32", name="labels")] if self.conditional else []

    def _solved(self, x: Tensor, start: Tensor, end: Tensor, labels: list[Tensor]) -> Tensor:
        """Return the solution from the times `start` [B] to `end` [B], as an image, by the hyper-parameters."""
        velocity = self.velocity(labels[0] if labels else None, self.hparams.guidance)
        hparams = self.hparams
        x = ode.solve(velocity, x, start, end, hparams.ode_steps, hparams.solver, hparams.time_shift)
        return keras.ops.clip(x, -1.0, 1.0) if self.spec.is_image else x

    def build_decoder(self) -> Network:
        """Build latents [B, latent] [, labels [B]] -> images: the solution from t = 0 to 1."""
        latents, labels = keras.Input((self.latent_size,), name="latents"), self._labels()
        start = keras.ops.zeros_like(latents[:, 0])
        noise = keras.ops.reshape(latents, (-1, *self.spec.shape))
        x = self._solved(noise, start, start + 1.0, labels)
        return keras.Model([latents, *labels] if labels else latents, x, name="decoder")

    def with_decoder(self, **changes: Any) -> Flow:
        """Return this model, with the same networks, and a decoder by `changes` of `ode_steps`, `solver`, `time_shift` and
        `guidance`."""
        other = copy.copy(self)
        other.hparams = dataclasses.replace(self.hparams, **changes)
        other.decoder, other._compiled_decode = other.build_decoder(), None
        return other

    def _build_renoiser(self) -> Network:
        """Build images, latents, strengths [B] [, labels] -> images: the solution from x_t at t = 1 - strength."""
        ops = keras.ops
        images = keras.Input(self.spec.shape, name="images")
        latents = keras.Input((self.latent_size,), name="latents")
        strengths, labels = keras.Input((), name="strengths"), self._labels()
        share = ops.reshape(strengths, (-1, *[1] * len(self.spec.shape)))
        x = (1.0 - share) * images + share * ops.reshape(latents, (-1, *self.spec.shape))
        x = self._solved(x, 1.0 - strengths, ops.ones_like(strengths), labels)
        return keras.Model([images, latents, strengths, *labels], x, name="renoiser")

    def _build_encoder(self) -> Network:
        """Build images -> latents: the solution backwards, by Heun's method.

        Euler's needs more evaluations for codes that give their images again: on MNIST, mean squared errors of 0.011 in 8
        steps and 0.0026 in 16, of Heun's 0.0010 in 8 (pixels in [0, 1], decoded in 8, 16 and 8 steps of Euler's).
        """
        images = keras.Input(self.spec.shape, name="images")
        codes = keras.layers.Flatten(name="flat")(images)
        start = keras.ops.ones_like(codes[:, 0])
        x = ode.solve(self.velocity(), images, start, start - 1.0, self.hparams.ode_steps, "heun")
        return keras.Model(images, keras.ops.reshape(x, (-1, self.latent_size)), name="encoder")

    def _build_features(self) -> Network:
        """Build images -> features of the U-Net's middle, of the last hidden layer for vectors, at t = 1."""
        network = self.averaged_velocity
        features = keras.Model(network.inputs, network.get_layer(unet.MIDDLE).output, name="features")
        images = keras.Input(self.spec.shape, name="images")
        times = keras.ops.ones_like(keras.layers.Flatten(name="flat")(images)[:, 0])
        inputs = [images, times]
        if self.conditional:
            inputs.append(keras.ops.full_like(times, self.spec.num_classes, dtype="int32"))
        return keras.Model(images, features(inputs), name="noiseless")

    @property
    def feature_network(self) -> Network:
        return self.features

    # -- training ------------------------------------------------------------------------------------------------------

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, labels),) = batches
        noise_seed, time_seed, pixel_seed, label_seed = tf.unstack(tf.random.split(seed, 4, alg="philox"))
        count = tf.shape(images)[0]
        images = self.dequantized(images, pixel_seed)
        noise = tf.reshape(self.draw_latents(count, noise_seed), tf.shape(images))
        times = replicas.own_rows(lambda rows: self.draw_times(rows, time_seed), count)
        t = tf.reshape(times, [-1, *[1] * len(self.spec.shape)])
        inputs = [(1.0 - t) * noise + t * images, times]
        if self.conditional:
            inputs.append(self._with_gaps(labels, label_seed))
        with tf.GradientTape() as tape:
            velocity = self.trained_velocity(inputs, training=True)
            loss = tf.reduce_mean(tf.square(velocity - (images - noise)))
            scaled = self.scaled(self.optimizer, loss)
        self.optimizer.apply(tape.gradient(scaled, self.variables), self.variables)
        self.weight_average.update()
        return {"loss": loss}

    def draw_times(self, count: Tensor, seed: Tensor) -> Tensor:
        """Draw times [count] between 0 and 1, evenly spread over their distribution."""
        first = tf.random.stateless_uniform([], seed, alg="philox")
        count = tf.cast(count, tf.float32)
        shares = tf.math.floormod(first + tf.range(count) / count, 1.0)
        if self.hparams.times == "uniform":
            return shares
        return tf.sigmoid(tf.math.ndtri(tf.clip_by_value(shares, 1e-6, 1.0 - 1e-6)))

    def dequantized(self, images: Tensor, seed: Tensor) -> Tensor:
        """Add uniform noise over the unit of each pixel value; vectors stay as they are."""
        if not self.spec.is_image:
            return images

        def draw(rows: Tensor) -> Tensor:
            return tf.random.stateless_uniform([rows, *self.spec.shape], seed, -1.0, 1.0, alg="philox")

        return images + replicas.own_rows(draw, tf.shape(images)[0]) / 255.0

    def _with_gaps(self, labels: Tensor, seed: Tensor) -> Tensor:
        """Return labels [B], some of them withheld: replaced by the number of classes."""
        shares = replicas.own_rows(
            lambda rows: tf.random.stateless_uniform([rows], seed, alg="philox"), tf.shape(labels)[0]
        )
        return tf.where(shares < self.hparams.label_dropout, self.spec.num_classes, labels)

    # -- pictures and likelihood ---------------------------------------------------------------------------------------

    def pictures(self, images: Tensor, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return `renoised`: images, and below each its variations of STRENGTHS."""
        if not self.spec.is_image:
            return {}
        shown = np.asarray(images[:8])
        classes = labels[:8] if self.conditional and labels is not None else None
        rows = [self.renoise(shown, strength, labels=classes) for strength in STRENGTHS]
        return {"renoised": grids.to_grid(np.concatenate([shown, *rows]), columns=len(shown))}

    def likelihood_metrics(
        self, images: Tensor, importance_samples: int, seed: int
    ) -> dict[str, tuple[float, float | None]]:
        """Return `bits_per_dimension` of images as pixel values 0 to 255 with uniform noise, and its standard error."""
        if not self.spec.is_image:
            return {}
        bits = self.bits_per_dimension(images, seed)
        return {"bits_per_dimension": (float(bits.mean()), float(bits.std() / math.sqrt(len(bits))))}

    def likelihood_protocol(self, importance_samples: int) -> dict[str, Any]:
        return {
            "likelihood": "uniformly dequantized pixels 0 to 255, without labels, Hutchinson's estimator of one probe per image",
            "likelihood_steps": LIKELIHOOD_STEPS,
        }

    def anomaly_scores(self, importance_samples: int = 50) -> dict[str, Score]:
        if not self.spec.is_image:
            return {}
        pixel_seed, probe_seed, noise_seed = tf.unstack(tf.random.split(tf.constant([0, 0]), 3, alg="philox"))
        bits_per_dimension = self._bits(LIKELIHOOD_STEPS)
        signature = [tf.TensorSpec([None, *self.spec.shape]), tf.TensorSpec([None])]
        velocity = tf.function(self.velocity(), signature, autograph=False)
        # The same noise for all images: what a score says of an image then depends on nothing but that image.
        noise = np.asarray(tf.random.stateless_normal([len(DENOISED_FROM), *self.spec.shape], noise_seed, alg="philox"))
        probe = tf.sign(tf.random.stateless_uniform(self.spec.shape, probe_seed, -1.0, 1.0, alg="philox"))
        pixels = tf.random.stateless_uniform(self.spec.shape, pixel_seed, -1.0, 1.0, alg="philox") / 255.0

        def error(images: np.ndarray) -> np.ndarray:
            errors = []
            for time, drawn in zip(DENOISED_FROM, noise, strict=True):
                x = tf.convert_to_tensor((1.0 - time) * drawn + time * images)
                wrong = np.asarray(velocity(x, tf.fill([len(images)], time))) - (images - drawn)
                # Times the step that is left, this is the error of the image that the velocity leads to.
                errors.append(np.square((1.0 - time) * wrong).mean(axis=(1, 2, 3)))
            return 0.25 * np.mean(errors, axis=0)  # a quarter: pixels from 0 to 1

        def bits(images: np.ndarray) -> np.ndarray:
            probes = tf.tile(probe[tf.newaxis], [len(images), 1, 1, 1])
            return self.latent_size * bits_per_dimension(tf.convert_to_tensor(images) + pixels, probes)

        def features(images: np.ndarray) -> np.ndarray:
            return np.asarray(self.features(images, training=False)).reshape(len(images), -1)

        return {
            "neighbours": Score(
                "vector", "local outlier factor of its features among those of training images", features
            ),
            "denoising": Score(
                "number", "mean squared error of the image found again from noise, pixels from 0 to 1", error
            ),
            "likelihood": Score(
                "bits", f"-log2 p of its pixel values 0 to 255, in bits, in {LIKELIHOOD_STEPS} steps", bits
            ),
        }

    def bits_per_dimension(self, images: Tensor, seed: int, steps: int = LIKELIHOOD_STEPS) -> np.ndarray:
        """Return -log2 p of dequantized pixel values per dimension for images [N, H, W, C] in [-1, 1], [N].

        Of the density without a class; see `ode.log_density`. One probe per image, of random signs. Steps are short near
        t = 1, where the flow contracts most.
        """
        pixel_seed, probe_seed = tf.unstack(tf.random.split(tf.constant([seed, 0]), 2, alg="philox"))
        images = self.dequantized(tf.convert_to_tensor(images), pixel_seed)
        probes = tf.sign(tf.random.stateless_uniform(images.shape, probe_seed, -1.0, 1.0, alg="philox"))
        return self._bits(steps)(images, probes)

    def _bits(self, steps: int) -> Callable[[Tensor, Tensor], np.ndarray]:
        """Return `bits_per_dimension` as a function of dequantized images and probes, both [N, H, W, C]."""
        times = [1.0 - (index / steps) ** 2 for index in range(steps + 1)]

        def log_density(images: Tensor, probes: Tensor) -> Tensor:
            return ode.log_density(self.velocity(), images, probes[tf.newaxis], times)

        # Of any number of images: TensorFlow refuses a loop that begins with exactly one.
        compiled = tf.function(log_density, [tf.TensorSpec([None, *self.spec.shape])] * 2, autograph=False)

        def bits(images: Tensor, probes: Tensor) -> np.ndarray:
            nats = in_parts(compiled, images, probes, size=LIKELIHOOD_BATCH)
            # A pixel value is 127.5 times as long as the unit of [-1, 1].
            return (math.log(127.5) - nats / self.latent_size) / math.log(2)

        return bits
