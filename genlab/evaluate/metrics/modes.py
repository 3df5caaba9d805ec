"""Mode coverage on mixtures of Gaussians."""

from __future__ import annotations

import numpy as np


def mode_metrics(points: np.ndarray, modes: np.ndarray, deviation: float) -> dict[str, float]:
    """Return mode coverage of generated points [N, 2], given the centres [K, 2] of equally frequent Gaussians.

    `modes`: number of Gaussians with a point within 3 standard deviations. `high_quality`: fraction of points within 3
    standard deviations of a Gaussian (Srivastava et al. 2017, VEEGAN; Lin et al. 2018, PacGAN). `modes_kl`: KL divergence,
    in nats, of these points' distribution over the Gaussians from the uniform one; log K if there are no such points.
    """
    from scipy.stats import entropy

    distances = np.linalg.norm(points[:, np.newaxis] - modes, axis=-1)  # [N, K]
    near = distances.min(axis=1) < 3 * deviation
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=len(modes))
    return {
        "modes": float((counts > 0).sum()),
        "high_quality": float(near.mean()),
        "modes_kl": float(np.log(len(modes)) - (entropy(counts) if near.any() else 0.0)),
    }
