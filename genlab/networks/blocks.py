"""Shared networks: generator, discriminator and encoder for any height, width and number of channels.

Every builder returns a functional Keras model with named layers (`up1_conv`, `down2_norm`, ...). Channels are given per
resolution, finest first; the last width is repeated for larger images. The number of resolutions depends on the shape:
height and width are halved, rounding up, until the smaller is at most the style's `coarsest_size` (for 7, 28x28: 28, 14, 7;
32x32: 32, 16, 8, 4; 33x17: 33x17, 17x9, 9x5).
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Sequence
from typing import Any

from genlab.backend import Layer, LazyModule, Network, Tensor, keras
from genlab.errors import UsageError
from genlab.networks import replicas

layers = LazyModule("genlab.networks.layers")

CLUSTER_GAIN = 8.0
"""Factor of the latents that choose a cluster: in front of a softmax of N(0, 1) it gives nearly one-hot vectors."""
STAGE = re.compile("(down|dense)[0-9]+")
"""Beginning of the names of layers that belong to one resolution, or one dense layer, of a discriminator or encoder."""


@dataclasses.dataclass(frozen=True)
class Style:
    """Settings shared by the layers of a network."""

    activation: str = "relu"
    """relu, leaky_relu (slope 0.2), elu, gelu, tanh."""
    normalization: str = "none"
    """batch or none."""
    initializer: str = "he"
    """he (He et al. 2015; Glorot on the output), glorot (Glorot & Bengio 2010), or dcgan: N(0, 0.02)."""
    kernel_size: int = 4
    """Height and width of the convolutions, in pixels."""
    coarsest_size: int = 7
    """Convolutions halve height and width until the smaller is at most this, in pixels."""
    upsampling: str = "transpose"
    """transpose: transposed convolutions of stride 2; nearest: nearest-neighbour upsampling, then a convolution."""
    residual_blocks: int = 0
    """Blocks x + conv(act(conv(x))) after the convolution of each resolution below the image's (He et al. 2016)."""
    dropout: float = 0.0
    """Dropout rate after each hidden layer, in training."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise added after each hidden layer, in training."""
    spectral_normalization: bool = False
    """Divide each weight matrix by its largest singular value (Miyato et al. 2018; see `iterate_spectral_norms`)."""
    fused: bool = False
    """Use genlab's layers, which train faster, instead of Keras' (see `stock`)."""
    seed: int = 0
    """Seed of the network's initial weights."""


