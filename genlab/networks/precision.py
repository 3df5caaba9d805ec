"""The floating-point format that networks compute in. Weights, logits, losses and statistics stay float32."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal

from genlab.backend import keras, tf

Precision = Literal["auto", "float32", "bfloat16", "float16"]
CPU_INFORMATION = pathlib.Path("/proc/cpuinfo")


def resolve(precision: Precision, shape: Sequence[int]) -> Precision:
    """Return `float32`, `bfloat16` or `float16`. `auto` selects bfloat16 if this machine multiplies it faster.

    That is a GPU of compute capability 8.0 or newer, or a CPU with AMX or AVX512-BF16 (gain per training step:
    benchmarks/results/step_time.md). Vectors, data of `shape` [D], stay in float32: networks of that size are no faster in
    bfloat16, and fewer samples are close to a cluster (the ring, 3,000 steps, seeds 0 to 2: 77, 85, 82% instead of 86, 88,
    85%).
    """
    if precision != "auto":
        return precision
    if len(shape) == 1:
        return "float32"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= (8, 0) else "float32"
    return "bfloat16" if _cpu_flags() & {"amx_bf16", "avx512_bf16"} else "float32"


def _cpu_flags() -> frozenset[str]:
    try:
        text = CPU_INFORMATION.read_text()
    except OSError:  # not Linux
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(flags.split())


@contextlib.contextmanager
def scope(precision: Precision) -> Iterator[None]:
    """Context in which layers are built to compute in `precision`, with weights in float32."""
    policy = "float32" if precision == "float32" else f"mixed_{precision}"
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)
