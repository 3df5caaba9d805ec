"""Spectral normalization of the discriminator against a plain implementation, in three precisions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_replicas import process

import genlab
import genlab.networks.layers
from genlab import models, transfer
from genlab.data.spec import DataSpec
from genlab.networks import blocks, precision
from genlab.networks.layers import SpectralNormalization

PRECISIONS = ["float32", "bfloat16", "float16"]
SMALL = {"batch_size": 8, "latent_size": 4, "generator_widths": (4, 6), "discriminator_widths": (4, 6)}
SMALL |= {"generator_units": 8, "discriminator_units": 8, "average_decay": 0.0, "spectral_normalization": True}
IMAGES = tf.random.stateless_uniform([8, 12, 10, 1], [0, 1], -1.0, 1.0)
LABELS = tf.constant([0, 1, 2, 0, 1, 2, 0, 1])


def build(name: str = "dcgan", compute: precision.Precision = "float32", **changes):
    kind = models.load(name)
    with precision.scope(compute):
        return kind(kind.Hparams(**SMALL | changes), DataSpec((12, 10, 1), 3), schedule_steps=10)


def normalized(model):
    """The spectrally normalized layers of the discriminator, by name."""
    found = {each.name: each for each in model.discriminator.layers if isinstance(each, SpectralNormalization)}
    assert found
    return found


def as_matrix(layer) -> np.ndarray:
    """A layer's stored weight as a matrix [inputs, outputs]."""
    weights = layer.matrix.numpy()
    if "Transpose" in type(layer.layer).__name__:
        weights = np.swapaxes(weights, -1, -2)
    return weights.reshape(-1, weights.shape[-1])


LAYERS = {
    "dense": (lambda: keras.layers.Dense(5, bias_initializer="normal"), (6, 7)),
    "convolution": (lambda: keras.layers.Conv2D(5, 3, 2, padding="same"), (6, 7, 6, 4)),
    "convolution of few channels": (
        lambda: genlab.networks.layers.FewChannelsConv2D(5, 4, 2, padding="same"),
        (6, 7, 6, 1),
    ),
    "transposed convolution": (lambda: keras.layers.Conv2DTranspose(5, 4, 2, padding="same"), (6, 3, 4, 3)),
    "transposed convolution to few channels": (
        lambda: genlab.networks.layers.FewChannelsConv2DTranspose(2, 4, 2, padding="same"),
        (6, 3, 4, 3),
    ),
    "embedding": (lambda: keras.layers.Embedding(4, 3), (6,)),
    "minibatch discrimination": (lambda: genlab.networks.layers.MinibatchDiscrimination(3, 2), (6, 7)),
}


@pytest.mark.parametrize("compute", PRECISIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_compute_and_differentiate_as_a_plain_implementation_does(kind, compute):
    """Singular values by numpy; the gradient of Miyato et al. 2018, section 2.3."""
    make, shape = LAYERS[kind]
    inputs = tf.random.stateless_normal(shape, [1, 2])
    if kind == "embedding":
        inputs = tf.constant([0, 1, 2, 3, 1, 1])
    with precision.scope(compute):
        plain, layer = make(), SpectralNormalization(make())
    plain(inputs)
    layer(inputs)
    # One singular value far above the others: few iterations find it.
    stored = 0.2 + 0.1 * np.random.default_rng(0).normal(size=layer.matrix.shape)
    layer.matrix.assign(stored)
    for _ in range(20):
        layer.iterate()
    matrix = as_matrix(layer).astype(np.float64)
    left, values, right = np.linalg.svd(matrix)
    divided = matrix / values[0]
    divided = divided.astype(np.float32)
    if "transposed" in kind:
        divided = np.swapaxes(divided.reshape(*layer.matrix.shape[:2], -1, divided.shape[-1]), -1, -2)
    np.testing.assert_allclose(layer.normalized(), divided.reshape(layer.matrix.shape), rtol=1e-4, atol=1e-6)
    # What a plain layer with those weights gives, and its gradient by them.
    plain.set_weights(layer.normalized_weights())
    direction = tf.random.stateless_normal(plain(inputs).shape, [3, 4])
    (by_divided,) = gradients(plain, inputs, direction, [each for each in plain.weights if len(each.shape) > 1])
    outputs = layer(inputs)
    assert outputs.dtype == plain(inputs).dtype == precision_of(compute)
    np.testing.assert_array_equal(outputs, plain(inputs))
    (found,) = gradients(layer, inputs, direction, [layer.matrix])
    by_divided = by_divided.numpy().astype(np.float64)
    if "transposed" in kind:
        by_divided, found = np.swapaxes(by_divided, -1, -2), np.swapaxes(found, -1, -2)
    by_divided = by_divided.reshape(matrix.shape)
    strength = np.sum(by_divided * matrix) / values[0]
    expected = (by_divided - strength * np.outer(left[:, 0], right[0])) / values[0]
    np.testing.assert_allclose(np.reshape(found, matrix.shape), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(layer.matrix, stored.astype(np.float32))


def precision_of(compute: str) -> tf.DType:
    return tf.as_dtype(compute)


def gradients(layer, inputs, direction, variables):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(inputs), tf.float32) * direction)
    return [tf.convert_to_tensor(each) for each in tape.gradient(loss, [each.value for each in variables])]


