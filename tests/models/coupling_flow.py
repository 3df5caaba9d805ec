"""Normalizing flow of affine couplings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from genlab.backend import Network, Tensor, keras, tf
from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.networks import precision, priors, replicas

ALPHA = 0.05
"""Margin of the logit: pixels are squeezed into [ALPHA, 1 - ALPHA] before it (the paper's alpha)."""
LARGEST_LOG_SCALE = 2.0
"""Bound of the log-scale of one coupling."""
EVALUATED_AT_ONCE = 250
"""How many images' densities are computed at once."""


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `coupling_flow`."""

    couplings: int = 8
    """Affine couplings; every other one transforms the other half of the pixels."""
    widths: tuple[int, ...] = (64, 64)
    """Channels of the hidden convolutions of a coupling's network; units of its dense layers for vectors."""
    learning_rate: float = 1e-3
    """Learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.couplings < 2:
            raise ValueError(f"couplings is {self.couplings}; it must be at least 2, one for each half of the pixels")


class CouplingFlow(base.GenerativeModel):
    """Normalizing flow of affine couplings: an invertible network with an exact likelihood.

    Dinh, Sohl-Dickstein & Bengio 2017, "Density estimation using Real NVP" (https://arxiv.org/abs/1605.08803):

        L = -log p(x),    log p(x) = log N(f(x); 0, I) + log |det df/dx|
        f = f_K ... f_1,    f_k(y) = m y + (1 - m) (y exp(s(m y)) + t(m y)),    log |det df_k/dy| = sum (1 - m) s(m y)

    The masks m are checkerboards, each the complement of the one before. Images are dequantized by uniform noise, and f begins
    with the logit of ALPHA + (1 - 2 ALPHA) v / 256 (section 4.1). Densities of images are those of pixel values v in
    [0, 256], so that -log2 p(x) per dimension bounds the bits per dimension of the discrete pixels from above.

    Differs from the paper: one resolution, plain convolutions without batch normalization, log-scales bounded by a fixed
    number instead of a learned one, samples from averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.prior = priors.Normal(math.prod(spec.shape))
        self.trained_couplings = self._build_couplings()
        # Codes, samples and densities are computed in full precision whatever the training runs in.
        with precision.scope("float32"):
            self.couplings = self._build_couplings()
            images = keras.Input(spec.shape, name="images")
            self.encoder = keras.Model(images, self.flow(images, self.couplings)[0], name="encoder")
            latents = keras.Input((self.latent_size,), name="latents")
            self.decoder = keras.Model(latents, self.inverse(latents, self.couplings), name="decoder")
        self.weight_average = self.average(*zip(self.couplings, self.trained_couplings, strict=True))
        self.trained_variables = [
            variable for network in self.trained_couplings for variable in network.trainable_variables
        ]
        self.optimizer = self.make_optimizer(hparams.learning_rate, self.trained_variables)

    def mask(self, number: int) -> np.ndarray:
        """m of a coupling: ones where it passes its input on, zeros where it transforms it; the shape of the data."""
        places = np.indices(self.spec.shape[:2] if self.spec.is_image else self.spec.shape).sum(axis=0)
        mask = ((places + number) % 2 == 0).astype(np.float32)
        return np.broadcast_to(mask[..., None], self.spec.shape).copy() if self.spec.is_image else mask

    def _build_couplings(self) -> list[Network]:
        return [self._build_coupling(number) for number in range(self.hparams.couplings)]

    def _build_coupling(self, number: int) -> Network:
        """The network of one coupling: m y -> log-scales s and shifts t, each of the shape of y."""
        random = np.random.default_rng([self.seed, number])

        def layer(x: Tensor, size: int, name: str, deviation: float, **keywords: Any) -> Tensor:
            initializer = keras.initializers.RandomNormal(stddev=deviation, seed=int(random.integers(2**31)))
            keywords |= {"kernel_initializer": initializer, "name": name}
            if self.spec.is_image:
                return keras.layers.Conv2D(size, 3, padding="same", **keywords)(x)
            return keras.layers.Dense(size, **keywords)(x)

        masked = x = keras.Input(self.spec.shape, name="masked")
        taps = 9 if self.spec.is_image else 1
        for index, width in enumerate(self.hparams.widths):
            x = layer(x, width, f"hidden{index + 1}", math.sqrt(2 / (taps * x.shape[-1])), activation="relu")
        # Small at first, so that the flow begins near the identity.
        raw = layer(x, self.spec.shape[-1], "raw_log_scale", 1e-3, activation="tanh", dtype="float32")
        log_scale = keras.layers.Rescaling(LARGEST_LOG_SCALE, dtype="float32", name="log_scale")(raw)
        shift = layer(x, self.spec.shape[-1], "shift", 1e-3, dtype="float32")
        return keras.Model(masked, [log_scale, shift], name=f"coupling{number + 1}")

    def flow(self, images: Tensor, couplings: Sequence[Network]) -> tuple[Tensor, Tensor]:
        """Images [B, H, W, C] -> codes f(x) [B, latent] and log |det df/dx| [B]; tensors or Keras' symbolic ones."""
        ops = keras.ops
        axes = tuple(range(1, 1 + len(self.spec.shape)))
        y, log_determinant = images, 0.0
        if self.spec.is_image:
            # From -1 to 1 in 255 steps: v = (images + 1) 255 / 2 + 1/2, in the middle of a pixel value's unit.
            p = ALPHA + (1 - 2 * ALPHA) * 0.5 * (images * (255 / 256) + 1.0)
            y = ops.log(p) - ops.log(1.0 - p)
            log_determinant = ops.sum(math.log((1 - 2 * ALPHA) / 256) - ops.log(p) - ops.log(1.0 - p), axis=axes)
        for number, network in enumerate(couplings):
            mask = self.mask(number)
            log_scale, shift = network(y * mask)
            log_scale = log_scale * (1.0 - mask)
            y = y * ops.exp(log_scale) + shift * (1.0 - mask)
            log_determinant = log_determinant + ops.sum(log_scale, axis=axes)
        return ops.reshape(y, (-1, self.latent_size)), log_determinant

    def inverse(self, latents: Tensor, couplings: Sequence[Network]) -> Tensor:
        """Codes [B, latent] -> images [B, H, W, C] in [-1, 1], or vectors."""
        ops = keras.ops
        y = ops.reshape(latents, (-1, *self.spec.shape))
        for number, network in reversed(list(enumerate(couplings))):
            mask = self.mask(number)
            log_scale, shift = network(y * mask)
            y = (y - shift * (1.0 - mask)) * ops.exp(-log_scale * (1.0 - mask))
        if not self.spec.is_image:
            return y
        share = (ops.sigmoid(y) - ALPHA) / (1 - 2 * ALPHA)  # v / 256
        return ops.clip((2.0 * share - 1.0) * (256 / 255), -1.0, 1.0)

    def log_density(self, images: Tensor, couplings: Sequence[Network]) -> Tensor:
        """log p(x) in nats, [B]: of continuous pixel values, or of vectors."""
        codes, log_determinant = self.flow(images, couplings)
        normal = -0.5 * tf.reduce_sum(tf.square(codes) + math.log(2 * math.pi), axis=1)
        return normal + log_determinant

    def dequantized(self, images: Tensor, seed: Tensor) -> Tensor:
        """Images with noise over the unit of each pixel value; vectors as they are."""
        if not self.spec.is_image:
            return images
        noise = replicas.own_rows(
            lambda rows: tf.random.stateless_uniform([rows, *self.spec.shape], seed, -1.0, 1.0, alg="philox"),
            tf.shape(images)[0],
        )
        return images + noise / 255.0

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, _),) = batches
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.log_density(self.dequantized(images, seed), self.trained_couplings))
            # Per dimension, so that one learning rate suits images of any size.
            scaled = self.scaled(self.optimizer, loss / self.latent_size)
        self.optimizer.apply(tape.gradient(scaled, self.trained_variables), self.trained_variables)
        self.weight_average.update()
        return {"loss": loss} | ({"bits_per_dimension": self._bits(loss)} if self.spec.is_image else {})

    def likelihood_metrics(
        self, images: Tensor, importance_samples: int, seed: int
    ) -> dict[str, tuple[float, float | None]]:
        """`nll` in nats per image and, for images, `bits_per_dimension`, each with its standard error over images."""
        noisy = self.dequantized(tf.convert_to_tensor(images), tf.constant([seed, 0]))
        log_density = tf.function(lambda part: self.log_density(part, self.couplings), autograph=False)
        starts = range(0, len(noisy), EVALUATED_AT_ONCE)
        nll = -np.concatenate([log_density(noisy[start : start + EVALUATED_AT_ONCE]) for start in starts])
        values = {"nll": nll} | ({"bits_per_dimension": self._bits(nll)} if self.spec.is_image else {})
        return {name: (float(each.mean()), float(each.std() / math.sqrt(len(each)))) for name, each in values.items()}

    def _bits(self, nats: Tensor) -> Tensor:
        return nats / (self.latent_size * math.log(2))
