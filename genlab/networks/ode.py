"""Ordinary differential equations dx/dt = v(x, t): solvers of a few steps, and the density of what flows along them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from genlab.backend import Tensor, keras, tf

Solver: TypeAlias = Literal["euler", "heun"]
EVALUATIONS: dict[str, int] = {"euler": 1, "heun": 2}
"""Evaluations of the velocity in a step, by solver."""
Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Function v of x [B, ...] and t [B], [B, ...]."""


def solve(velocity: Velocity, x: Tensor, start: Tensor, end: Tensor, steps: int, solver: Solver) -> Tensor:
    """Follow x [B, ...] from the times `start` [B] to `end` [B] in equal steps; time may run backwards.

    `euler`: x + h v(x, t), of order 1. `heun`, of order 2, evaluates the velocity again at the end of that step and goes on with
    the mean of both. All operations are Keras', so the arguments may be symbolic: the result is then part of a network.
    """
    length = (end - start) * (1.0 / steps)
    for index in range(steps):
        x = _step(velocity, x, start + length * float(index), length, solver)
    return x


def _step(velocity: Velocity, x: Tensor, t: Tensor, length: Tensor, solver: Solver) -> Tensor:
    h = keras.ops.reshape(length, (-1, *[1] * (len(x.shape) - 1)))
    first = velocity(x, t)
    if solver == "euler":
        return x + h * first
    return x + h * 0.5 * (first + velocity(x + h * first, t + length))


def log_density(velocity: Velocity, x: Tensor, probes: Tensor, times: Sequence[float]) -> Tensor:
    """Return log p(x) in nats, [B], of what starts as N(0, I) at time 0 and flows along `velocity` to x [B, ...] at time 1.

        log p(x) = log N(x_0; 0, I) - integral of tr(dv/dx) from t = 0 to 1

    (Chen et al. 2018, "Neural Ordinary Differential Equations", https://arxiv.org/abs/1806.07366, theorem 1). The trace is
    estimated as the mean of e^T (dv/dx) e over probes e [P, B, ...], the same at all times (Hutchinson's estimator; Grathwohl
    et al. 2019, "FFJORD", https://arxiv.org/abs/1810.01367, section 3.1). Without bias, if their covariance is the identity;
    exactly, if they are the D unit vectors times sqrt(D). x and the integral are followed backwards by Heun's method, whose
    steps end at `times`, falling from 1 to 0.
    """
    count = tf.shape(x)[0]
    axes = list(range(1, len(x.shape)))
    knots = tf.constant(times, tf.float32)

    def rates(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return v [B, ...] and its divergence [B]."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            v = velocity(x, tf.fill([count], t))
            products = [tf.reduce_sum(v * probe) for probe in tf.unstack(probes)]
        by_probe = [
            tf.reduce_sum(tape.gradient(product, x) * probe, axes)
            for product, probe in zip(products, tf.unstack(probes), strict=True)
        ]
        return v, tf.add_n(by_probe) / float(len(by_probe))

    def step(index: Tensor, x: Tensor, integral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, after = knots[index], knots[index + 1]
        h = after - t
        v, divergence = rates(x, t)
        v_after, divergence_after = rates(x + h * v, after)
        return index + 1, x + 0.5 * h * (v + v_after), integral + 0.5 * h * (divergence + divergence_after)

    _, x, integral = tf.while_loop(
        lambda index, *_: index < len(times) - 1, step, (0, x, tf.zeros([count])), parallel_iterations=1
    )
    # Backwards: the integral from 1 to 0 is minus that of the formula.
    return -0.5 * tf.reduce_sum(tf.square(x) + math.log(2 * math.pi), axes) + integral
