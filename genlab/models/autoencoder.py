"""Convolutional autoencoder."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from genlab import losses
from genlab.backend import tf
from genlab.models import _encoder_decoder, base


@dataclasses.dataclass(frozen=True)
class Hparams(_encoder_decoder.Hparams):
    """Hyper-parameters of `autoencoder`."""

    latent_size: int = 30
    loss: Literal["mse", "l1", "bce", "discriminator"] = "mse"
    """Distance to the image: mean square, mean absolute, binary cross-entropy, or between discriminator features."""
    output: Literal["tanh", "linear"] = "tanh"
    """Activation of the decoder's output for images."""
    components: int = 10
    """Gaussians in the mixture that is fitted to the training codes, for sampling; 1: one Gaussian."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components < 1:
            raise ValueError(f"components is {self.components}; it must be at least 1")

    @property
    def measured_by_discriminator(self) -> bool:
        return self.loss == "discriminator"


class Autoencoder(_encoder_decoder.EncoderDecoder):
    """Convolutional autoencoder: images to short codes and back; samples from a density fitted to the codes.

    Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"
    (https://doi.org/10.1126/science.1127647), with convolutions and no pretraining:

        L = E |x - D(E(x))|^2 / dimensions

    An autoencoder has no prior. Samples are drawn from a mixture of Gaussians that is fitted to the codes of training
    images and stored with the run (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders",
    https://arxiv.org/abs/1903.12436, section 4). `--preset book` is the textbook's network: its Adam at 1e-4 is slow,
    so the default learns at 2e-3 with a decaying rate.
    """

    Hparams: ClassVar[type[base.Hparams]] = Hparams
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "book": {
            "latent_size": 20,
            "initializer": "glorot",
            "beta2": 0.999,
            "schedule": "constant",
            "average_decay": 0.0,
            "encoder_widths": (16, 32),
            "decoder_widths": (32,),
            "hidden_units": 0,
            "normalization": "none",
            "kernel_size": 5,
            "activation": "relu",
            "learning_rate": 1e-4,
            "output": "linear",
        },
        # The deep autoencoder of the paper: 784-1000-500-250-30 and back. Its layer-wise pretraining is left out.
        "paper": {
            "network": "mlp",
            "encoder_widths": (1000, 500, 250),
            "decoder_widths": (1000, 500, 250),
            "hidden_units": 0,
            "normalization": "none",
            "loss": "bce",
        },
    }
    default_steps = 2500
    prior = "fitted"

    def __init__(self, hparams: Any, spec: base.DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.build_networks(hparams.output if len(spec.shape) == 3 else "linear")
        components, size = hparams.components, hparams.latent_size
        self.prior_weights = tf.Variable(np.full(components, 1 / components, np.float32))
        self.prior_means = tf.Variable(np.zeros((components, size), np.float32))
        self.prior_scales = tf.Variable(np.tile(np.eye(size, dtype=np.float32), (components, 1, 1)))

    def train_step(self, batches, seed) -> dict[str, Any]:
        ((images, _),) = batches
        with tf.GradientTape() as tape:
            raw = self.trained_decoder(self.trained_encoder(images, training=True), training=True)
            reconstructions = tf.tanh(raw) if self.output_activation == "tanh" else raw
            match self.hparams.loss:
                case "mse":
                    loss = tf.reduce_mean(tf.square(images - reconstructions))
                case "l1":
                    loss = tf.reduce_mean(tf.abs(images - reconstructions))
                case "bce":
                    loss = losses.pixel_cross_entropy(images, raw)
                case _:
                    loss = self.discriminator_distance(images, reconstructions)
            scaled = self.optimizer.scale_loss(loss)
        self.update(tape, scaled)
        # A quarter: published figures are of pixels in [0, 1], not [-1, 1].
        return {"loss": loss, "mse": 0.25 * tf.reduce_mean(tf.square(images - reconstructions))}

    def fit_prior(self, images) -> None:
        """Fit the mixture of Gaussians to the codes of (at most 5,000 of the) images, [N, H, W, C] in [-1, 1]."""
        from sklearn.mixture import GaussianMixture

        images = images[: base.PRIOR_IMAGES]
        batches = [self.encoder(images[start : start + 500], training=False) for start in range(0, len(images), 500)]
        codes = np.concatenate(batches).astype(np.float64)
        count = min(self.hparams.components, len(codes))
        mixture = GaussianMixture(count, reg_covar=1e-4, max_iter=50, random_state=0).fit(codes)
        missing = self.hparams.components - count
        self.prior_weights.assign(np.pad(mixture.weights_, (0, missing)))
        self.prior_means.assign(np.pad(mixture.means_, ((0, missing), (0, 0))))
        self.prior_scales.assign(np.pad(np.linalg.cholesky(mixture.covariances_), ((0, missing), (0, 0), (0, 0))))

    def _draw(self, shape, seed):
        """One code, [latent], from the fitted mixture."""
        pick, noise = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2, alg="philox"))
        threshold = tf.random.stateless_uniform([], pick, alg="philox")
        component = tf.reduce_sum(tf.cast(tf.cumsum(self.prior_weights) < threshold, tf.int32))
        component = tf.minimum(component, self.hparams.components - 1)
        normal = tf.random.stateless_normal(shape, noise, alg="philox")
        return self.prior_means[component] + tf.linalg.matvec(self.prior_scales[component], normal)
