"""Training steps, several per call: fetch and scale batches, run the model's step, return the metrics of every step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from genlab.backend import Tensor, tf
from genlab.config import Config
from genlab.data.dataset import Batch, Dataset
from genlab.data.spec import to_model_range
from genlab.models.base import GenerativeModel
from genlab.networks import augmentation
from genlab.state import State
from genlab.train.distribution import Distribution, TrainStep

WAITING = "data_waiting"
"""Metric added to every step: seconds spent waiting for its batches."""
OneStep: TypeAlias = Callable[[list[Batch], Tensor], tuple[Tensor, Tensor]]
"""`_step` of a training: batches and end time of the step before -> metrics and end time."""


class Steps:
    """The training steps that follow a model's current state."""

    def __init__(
        self,
        config: Config,
        model: GenerativeModel,
        state: State,
        dataset: Dataset,
        distribution: Distribution,
        *,
        debug: bool = False,
    ) -> None:
        """Open the stream of batches at the current step. With `debug`, steps run eagerly, one by one."""
        self._names: list[str] = []  # of the metrics, in column order; known once a step was traced
        hparams = config.hparams
        start = int(state.batches.numpy()) // hparams.batches_per_step
        counts = hparams.batches_per_step, hparams.labelled_batches_per_step
        self._batches = iter(dataset.step_stream(hparams.batch_size, config.options.seed, counts, start))
        self._ahead = [next(self._batches) for _ in range(sum(counts))]
        # New noise after a rollback.
        seed = tf.constant([config.options.seed, 0x67656E + int(state.rollbacks.numpy())], tf.int32)
        train_step = model.train_step
        if config.options.jit:
            train_step = tf.function(train_step, autograph=False, jit_compile=True)
        one_step = functools.partial(_step, config, train_step, state, distribution, seed, self._names)
        self._run = functools.partial(_run_eagerly, one_step) if debug else _compiled(one_step, config, dataset)

    def __call__(self, count: int) -> dict[str, np.ndarray]:
        """Run the next `count` steps. Return the metrics of every step, [count] float32 by name, including WAITING."""
        # The iterator is an argument, not captured: captures live as long as the graph, and its threads and data must be
        # freed when training ends.
        history, self._ahead = self._run(self._batches, self._ahead, tf.constant(count))
        return dict(zip(self._names, history.numpy().T, strict=True))


def _step(
    config: Config,
    train_step: TrainStep,
    state: State,
    distribution: Distribution,
    seed: Tensor,
    names: list[str],
    batches: list[Batch],
    free: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run one step. Return its stacked metrics and its end time; `free` is the end time of the step before.

    The names of the metrics are written to `names`.
    """
    options, count = config.data_options, len(batches)
    with tf.control_dependencies([images for images, _ in batches]):
        ready = tf.timestamp()
    # All noise derives from this seed, so generating it waits for the batch too, and only the waiting is timed.
    with tf.control_dependencies([ready]):
        step_seed = tf.random.fold_in(seed, state.step, alg="philox")
    changes = tf.unstack(tf.random.split(tf.random.fold_in(step_seed, 1, alg="philox"), count, alg="philox"))
    batches = [
        (augmentation.augmented(to_model_range(images), change, options.augment, options.flip), labels)
        for (images, labels), change in zip(batches, changes, strict=True)
    ]
    metrics = distribution.run(train_step, batches, step_seed)
    state.step.assign_add(1)
    state.batches.assign_add(config.hparams.batches_per_step)
    with tf.control_dependencies(_updates()):
        ended = tf.timestamp()
    metrics = metrics | {WAITING: tf.maximum(ready - free, 0.0)}
    names[:] = metrics
    return tf.stack([tf.cast(value, tf.float32) for value in metrics.values()]), ended


def _run_eagerly(
    one_step: OneStep, iterator: Iterator[Batch], ahead: list[Batch], count: Tensor
) -> tuple[Tensor, list[Batch]]:
    rows = []
    for _ in range(int(count)):
        rows.append(one_step(ahead, tf.timestamp())[0])
        ahead = [next(iterator) for _ in ahead]
    return tf.stack(rows), ahead


def _compiled(
    one_step: OneStep, config: Config, dataset: Dataset
) -> Callable[[Iterator[Batch], list[Batch], Tensor], tuple[Tensor, list[Batch]]]:
    def turn(
        iterator: Iterator[Batch], index: Tensor, history: tf.TensorArray, free: Tensor, batches: list[Batch]
    ) -> tuple[Tensor, tf.TensorArray, Tensor, list[Batch]]:
        ahead = [next(iterator) for _ in batches]  # for the next step, fetched while this one is computed
        row, ended = one_step(batches, free)
        return index + 1, history.write(index, row), ended, ahead

    def run(iterator: Iterator[Batch], ahead: list[Batch], count: Tensor) -> tuple[Tensor, list[Batch]]:
        # Every step, including the first, runs in the loop: the same arithmetic wherever a call starts.
        _, history, _, ahead = tf.while_loop(
            lambda index, *_: index < count,
            functools.partial(turn, iterator),
            (0, tf.TensorArray(tf.float32, count), tf.timestamp(), ahead),
            parallel_iterations=1,
        )
        return history.stack(), ahead

    size, count = config.hparams.batch_size, config.hparams.batches_per_step + config.hparams.labelled_batches_per_step
    images = tf.TensorSpec((size, *dataset.images.shape[1:]), dataset.images.dtype)
    batch = (images, tf.TensorSpec([size], tf.int32))
    signature = [tf.data.IteratorSpec(batch), [batch] * count, tf.TensorSpec([], tf.int32)]
    # Without AutoGraph, a step may use any Python syntax. Traced at the first call, TensorFlow would warn a program that trains
    # several runs that it traces too often.
    return tf.function(run, autograph=False).get_concrete_function(*signature)


def _updates() -> list[tf.Operation]:
    """Return the operations of the current graph that change a variable."""
    if tf.executing_eagerly():
        return []
    operations = tf.compat.v1.get_default_graph().get_operations()
    return [each for each in operations if each.type.startswith(("Assign", "ResourceApply"))]