def test_the_gradient_is_that_of_finite_differences():
    layer = SpectralNormalization(keras.layers.Dense(3, use_bias=False))
    inputs = tf.random.stateless_normal([5, 4], [1, 2])
    layer(inputs)
    start = 1.0 + 0.5 * np.random.default_rng(1).normal(size=(4, 3))

    def loss(weights):
        divided = weights / np.linalg.svd(weights)[1][0]
        return np.sum((inputs.numpy() @ divided) ** 3)

    layer.matrix.assign(start)
    for _ in range(20):
        layer.iterate()
    with tf.GradientTape() as tape:
        cubes = tf.reduce_sum(layer(inputs) ** 3)
    found = tape.gradient(cubes, layer.matrix.value).numpy()
    steps = 1e-6 * np.eye(12).reshape(12, 4, 3)
    expected = [(loss(start + step) - loss(start - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("conditioning", ["concatenate", "projection"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_every_weight_matrix_of_the_discriminator_is_normalized(network, conditioning):
    model = build("cgan", network=network, conditioning=conditioning, minibatch_discrimination=3)
    found = {id(layer.matrix) for layer in normalized(model).values()}
    left = [
        each.path for each in model.discriminator.trainable_weights if len(each.shape) > 1 and id(each) not in found
    ]
    assert not left
    plain = build(
        "cgan", network=network, conditioning=conditioning, minibatch_discrimination=3, spectral_normalization=False
    )
    for ours, stock in zip(model.discriminator.trainable_weights, plain.discriminator.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, stock)  # the option leaves initial weights as they are


@pytest.mark.parametrize("compute", PRECISIONS)
def test_logits_are_computed_in_float32(compute):
    model = build(compute=compute)
    logits = model.discriminate(IMAGES, LABELS)
    assert logits.dtype == tf.float32
    assert np.abs(logits - tf.cast(tf.cast(logits, compute), tf.float32)).max() > 0 or compute == "float32"


@pytest.mark.parametrize("compute", PRECISIONS)
def test_a_generators_update_leaves_the_discriminator_bit_for_bit(compute):
    model = build(compute=compute)
    model.update_discriminator(IMAGES, LABELS, tf.constant([0, 1]))
    before = [weight.numpy() for weight in model.discriminator.weights]
    model.update_generator(LABELS, tf.constant([0, 2]))
    model.discriminator(IMAGES, training=False)
    for old, new in zip(before, model.discriminator.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy(), err_msg=new.path)


@pytest.mark.parametrize("compute", PRECISIONS)
def test_a_small_update_stays_in_the_weights(compute):
    """Adam's first step is the rate for every weight with a gradient. In bfloat16 weights of 0.1 are 4e-4 apart."""
    rate = 2e-5
    model = build(compute=compute, discriminator_learning_rate=rate)
    variables = model.discriminator.trainable_variables
    before = [weight.numpy() for weight in variables]
    model.update_discriminator(IMAGES, LABELS, tf.constant([0, 1]))
    model.update_generator(LABELS, tf.constant([0, 2]))
    for old, weight in zip(before, variables, strict=True):
        moves = np.abs(weight.numpy() - old) / rate
        assert np.median(moves) == pytest.approx(1.0, abs=0.01) and moves.max() < 1.05, weight.path


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dcgan", {"r1_penalty": 1.0}),
        ("wgan", {"penalty": "gradient"}),
        ("gan", {"updates": "simultaneous", "network": "conv"}),
    ],
)
def test_an_update_is_one_power_iteration(name, settings):
    """However many passes it makes: real and generated images, a gradient penalty."""
    model = build(name, **settings)
    layers = normalized(model).values()
    expected = []
    for layer in layers:
        matrix, u = as_matrix(layer), layer.u.numpy()
        assert np.linalg.norm(u) == pytest.approx(1.0, abs=1e-6)
        u = matrix.T @ (matrix @ u)
        expected.append(u / np.linalg.norm(u))
    update = model.update_both if "updates" in settings else model.update_discriminator
    update(IMAGES, LABELS, tf.constant([0, 1]))
    for layer, u in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer.u, u, atol=1e-5, err_msg=layer.name)
        assert layer.u.dtype == layer.matrix.dtype == "float32"


def test_the_vectors_follow_the_seed():
    first, second = (normalized(build()) for _ in "ab")
    for name in first:
        np.testing.assert_array_equal(first[name].u, second[name].u)
    other = models.load("dcgan")(models.load("dcgan").Hparams(**SMALL), DataSpec((12, 10, 1)), seed=1)
    assert not np.allclose(first["down1_conv"].u, normalized(other)["down1_conv"].u)


@pytest.mark.parametrize("compute", PRECISIONS)
def test_a_stock_copy_holds_the_normalized_weights(compute):
    model = build("cgan", compute, minibatch_discrimination=3, discriminator_dropout=0.2)
    for number in range(2):
        model.update_discriminator(IMAGES, LABELS, tf.constant([1, number]))
    before = [weight.numpy() for weight in model.discriminator.weights]
    copy = blocks.stock(model.discriminator)
    own = [each.name for each in copy.layers if type(each).__module__.startswith("genlab")]
    assert own == ["minibatch_standard_deviation", "minibatch_discrimination"]  # Keras has neither
    assert not [weight.path for weight in copy.weights if not weight.trainable and "seed" not in weight.path]
    tolerance = 1e-6 if compute == "float32" else 2e-2  # other convolutions round otherwise
    np.testing.assert_allclose(copy([IMAGES, LABELS]), model.discriminator([IMAGES, LABELS]), atol=tolerance)
    for old, weight in zip(before, model.discriminator.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_transfer_takes_the_function_that_was_trained(small_images):
    settings = SMALL | {
        "precision": "float32",
        "r1_penalty": 0.0,
        "generator_widths": (4,),
        "discriminator_widths": (4,),
    }
    run = genlab.fit("gan", small_images[0], steps=1, **settings | {"network": "conv"})
    discriminator = run.model.discriminator
    for cut in ("hidden_act", "down1_conv"):
        model = transfer.classifier(run, 3, layers=cut, trainable="down1_conv")
        taken, trained = (
            keras.Model(each.inputs[0], each.get_layer(cut).output)(IMAGES) for each in (model, discriminator)
        )
        np.testing.assert_allclose(taken, trained, atol=1e-5)
        head = np.prod(taken.shape[1:]) * 3 + 3
        # 4x4 kernels from 1 channel to 4, with a bias each
        assert transfer.weights_trained(model) == head + 4 * 4 * 4 + 4
        assert transfer.freeze(model, "down1_conv") == head
    stored = discriminator.get_layer("down1_conv").matrix.numpy()
    model.get_layer("down1_conv").set_weights([np.zeros([4, 4, 1, 4]), np.zeros(4)])
    np.testing.assert_array_equal(discriminator.get_layer("down1_conv").matrix, stored)


def test_replicas_agree_on_the_vectors():
    code = """
from genlab import models
from genlab.backend import tf
from genlab.data.spec import DataSpec
kind = models.load("gan")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = kind(kind.Hparams(batch_size=8, latent_size=4, generator_widths=(4,), discriminator_widths=(6, 4),
                              spectral_normalization=True, r1_penalty=0.0), DataSpec((12, 10, 1)))
layers = [layer for layer in model.discriminator.layers if hasattr(layer, "iterate")]
begun = [layer.u.numpy() for layer in layers]
def step():
    own = tf.distribute.get_replica_context().replica_id_in_sync_group
    images = tf.random.stateless_uniform([4, 12, 10, 1], tf.stack([own, 0]), -1.0, 1.0)
    return model.update_discriminator(images, tf.zeros([4], tf.int32), tf.constant([0, 1]))
run = tf.function(lambda: strategy.run(step), autograph=False)
run(), run()
values = [[each.numpy() for each in strategy.experimental_local_results(layer.u.value)] for layer in layers]
print(json.dumps({"copies": [len(both) for both in values], "alike": [bool((a == b).all()) for a, b in values],
                  "moved": [float(np.abs(a - u).max()) for (a, _), u in zip(values, begun)]}))
"""
    found = process(code)
    assert set(found["copies"]) == {2} and all(found["alike"])
    assert max(found["moved"]) > 0.01
