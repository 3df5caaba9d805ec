"""Data-parallel training with the tf.distribute strategies of --strategy."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from genlab import backend, bounds, files
from genlab.backend import Tensor, tf
from genlab.config import Options
from genlab.data.dataset import Batch
from genlab.errors import GenlabError, UsageError
from genlab.networks import replicas

TrainStep: TypeAlias = Callable[[list[Batch], Tensor], dict[str, Tensor]]
"""`train_step` of a model: batches and a seed -> metrics by name."""


class Distribution:
    """Runs a step on every replica, or directly if there is only one."""

    def __init__(self, options: Options, batch_size: int) -> None:
        """Create the strategy. Raises UsageError if there are too few devices or the batch cannot be split evenly."""
        self.strategy: Any = None
        if options.strategy == "none":
            return
        if options.strategy == "multiworker":
            self.strategy = _multiworker(options.worker_timeout)
        else:
            self.strategy = _mirrored(tuple(_devices(options.replicas)))
        if batch_size % self.replicas:
            raise UsageError(
                f"--batch-size {batch_size} cannot be split over {self.replicas} replicas: use a multiple of {self.replicas}."
            )

    @property
    def replicas(self) -> int:
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def chief(self) -> bool:
        """Whether this process writes the run folder: the only process, or the first of several."""
        return self.workers == 1 or self.strategy.cluster_resolver.task_id == 0

    @property
    def workers(self) -> int:
        """Number of processes that train together."""
        resolver = None if self.strategy is None else self.strategy.cluster_resolver
        return 1 if resolver is None else len(_workers(resolver.cluster_spec().as_dict()))

    def agree(self, count: int, stop: bool) -> tuple[int, bool]:
        """Return the number of steps to take next and whether any worker was asked to stop; the same on all workers."""
        if self.workers == 1:
            return count, stop
        least, stops = self._agreement(tf.constant(count), tf.constant(int(stop))).numpy()
        return max(1, int(least)), bool(stops)

    @contextlib.contextmanager
    def watched(self, path: pathlib.Path) -> Iterator[None]:
        """Context that raises GenlabError if another worker is lost. A worker cannot rejoin a training."""
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
        try:
            yield
        except lost as error:
            if self.workers == 1:
                raise
            raise GenlabError(
                f"another worker was lost ({type(error).__name__}). The newest checkpoint is kept; start all workers again with "
                f"--resume{f' {path}' if self.chief else ''}."
            ) from None

    @functools.cached_property
    def _agreement(self) -> Callable[[Tensor, Tensor], Tensor]:
        def on_replica(count: Tensor, stop: Tensor) -> Tensor:
            reduce = tf.distribute.get_replica_context().all_reduce
            sums = reduce(tf.distribute.ReduceOp.SUM, tf.stack([count, stop]))
            return tf.stack([sums[0] // self.replicas, sums[1]])

        def agreement(count: Tensor, stop: Tensor) -> Tensor:
            return self.strategy.experimental_local_results(self.strategy.run(on_replica, args=(count, stop)))[0]

        return tf.function(agreement, autograph=False)

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Return the context to create variables in."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def run(self, step: TrainStep, batches: list[Batch], seed: Tensor) -> dict[str, Tensor]:
        """Run `step` on the batches [B, ...] and a seed; with several replicas, on each one's share.

        Its metrics are means over the batch, so they are averaged over the replicas.
        """
        if self.strategy is None:
            return step(batches, seed)

        def share() -> dict[str, Tensor]:
            own = [(replicas.share(images), replicas.share(labels)) for images, labels in batches]
            return {name: replicas.mean(tf.cast(value, tf.float32)) for name, value in step(own, seed).items()}

        metrics = self.strategy.run(share)
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in metrics.items()}


def prepare(options: Options) -> None:
    """Configure devices before TensorFlow starts. Raises UsageError if TF_CONFIG does not name the workers."""
    if options.strategy == "mirrored" and options.replicas > 1:
        backend.show_cpus(options.replicas)
    if options.strategy == "multiworker":
        _task()
        backend.leave_devices()
        _multiworker(options.worker_timeout)


def is_chief(options: Options) -> bool:
    """Whether this process writes the run folder."""
    return options.strategy != "multiworker" or _task()[1] == 0


def _task() -> tuple[list[str], int]:
    """Return the addresses of all workers and this one's index, from TF_CONFIG."""
    text = os.environ.get("TF_CONFIG", "")
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        content = json.loads(text)
        cluster = files.checked(content["cluster"], dict[str, list[str]])
        kind, index = content["task"]["type"], bounds.parsed(str(content["task"]["index"]))
        workers = _workers(cluster)
        if index is not None and kind == "worker" and "chief" in cluster:
            index += 1
        if index is not None and kind in ("worker", "chief") and index < len(workers):
            return workers, index
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise UsageError(f"--strategy multiworker: TF_CONFIG must name all workers and this one, like {example}.")


def _workers(cluster: dict[str, list[str]]) -> list[str]:
    """Return the addresses, the chief's first."""
    return [*cluster.get("chief", []), *cluster.get("worker", [])]


# Ends a process that blocks where its Python threads cannot run, unless it closes the pipe in time.
WATCHDOG = """
import os, signal, sys, threading, time
def give_up():
    print(sys.argv[3], file=sys.stderr, flush=True)
    os.kill(int(sys.argv[1]), signal.SIGTERM)
    time.sleep(2)
    os.kill(int(sys.argv[1]), getattr(signal, "SIGKILL", signal.SIGTERM))
timer = threading.Timer(float(sys.argv[2]), give_up)
timer.daemon = True
timer.start()
sys.stdin.read()
"""


@functools.cache
def _multiworker(limit: int) -> tf.distribute.Strategy:
    """Connect to the other workers, which must start within `limit` seconds."""
    workers, index = _task()
    message = (
        f"genlab: error: the workers {', '.join(workers)} did not all connect within {limit} s; this is number {index}. "
        "Start all of them, with the same TF_CONFIG except for the index, or raise --worker-timeout."
    )
    arguments = [sys.executable, "-c", WATCHDOG, str(os.getpid()), str(limit), message]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE):  # leaving this block closes the pipe
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            raise GenlabError(
                f"worker {index} cannot listen at {workers[index]} ({error.message}). Check that the port is free and the index in "
                "TF_CONFIG is right."
            ) from None


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the process' only strategy: a second one would number its reductions from 0 and mix them up with the first's."""
    return tf.distribute.MirroredStrategy(list(devices))


def _devices(count: int) -> list[str]:
    """Return the names of `count` GPUs (0: all), or of logical CPUs if there is no GPU. Raises UsageError for too few."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if count > len(found):
        hint = " The CPU can only be split before TensorFlow starts: use a new process." if kind == "CPU" else ""
        raise UsageError(f"--replicas {count}: TensorFlow has {len(found)} {kind} here.{hint}")
    return found[: count or len(found)]
