"""Losses: pure functions that return a mean over the batch, in nats.

Logits are float32 [B, 1] or [B]. No function takes probabilities, so none saturates to NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from genlab.backend import Tensor, tf
from genlab.networks import replicas


def non_saturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(logit): Goodfellow et al. 2014, equation 1, negated."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """-E log D(G(z)): Goodfellow et al. 2014, section 3; its gradient does not vanish when D wins."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def minimax_generator(fake_logits: Tensor) -> Tensor:
    """E log(1 - D(G(z))): Goodfellow et al. 2014, equation 1; its gradient vanishes when D wins."""
    return -tf.reduce_mean(tf.nn.softplus(fake_logits))


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))): Miyato et al. 2018, equation 16, negated."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real_logits)) + tf.reduce_mean(tf.nn.relu(1.0 + fake_logits))


def hinge_generator(fake_logits: Tensor) -> Tensor:
    """-E D(G(z)): Miyato et al. 2018, equation 17, negated."""
    return -tf.reduce_mean(fake_logits)


def class_evidence(class_logits: Tensor) -> Tensor:
    """Return log Z = log sum_y exp(l_y), [B, 1], of class logits l [B, K]: the logit of "real" if "generated" has the logit 0.

    Salimans et al. 2016 (https://arxiv.org/abs/1606.03498), section 5: D(x) = Z / (Z + 1) = sigmoid(log Z). The K + 1 logits
    of a softmax can be shifted by any amount, so one of them can be fixed.
    """
    return tf.reduce_logsumexp(class_logits, axis=-1, keepdims=True)


def cross_entropy(class_logits: Tensor, labels: Tensor) -> Tensor:
    """-E log softmax(l)_y of class logits l [B, K] and labels y [B]."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits))


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """|E f(x) - E f(G(z))|^2 of features [B, ...] of real and generated images: Salimans et al. 2016, section 3.1.

    The means are those of the whole batch, over all replicas.
    """
    difference = tf.reduce_mean(tf.cast(fake, tf.float32), axis=0) - tf.reduce_mean(tf.cast(real, tf.float32), axis=0)
    whole = tf.stop_gradient(replicas.mean(tf.stop_gradient(difference)))
    # The gradient of |whole|^2 by this replica's part; summed over replicas, it is that of the whole batch.
    return tf.reduce_sum(tf.square(whole) + 2.0 * whole * (difference - tf.stop_gradient(difference)))


def aligned(predictions: Tensor, shares: Tensor, predicted: Tensor) -> Tensor:
    """Return predictions p [B, K] as p_y shares_y / predicted_y, divided by their sum.

    `shares` [K] are those of the classes as they should be, `predicted` [K] the mean prediction: Berthelot et al. 2020,
    "ReMixMatch" (https://arxiv.org/abs/1911.09785), section 3.1.
    """
    weighted = predictions * shares / tf.maximum(predicted, 1e-6)
    return weighted / tf.reduce_sum(weighted, axis=-1, keepdims=True)


def confident_cross_entropy(class_logits: Tensor, targets: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return -E 1[max p >= threshold] sum_y p_y log q_y of targets p [B, K] and q = softmax(class_logits), and E 1[...].

    The logits are [B, K]; the targets get no gradient. Sohn et al. 2020, "FixMatch" (https://arxiv.org/abs/2001.07685),
    equation 4, with p itself instead of its largest class.
    """
    targets = tf.stop_gradient(targets)
    confident = tf.cast(tf.reduce_max(targets, axis=-1) >= threshold, tf.float32)
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, class_logits)
    return tf.reduce_mean(confident * losses), tf.reduce_mean(confident)


def squared_gradient_norm(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """E |grad_x D(x)|^2 over all of H, W and C, for the R1 penalty (Mescheder et al. 2018, equation 9, without gamma/2).

    `discriminator` maps images [B, ...] to logits; `images` are float32 and real.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = tf.reduce_sum(discriminator(images))
    gradient = tape.gradient(total, images)
    return tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=list(range(1, len(images.shape)))))


def critic(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """E D(G(z)) - E D(x), which the critic minimizes: minus the Wasserstein estimate. Arjovsky et al. 2017, equation 2."""
    return tf.reduce_mean(fake_scores) - tf.reduce_mean(real_scores)


def gradient_penalty(critic_function: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, seed: Tensor) -> Tensor:
    """E (|grad D(x_hat)| - 1)^2 at x_hat = alpha x + (1 - alpha) G(z), with one alpha ~ U[0, 1] per example.

    Gulrajani et al. 2017 (https://arxiv.org/abs/1704.00028), equation 3, without lambda. The norm is over all of H, W
    and C. `critic_function` maps [B, ...] to scores.
    """
    ones = [1] * (len(real.shape) - 1)
    alpha = replicas.own_rows(
        lambda rows: tf.random.stateless_uniform([rows, *ones], seed, alg="philox"), tf.shape(real)[0]
    )
    between = alpha * real + (1.0 - alpha) * fake
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(between)
        total = tf.reduce_sum(critic_function(between))
    squares = tf.reduce_sum(tf.square(tape.gradient(total, between)), axis=list(range(1, len(real.shape))))
    # The epsilon keeps the gradient of the square root finite where the critic is flat.
    return tf.reduce_mean(tf.square(tf.sqrt(squares + 1e-12) - 1.0))


def pull_away(codes: Tensor) -> Tensor:
    """Mean squared cosine between the codes [B, K] of different examples, 0 to 1; high on mode collapse.

    Zhao, Mathieu & LeCun 2017, "Energy-based Generative Adversarial Network" (https://arxiv.org/abs/1609.03126),
    equation 4. A batch of one gives 0.
    """
    directions = tf.math.l2_normalize(codes, axis=1, epsilon=1e-12)
    squares = tf.square(tf.matmul(directions, directions, transpose_b=True))
    count = tf.cast(tf.shape(codes)[0], codes.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(squares) - tf.linalg.trace(squares), count * (count - 1.0))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Elementwise KL(N(mean, exp(log_variance)) || N(0, 1)) in nats. Kingma & Welling 2014, appendix B."""
    return 0.5 * (tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0)


def pixel_cross_entropy(images: Tensor, raw: Tensor) -> Tensor:
    """Binary cross-entropy per pixel, in nats, for images in [-1, 1] read as probabilities (1 + x) / 2.

    `raw` is the decoder's output before tanh: (1 + tanh(raw)) / 2 = sigmoid(2 raw).
    """
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(0.5 * (images + 1.0), 2.0 * raw))
