"""JAX's training step for step_time.py: Keras' layers on its JAX backend, in a process without TensorFlow.

    python benchmarks/jax_step.py DESCRIPTION PRECISION

DESCRIPTION is the result of `rivals.described`, as JSON. The whole step is one jitted function; bfloat16 is Keras' mixed precision.
It runs its turns according to turns.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import turns

STOCK = keras.layers


def network(description: dict[str, Any]) -> keras.Model:
    """Build layers in sequence; with several heads at the end, the outputs are a list."""
    inputs = x = keras.Input(description["layers"][0]["inputs"])
    for each in description["layers"]:
        x = layer(each)(x)
    heads = [layer(each)(x) for each in description["heads"]]
    return keras.Model(inputs, heads or x)


def layer(facts: dict[str, Any]) -> keras.Layer:
    """Return the layer that `rivals.described` describes."""
    outputs, bias = facts["outputs"], facts["use_bias"]
    size, stride = facts["kernel_size"], facts["strides"]
    match facts["kind"]:
        case "Dense":
            return STOCK.Dense(outputs[-1], use_bias=bias)
        case "Conv2D" | "Conv2DTranspose":
            return getattr(STOCK, facts["kind"])(outputs[-1], size, stride, padding="same", use_bias=bias)
        case "BatchNormalization" | "Flatten" | "Identity":
            return getattr(STOCK, facts["kind"])()
        case "LeakyReLU":
            return STOCK.LeakyReLU(negative_slope=0.2)
        case "Activation":
            return STOCK.Activation(facts["activation"])
        case "Dropout":
            return STOCK.Dropout(facts["rate"])
        case "Reshape":
            return STOCK.Reshape(outputs)
        case "Cropping2D":
            surplus = [facts["inputs"][axis] - outputs[axis] for axis in (0, 1)]
            return STOCK.Cropping2D([(0, each) for each in surplus])
    raise ValueError(f"{facts['kind']} has no equivalent here")


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the binary cross-entropy by element."""
    return jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))


class Trained:
    """A network with its optimizer: their variables are what a step takes and returns."""

    def __init__(self, description: dict[str, Any], rate: float, betas: tuple[float, float]) -> None:
        self.network = network(description)
        self.optimizer = keras.optimizers.Adam(rate, *betas)
        self.optimizer.build(self.network.trainable_variables)

    @property
    def state(self) -> tuple[list[jax.Array], ...]:
        kinds = (self.network.trainable_variables, self.network.non_trainable_variables, self.optimizer.variables)
        return tuple([variable.value for variable in each] for each in kinds)

    def __call__(
        self, weights: list[jax.Array], others: list[jax.Array], inputs: jax.Array
    ) -> tuple[Any, list[jax.Array]]:
        """Return the outputs in float32, and the new other variables."""
        outputs, others = self.network.stateless_call(weights, others, inputs, training=True)
        return jax.tree.map(lambda each: each.astype(jnp.float32), outputs), others

    def updated(
        self, weights: list[jax.Array], moments: list[jax.Array], gradients: list[jax.Array]
    ) -> tuple[Any, Any]:
        return self.optimizer.stateless_apply(moments, gradients, weights)


def gan_step(facts: dict[str, Any], first: Trained, second: Trained) -> Callable[..., Any]:
    """Return the step of torch_step.py: the generator is updated on the same noise, through the new discriminator."""

    def step(state: Any, real: jax.Array, key: jax.Array) -> Any:
        (weights, others, moments), (own_weights, own_others, own_moments) = state
        noise = jax.random.normal(key, (len(real), facts["latent"]))
        fake, pullback, others = jax.vjp(lambda given: first(given, others, noise), weights, has_aux=True)

        def discriminator_loss(given: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            real_logits, after = second(given, own_others, real)
            fake_logits, after = second(given, after, fake)
            return jnp.mean(cross_entropy(real_logits, 1.0)) + jnp.mean(cross_entropy(fake_logits, 0.0)), after

        gradients, own_others = jax.grad(discriminator_loss, has_aux=True)(own_weights)
        own_weights, own_moments = second.updated(own_weights, own_moments, gradients)
        score = lambda images: jnp.mean(cross_entropy(second(own_weights, own_others, images)[0], 1.0))  # noqa: E731
        (gradients,) = pullback(jax.grad(score)(fake))
        weights, moments = first.updated(weights, moments, gradients)
        return (weights, others, moments), (own_weights, own_others, own_moments)

    return step


def vae_step(facts: dict[str, Any], first: Trained, second: Trained) -> Callable[..., Any]:
    def step(state: Any, observed: jax.Array, key: jax.Array) -> Any:
        (weights, others, moments), (own_weights, own_others, own_moments) = state
        pixel_key, noise_key = jax.random.split(key)
        binary = (jax.random.uniform(pixel_key, observed.shape, minval=-1.0, maxval=1.0) < observed).astype(jnp.float32)

        def loss(given: list[jax.Array], own: list[jax.Array]) -> tuple[jax.Array, Any]:
            (mean, log_variance), after = first(given, others, 2 * binary - 1)
            codes = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(noise_key, mean.shape)
            logits, own_after = second(own, own_others, codes)
            kl = -0.5 * jnp.sum(1 + log_variance - mean**2 - jnp.exp(log_variance))
            return (jnp.sum(cross_entropy(2 * logits, binary)) + kl) / len(binary), (after, own_after)

        (gradients, own_gradients), (others, own_others) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
            weights, own_weights
        )
        weights, moments = first.updated(weights, moments, gradients)
        own_weights, own_moments = second.updated(own_weights, own_moments, own_gradients)
        return (weights, others, moments), (own_weights, own_others, own_moments)

    return step


def main() -> None:
    facts, precision = json.loads(sys.argv[1]), sys.argv[2]
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    first, second = (Trained(each, facts["rate"], tuple(facts["betas"])) for each in facts["networks"])
    step = (vae_step if facts["model"] == "vae" else gan_step)(facts, first, second)
    pixels = jax.random.randint(jax.random.key(0), (facts["images"], *facts["shape"]), 0, 256).astype(jnp.uint8)

    def whole(state: Any, key: jax.Array) -> Any:
        row_key, step_key, key = jax.random.split(key, 3)
        rows = jax.random.randint(row_key, (facts["batch"],), 0, len(pixels))
        return step(state, pixels[rows].astype(jnp.float32) / 127.5 - 1.0, step_key), key

    compiled = jax.jit(whole, donate_argnums=0)
    now = [(first.state, second.state), jax.random.key(1)]

    def run(count: int) -> None:
        for _ in range(count):
            now[:] = compiled(*now)
        jax.block_until_ready(now[0])

    turns.serve(run)


if __name__ == "__main__":
    main()