class _Layers:
    """Builds the layers of one network in its style, each with its own seed."""

    def __init__(self, style: Style, latents: Tensor | None = None) -> None:
        """With `latents` [B, latent], they choose the dropout masks, also in sampling; without, dropout is for training."""
        self.style = style
        self.latents = latents
        self._seeds = random.Random(style.seed)

    def _seed(self) -> int:
        return self._seeds.randrange(2**31)

    def _initializer(self, fan_in: float, fan_out: float, output: bool) -> keras.initializers.Initializer:
        """Return normal weights that keep activations of order one; He's factor is used only before a ReLU.

        The fans are given here, as connections of one output and of one input. Keras swaps them for transposed
        convolutions, which saturates the generator's tanh from the start.
        """
        if self.style.initializer == "dcgan":
            deviation = 0.02
        elif self.style.initializer == "he" and not output:
            deviation = math.sqrt(2 / fan_in)
        else:
            deviation = math.sqrt(2 / (fan_in + fan_out))
        return keras.initializers.RandomNormal(stddev=deviation, seed=self._seed())

    def _spectral(self, layer: Layer) -> Layer:
        if not self.style.spectral_normalization:
            return layer
        # Not the network's next seed, so that initial weights are the same with and without this option.
        seed = random.Random(f"{self.style.seed} {layer.name}").randrange(2**31)
        return layers.SpectralNormalization(layer, seed, name=layer.name)

    def dense(self, x: Tensor, units: int, name: str, *, output: bool = False, **keywords: Any) -> Tensor:
        initializer = self._initializer(x.shape[-1], units, output)
        return self._spectral(keras.layers.Dense(units, kernel_initializer=initializer, name=name, **keywords))(x)

    def conv(
        self, x: Tensor, channels: int, name: str, *, strides: int = 1, output: bool = False, **keywords: Any
    ) -> Tensor:
        size = self.style.kernel_size
        initializer = self._initializer(size**2 * x.shape[-1], (size / strides) ** 2 * channels, output)
        fused = self.style.fused and strides > 1 and x.shape[-1] <= layers.FEW_CHANNELS
        layer = (layers.FewChannelsConv2D if fused else keras.layers.Conv2D)(
            channels, size, strides, padding="same", kernel_initializer=initializer, name=name, **keywords
        )
        return self._spectral(layer)(x)

    def conv_transpose(
        self, x: Tensor, channels: int, name: str, *, strides: int = 2, output: bool = False, **keywords: Any
    ) -> Tensor:
        size = self.style.kernel_size
        initializer = self._initializer((size / strides) ** 2 * x.shape[-1], size**2 * channels, output)
        fused = self.style.fused and strides > 1 and channels <= layers.FEW_CHANNELS
        layer = (layers.FewChannelsConv2DTranspose if fused else keras.layers.Conv2DTranspose)(
            channels, size, strides, padding="same", kernel_initializer=initializer, name=name, **keywords
        )
        return self._spectral(layer)(x)

    def clustered(self, latents: Tensor, clusters: int) -> Tensor:
        """Replace the last `clusters` latents [B, latent] by their softmax, nearly one-hot, of mean square near 1.

        One Gaussian is connected, and images of several classes are not: a continuous generator draws images in between
        (Khayatkhoei, Singh & Elgammal 2018, https://arxiv.org/abs/1806.00880). One-hot latents separate them (Mukherjee et al. 2019,
        "ClusterGAN", https://arxiv.org/abs/1809.03627). A softmax of N(0, I) is close to that, and leaves the prior as it is.
        """
        size = latents.shape[-1]
        logits = keras.layers.Rescaling(CLUSTER_GAIN, dtype="float32", name="cluster_logits")(
            latents[:, size - clusters :]
        )
        chosen = keras.layers.Softmax(dtype="float32", name="cluster")(logits)
        chosen = keras.layers.Rescaling(math.sqrt(clusters), dtype="float32", name="cluster_scaled")(chosen)
        return keras.layers.Concatenate(name="latents_and_cluster")([latents[:, : size - clusters], chosen])

    def embed(self, labels: Tensor, num_classes: int, size: int, deviation: float = 1.0) -> Tensor:
        """Embed labels [B] as learned vectors [B, size]."""
        initializer = keras.initializers.RandomNormal(stddev=deviation, seed=self._seed())
        layer = keras.layers.Embedding(num_classes, size, embeddings_initializer=initializer, name="label_embedding")
        return self._spectral(layer)(labels)

    def minibatch_discrimination(self, x: Tensor, kernels: int, size: int) -> Tensor:
        layer = layers.MinibatchDiscrimination(kernels, size, seed=self._seed(), name="minibatch_discrimination")
        return self._spectral(layer)(x)

    def upsample(
        self, x: Tensor, channels: int, name: str, size: tuple[int, int], *, output: bool = False, **keywords: Any
    ) -> Tensor:
        """Double the height and width, then crop to `size`: sizes were halved rounding up."""
        if self.style.upsampling == "nearest":
            x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_double")(x)
            x = self.conv(x, channels, f"{name}_conv", output=output, **keywords)
        else:
            x = self.conv_transpose(x, channels, f"{name}_conv", output=output, **keywords)
        surplus = (x.shape[1] - size[0], x.shape[2] - size[1])
        if any(surplus):
            x = keras.layers.Cropping2D(((0, surplus[0]), (0, surplus[1])), name=f"{name}_crop")(x)
        return x

    def features(self, x: Tensor, widths: Sequence[int], network: str) -> Tensor:
        """Map images [B, H, W, C] or vectors [B, D] to features [B, ...] with strided convolutions or dense layers.

        The first layer has no normalization (Radford et al. 2016, section 3).
        """
        convolutional = network == "conv" and len(x.shape) == 4
        if not convolutional:
            x = keras.layers.Flatten(name="flat")(x)
        count = len(resolutions(x.shape[1:], self.style.coarsest_size)) - 1 if convolutional else len(widths)
        for index, channels in enumerate(_channels(widths, count)):
            stage = f"down{index + 1}" if convolutional else f"dense{index + 1}"
            normalize = index > 0
            use_bias = not (normalize and self.normalized)
            if convolutional:
                x = self.conv(x, channels, f"{stage}_conv", strides=2, use_bias=use_bias)
            else:
                x = self.dense(x, channels, stage, use_bias=use_bias)
            x = self.activate(x, stage, normalize)
            if convolutional:
                x = self.residual(x, stage)
        return x

    def residual(self, x: Tensor, name: str) -> Tensor:
        """Add the style's residual blocks."""
        for index in range(self.style.residual_blocks):
            stage = f"{name}_residual{index + 1}"
            y = self.conv(x, x.shape[-1], f"{stage}_conv1", use_bias=not self.normalized)
            y = self.activate(y, stage)
            y = self.conv(y, x.shape[-1], f"{stage}_conv2", output=True)
            x = keras.layers.Add(name=f"{stage}_sum")([x, y])
        return x

    def activate(self, x: Tensor, name: str, normalize: bool = True) -> Tensor:
        """Add normalization, activation and dropout, in this order."""
        if normalize and self.normalized:
            x = self.normalize(x, name)
        if self.style.activation == "leaky_relu":
            x = keras.layers.LeakyReLU(negative_slope=0.2, name=f"{name}_act")(x)
        else:
            x = keras.layers.Activation(self.style.activation, name=f"{name}_act")(x)
        if self.style.dropout and self.latents is not None:
            dropout = layers.SamplingDropout(self.style.dropout, seed=self._seed(), name=f"{name}_dropout")
            x = dropout([x, self.latents])
        elif self.style.dropout:
            # Keras' dropout uses the same mask on every replica.
            kind = layers.ByteDropout if self.style.fused or replicas.count() > 1 else keras.layers.Dropout
            x = kind(self.style.dropout, seed=self._seed(), name=f"{name}_dropout")(x)
        return self.noise(x, self.style.noise, f"{name}_noise")

    def normalize(self, x: Tensor, name: str, **keywords: Any) -> Tensor:
        """Add batch normalization, whose statistics cover the whole batch, over all replicas."""
        shared = replicas.count() > 1
        kind = layers.FusedBatchNormalization if self.style.fused and not shared else keras.layers.BatchNormalization
        # Keras' default momentum of 0.99 is too slow for runs of a few hundred steps.
        return kind(momentum=0.9, epsilon=1e-5, synchronized=shared, name=f"{name}_norm", **keywords)(x)

    def noise(self, x: Tensor, deviation: float, name: str) -> Tensor:
        """Add Gaussian noise in training; with deviation 0, nothing."""
        if not deviation:
            return x
        # Keras' noise is the same on every replica.
        kind = layers.BatchNoise if self.style.fused or replicas.count() > 1 else keras.layers.GaussianNoise
        return kind(deviation, seed=self._seed(), name=name)(x)

    @property
    def normalized(self) -> bool:
        return self.style.normalization == "batch"


