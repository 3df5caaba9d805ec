"""The shared networks: generator, discriminator, encoder and decoder of any height, width and channels.

Every builder returns an ordinary functional Keras model with named layers (`up1_conv`, `down2_norm`, ...). Channels
are given per resolution, finest first; the last one repeats where the image asks for more resolutions. How many
there are follows from the shape alone: height and width are halved, rounding up, until the smaller is below 8
(28x28: 28, 14, 7; 32x32: 32, 16, 8, 4; 33x17: 33x17, 17x9, 9x5).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from genlab.backend import LazyModule, keras, tf

layers = LazyModule("genlab.layers")


@dataclasses.dataclass(frozen=True)
class Style:
    """What the layers of a network have in common."""

    activation: str = "relu"
    """relu, leaky_relu (slope 0.2), elu, gelu, tanh."""
    normalization: str = "none"
    """batch or none."""
    initializer: str = "he"
    """he (He et al. 2015; Glorot's on the output), glorot (Glorot & Bengio 2010), or dcgan: N(0, 0.02)."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    dropout: float = 0.0
    """Share of activations set to zero after each hidden layer, in training."""
    spectral_normalization: bool = False
    """Divide each weight matrix by its largest singular value (Miyato et al. 2018)."""
    seed: int = 0
    """Seeds every initial weight of the network."""


class _Layers:
    """Makes the layers of one network in its style, each with a seed of its own."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self._seeds = random.Random(style.seed)

    def _seed(self) -> int:
        return self._seeds.randrange(2**31)

    def _initializer(self, fan_in: float, fan_out: float, output: bool):
        """Normal weights whose variance keeps activations of order one; He's factor only where a relu follows.

        Keras takes a transposed convolution's inputs for its outputs, which saturates the generator's tanh from the
        start: so the fans are counted here, as connections of one output and of one input.
        """
        if self.style.initializer == "dcgan":
            deviation = 0.02
        elif self.style.initializer == "he" and not output:
            deviation = math.sqrt(2 / fan_in)
        else:
            deviation = math.sqrt(2 / (fan_in + fan_out))
        return keras.initializers.RandomNormal(stddev=deviation, seed=self._seed())

    def _spectral(self, layer):
        if self.style.spectral_normalization:
            return keras.layers.SpectralNormalization(layer, name=f"{layer.name}_spectral")
        return layer

    def dense(self, x, units: int, name: str, *, output: bool = False, **keywords):
        initializer = self._initializer(x.shape[-1], units, output)
        return self._spectral(keras.layers.Dense(units, kernel_initializer=initializer, name=name, **keywords))(x)

    def conv(self, x, channels: int, name: str, *, strides: int = 1, output: bool = False, **keywords):
        size = self.style.kernel_size
        initializer = self._initializer(size**2 * x.shape[-1], (size / strides) ** 2 * channels, output)
        layer = keras.layers.Conv2D(
            channels, size, strides, padding="same", kernel_initializer=initializer, name=name, **keywords
        )
        return self._spectral(layer)(x)

    def conv_transpose(self, x, channels: int, name: str, *, strides: int = 2, output: bool = False, **keywords):
        size = self.style.kernel_size
        initializer = self._initializer((size / strides) ** 2 * x.shape[-1], size**2 * channels, output)
        layer = keras.layers.Conv2DTranspose(
            channels, size, strides, padding="same", kernel_initializer=initializer, name=name, **keywords
        )
        return self._spectral(layer)(x)

    def activate(self, x, name: str, normalize: bool = True):
        """Normalization, activation and dropout, in this order."""
        if normalize and self.normalized:
            # Keras' default momentum of 0.99 lags behind in runs of a few hundred steps.
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
        if self.style.activation == "leaky_relu":
            x = keras.layers.LeakyReLU(negative_slope=0.2, name=f"{name}_act")(x)
        else:
            x = keras.layers.Activation(self.style.activation, name=f"{name}_act")(x)
        if self.style.dropout:
            x = keras.layers.Dropout(self.style.dropout, seed=self._seed(), name=f"{name}_dropout")(x)
        return x

    def finished(self, model):
        """The model, with the vectors that Keras draws from an unseeded generator drawn again from a seeded one."""
        for layer in model.layers:
            if isinstance(layer, keras.layers.SpectralNormalization):
                layer.vector_u.assign(
                    tf.random.stateless_normal(layer.vector_u.shape, [self._seed(), 0], stddev=0.02, alg="philox")
                )
        return model

    @property
    def normalized(self) -> bool:
        return self.style.normalization == "batch"


def resolutions(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Heights and widths from the image's own to the coarsest one, in pixels."""
    height, width = shape[:2]
    sizes = [(height, width)]
    while min(height, width) >= 8:
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


def _channels(widths: Sequence[int], count: int) -> list[int]:
    """`count` widths, finest first; the last one repeats."""
    return [widths[min(index, len(widths) - 1)] for index in range(count)]


def generator(
    shape: Sequence[int],
    latent_size: int,
    widths: Sequence[int],
    style: Style,
    *,
    output_activation: str = "tanh",
    name: str = "generator",
):
    """Latents [B, latent] -> images [B, H, W, C]: a dense layer at the coarsest resolution, then transposed convolutions.

    With tanh the images are in [-1, 1]; the output is float32 whatever the precision. No normalization on the output,
    no bias before one (Radford et al. 2016, section 3).
    """
    make = _Layers(style)
    sizes = resolutions(shape)
    channels = _channels(widths, len(sizes) - 1) or [widths[0]]
    latents = keras.Input((latent_size,), name="latents")
    height, width = sizes[-1]
    x = make.dense(latents, height * width * channels[-1], "project", use_bias=not make.normalized)
    x = keras.layers.Reshape((height, width, channels[-1]), name="project_reshape")(x)
    x = make.activate(x, "project")
    for index in range(len(sizes) - 2, -1, -1):
        height, width = sizes[index]
        last = index == 0
        stage = "image" if last else f"up{len(sizes) - 1 - index}"
        outputs = shape[2] if last else channels[index - 1]
        use_bias = last or not make.normalized
        x = make.conv_transpose(x, outputs, f"{stage}_conv", output=last, use_bias=use_bias)
        # Sizes were halved rounding up, so a doubled one may be a pixel too large.
        surplus = (x.shape[1] - height, x.shape[2] - width)
        if any(surplus):
            x = keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name=f"{stage}_crop")(x)
        if not last:
            x = make.activate(x, stage)
    images = keras.layers.Activation(output_activation, dtype="float32", name="image")(x)
    return make.finished(keras.Model(latents, images, name=name))


def discriminator(
    shape: Sequence[int],
    widths: Sequence[int],
    style: Style,
    *,
    minibatch_standard_deviation: bool = False,
    name: str = "discriminator",
):
    """Images [B, H, W, C] in [-1, 1] -> logits [B, 1], float32, by strided convolutions.

    No normalization on the first layer (Radford et al. 2016, section 3).
    """
    make = _Layers(style)
    sizes = resolutions(shape)
    images = keras.Input(tuple(shape), name="images")
    x = images
    for index, channels in enumerate(_channels(widths, len(sizes) - 1)):
        stage = f"down{index + 1}"
        normalize = index > 0
        x = make.conv(x, channels, f"{stage}_conv", strides=2, use_bias=not (normalize and make.normalized))
        x = make.activate(x, stage, normalize)
    if minibatch_standard_deviation:
        x = layers.MinibatchStandardDeviation(name="minibatch_standard_deviation")(x)
    x = keras.layers.Flatten(name="features")(x)
    logits = make.dense(x, 1, "logit_dense", output=True, dtype="float32")
    logits = keras.layers.Identity(dtype="float32", name="logit")(logits)
    return make.finished(keras.Model(images, logits, name=name))
