"""How many of the Gaussians that data was drawn from a model reaches."""

from __future__ import annotations

import numpy as np


def mode_metrics(points: np.ndarray, modes: np.ndarray, deviation: float) -> dict[str, float]:
    """Of generated points [N, 2] and the centres [K, 2] of Gaussians that are equally frequent in the data.

    `modes`: how many Gaussians have a point within 3 deviations; `high_quality`: the share of points that are so near to
    one (Srivastava et al. 2017, VEEGAN; Lin et al. 2018, PacGAN); `modes_kl`: KL divergence, in nats, of the shares in
    which those points fall to the Gaussians from equal ones; log K where none does.
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
