"""The replicas of data-parallel training: each works on its share of a batch, and what they must agree on is agreed here.

Random numbers are drawn for the whole batch and each replica takes its rows, so that two replicas with half the batch each do
what one does with the whole of it. With one replica every function here hands through what it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genlab.backend import tf


def count() -> int:
    """How many replicas the current strategy has: 1 without one."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def own_rows(draw: Callable[[Any], Any], rows: Any, axis: int = 0) -> Any:
    """This replica's `rows` of what `draw` gives for as many rows as all replicas have, along an axis."""
    if count() == 1:
        return draw(rows)
    first = rows * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.gather(draw(rows * count()), tf.range(first, first + rows), axis=axis)


def share(batch: Any) -> Any:
    """This replica's rows of a whole batch, which must have as many for each."""
    if count() == 1:
        return batch
    rows = batch.shape[0] // count()
    first = rows * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.reshape(batch[first : first + rows], [rows, *batch.shape[1:]])


def mean(value: Any) -> Any:
    """The mean over all replicas, the same on each."""
    if count() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)
