"""What the explorer draws: images for settings, grids, reconstructions and nearest training images. It knows no web page."""

from __future__ import annotations

import dataclasses
import functools
import threading

import numpy as np

from genlab import grids
from genlab.backend import tf
from genlab.data import Dataset
from genlab.data.spec import to_model_range
from genlab.errors import GenlabError, UsageError
from genlab.explore import directions
from genlab.run import Run

SEARCHED = 60_000
"""Training images that are searched for the nearest, evenly spaced if there are more."""
NEAREST = 8
"""Nearest training images shown."""
INVERSION_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which sample to draw."""

    seed: int = 0
    label: int = 0
    """Class, for conditional models."""
    truncation: float = 1.0
    other_seed: int = 1
    """Seed of the sample at the other end of the interpolation."""
    share: float = 0.0
    """Position between the two samples: 0 is the first, 1 the other."""
    amounts: tuple[float, ...] = ()
    """How far to move along each direction, in standard deviations of the prior."""
    start: tuple[float, ...] = ()
    """Latents to start from in place of those of `seed`: the code of an uploaded image."""


@dataclasses.dataclass(frozen=True)
class Found:
    """An uploaded image, and what the model makes of it."""

    image: np.ndarray
    """uint8 [H, W, C], in the size of the model."""
    reconstruction: np.ndarray
    """uint8 [H, W, C]."""
    latents: tuple[float, ...]
    label: int | None
    error: float
    """Mean squared error per pixel, in units of [0, 1]."""
    nearest: np.ndarray | None
    """The nearest training images, uint8 [N, H, W, C]; None if the data is not there."""


class Studio:
    """Draws with the model of a run. Methods may be called from several threads."""

    def __init__(self, run: Run) -> None:
        if not run.model.spec.is_image:
            raise UsageError(f"{run.name} draws points, not images: there is nothing to explore.")
        self.run = run
        self.model = run.model
        self.directions = directions.find(run.model)
        self.class_names = run.config.dataset["class_names"] if run.model.conditional else []
        self._lock = threading.Lock()
        # One image at a time: `sample` always draws 64, so that a sample does not depend on its neighbours.
        self._decode = tf.function(run.model.decode, autograph=False)

    def latents(self, settings: Settings) -> np.ndarray:
        """Return the latents of settings, [latent]."""
        seeds = [settings.seed, settings.other_seed]
        start, end = np.asarray(self.model.truncated(self.model.sample_latents(seeds), settings.truncation))
        if settings.start:
            start = np.asarray(settings.start, np.float32)
        if settings.share:
            start = grids.interpolate(start, end, [settings.share], self.model.prior.is_spherical)[0]
        return start + self._shift(settings)

    def _shift(self, settings: Settings) -> np.ndarray:
        amounts = np.zeros(len(self.directions.vectors), np.float32)
        amounts[: len(settings.amounts)] = settings.amounts
        return (amounts * self.directions.scales) @ self.directions.vectors

    def draw(self, settings: Settings) -> np.ndarray:
        """Draw one image, uint8 [H, W, C]."""
        latents = tf.constant(self.latents(settings)[np.newaxis])
        labels = [tf.constant([settings.label])] if self.model.conditional else []
        with self._lock:
            return grids.as_pixels(self._decode(latents, *labels).numpy())[0]

    def grid(self, settings: Settings, count: int = 64) -> np.ndarray:
        """Draw the samples of consecutive seeds with the same truncation and directions, as one picture."""
        seeds = np.arange(settings.seed, settings.seed + count)
        latents = np.asarray(self.model.truncated(self.model.sample_latents(seeds), settings.truncation))
        labels = [np.full(count, settings.label)] if self.model.conditional else []
        with self._lock:
            return grids.to_grid(self.model.sample(latents + self._shift(settings), *labels).numpy())

    def find(self, content: bytes) -> Found:
        """Find the latents of an image file: by the encoder, or for a GAN by inversion. Raises GenlabError for no image."""
        image = self.run.read_image(content)
        scaled = to_model_range(image[np.newaxis])
        with self._lock:
            if self.model.encoder is not None:
                latents, label = np.asarray(self.model.encoder(scaled, training=False)), None
                reached = np.asarray(self.model.reconstruct(scaled))
            else:
                found = self.model.invert(scaled, steps=INVERSION_STEPS)
                latents, reached = found.latents, found.images
                label = None if found.labels is None else int(found.labels[0])
        error = float(np.square((reached - np.asarray(scaled)) / 2).mean())
        drawn = grids.as_pixels(reached)[0]
        return Found(image, drawn, tuple(map(float, latents[0])), label, error, self._nearest(image))

    def _nearest(self, image: np.ndarray) -> np.ndarray | None:
        """Return the training images with the smallest distance in pixels."""
        if self._data is None:
            return None
        images = self._searched
        flat = image.reshape(-1).astype(np.float32)
        distances = [
            np.square(images[row : row + 1000].reshape(-1, len(flat)).astype(np.float32) - flat).sum(axis=1)
            for row in range(0, len(images), 1000)
        ]
        return images[np.argsort(np.concatenate(distances), kind="stable")[:NEAREST]]

    @functools.cached_property
    def _data(self) -> Dataset | None:
        try:
            return self.run.data()
        except GenlabError:  # it was moved, or passed by a program
            return None

    @functools.cached_property
    def _searched(self) -> np.ndarray:
        assert self._data is not None
        images = self._data.images
        rows = np.linspace(0, len(images) - 1, min(SEARCHED, len(images))).round().astype(int)
        return np.asarray(images[rows])