def iterate_spectral_norms(network: Network) -> None:
    """Run one power iteration in every spectrally normalized layer. Call it before each update, outside the tape.

    Forward passes only read the vectors, so gradient penalties, updates of other networks and inference do not change them.
    """
    for layer in network.layers:
        if isinstance(layer, layers.SpectralNormalization):
            layer.iterate()


def freeze(network: Network, stages: int) -> None:
    """Keep the weights and statistics of a network's first `stages` convolutions or dense layers, with what belongs to them.

    Mo, Cho & Shin 2020, "Freeze the Discriminator" (https://arxiv.org/abs/2002.10964). Raises UsageError if it has fewer.
    """
    names = list(dict.fromkeys(found[0] for layer in network.layers if (found := STAGE.match(layer.name))))
    if stages > len(names):
        raise UsageError(f"--freeze-discriminator {stages}: the discriminator has {len(names)} such layers.")
    for layer in network.layers:
        found = STAGE.match(layer.name)
        if found and found[0] in names[:stages]:
            layer.trainable = False


def stock(network: Network) -> Network:
    """Return a copy of a network with Keras' layers instead of genlab's faster ones. Its outputs are the same.

    Spectrally normalized layers become plain layers with the normalized weights.
    """
    twins = {
        layers.FusedBatchNormalization: keras.layers.BatchNormalization,
        layers.ByteDropout: keras.layers.Dropout,
        layers.BatchNoise: keras.layers.GaussianNoise,
        layers.FewChannelsConv2D: keras.layers.Conv2D,
        layers.FewChannelsConv2DTranspose: keras.layers.Conv2DTranspose,
    }

    def twin(layer: Layer) -> Layer:
        if isinstance(layer, layers.SpectralNormalization):
            layer = layer.layer
        return twins.get(type(layer), type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=twin)
    for layer in network.layers:
        normalized = isinstance(layer, layers.SpectralNormalization)
        copy.get_layer(layer.name).set_weights(layer.normalized_weights() if normalized else layer.get_weights())
    return copy


