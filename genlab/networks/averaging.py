"""Moving average of a network's weights, which gives better samples than the weights themselves.

Yazıcı et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training" (https://arxiv.org/abs/1806.04498).
"""

from __future__ import annotations

from collections.abc import Iterable

from genlab.backend import Network, Variable, tf


class WeightAverage:
    """Exponential moving average of the weights over training steps, with Adam's bias correction.

    After t steps it is sum_s d^(t-s) w_s / sum_s d^(t-s), s = 1 ... t, so the initial weights have no part in it. The
    update is average <- average + r (weights - average), r = (1 - d) / (1 - d^t), d = `decay` (Kingma & Ba 2015, section 3,
    for the correction). Statistics of batch normalization are averaged with the weights. With decay 0 the average is a copy.
    """

    def __init__(self, pairs: Iterable[tuple[Network, Network]], decay: float, step: Variable) -> None:
        """Set the averaged networks to the trained ones.

        `pairs` are networks (averaged, trained) with the same variables; `step` is the model's variable of training steps.
        """
        self.decay = decay
        self.step = step
        self.variables = [
            (average, weight)
            for averaged, trained in pairs
            for average, weight in zip(averaged.weights, trained.weights, strict=True)
        ]
        self.reset()

    def reset(self) -> None:
        """Set the averaged networks to the trained ones."""
        for average, weight in self.variables:
            average.assign(weight)

    def update(self) -> None:
        """Update the average at the end of a training step, before the step is counted."""
        step = tf.cast(self.step + 1, tf.float32)
        rate = (1.0 - self.decay) / (1.0 - tf.pow(self.decay, step))
        for average, weight in self.variables:
            if self.decay:
                # average -= rate (average - weight), in half the passes of separate operations
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=average.value.handle, alpha=rate, delta=average.value - weight.value
                )
            else:
                average.value.assign(weight.value)
