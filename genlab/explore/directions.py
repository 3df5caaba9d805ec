"""Directions in latent space along which images change most."""

from __future__ import annotations

import dataclasses

import numpy as np

from genlab.backend import Network
from genlab.models.base import GenerativeModel

MOST = 8
"""Directions that are offered."""


@dataclasses.dataclass(frozen=True)
class Directions:
    """Orthonormal directions, the most important first."""

    vectors: np.ndarray
    """[K, latent] float32."""
    scales: np.ndarray
    """Standard deviation of the prior along each direction, [K] float32."""
    method: str
    """How they were found, for people."""


def find(model: GenerativeModel) -> Directions:
    """Return at most MOST directions of a model.

    Where the prior was fitted to codes: their principal components. Other priors have no principal components, so the
    directions are those that the decoder's first dense layer amplifies most: with its kernel A, the eigenvectors of A^T A
    (SeFa: Shen & Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", https://arxiv.org/abs/2007.06600,
    equation 5). Without such a layer: the axes.
    """
    size = model.latent_size
    covariance = model.prior.covariance()
    if model.prior.is_fitted:
        vectors, method = _eigenvectors(covariance), "principal components of the codes"
    elif (kernel := _first_kernel(model.decoder, size)) is not None:
        vectors, method = _eigenvectors(kernel @ kernel.T), "SeFa: what the first layer of the decoder amplifies most"
    else:
        vectors, method = np.eye(size, dtype=np.float32), "axes of the latent space"
    vectors = vectors[:MOST]
    scales = np.sqrt(np.einsum("ki,ij,kj->k", vectors, covariance, vectors))
    return Directions(vectors, scales.astype(np.float32), method)


def _eigenvectors(matrix: np.ndarray) -> np.ndarray:
    """Return the eigenvectors of a symmetric matrix as rows, largest eigenvalue first, each with a positive largest entry."""
    vectors = np.linalg.eigh(np.asarray(matrix, np.float64))[1].T[::-1]
    signs = np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)])
    return (vectors * signs[:, np.newaxis]).astype(np.float32)


def _first_kernel(decoder: Network, size: int) -> np.ndarray | None:
    """Return the rows for the latents of the kernel of the first dense layer, [latent, units]; None if there is none.

    Conditional decoders concatenate the label's embedding after the latents.
    """
    for layer in decoder.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            return np.asarray(kernel)[:size] if len(kernel.shape) == 2 and kernel.shape[0] >= size else None
    return None
