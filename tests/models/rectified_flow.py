"""Rectified flow."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

import numpy as np

from genlab.backend import Network, Tensor, keras, tf
from genlab.data.spec import DataSpec
from genlab.models import base
from genlab.networks import blocks, precision, priors, replicas

FREQUENCIES = 8
"""Sines and cosines of the time that the network is given, of 1, 2, 4, ... half-turns."""


@dataclasses.dataclass(frozen=True)
class Hparams(base.Hparams):
    """Hyper-parameters of `rectified_flow`."""

    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the U-Net by resolution, nearest the image first; units of its dense layers for vectors."""
    time_units: int = 64
    """Units of the dense layer that embeds the time."""
    euler_steps: int = 8
    """Euler steps from noise to image, all of them in the decoder."""
    learning_rate: float = 1e-3
    """Learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.euler_steps, self.time_units) < 1:
            raise ValueError("euler_steps and time_units must be at least 1")


class RectifiedFlow(base.GenerativeModel):
    """Rectified flow: an ordinary differential equation from noise to images, along lines as straight as they get.

    Liu, Gong & Liu 2023, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow"
    (https://arxiv.org/abs/2209.03003), equation 1, with noise z ~ N(0, I), images x, and t ~ U(0, 1):

        L = E |(x - z) - v(x_t, t)|^2 / dimensions,    x_t = (1 - t) z + t x

    Samples solve dx/dt = v(x, t) from t = 0 to 1 by Euler's method in a fixed number of steps, x <- x + v(x, k/N) / N.
    Differs from the paper: a small U-Net without attention, no reflow, Euler steps instead of RK45, averaged weights.
    """

    Hparams: TypeAlias = Hparams
    hparams: Hparams
    feature_layers = "features"

    def __init__(self, hparams: Hparams, spec: DataSpec, *, seed: int = 0, schedule_steps: int | None = None):
        super().__init__(hparams, spec, seed=seed, schedule_steps=schedule_steps)
        self.prior = priors.Normal(math.prod(spec.shape))
        self.velocity = self._build_velocity()
        with precision.scope("float32"):
            self.averaged_velocity = self._build_velocity()
            self.decoder = self._build_decoder()
            self.noiseless = self._build_noiseless()
        self.weight_average = self.average((self.averaged_velocity, self.velocity))
        self.optimizer = self.make_optimizer(hparams.learning_rate, self.velocity.trainable_variables)

    def _build_velocity(self) -> Network:
        """x_t [B, ...] and t [B] -> v(x_t, t) of the shape of x_t, float32."""
        ops = keras.ops
        images = keras.Input(self.spec.shape, name="images")
        times = keras.Input((), name="times")
        angles = ops.expand_dims(times, -1) * (math.pi * 2.0 ** np.arange(FREQUENCIES, dtype=np.float32))
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        embedding = keras.layers.Dense(
            self.hparams.time_units, activation="gelu", kernel_initializer=self._initializer(0), name="time"
        )(waves)
        network = self._unet if self.spec.is_image else self._dense
        return keras.Model([images, times], network(images, embedding), name="velocity")

    def _initializer(self, number: int) -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=1000 * self.seed + number)

    def _stage(self, x: Tensor, embedding: Tensor, width: int, name: str, number: int, strides: int = 1) -> Tensor:
        """A convolution, or a dense layer for vectors, with the time added: x [B, ...] -> [B, ..., width]."""
        dense, conv = keras.layers.Dense, keras.layers.Conv2D
        if self.spec.is_image:
            layer = conv(
                width, 3, strides, padding="same", kernel_initializer=self._initializer(number), name=f"{name}_conv"
            )
        else:
            layer = dense(width, kernel_initializer=self._initializer(number), name=f"{name}_dense")
        time = dense(width, kernel_initializer=self._initializer(number + 1), name=f"{name}_time")(embedding)
        if self.spec.is_image:
            time = keras.layers.Reshape((1, 1, width), name=f"{name}_time_reshape")(time)
        summed = keras.layers.Add(name=f"{name}_sum")([layer(x), time])
        return keras.layers.Activation("gelu", name=f"{name}_act")(summed)

    def _unet(self, images: Tensor, embedding: Tensor) -> Tensor:
        # A resolution for each halving that the image takes; the last width repeats.
        sizes = blocks.resolutions(self.spec.shape)
        widths = [self.hparams.widths[min(level, len(self.hparams.widths) - 1)] for level in range(len(sizes))]
        x, skips = images, []
        for level, width in enumerate(widths):
            x = self._stage(x, embedding, width, f"down{level}", 10 * level + 10, strides=2 if level else 1)
            skips.append(x)
        for level in reversed(range(len(sizes) - 1)):
            x = keras.layers.UpSampling2D(2, name=f"up{level}_double")(x)
            height, width = sizes[level]
            surplus = ((0, x.shape[1] - height), (0, x.shape[2] - width))
            x = keras.layers.Cropping2D(surplus, name=f"up{level}_crop")(x)
            x = keras.layers.Concatenate(name=f"up{level}_skip")([x, skips[level]])
            x = self._stage(x, embedding, widths[level], f"up{level}", 10 * level + 15)
        output = keras.layers.Conv2D(
            self.spec.shape[2], 3, padding="same", kernel_initializer=self._initializer(1), dtype="float32", name="v"
        )
        return output(x)

    def _dense(self, vectors: Tensor, embedding: Tensor) -> Tensor:
        x = vectors
        for index, width in enumerate(self.hparams.widths):
            x = self._stage(x, embedding, width, f"down{index}", 10 * index + 10)
        initializer = self._initializer(1)
        return keras.layers.Dense(self.spec.shape[0], kernel_initializer=initializer, dtype="float32", name="v")(x)

    def _build_decoder(self) -> Network:
        """Latents [B, latent] -> the end of the ODE [B, ...], images in [-1, 1]."""
        ops = keras.ops
        latents = keras.Input((self.latent_size,), name="latents")
        x = ops.reshape(latents, (-1, *self.spec.shape))
        count = self.hparams.euler_steps
        for step in range(count):
            times = ops.full_like(latents[:, 0], step / count)
            x = x + self.averaged_velocity([x, times]) * (1.0 / count)
        return keras.Model(latents, ops.clip(x, -1.0, 1.0) if self.spec.is_image else x, name="decoder")

    def _build_noiseless(self) -> Network:
        """Images [B, ...] -> the features of the coarsest resolution at t = 1, where x_t is the image itself."""
        network = self.averaged_velocity
        coarsest = [layer for layer in network.layers if layer.name.startswith("down")][-1]
        features = keras.Model(network.inputs, coarsest.output, name="features")
        images = keras.Input(self.spec.shape, name="images")
        times = keras.ops.ones_like(keras.layers.Flatten(name="flat")(images)[:, 0])
        return keras.Model(images, features([images, times]), name="noiseless")

    @property
    def feature_network(self) -> Network:
        return self.noiseless

    def train_step(self, batches: list[tuple[Tensor, Tensor]], seed: Tensor) -> dict[str, Tensor]:
        ((images, _),) = batches
        noise_seed, time_seed = tf.unstack(tf.random.split(seed, 2, alg="philox"))
        count = tf.shape(images)[0]
        noise = tf.reshape(self.draw_latents(count, noise_seed), tf.shape(images))
        times = replicas.own_rows(lambda rows: tf.random.stateless_uniform([rows], time_seed, alg="philox"), count)
        t = tf.reshape(times, [-1, *[1] * len(self.spec.shape)])
        variables = self.velocity.trainable_variables
        with tf.GradientTape() as tape:
            velocity = self.velocity([(1.0 - t) * noise + t * images, times], training=True)
            loss = tf.reduce_mean(tf.square(images - noise - velocity))
            scaled = self.scaled(self.optimizer, loss)
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self.weight_average.update()
        return {"loss": loss}
