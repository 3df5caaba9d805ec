"""Losses of the adversarial models: pure functions on logits, each a mean over the batch in nats.

Logits are float32 [B, 1] or [B]; nothing here takes probabilities, so nothing saturates to NaN.
"""

from __future__ import annotations

from genlab.backend import tf


def non_saturating_discriminator(real_logits, fake_logits):
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(logit). Goodfellow et al. 2014, equation 1, with the sign turned."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


def non_saturating_generator(fake_logits):
    """-E log D(G(z)): Goodfellow et al. 2014, section 3, the form that keeps its gradient while D wins."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def minimax_generator(fake_logits):
    """E log(1 - D(G(z))): Goodfellow et al. 2014, equation 1; its gradient vanishes while D wins."""
    return -tf.reduce_mean(tf.nn.softplus(fake_logits))


def hinge_discriminator(real_logits, fake_logits):
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))): Miyato et al. 2018, equation 16, with the sign turned."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real_logits)) + tf.reduce_mean(tf.nn.relu(1.0 + fake_logits))


def hinge_generator(fake_logits):
    """-E D(G(z)): Miyato et al. 2018, equation 17, with the sign turned."""
    return -tf.reduce_mean(fake_logits)


def squared_gradient_norm(discriminator, images):
    """E |grad_x D(x)|^2 over all of H, W and C, for the R1 penalty (Mescheder et al. 2018, equation 9, without gamma/2).

    `discriminator` maps images [B, ...] to logits; `images` are float32 and real.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = tf.reduce_sum(discriminator(images))
    gradient = tape.gradient(total, images)
    return tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=list(range(1, len(images.shape)))))
