"""Shared builders, layers and the running average."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from conftest import build

import genlab.networks.layers
from genlab import models
from genlab.data.spec import DataSpec
from genlab.networks import blocks, losses, precision
from genlab.networks.averaging import WeightAverage
from genlab.networks.layers import ByteDropout, FusedBatchNormalization, MinibatchStandardDeviation, SamplingDropout
from genlab.networks.optimizers import FusedAdam

STYLE = blocks.Style(normalization="batch")


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 3), (33, 17, 3), (9, 31, 2), (64, 48, 4), (48, 80, 3)])
def test_networks_follow_the_shape(shape):
    generator = blocks.generator(shape, 5, (4, 6), STYLE)
    discriminator = blocks.discriminator(shape, (4, 6), STYLE, minibatch_standard_deviation=True)
    images = generator(tf.zeros([2, 5]))
    assert images.shape == (2, *shape)
    assert discriminator(images).shape == (2, 1)


def test_resolutions():
    assert blocks.resolutions((28, 28, 1)) == [(28, 28), (14, 14), (7, 7)]
    assert blocks.resolutions((28, 28, 1), 4) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert blocks.resolutions((33, 17, 3)) == [(33, 17), (17, 9), (9, 5)]
    assert blocks.resolutions((256, 256, 3))[-1] == (4, 4)


def test_generator_has_no_bias_before_a_norm_and_none_on_its_output():
    generator = blocks.generator((28, 28, 1), 10, (4, 8), STYLE)
    assert not generator.get_layer("project").use_bias and not generator.get_layer("up1_conv").use_bias
    assert generator.get_layer("image_conv").use_bias
    # The book's textbook order: dense 10 -> 7*7*8 and its norm, 4x4 transposed 8 -> 4 and its norm, 4 -> 1 with a bias.
    expected = 10 * 392 + 4 * 8 + 16 * 8 * 4 + 4 * 4 + 16 * 4 + 1
    assert generator.count_params() == expected


def test_the_last_latents_choose_a_cluster():
    network = blocks.generator((8, 8, 1), 10, (4,), blocks.Style(), clusters=4)
    first = keras.Model(network.inputs, network.get_layer("latents_and_cluster").output)
    latents = np.random.default_rng(0).normal(size=(500, 10)).astype(np.float32)
    found = np.asarray(first(latents))
    np.testing.assert_array_equal(found[:, :6], latents[:, :6])
    np.testing.assert_allclose(
        found[:, 6:], 2 * scipy.special.softmax(8 * latents[:, 6:], axis=1), rtol=1e-4, atol=1e-6
    )
    assert (found[:, 6:].max(axis=1) > 1.8).mean() > 0.7  # nearly one-hot


def test_at_most_half_of_the_latents_choose_a_cluster():
    model = build("dcgan", latent_size=5, latent_clusters=32)
    assert model.generator.get_layer("cluster").output.shape[1] == 2


def test_discriminator_has_no_norm_on_its_first_layer():
    names = [layer.name for layer in blocks.discriminator((28, 28, 1), (4, 8), STYLE).layers]
    assert "down1_norm" not in names and "down2_norm" in names


def test_weights_follow_the_seed():
    same, again, other = (blocks.generator((8, 8, 1), 3, (2,), blocks.Style(seed=s)).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(same, again, strict=True))
    assert not np.array_equal(same[0], other[0])


def test_dcgan_initialization_has_its_deviation():
    weights = blocks.generator((28, 28, 1), 64, (32, 64), blocks.Style(initializer="dcgan")).get_weights()
    assert np.std(weights[0]) == pytest.approx(0.02, rel=0.05)


def test_minibatch_standard_deviation_by_hand():
    # Groups of four: examples 0 to 3 and 4 to 7.
    values = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1) ** 2
    result = MinibatchStandardDeviation(group_size=4)(values).numpy()
    first, second = np.std([0, 1, 4, 9]), np.std([16, 25, 36, 49])
    np.testing.assert_allclose(result[:, 0, 0, 1], [first] * 4 + [second] * 4, rtol=1e-5)
    np.testing.assert_array_equal(result[..., 0:1], values)
    assert MinibatchStandardDeviation()(np.ones((1, 2, 2, 3), np.float32)).numpy()[..., 3].max() < 2e-4
    assert MinibatchStandardDeviation()(np.ones((6, 3), np.float32)).shape == (6, 4)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_normalization_is_keras_own(dtype):
    random = np.random.default_rng(0)
    images, weights = random.normal(3.0, 2.0, (6, 5, 4, 3)), random.normal(size=(6, 5, 4, 3))
    found = []
    for kind in (tf.keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-5, dtype=dtype)
        x = tf.constant(images, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        found.append([tf.cast(each, tf.float32) for each in (outputs, *gradients, *layer.weights, layer(x))])
    for stock, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, stock, atol=1e-5 if dtype == "float32" else 0.1)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * images.var(axis=(0, 1, 2)), rtol=2e-2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "stride"), [(4, 2), (5, 2), (3, 2), (2, 2), (1, 2), (5, 3), (3, 4)])
@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
def test_convolutions_of_few_channels_are_keras_own(kind, size, stride, channels):
    filters = 5 if kind == "Conv2D" else channels
    shape = (2, 7, 6, channels if kind == "Conv2D" else 5)
    x, direction = tf.random.stateless_normal(shape, [0, 1]), tf.random.stateless_normal(shape, [0, 2])
    start = keras.initializers.RandomNormal(seed=3)
    found = []
    for layers in (keras.layers, genlab.networks.layers):
        few = "" if layers is keras.layers else "FewChannels"
        layer = getattr(layers, few + kind)(filters, size, stride, padding="same", kernel_initializer=start)
        layer.build(shape)
        layer.bias.assign(np.arange(filters) + 1.0)
        with tf.GradientTape() as penalties:  # as the R1 penalty differentiates: by the images, then by the weights
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x)
                loss = tf.reduce_sum(outputs**3)
            by_x, by_kernel = tape.gradient(loss, [x, layer.kernel.value])
            penalty = tf.reduce_sum(by_x * direction)
        found.append([outputs, by_x, by_kernel, penalties.gradient(penalty, layer.kernel.value)])
    for stock, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, stock, rtol=1e-4, atol=1e-4)


def test_fused_adam_is_keras_own():
    found = []
    for kind in (tf.keras.optimizers.Adam, FusedAdam):
        random = np.random.default_rng(0)
        variables = [tf.keras.Variable(random.normal(size=shape)) for shape in ((4, 3), (5, 2))]
        optimizer = kind(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9), beta_1=0.5, beta_2=0.99)
        optimizer.build(variables)
        for _ in range(5):
            rows = tf.IndexedSlices(
                random.normal(size=(2, 2)).astype(np.float32), tf.constant([1, 3]), tf.constant([5, 2])
            )
            optimizer.apply([tf.constant(random.normal(size=(4, 3)), tf.float32), rows], variables)
        found.append([each.numpy() for each in (*variables, *optimizer.variables)])
    for stock, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, stock, atol=1e-6)


def test_byte_dropout_drops_its_share_and_keeps_the_mean():
    layer = ByteDropout(0.3, seed=3)
    values = layer(tf.fill([333, 301], 2.0), training=True).numpy()
    dropped = 77 / 256  # the rate in 256ths
    assert np.mean(values == 0) == pytest.approx(dropped, abs=0.005)
    assert np.unique(values) == pytest.approx([0, 2 / (1 - dropped)])
    assert not np.array_equal(values, layer(tf.fill([333, 301], 2.0), training=True))
    again = ByteDropout(0.3, seed=3)(tf.fill([333, 301], 2.0), training=True).numpy()
    assert np.array_equal(values, again)
    assert np.array_equal(layer(tf.ones([2, 2])), np.ones([2, 2]))


def test_the_r1_penalty_passes_through_a_fused_normalization():
    found = []
    for kind in (tf.keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(epsilon=1e-5)
        x, weights = tf.random.stateless_normal([4, 3, 3, 2], [0, 1]), tf.Variable(tf.ones([3, 3, 2]))
        layer.build(x.shape)
        with tf.GradientTape() as tape:
            penalty = losses.squared_gradient_norm(
                lambda x, layer=layer, weights=weights: tf.reduce_sum(
                    layer(x * weights, training=True) ** 3, [1, 2, 3]
                ),
                x,
            )
        found.append([penalty, *tape.gradient(penalty, [weights, layer.gamma.value])])
    for stock, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, stock, rtol=1e-3, atol=1e-3)


def test_a_stock_copy_computes_the_same():
    style = blocks.Style(normalization="batch", dropout=0.3, fused=True, spectral_normalization=True)
    network = blocks.discriminator((12, 9, 1), (3, 4), style, num_classes=3)
    copy = blocks.stock(network)
    assert not [layer for layer in copy.layers if type(layer).__module__.startswith("genlab")]
    images, labels = tf.random.stateless_uniform([5, 12, 9, 1], [0, 0], -1.0, 1.0), tf.constant([0, 1, 2, 0, 1])
    np.testing.assert_allclose(copy([images, labels]), network([images, labels]), atol=1e-6)


def test_what_is_exported_is_of_stock_layers():
    for name in models.names():
        hparams = models.load(name).Hparams()
        model = models.load(name)(hparams, DataSpec((8, 8, 1), 3))
        for network in (model.decoder, model.encoder):
            own = (
                []
                if network is None
                else [each for each in network.layers if type(each).__module__.startswith("genlab")]
            )
            assert not own, f"{name}: {own}"


@pytest.mark.parametrize(
    ("decay", "share", "expected"),
    [
        (0.99, 0.5, [2, 3.5, 11 / 3]),  # (2 + 5) / 2, (2 + 5 + 4) / 3: a mean
        # Squares of the steps, 1, 4 and 9, have the differences 1, 3 and 5: (2 + 3 * 5) / 4, (2 + 3 * 5 + 5 * 4) / 9.
        (0.99, 1 / 3, [2, 4.25, 37 / 9]),
        (0.5, 0.5, [2, 3.5, 3.75]),  # from the third step on, half of the newest: 3.5 / 2 + 4 / 2
    ],
)
def test_average_by_hand(decay, share, expected):
    trained, averaged = (keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]) for _ in range(2))
    step = tf.Variable(0, dtype=tf.int64)
    average = WeightAverage([(averaged, trained)], decay, share, step)
    for weight, value in zip((2.0, 5.0, 4.0), expected, strict=True):
        trained.set_weights([np.array([[weight]])])
        average.update()
        step.assign_add(1)
        assert averaged.get_weights()[0][0, 0] == pytest.approx(value)


def test_the_mean_age_of_an_average_is_its_share_of_the_steps():
    trained, averaged = (keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]) for _ in range(2))
    step = tf.Variable(0, dtype=tf.int64)
    average = WeightAverage([(averaged, trained)], 0.9999, 0.1, step)
    for number in range(1, 1001):  # each weight is the number of its step, so their average tells their mean age
        trained.set_weights([np.array([[float(number)]])])
        average.update()
        step.assign_add(1)
    assert 1000 - averaged.get_weights()[0][0, 0] == pytest.approx(100, rel=0.01)


def test_an_average_of_another_network_is_refused():
    short, long = (
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=bias)]) for bias in (False, True)
    )
    with pytest.raises(ValueError, match="argument 2 is longer"):
        WeightAverage([(short, long)], 0.5, 0.5, tf.Variable(0, dtype=tf.int64))


def test_average_without_decay_is_a_copy():
    trained, averaged = (keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]) for _ in range(2))
    average = WeightAverage([(averaged, trained)], 0.0, 0.5, tf.Variable(0, dtype=tf.int64))
    for change in range(2):
        trained.set_weights([weight + change for weight in trained.get_weights()])
        if change:
            average.update()
        for copy, weight in zip(averaged.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(copy, weight)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adam", {"beta_1": 0.3, "beta_2": 0.7}),
        ("rmsprop", {"momentum": 0.3, "rho": 0.7}),
        ("sgd", {"momentum": 0.3}),
    ],
)
def test_an_optimizer_takes_the_betas_in_its_own_terms(optimizer, expected):
    kind = models.load("gan")
    hparams = kind.Hparams(
        optimizer=optimizer, beta1=0.3, beta2=0.7, generator_widths=(2,), discriminator_widths=(2,), latent_size=1
    )
    built = kind(hparams, DataSpec((2,))).generator_optimizer
    assert {name: getattr(built, name) for name in expected} == expected
    with precision.scope("float16"):
        model = kind(hparams, DataSpec((2,)))
    scaling = model.generator_optimizer
    assert {name: getattr(scaling.inner_optimizer, name) for name in expected} == expected
    assert float(model.scaled(scaling, tf.constant(3.0))) == 3.0 * scaling.initial_scale > 3.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 1, 0.55, 0.1]),
        ("cosine", [1, 1, 0.55, 0.1]),
        ("step", [1, 1, 0.1, 0.01]),
    ],
)
def test_schedules(schedule, expected):
    kind = models.load("dcgan")
    hparams = kind.Hparams(
        schedule=schedule, final_rate=0.1, generator_widths=(2,), discriminator_widths=(2,), generator_learning_rate=1.0
    )
    model = kind(hparams, DataSpec((8, 8, 1)), schedule_steps=100)

    def at(step):
        model.step.assign(step)
        return float(model.generator_optimizer.learning_rate)

    assert [at(step) for step in (0, 49, 75, 100)] == pytest.approx(expected, abs=0.02)
    assert at(1000) == pytest.approx(expected[-1], abs=1e-6)


def test_a_sample_ignores_its_neighbours_in_batch_norm():
    """Moving averages in sampling: a decoder that used its batch's statistics would tie samples together."""
    kind = models.load("dcgan")
    model = kind(kind.Hparams(generator_widths=(4, 8), discriminator_widths=(4, 8)), DataSpec((28, 28, 1)))
    latents = model.sample_latents(range(70))
    shifted = tf.concat([latents[:1], 100.0 + latents[1:]], 0)
    np.testing.assert_array_equal(model.sample(latents)[0], model.sample(shifted)[0])


def test_dropout_in_sampling_follows_the_latents():
    kind = models.load("dcgan")
    settings = {"generator_widths": (4, 8), "discriminator_widths": (4, 8), "generator_dropout": 0.5}
    kept, dropped = (
        kind(kind.Hparams(**settings, dropout_in_sampling=on), DataSpec((12, 12, 1)), seed=3) for on in (False, True)
    )
    latents = dropped.sample_latents(range(70))
    images = dropped.sample(latents).numpy()
    assert not np.allclose(images, kept.sample(latents).numpy())
    np.testing.assert_array_equal(images[5:9], dropped.sample(latents[5:9]).numpy())


def test_sampling_dropout_drops_its_share_and_keeps_the_mean():
    latents = tf.random.stateless_normal([200, 3], [0, 1])
    values = SamplingDropout(0.3, seed=7)([tf.ones([200, 50]), latents]).numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert values.mean() == pytest.approx(1.0, abs=0.02)
    assert len(np.unique(values, axis=0)) == 200
    other = SamplingDropout(0.3, seed=8)([tf.ones([200, 50]), latents]).numpy()
    assert not np.array_equal(values, other)
    assert SamplingDropout(0.5)([tf.ones([4, 6]), latents[:4, :1]]).shape == (4, 6)
