"""Inversion: latent vectors whose images are as close as possible to given images, for decoders without an encoder.

The projector of StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix D) with pixels in place of features:
start from the best of many draws, then follow the gradient, and let the prior hold the latents back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from genlab.backend import Tensor, keras, tf
from genlab.networks.priors import Prior

STARTS = 4
"""Draws that the search starts from, for each image; the best end counts."""
NOISE = 0.1
"""Standard deviation of the noise that images are taken to have, in units of [-1, 1]: it weighs the prior."""
LEARNING_RATE = 0.1
"""Adam's rate at the start, in standard deviations of the prior; it falls to zero along a cosine."""


@dataclasses.dataclass(frozen=True)
class Inversion:
    """Latents of images, and the images that they give."""

    latents: np.ndarray
    """[N, latent] float32."""
    labels: np.ndarray | None
    """[N], for conditional models."""
    images: np.ndarray
    """[N, H, W, C] float32 in [-1, 1]."""
    errors: np.ndarray
    """Mean squared error of each image, [N], in units of [-1, 1]."""


def invert(
    decode: Callable[..., Tensor],
    prior: Prior,
    images: Tensor,
    drawn: Tensor,
    labels: np.ndarray | None,
    candidates: tuple[np.ndarray, np.ndarray | None],
    steps: int,
) -> Inversion:
    """Search latents for images [N, H, W, C] in [-1, 1].

    `candidates` are latents [M, latent] and labels [M] or None, and `drawn` their images. `labels` [N] fixes the class of each
    image; None leaves the class of its best candidate. It minimizes |x - decode(z)|^2 / (2 NOISE^2) - log p(z), per pixel.
    """
    images = np.asarray(images, np.float32)
    starts = min(STARTS, len(candidates[0]))
    chosen = _closest(images, np.asarray(drawn), labels, candidates[1], starts)  # [N, starts]
    rows = chosen.ravel()
    target = tf.constant(np.repeat(images, starts, axis=0))
    classes = [] if candidates[1] is None else [tf.constant(candidates[1][rows].astype(np.int32))]
    mean, deviation = (tf.constant(part) for part in (prior.mean(), prior.standard_deviation()))
    # In standard deviations from the mean, so that one learning rate suits every prior.
    codes = tf.Variable((candidates[0][rows] - mean) / deviation)
    weight = NOISE**2 / float(np.prod(images.shape[1:]))
    limit = None if prior.limit is None else prior.limit / deviation
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    optimizer.build([codes])

    def errors_of() -> Tensor:
        return tf.reduce_mean(tf.square(decode(mean + deviation * codes, *classes) - target), axis=[1, 2, 3])

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(errors_of())  # each image's latents have the gradient of its own error
            if limit is None:
                loss += weight * tf.reduce_sum(tf.square(codes))
        optimizer.apply([tape.gradient(loss, codes)], [codes])
        if limit is not None:
            codes.assign(tf.clip_by_value(codes, -limit, limit))

    compiled = tf.function(step, autograph=False)
    for _ in range(steps):
        compiled()
    errors = np.asarray(errors_of()).reshape(-1, starts)
    best = np.arange(len(images)) * starts + errors.argmin(axis=1)
    latents = np.asarray(mean + deviation * codes)[best].astype(np.float32)
    found = None if candidates[1] is None else candidates[1][rows][best]
    reached = np.asarray(decode(latents, *([] if found is None else [found.astype(np.int32)])))
    return Inversion(latents, found, reached, errors.min(axis=1))


def _closest(
    images: np.ndarray, drawn: np.ndarray, labels: np.ndarray | None, drawn_labels: np.ndarray | None, count: int
) -> np.ndarray:
    """Return the indices of the closest candidates to each image, [N, count]; with labels, of the image's class first."""
    from scipy.spatial.distance import cdist

    distances = cdist(images.reshape(len(images), -1), drawn.reshape(len(drawn), -1))
    if labels is not None and drawn_labels is not None:
        distances[np.asarray(labels)[:, np.newaxis] != drawn_labels] += distances.max() + 1
    return np.argsort(distances, axis=1, kind="stable")[:, :count]