def resolutions(shape: Sequence[int], coarsest_size: int = 7) -> list[tuple[int, int]]:
    """Return heights and widths in pixels: the image's, and its halves until the smaller is at most `coarsest_size`."""
    height, width = shape[:2]
    sizes = [(height, width)]
    while min(height, width) > coarsest_size:
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


def width_limit(shape: Sequence[int], network: str, coarsest_size: int) -> int | None:
    """Return the number of widths that a network for such data uses at most; None: any number, as in dense layers."""
    if network != "conv" or len(shape) != 3:
        return None
    return max(1, len(resolutions(shape, coarsest_size)) - 1)


def _channels(widths: Sequence[int], count: int) -> list[int]:
    """Return `count` widths, finest first; the last one is repeated."""
    return [widths[min(index, len(widths) - 1)] for index in range(count)]


def generator(
    shape: Sequence[int],
    latent_size: int,
    widths: Sequence[int],
    style: Style,
    *,
    network: str = "conv",
    num_classes: int = 0,
    clusters: int = 0,
    hidden_units: int = 0,
    output_activation: str | None = None,
    sampling_dropout: bool = False,
    name: str = "generator",
) -> Network:
    """Build a generator: latents [B, latent] -> images [B, H, W, C] or vectors [B, D], float32 in every precision.

    `conv`: a dense layer at the coarsest resolution, then upsampling convolutions. `mlp`, and always for vectors: dense
    layers. `hidden_units` adds a dense layer in front. The default output activation is tanh for images, which are in
    [-1, 1], and none for vectors. With `num_classes` the input is [latents, labels [B]], and a learned embedding of the
    label is concatenated to the latents. The last `clusters` latents enter as softmax(8 z), nearly one-hot, times
    sqrt(clusters). `sampling_dropout` keeps dropout on in sampling, with masks chosen by the latents.
    The output has no normalization, and layers before a normalization have no bias (Radford et al. 2016, section 3).
    """
    latents = keras.Input((latent_size,), name="latents")
    make = _Layers(style, latents if sampling_dropout else None)
    inputs, x = latents, latents
    if clusters:
        x = make.clustered(x, clusters)
    if num_classes:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs = [latents, labels]
        x = keras.layers.Concatenate(name="latents_and_label")([x, make.embed(labels, num_classes, num_classes)])
    if hidden_units:
        x = make.activate(make.dense(x, hidden_units, "hidden", use_bias=not make.normalized), "hidden")
    if len(shape) == 3 and network == "conv":
        x = _upsampled(make, x, shape, widths)
    else:
        for index, units in enumerate(reversed(widths)):
            x = make.activate(
                make.dense(x, units, f"dense{index + 1}", use_bias=not make.normalized), f"dense{index + 1}"
            )
        x = make.dense(x, math.prod(shape), "image_dense", output=True)
        x = keras.layers.Reshape(tuple(shape), name="image_reshape")(x)
    activation = output_activation or ("tanh" if len(shape) == 3 else "linear")
    images = keras.layers.Activation(activation, dtype="float32", name="image")(x)
    return keras.Model(inputs, images, name=name)


def _upsampled(make: _Layers, x: Tensor, shape: Sequence[int], widths: Sequence[int]) -> Tensor:
    sizes = resolutions(shape, make.style.coarsest_size)
    channels = _channels(widths, len(sizes) - 1) or [widths[0]]
    height, width = sizes[-1]
    x = make.dense(x, height * width * channels[-1], "project", use_bias=not make.normalized)
    x = keras.layers.Reshape((height, width, channels[-1]), name="project_reshape")(x)
    x = make.residual(make.activate(x, "project"), "project")
    for index in range(len(sizes) - 2, 0, -1):
        stage = f"up{len(sizes) - 1 - index}"
        x = make.upsample(x, channels[index - 1], stage, sizes[index], use_bias=not make.normalized)
        x = make.residual(make.activate(x, stage), stage)
    return make.upsample(x, shape[2], "image", sizes[0], output=True)


