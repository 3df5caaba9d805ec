"""Ordinary differential equations dx/dt = v(x, t): solvers of a few steps, and the density of what flows along them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from genlab.backend import Tensor, keras, tf

Solver: TypeAlias = Literal["euler", "heun", "adams_bashforth"]
EVALUATIONS: dict[str, int] = {"euler": 1, "heun": 2, "adams_bashforth": 1}
"""Evaluations of the velocity in a step, by solver."""
Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Function v of x [B, ...] and t [B], [B, ...]."""


def solve(
    velocity: Velocity, x: Tensor, start: Tensor, end: Tensor, steps: int, solver: Solver, shift: float = 1.0
) -> Tensor:
    """Follow x [B, ...] from the times `start` [B] to `end` [B], within 0 and 1; time may run backwards.

    `euler`: x + h v(x, t), of order 1. `heun`, of order 2, evaluates the velocity again at the end of that step and goes on with
    the mean of both. `adams_bashforth`, of order 2 too, extrapolates from the velocity of the step before instead; its first
    step is Euler's. The steps end at times

        t = u / (shift - (shift - 1) u),    u equally spaced

    (Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
    https://arxiv.org/abs/2403.03206, equation 23, for the time 1 - t): equally spaced for a shift of 1, the closer to 0 the
    larger it is. All operations are Keras', so the arguments may be symbolic: the result is then part of a network.
    """
    first, last = (shift * t / (1.0 + (shift - 1.0) * t) for t in (start, end))

    def time(index: int) -> Tensor:
        u = first + (last - first) * (index / steps)
        return u / (shift - (shift - 1.0) * u)

    def column(lengths: Tensor) -> Tensor:
        return keras.ops.reshape(lengths, (-1, *[1] * (len(x.shape) - 1)))

    before: tuple[Tensor, Tensor] | None = None
    for index in range(steps):
        t, after = time(index), time(index + 1)
        h, v = column(after - t), velocity(x, t)
        if solver == "heun":
            x = x + h * 0.5 * (v + velocity(x + h * v, after))
        elif solver == "euler" or before is None:
            x = x + h * v
        else:
            # Exact for velocities that are linear in time. Where start is end, both lengths are 0.
            ratio = 0.5 * h / keras.ops.where(keras.ops.equal(before[0], 0.0), 1.0, before[0])
            x = x + h * (v + ratio * (v - before[1]))
        before = h, v
    return x


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
