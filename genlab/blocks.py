"""The shared networks: generator, discriminator, encoder and decoder of any height, width and channels.

Every builder returns an ordinary functional Keras model with named layers (`up1_conv`, `down2_norm`, ...). Channels
are given per resolution, finest first; the last one repeats where the image asks for more resolutions. How many
there are follows from the shape alone: height and width are halved, rounding up, until the smaller is below 8
(28x28: 28, 14, 7; 32x32: 32, 16, 8, 4; 33x17: 33x17, 17x9, 9x5).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from genlab.backend import LazyModule, keras

layers = LazyModule("genlab.layers")


@dataclasses.dataclass(frozen=True)
class Style:
    """What the layers of a network have in common."""

    activation: str = "relu"
    """relu, leaky_relu (slope 0.2), elu, gelu, tanh."""
    normalization: str = "none"
    """batch or none."""
    initializer: str = "he"
    """he (He et al. 2015), glorot, or dcgan: N(0, 0.02)."""
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

    def initializer(self):
        match self.style.initializer:
            case "he":
                return keras.initializers.HeNormal(seed=self._seed())
            case "glorot":
                return keras.initializers.GlorotUniform(seed=self._seed())
            case "dcgan":
                return keras.initializers.RandomNormal(stddev=0.02, seed=self._seed())
        raise ValueError(f"unknown initializer {self.style.initializer!r}")

    def _weighted(self, kind, *arguments, **keywords):
        layer = kind(*arguments, kernel_initializer=self.initializer(), **keywords)
        if self.style.spectral_normalization:
            return keras.layers.SpectralNormalization(layer, name=f"{layer.name}_spectral")
        return layer

    def dense(self, units: int, name: str, **keywords):
        return self._weighted(keras.layers.Dense, units, name=name, **keywords)

    def conv(self, channels: int, name: str, **keywords):
        return self._weighted(
            keras.layers.Conv2D, channels, self.style.kernel_size, padding="same", name=name, **keywords
        )

    def conv_transpose(self, channels: int, name: str, **keywords):
        return self._weighted(
            keras.layers.Conv2DTranspose, channels, self.style.kernel_size, padding="same", name=name, **keywords
        )

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
    x = make.dense(height * width * channels[-1], "project", use_bias=not make.normalized)(latents)
    x = keras.layers.Reshape((height, width, channels[-1]), name="project_reshape")(x)
    x = make.activate(x, "project")
    for index in range(len(sizes) - 2, -1, -1):
        height, width = sizes[index]
        last = index == 0
        stage = "image" if last else f"up{len(sizes) - 1 - index}"
        outputs = shape[2] if last else channels[index - 1]
        use_bias = last or not make.normalized
        x = make.conv_transpose(outputs, f"{stage}_conv", strides=2, use_bias=use_bias)(x)
        # Sizes were halved rounding up, so a doubled one may be a pixel too large.
        surplus = (x.shape[1] - height, x.shape[2] - width)
        if any(surplus):
            x = keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name=f"{stage}_crop")(x)
        if not last:
            x = make.activate(x, stage)
    images = keras.layers.Activation(output_activation, dtype="float32", name="image")(x)
    return keras.Model(latents, images, name=name)


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
        x = make.conv(channels, f"{stage}_conv", strides=2, use_bias=not (normalize and make.normalized))(x)
        x = make.activate(x, stage, normalize)
    if minibatch_standard_deviation:
        x = layers.MinibatchStandardDeviation(name="minibatch_standard_deviation")(x)
    x = keras.layers.Flatten(name="features")(x)
    logits = make.dense(1, "logit_dense", dtype="float32")(x)
    return keras.Model(images, keras.layers.Identity(dtype="float32", name="logit")(logits), name=name)
