"""What a score of strange images is: how unlike its training images an image is to a model. Models state theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

Measure: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Function of images, float32 [N, H, W, C] in [-1, 1], that returns one number or one vector for each."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One way to tell how strange an image is to a model. What it says of an image depends on nothing but that image."""

    kind: Literal["number", "bits", "vector"]
    """What `of` returns: a number [N], larger for stranger images; such a number that is -log2 p of the image, in bits; or a
    vector [N, D], whose distances to those of training images make the score."""
    sentence: str
    """What it measures, for the user."""
    of: Measure
    described: Callable[[np.ndarray], np.ndarray] | None = None
    """For `bits`: the images, in [-1, 1], whose probability it is; None: the images themselves."""
