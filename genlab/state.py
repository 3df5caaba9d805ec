"""What a checkpoint holds: the state of a training, from which it goes on bit for bit."""

from __future__ import annotations

import pathlib
from typing import Any

from genlab import checkpoints
from genlab.backend import tf
from genlab.errors import GenlabError
from genlab.models.base import RANDOM_STATES, GenerativeModel
from genlab.networks.averaging import WeightAverage


class State:
    """Content of a checkpoint: the model's networks and optimizers, the step, the batches consumed, the rollbacks.

    The noise of a step and the data order depend only on the seed and these counters, so there is no other random state.
    """

    def __init__(self, model: GenerativeModel) -> None:
        self.step = model.step
        self.batches = tf.Variable(0, dtype=tf.int64, name="batches")
        self.rollbacks = tf.Variable(0, name="rollbacks")
        self._parts = model.state()
        self._averages = model.averages
        self._checkpoint = self._checkpoint_of(self._parts)

    def _checkpoint_of(self, parts: dict[str, Any]) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(batches=self.batches, rollbacks=self.rollbacks, **parts)

    def save(self, folder: pathlib.Path, keep: int) -> None:
        """Save a checkpoint in a folder and delete the oldest beyond `keep`. An interrupted save leaves the others intact."""
        step = int(self.step.numpy())
        checkpoints.write(self._checkpoint, folder, step)
        # A newer one is damaged: this training began from an older one. It is replaced when its step is reached.
        earlier = [each for each in checkpoints.steps(folder) if each <= step]
        checkpoints.remove(folder, set(earlier[:-keep]))

    def save_alone(self, folder: pathlib.Path) -> None:
        """Save a checkpoint in a folder in place of all others there."""
        step = int(self.step.numpy())
        checkpoints.write(self._checkpoint, folder, step)
        checkpoints.remove(folder, set(checkpoints.steps(folder)) - {step})

    def restore(self, path: pathlib.Path) -> None:
        """Restore a checkpoint completely. Raises GenlabError if it does not fit.

        An average that an earlier version did not keep begins with the weights that it is of.
        """
        try:
            held = checkpoints.parts(path)
            of_average = [(average, self._names(average)) for average in self._averages]
            new = [(average, names) for average, names in of_average if names and not names & held]
            left_out = {name for _, names in new for name in names}
            parts = {
                name: part for name, part in self._parts.items() if name.removesuffix(RANDOM_STATES) not in left_out
            }
            checkpoints.restore(self._checkpoint_of(parts) if new else self._checkpoint, path)
        except ValueError as error:
            raise GenlabError(f"the checkpoint {path} is from another version or another model: {error}.") from error

        for average, _ in new:
            average.reset()

    def _names(self, average: WeightAverage) -> set[str]:
        """Return the names of the networks whose weights are those of an average."""
        own = {id(weight) for weight, _ in average.variables}
        weights = {name: getattr(part, "weights", []) for name, part in self._parts.items()}
        return {name for name, each in weights.items() if each and own.issuperset(map(id, each))}

    def not_finite(self) -> str | None:
        """Return the name of a weight, or of another variable of training, that is not finite; None if all are."""
        for name, part in self._parts.items():
            own = isinstance(part, tf.Variable)
            for variable in [part] if own else getattr(part, "variables", []):
                if not tf.as_dtype(variable.dtype).is_floating:
                    continue
                # A variable of the model's own may begin at infinity, such as the lowest value so far.
                good = ~tf.math.is_nan(variable) if own else tf.math.is_finite(variable)
                if not bool(tf.reduce_all(good)):
                    return name if own else f"{name}/{getattr(variable, 'path', variable.name)}"
        return None
