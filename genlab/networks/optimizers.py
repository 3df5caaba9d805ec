"""Keras' optimizers, Adam in one pass over the weights too. Importing this module imports Keras: use LazyModule (see
genlab.models.base)."""

from __future__ import annotations

import keras
import tensorflow as tf

from genlab.backend import Tensor, Variable
from genlab.networks import replicas


class _OneReplica(keras.optimizers.Optimizer):
    """Optimizer that leaves gradients as they are if there is only one replica.

    Keras sums them with TensorFlow's all_reduce even then. Traced, that registers a gradient of itself for the life of the
    process, and with it keeps the graph of the training step.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars: list[tuple[Tensor, Variable]]) -> list[tuple[Tensor, Variable]]:
        if replicas.count() == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)


class Adam(_OneReplica, keras.optimizers.Adam):
    """Keras' Adam."""


class RMSprop(_OneReplica, keras.optimizers.RMSprop):
    """Keras' RMSprop."""


class SGD(_OneReplica, keras.optimizers.SGD):
    """Keras' stochastic gradient descent."""


class FusedAdam(Adam):
    """Keras' Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) with TensorFlow's fused operation.

    It has the same variables and, to float tolerance, the same updates in less than half the time: Keras makes a dozen
    passes over the weights.
    """

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        index = self._get_variable_index(variable)
        beta1, beta2, epsilon, rate, step = (
            tf.cast(each, variable.dtype)
            for each in (self.beta_1, self.beta_2, self.epsilon, learning_rate, self.iterations + 1)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta1, step),
            beta2_power=tf.pow(beta2, step),
            lr=rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),  # sparse for an embedding
        )
