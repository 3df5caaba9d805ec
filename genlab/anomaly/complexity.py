"""How complex images are: the length of their code as PNG, in bits."""

from __future__ import annotations

import numpy as np

from genlab import grids


def code_length(images: np.ndarray) -> np.ndarray:
    """Return 8 times the bytes of each image as PNG, [N], for uint8 images [N, H, W, C] with 1 to 4 channels.

    A lossless code of L bits stands for a probability of 2^-L. Serrà et al. 2020, "Input complexity and out-of-distribution
    detection with likelihood-based generative models" (https://arxiv.org/abs/1909.11480), section 3, subtract it from -log2 p.
    """
    return np.array([8.0 * len(grids.png_of(image)) for image in images])
