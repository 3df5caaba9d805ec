"""Which devices share a batch: tf.distribute's strategies, as --strategy names them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from genlab import backend, replicas
from genlab.backend import tf
from genlab.config import Options
from genlab.errors import UsageError


class Distribution:
    """Runs a step on every replica, or plainly where there is one."""

    def __init__(self, options: Options, batch_size: int) -> None:
        """Raises UsageError where there are too few devices or the batch cannot be shared evenly."""
        self.strategy: Any = None
        if options.strategy == "none":
            return
        self.strategy = _mirrored(tuple(_devices(options.replicas)))
        if batch_size % self.replicas:
            raise UsageError(
                f"--batch-size {batch_size} cannot be shared by {self.replicas} replicas: take a multiple of {self.replicas}."
            )

    @property
    def replicas(self) -> int:
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    def scope(self) -> Any:
        """Where variables are made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def run(
        self, step: Callable[[list[Any], Any], dict[str, Any]], batches: list[tuple[Any, Any]], seed: Any
    ) -> dict[str, Any]:
        """`step` of the batches [B, ...] and a seed; with several replicas on each one's share of them.

        The figures that it returns are means over the batch, so those of replicas are averaged.
        """
        if self.strategy is None:
            return step(batches, seed)

        def share() -> dict[str, Any]:
            own = [(replicas.share(images), replicas.share(labels)) for images, labels in batches]
            return {name: replicas.mean(tf.cast(value, tf.float32)) for name, value in step(own, seed).items()}

        figures = self.strategy.run(share)
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in figures.items()}


def prepare(options: Options) -> None:
    """What must be said before TensorFlow begins."""
    if options.strategy == "mirrored" and options.replicas > 1:
        backend.show_cpus(options.replicas)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One strategy a process: a second one would count its reductions from the start, and mix them up with the first one's."""
    return tf.distribute.MirroredStrategy(list(devices))


def _devices(count: int) -> list[str]:
    """Names of so many GPUs, or all; of the CPU's parts where there is no GPU."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if count > len(found):
        hint = " The CPU can only be parted before TensorFlow begins: in a new process." if kind == "CPU" else ""
        raise UsageError(f"--replicas {count}: {len(found)} {kind} is what TensorFlow has here.{hint}")
    return found[: count or len(found)]