def discriminator(
    shape: Sequence[int],
    widths: Sequence[int],
    style: Style,
    *,
    network: str = "conv",
    num_classes: int = 0,
    projection: bool = False,
    hidden_units: int = 0,
    minibatch_standard_deviation: bool = False,
    minibatch_discrimination: tuple[int, int] = (0, 0),
    input_noise: float = 0.0,
    num_logits: int = 1,
    name: str = "discriminator",
) -> Network:
    """Build a discriminator: images [B, H, W, C] in [-1, 1] or vectors [B, D] -> logits [B, num_logits], float32.

    With `num_classes` the input is [images, labels [B]]. With `projection` (Miyato & Koyama 2018,
    https://arxiv.org/abs/1802.05637) the product of the label's embedding and the features is added to the logit.
    Otherwise a learned embedding of the label is concatenated to the image as a channel, or to a vector or flattened image
    as extra dimensions. `hidden_units` adds a dense layer before the logit. `minibatch_discrimination` is (kernels, size of
    each); 0 kernels: none. `input_noise` is the standard deviation of noise added to the input in training.
    """
    make = _Layers(style)
    images = keras.Input(tuple(shape), name="images")
    inputs, x, labels = images, make.noise(images, input_noise, "images_noise"), None
    if num_classes:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs = [images, labels]
    if num_classes and not projection:
        if network == "conv" and len(shape) == 3:
            plane = make.embed(labels, num_classes, shape[0] * shape[1])
            plane = keras.layers.Reshape((*shape[:2], 1), name="label_plane")(plane)
        else:
            x = keras.layers.Flatten(name="flat_image")(x)
            plane = make.embed(labels, num_classes, num_classes)
        x = keras.layers.Concatenate(name="image_and_label")([x, plane])
    x = make.features(x, widths, network)
    if minibatch_standard_deviation:
        x = layers.MinibatchStandardDeviation(name="minibatch_standard_deviation")(x)
    x = keras.layers.Flatten(name="features")(x)
    if hidden_units:
        x = make.activate(make.dense(x, hidden_units, "hidden", use_bias=not make.normalized), "hidden")
    if minibatch_discrimination[0]:
        x = make.minibatch_discrimination(x, *minibatch_discrimination)
    logits = make.dense(x, num_logits, "logit_dense", output=True, dtype="float32")
    if num_classes and projection:
        embedding = make.embed(labels, num_classes, x.shape[-1], deviation=x.shape[-1] ** -0.5)
        product = keras.layers.Dot(1, dtype="float32", name="projection")([x, embedding])
        logits = keras.layers.Add(dtype="float32", name="logit_and_projection")([logits, product])
    logits = keras.layers.Identity(dtype="float32", name="logit")(logits)
    return keras.Model(inputs, logits, name=name)


def class_head(discriminator: Network, num_classes: int, style: Style, *, name: str = "class_head") -> Network:
    """Build an auxiliary classifier: what the logit of a discriminator is computed from, [B, F] -> logits [B, num_classes]."""
    features = keras.Input(discriminator.get_layer("logit_dense").input.shape[1:], name="features")
    logits = _Layers(style).dense(features, num_classes, "class_logits", output=True, dtype="float32")
    return keras.Model(features, logits, name=name)


def encoder(
    shape: Sequence[int],
    latent_size: int,
    widths: Sequence[int],
    style: Style,
    *,
    network: str = "conv",
    heads: Sequence[str] = ("codes",),
    hidden_units: int = 0,
    normalized: bool = False,
    name: str = "encoder",
) -> Network:
    """Build an encoder: images [B, H, W, C] in [-1, 1] or vectors [B, D] -> [B, latent] per head, linear, float32.

    `hidden_units` adds a dense layer before the heads, and `normalized` batch normalization after each. With one head, the
    model has a single output.
    """
    make = _Layers(style)
    images = keras.Input(tuple(shape), name="images")
    x = make.features(images, widths, network)
    x = keras.layers.Flatten(name="features")(x)
    if hidden_units:
        x = make.activate(make.dense(x, hidden_units, "hidden", use_bias=not make.normalized), "hidden")
    outputs = [make.dense(x, latent_size, head, output=True, dtype="float32") for head in heads]
    if normalized:
        outputs = [make.normalize(output, head, dtype="float32") for output, head in zip(outputs, heads, strict=True)]
    return keras.Model(images, outputs[0] if len(outputs) == 1 else outputs, name=name)
