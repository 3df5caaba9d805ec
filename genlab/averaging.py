"""The running average of a network's weights, which samples better than the weights themselves.

Yazıcı et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training" (https://arxiv.org/abs/1806.04498).
"""

from __future__ import annotations

from genlab.backend import tf


class WeightAverage:
    """average <- d average + (1 - d) weights after each step, d = min(decay, (1 + t) / (10 + t)) at step t.

    The smaller d of the first steps lets the average forget the initial weights. Statistics of batch normalization
    are averaged with the weights they belong to. With decay 0 the average is a copy.
    """

    def __init__(self, pairs, decay: float) -> None:
        """`pairs` of networks (averaged, trained) with the same variables; the averaged ones are set to the trained."""
        self.decay = decay
        self.variables = [
            (average, weight)
            for averaged, trained in pairs
            for average, weight in zip(averaged.weights, trained.weights, strict=True)
        ]
        for average, weight in self.variables:
            average.assign(weight)

    def update(self, step) -> None:
        """Move the average after training step `step`, counted from 0."""
        step = tf.cast(step, tf.float32)
        forget = 1.0 - tf.minimum(self.decay, (1.0 + step) / (10.0 + step))
        for average, weight in self.variables:
            if self.decay:
                # average -= forget (average - weight), in half the passes of sums and products
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=average.value.handle, alpha=forget, delta=average.value - weight.value
                )
            else:
                average.value.assign(weight.value)
