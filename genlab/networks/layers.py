"""Layers that Keras lacks, or that are faster here. Importing this module imports Keras: use LazyModule (see `blocks`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from genlab.backend import Layer, Shape, Tensor, Variable
from genlab.networks import replicas

FEW_CHANNELS = 4
"""Largest number of channels for which `few_channels_convolution_transpose` is used instead of TensorFlow's."""
Gradients: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function of the gradient by a convolution's output that returns those by its input and by its kernel."""


@keras.saving.register_keras_serializable(package="genlab")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization over the last axis, using TensorFlow's fused operation to train on images.

    It has the same weights and, to float tolerance, the same results in about half the time. Statistics cover only this
    replica's part of the batch: with several replicas, use Keras' layer with `synchronized`.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if not (training and self.trainable) or len(inputs.shape) != 4:  # Keras is faster on vectors
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.convert_to_tensor(inputs), self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1.0) / count  # the operation divides by count - 1, Keras by count
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)


# TensorFlow keeps every gradient that a traced tf.custom_gradient defines for the life of the process, and with it the graph
# that was traced. In functions of their own, that is a small graph for each shape, not that of every training.
@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def few_channels_convolution(images: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Return TensorFlow's convolution with "SAME" padding; its gradient by the images uses the faster function below.

    Images are [B, H, W, channels] of static height and width, the kernel [size, size, channels, filters], the stride at
    least 2.
    """
    height, width = images.shape[1:3]

    def convolved(images: Tensor, kernel: Tensor) -> tuple[Tensor, Gradients]:
        def gradients(upstream: Tensor) -> tuple[Tensor, Tensor]:
            by_images = few_channels_convolution_transpose(upstream, kernel, stride, height, width)
            return by_images, _kernel_gradient(images, kernel, upstream, stride)

        return tf.nn.conv2d(images, kernel, stride, "SAME"), gradients

    return tf.custom_gradient(convolved)(images, kernel)


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def few_channels_convolution_transpose(
    features: Tensor, kernel: Tensor, stride: int, height: int, width: int
) -> Tensor:
    """Return TensorFlow's transposed convolution with "SAME" padding, in a third to half the time for few channels.

    Features [B, h, w, filters], kernel [size, size, channels, filters], a stride of at least 2 -> [B, height, width, channels].
    Each stride x stride block of the result depends on ceil(size / stride) neighbours per side. So this is an ordinary
    convolution of that size to stride^2 times the channels, with as many operations, followed by depth-to-space (Shi et
    al. 2016, https://arxiv.org/abs/1609.07009). TensorFlow's takes as long for 1 channel as for 4.
    """
    size = kernel.shape[0]
    reach = math.ceil(size / stride)

    def convolved(features: Tensor, kernel: Tensor) -> tuple[Tensor, Gradients]:
        def gradients(upstream: Tensor) -> tuple[Tensor, Tensor]:
            by_features = tf.nn.conv2d(upstream, kernel, stride, "SAME")
            return by_features, _kernel_gradient(upstream, kernel, features, stride)

        channels, filters = kernel.shape[2:]
        room = [0, reach * stride - size]
        blocks = tf.reshape(
            tf.pad(kernel, [room, room, [0, 0], [0, 0]]), [reach, stride, reach, stride, channels, filters]
        )
        blocks = tf.transpose(blocks, [0, 2, 5, 1, 3, 4])  # neighbour by neighbour, filters, pixel by pixel, channels
        blocks = tf.reverse(tf.reshape(blocks, [reach, reach, filters, stride**2 * channels]), [0, 1])
        margin = [reach - 1, reach - 1]
        laid_out = tf.nn.depth_to_space(tf.nn.conv2d(features, blocks, 1, [[0, 0], margin, margin, [0, 0]]), stride)
        # Crop the region that corresponds to the padding of the forward convolution.
        top, left = (
            max((small - 1) * stride + size - large, 0) // 2
            for small, large in zip(features.shape[1:3], (height, width), strict=True)
        )
        return laid_out[:, top : top + height, left : left + width], gradients

    return tf.custom_gradient(convolved)(features, kernel)


def _kernel_gradient(images: Tensor, kernel: Tensor, upstream: Tensor, stride: int) -> Tensor:
    return tf.raw_ops.Conv2DBackpropFilter(
        input=images,
        filter_sizes=kernel.shape,
        out_backprop=upstream,
        strides=[1, stride, stride, 1],
        padding="SAME",
    )


@keras.saving.register_keras_serializable(package="genlab")
class FewChannelsConv2D(keras.layers.Conv2D):
    """Keras' strided "same" convolution with a faster gradient, for images [B, H, W, C] with few channels."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return few_channels_convolution(inputs, tf.convert_to_tensor(kernel), self.strides[0])


@keras.saving.register_keras_serializable(package="genlab")
class FewChannelsConv2DTranspose(keras.layers.Conv2DTranspose):
    """Faster version of Keras' strided "same" transposed convolution, for outputs [B, H, W, C] with few channels."""

    def call(self, inputs: Tensor) -> Tensor:
        height, width = (size * self.strides[0] for size in inputs.shape[1:3])
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = few_channels_convolution_transpose(inputs, kernel, self.strides[0], height, width)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return self.activation(outputs)


@keras.saving.register_keras_serializable(package="genlab")
class MinibatchStandardDeviation(keras.layers.Layer):
    """Layer that appends the mean standard deviation over the batch as a channel: [B, ..., C] -> [B, ..., C + 1].

    Karras et al. 2018, "Progressive Growing of GANs" (https://arxiv.org/abs/1710.10196), section 3. The statistic is
    computed in float32 over groups of `group_size` consecutive examples. A batch that is not a multiple of it is one
    group. A batch of one gives zeros. In data-parallel training, the batch is the replica's.
    """

    def __init__(self, group_size: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group_size = group_size

    def call(self, inputs: Tensor) -> Tensor:
        batch = tf.shape(inputs)[0]
        group = tf.where(tf.equal(batch % self.group_size, 0), tf.minimum(self.group_size, batch), batch)
        values = tf.cast(tf.reshape(inputs, [batch // group, group, -1]), tf.float32)  # [groups, group, features]
        variance = tf.math.reduce_variance(values, axis=1)
        # The epsilon keeps the gradient of the square root finite when all examples are equal.
        deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8), axis=-1)  # [groups]
        each = tf.broadcast_to(tf.cast(deviation, inputs.dtype)[:, tf.newaxis], [batch // group, group])
        column = tf.reshape(each, tf.concat([[batch], tf.ones([tf.rank(inputs) - 1], tf.int32)], axis=0))
        shape = tf.concat([tf.shape(inputs)[:-1], [1]], axis=0)
        return tf.concat([inputs, tf.broadcast_to(column, shape)], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"group_size": self.group_size}


@keras.saving.register_keras_serializable(package="genlab")
class MinibatchDiscrimination(keras.layers.Layer):
    """Layer that appends each example's closeness to the rest of its batch: [B, A] -> [B, A + kernels].

    Salimans et al. 2016, "Improved Techniques for Training GANs" (https://arxiv.org/abs/1606.03498), section 3.2:
    M = f T, [B, kernels, size]; o_i,b = sum over j != i of exp(-|M_i,b - M_j,b|_1). The example itself is excluded, so a
    batch of one gives zeros. M and o are computed in float32 in every precision; o is then cast to the dtype of the
    features. In data-parallel training, the batch is the replica's.
    """

    def __init__(self, kernels: int = 100, size: int = 5, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernels = kernels
        self.size = size
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        initializer = keras.initializers.RandomNormal(stddev=0.05, seed=self.seed)
        self.tensor = self.add_weight(
            shape=(input_shape[-1], self.kernels * self.size), initializer=initializer, autocast=False, name="tensor"
        )

    def call(self, inputs: Tensor) -> Tensor:
        # M is in an exponent: near 10, bfloat16 has a spacing of 0.06, which is 6% of o.
        products = tf.matmul(tf.cast(inputs, tf.float32), self.tensor.value)
        products = tf.reshape(products, [-1, self.kernels, self.size])
        # [B, 1, kernels, size] - [1, B, kernels, size], summed over size
        distances = tf.reduce_sum(tf.abs(products[:, tf.newaxis] - products[tf.newaxis]), axis=-1)
        nearness = tf.reduce_sum(tf.exp(-distances), axis=1) - 1.0  # minus the example's own exp(0)
        return tf.concat([inputs, tf.cast(nearness, inputs.dtype)], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], input_shape[-1] + self.kernels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kernels": self.kernels, "size": self.size, "seed": self.seed}


@keras.saving.register_keras_serializable(package="genlab")
class SpectralNormalization(keras.layers.Wrapper):
    """Wrapper that calls a layer with its weight matrix divided by its largest singular value: W / sigma(W).

    Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks" (https://arxiv.org/abs/1802.05957),
    section 2. W is the layer's only weight with two or more axes: the kernel of a dense layer or convolution, embeddings,
    the tensor of minibatch discrimination. As a matrix M it is [inputs, outputs], for convolutions
    [height * width * inputs, outputs]:

        sigma = v^T M u,    v = M u / |M u|

    The optimizer trains W itself; calls never change it. Gradients flow through M in sigma, with u and v held constant.
    W and sigma are float32 in every precision; W / sigma is cast to the layer's compute dtype.

    u [outputs], a unit vector drawn from `seed`, is a non-trainable weight. Calls only read it: call `iterate` once before
    each update of the layer (see `blocks.iterate_spectral_norms`).
    """

    def __init__(self, layer: Layer, seed: int = 0, **kwargs: Any) -> None:
        # Read weights in float32 and pass inputs on unchanged; the wrapped layer casts both.
        super().__init__(layer, autocast=False, **kwargs | {"dtype": "float32"})
        self.seed = seed

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.u = self.add_weight(
            shape=(self._as_matrix().shape[1],),
            initializer=lambda shape, dtype: tf.math.l2_normalize(
                tf.random.stateless_normal(shape, [self.seed, 0], dtype=dtype, alg="philox")
            ),
            trainable=False,
            autocast=False,
            aggregation="mean",  # replicas compute the same u, up to rounding if their hardware differs
            name="u",
        )

    @property
    def matrix(self) -> Variable:
        """The stored weight W. Raises ValueError unless exactly one weight has two or more axes."""
        (matrix,) = (weight for weight in self.layer.weights if len(weight.shape) > 1)
        return matrix

    def _as_matrix(self) -> Tensor:
        weights = tf.convert_to_tensor(self.matrix.value)
        if isinstance(self.layer, keras.layers.Conv2DTranspose):  # [height, width, outputs, inputs]
            weights = tf.transpose(weights, [0, 1, 3, 2])
        return tf.reshape(weights, [-1, weights.shape[-1]])

    def iterate(self) -> None:
        """Run one power iteration: v = M u / |M u|, then u = M^T v / |M^T v|. Miyato et al. 2018, appendix A, algorithm 1."""
        matrix = self._as_matrix()
        v = tf.math.l2_normalize(tf.linalg.matvec(matrix, self.u.value))
        self.u.assign(tf.math.l2_normalize(tf.linalg.matvec(matrix, v, transpose_a=True)))

    def normalized(self) -> Tensor:
        """Return W / sigma(W), float32, in the shape of W. Zeros stay zeros."""
        product = tf.linalg.matvec(self._as_matrix(), tf.stop_gradient(self.u.value))
        sigma = tf.reduce_sum(tf.stop_gradient(tf.math.l2_normalize(product)) * product)
        # The gradient of a division by sigma would make more passes over W.
        return self.matrix.value * tf.math.reciprocal_no_nan(sigma)

    def normalized_weights(self) -> list[np.ndarray]:
        """Return the layer's weights as arrays, with W / sigma for W. A plain layer with them gives the same outputs."""
        matrix = self.matrix
        return [self.normalized().numpy() if each is matrix else each.numpy() for each in self.layer.weights]

    def call(self, inputs: Tensor) -> Tensor:
        with keras.StatelessScope([(self.matrix, self.normalized())]):
            return self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}


@keras.saving.register_keras_serializable(package="genlab")
class ByteDropout(keras.layers.Dropout):
    """Keras' dropout with a quarter of the random numbers: one byte per activation. Masks differ between replicas.

    The rate is rounded to a multiple of 1/256, from 1/256 to 255/256. Kept values are divided by 1 - rounded rate.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0:
            return inputs
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        if replicas.count() > 1:
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.fold_in(seed, own, alg="philox")
        size = tf.size(inputs)
        words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.int32, alg="philox")
        drawn = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        dropped = min(max(round(256 * self.rate), 1), 255)
        return inputs * tf.cast(drawn >= dropped, inputs.dtype) * (256 / (256 - dropped))


@keras.saving.register_keras_serializable(package="genlab")
class BatchNoise(keras.layers.GaussianNoise):
    """Keras' Gaussian noise, drawn for the whole batch: each replica adds its rows, so noise differs between replicas."""

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.stddev == 0:
            return inputs
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        noise = replicas.own_rows(
            lambda rows: tf.random.stateless_normal([rows, *inputs.shape[1:]], seed, alg="philox"), tf.shape(inputs)[0]
        )
        return inputs + tf.cast(self.stddev * noise, inputs.dtype)


@keras.saving.register_keras_serializable(package="genlab")
class SamplingDropout(keras.layers.Layer):
    """Dropout that stays on in sampling, with masks chosen by the latents: ([B, ...], latents [B, latent]) -> [B, ...].

    An example's mask depends only on its first two latent dimensions and the layer's seed, so a latent vector still
    gives one image, whatever else is in the batch. With a one-dimensional latent space, that number is used twice. Kept
    values are divided by 1 - rate.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed

    def call(self, inputs: Tensor) -> Tensor:
        values, latents = inputs
        first_and_second = tf.gather(latents, [0, min(1, latents.shape[1] - 1)], axis=1)
        seeds = tf.bitcast(tf.cast(first_and_second, tf.float32), tf.int32) ^ tf.constant([self.seed, 0])
        uniform = tf.map_fn(
            lambda seed: tf.random.stateless_uniform(values.shape[1:], seed, alg="philox"),
            seeds,
            fn_output_signature=tf.TensorSpec(values.shape[1:], tf.float32),
        )
        return tf.where(uniform < self.rate, tf.zeros_like(values), values / (1.0 - self.rate))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
