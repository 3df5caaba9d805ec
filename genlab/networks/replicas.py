"""Replicas of data-parallel training: splitting batches and random numbers between them, and averaging over them.

Random numbers are drawn for the whole batch, and each replica takes its rows. So two replicas with half the batch each compute
the same as one replica with all of it. With one replica, the functions here return their input.
"""

from __future__ import annotations

from collections.abc import Callable

from genlab.backend import Tensor, tf


def count() -> int:
    """Return the number of replicas of the current strategy; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def own_rows(draw: Callable[[Tensor], Tensor], rows: Tensor, axis: int = 0) -> Tensor:
    """Call `draw` for the rows of all replicas and return this replica's `rows` along an axis."""
    if count() == 1:
        return draw(rows)
    first = rows * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.gather(draw(rows * count()), tf.range(first, first + rows), axis=axis)


def share(batch: Tensor) -> Tensor:
    """Return this replica's rows of a whole batch, whose size must be a multiple of the number of replicas."""
    if count() == 1:
        return batch
    rows = batch.shape[0] // count()
    first = rows * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.reshape(batch[first : first + rows], [rows, *batch.shape[1:]])


def mean(value: Tensor) -> Tensor:
    """Return the mean over all replicas, on every replica."""
    if count() == 1:
        return value
    # The value of a variable has no device, and with one replica for each worker the sum would not know where to go.
    value = tf.identity(value)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)
