"""Pictures of a model: samples, reconstructions, scatter plots, the manifold of a 2-D latent space."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from genlab import grids
from genlab.backend import Tensor
from genlab.data.spec import DataSpec
from genlab.networks import priors

PALETTE = np.array(
    [
        (31, 119, 180),
        (255, 127, 14),
        (44, 160, 44),
        (214, 39, 40),
        (148, 103, 189),
        (140, 86, 75),
        (227, 119, 194),
        (127, 127, 127),
        (188, 189, 34),
        (23, 190, 207),
    ],
    np.uint8,
)
"""Colours of classes 0 to 9, repeated for further classes."""


class Model(Protocol):
    """What pictures ask of a model: a part of `genlab.models.base.GenerativeModel`."""

    spec: DataSpec
    prior: priors.Prior
    conditional: bool

    def sample(self, latents: Tensor, labels: Tensor | None = None) -> Tensor: ...


def layout(model: Model) -> tuple[int, int | None]:
    """Return the number of samples in a model's grid and its columns: 8x8, one column per class, or 2,500 points."""
    if not model.spec.is_image:
        return 2500, None
    return (8 * model.spec.num_classes, model.spec.num_classes) if model.conditional else (64, 8)


def samples(drawn: Tensor, columns: int | None = None, real: Tensor | None = None) -> np.ndarray:
    """Draw images [N, H, W, C] as a grid, and vectors [N, D] as a scatter plot of two dimensions over `real` ones in grey."""
    drawn = np.asarray(drawn)
    if drawn.ndim == 4:
        return grids.to_grid(drawn, columns)
    if real is None:
        return scatter(drawn)
    both = np.concatenate([np.asarray(real)[: len(drawn)], drawn])
    colour = np.repeat([7, 0], [len(both) - len(drawn), len(drawn)])
    return scatter(both, colour, span=1.2 * float(np.abs(real).max()))


def reconstructions(images: Tensor, reconstructed: Tensor, columns: int = 8) -> np.ndarray:
    """Draw rows of images, each followed by a row of their reconstructions -> one uint8 picture."""
    images, reconstructed = grids.as_pixels(images), grids.as_pixels(reconstructed)
    count = len(reconstructed) // columns * columns or len(reconstructed)
    rows = [
        row
        for start in range(0, count, columns)
        for row in (images[start : start + columns], reconstructed[start : start + columns])
    ]
    return grids.to_grid(np.concatenate(rows), columns=min(columns, count))


def scatter(
    points: Tensor, labels: npt.ArrayLike | None = None, *, span: float | None = None, size: int = 512
) -> np.ndarray:
    """Draw points [N, 2] as coloured squares on white -> uint8 [size, size, 3]; the first axis points right, the second up.

    Both axes go from -span to span; the default span covers 99.5% of the points.
    """
    points = np.asarray(points, np.float64)[:, :2]
    span = span or 1.1 * float(np.quantile(np.abs(points), 0.995)) or 1.0
    colours = PALETTE[np.zeros(len(points), int) if labels is None else np.asarray(labels) % len(PALETTE)]
    canvas = np.full((size, size, 3), 255, np.uint8)
    columns = np.rint((points[:, 0] / span + 1) / 2 * (size - 1))
    rows = np.rint((1 - points[:, 1] / span) / 2 * (size - 1))
    for row_shift in (-1, 0, 1):
        for column_shift in (-1, 0, 1):
            row, column = rows + row_shift, columns + column_shift
            inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
            canvas[row[inside].astype(int), column[inside].astype(int)] = colours[inside]
    return canvas


def manifold(model: Model, codes: Tensor, side: int = 15) -> np.ndarray:
    """Draw images decoded from a grid in a 2-D latent space -> one uint8 picture; the first axis points right, the second up.

    Grid positions are quantiles (2.5% to 97.5%) of N(0, 1) if that is the prior, else of the codes [N, 2] of real images.
    """
    from scipy.stats import norm

    shares = np.linspace(0.025, 0.975, side)
    if isinstance(model.prior, priors.Normal):
        right = up = norm.ppf(shares)
    else:
        right, up = (np.quantile(np.asarray(codes)[:, axis], shares) for axis in (0, 1))
    latents = np.array([(x, y) for y in up[::-1] for x in right], np.float32)
    return grids.to_grid(model.sample(latents), columns=side, scale=1)
