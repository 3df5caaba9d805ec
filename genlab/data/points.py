"""Points in the plane from a mixture of narrow Gaussians, which shows mode collapse in seconds."""

from __future__ import annotations

import numpy as np

from genlab.data.dataset import Dataset

TRAIN, TEST = 50_000, 10_000
NAMES = ("ring", "grid")


def load(name: str) -> Dataset:
    """Load `ring` or `grid`."""
    return ring() if name == "ring" else grid()


def ring() -> Dataset:
    """Eight Gaussians of standard deviation 0.01 on a circle of radius 1 (Srivastava et al. 2017, VEEGAN, section 5.1)."""
    angles = 2 * np.pi * np.arange(8) / 8
    return _mixture("ring", np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.01)


def grid() -> Dataset:
    """Twenty-five Gaussians on a 5x5 grid: VEEGAN's, with spacing 2 and standard deviation 0.05, scaled by 1/4 to [-1, 1]."""
    axis = np.linspace(-1, 1, 5)
    return _mixture("grid", np.array([(x, y) for x in axis for y in axis]), 0.05 / 4)


def _mixture(name: str, modes: np.ndarray, deviation: float) -> Dataset:
    """Draw points float32 [N, 2], the same at each call. Labels are the numbers of their Gaussians."""
    random = np.random.default_rng(0)
    labels = random.integers(0, len(modes), TRAIN + TEST).astype(np.int32)
    points = (modes[labels] + random.normal(0, deviation, (TRAIN + TEST, 2))).astype(np.float32)
    return Dataset(
        name=name,
        source=name,
        images=points[:TRAIN],
        labels=labels[:TRAIN],
        test_images=points[TRAIN:],
        test_labels=labels[TRAIN:],
        class_names=tuple(str(index) for index in range(len(modes))),
        modes=modes.astype(np.float32),
        deviation=deviation,
    )
