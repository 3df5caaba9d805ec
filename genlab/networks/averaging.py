"""Moving average of a network's weights, which gives better samples than the weights themselves.

Yazıcı et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training" (https://arxiv.org/abs/1806.04498).
"""

from __future__ import annotations

from collections.abc import Iterable

from genlab.backend import Network, Variable, tf


class WeightAverage:
    """Moving average of the weights over training steps, whose span grows with the run up to a largest decay.

    The update after step t is average <- average + r (weights - average) with r = max(1 - decay, 1 - (1 - 1/t)^(1/share - 1)).
    While the second is larger, the weights of step s count as s^(1/share - 1) - (s - 1)^(1/share - 1), so that their mean age is
    `share` of the steps so far: the power function averages of Karras et al. 2024, "Analyzing and Improving the Training Dynamics
    of Diffusion Models" (https://arxiv.org/abs/2312.02696), section 3.1. Then it is an exponential average, of a mean age of
    1 / (1 - decay) steps. The initial weights have no part in it. Statistics of batch normalization are averaged with the
    weights. With decay 0 the average is a copy.
    """

    def __init__(self, pairs: Iterable[tuple[Network, Network]], decay: float, share: float, step: Variable) -> None:
        """Set the averaged networks to the trained ones.

        `pairs` are networks (averaged, trained) with the same variables; `step` is the model's variable of training steps.
        `decay` is in [0, 1), `share` in (0, 0.5].
        """
        self.decay = decay
        self.share = share
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
        rate = tf.maximum(1.0 - self.decay, 1.0 - tf.pow(1.0 - 1.0 / step, 1.0 / self.share - 1.0))
        for average, weight in self.variables:
            if self.decay:
                # average -= rate (average - weight), in half the passes of separate operations
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=average.value.handle, alpha=rate, delta=average.value - weight.value
                )
            else:
                average.value.assign(weight.value)
