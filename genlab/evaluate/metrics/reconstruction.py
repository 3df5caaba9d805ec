"""Reconstruction error of images."""

from __future__ import annotations

import numpy as np

from genlab.backend import tf

HIGHEST_PSNR = 100.0
"""PSNR of an image without any error, in dB. Rounding to 8 bits alone gives 59."""


def reconstruction_metrics(images: np.ndarray, reconstructed: np.ndarray) -> dict[str, float]:
    """Return mean errors between images [N, H, W, C] in [-1, 1] and their reconstructions, on the scale 0 to 1.

    `mse` per pixel; `psnr` in dB (per image, at most HIGHEST_PSNR, then averaged); `ssim` (Wang et al. 2004), at most 1, with
    windows of 11 pixels, or the size of a smaller image.
    """
    first, second = (tf.constant(0.5 * (np.asarray(part, np.float32) + 1.0)) for part in (images, reconstructed))
    window = min(11, *images.shape[1:3])
    return {
        "mse": float(tf.reduce_mean(tf.square(first - second))),
        "psnr": float(tf.reduce_mean(tf.minimum(tf.image.psnr(first, second, 1.0), HIGHEST_PSNR))),
        "ssim": float(tf.reduce_mean(tf.image.ssim(first, second, 1.0, filter_size=window))),
    }
