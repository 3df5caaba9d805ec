"""Write images, grids of images and animations."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterable

import imageio.v3 as imageio
import numpy as np

from genlab import files
from genlab.backend import Tensor
from genlab.data import image_files
from genlab.data.spec import to_pixels
from genlab.errors import GenlabError, UsageError

GAP = 2
BACKGROUND = 127
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of the formats in which images are written."""


def to_grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Arrange images [N, H, W, C] row by row in one uint8 picture [height, width, C].

    Images are uint8, or floats in [-1, 1]. `columns` defaults to a nearly square grid. `scale` repeats every pixel; by
    default small images are enlarged to about 64 pixels.
    """
    images = as_pixels(images)
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = scale or max(1, 64 // max(height, width))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        grid[top : top + height, left : left + width] = image
    return grid


def save_grid(
    images: Tensor, path: str | os.PathLike[str], columns: int | None = None, scale: int | None = None
) -> pathlib.Path:
    """Write images [N, H, W, C], uint8 or floats in [-1, 1], as one picture. The suffix (.png) selects the format."""
    return save_image(to_grid(images, columns, scale), path)


def save_image(image: Tensor, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write one image [H, W, C], uint8 or floats in [-1, 1]."""
    picture = _drop_grey_axis(as_pixels(image))
    # Encode in memory first, so that a full disk fails only in the write.
    encoded = imageio.imwrite("<bytes>", picture, extension=suffix_of(path))
    return files.replace(path, lambda temporary: temporary.write_bytes(encoded))


def save_animation(
    frames: Iterable[Tensor], path: str | os.PathLike[str], frames_per_second: float = 5.0
) -> pathlib.Path:
    """Write frames [H, W, C] (uint8 or floats in [-1, 1], all of one size) as a looping .gif or an .mp4.

    MP4 needs the extra `genlab[video]`. Its codec takes only even sizes, so odd sides are padded by one pixel.
    """
    path = pathlib.Path(path)
    pictures = [as_pixels(frame) for frame in frames]
    if path.suffix.lower() == ".gif":
        stack = [_drop_grey_axis(picture) for picture in pictures]
        encoded = imageio.imwrite("<bytes>", stack, extension=".gif", duration=1000 / frames_per_second, loop=0)
        return files.replace(path, lambda temporary: temporary.write_bytes(encoded))
    if path.suffix.lower() != ".mp4":
        raise UsageError(f"an animation cannot be written as {path.name}; the suffix must be .gif or .mp4.")
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise UsageError(
            'an MP4 animation needs imageio-ffmpeg: pip install "genlab[video]", or write a .gif.'
        ) from None
    pad = [(0, side % 2) for side in pictures[0].shape[:2]]
    stack = [np.pad(np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)), (*pad, (0, 0))) for picture in pictures]
    return files.replace(
        path,
        lambda temporary: imageio.imwrite(temporary, stack, plugin="FFMPEG", fps=frames_per_second, macro_block_size=1),
    )


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix that an image is written by. Raises UsageError if it names no format."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"an image cannot be written as {path}; the suffix must be one of {', '.join(SUFFIXES)}.")
    return suffix


def load_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as uint8 [H, W, C] with 1 to 4 channels. Raises GenlabError if it cannot be read."""
    try:
        with image_files.opened(path) as picture:
            image = np.asarray(picture if picture.mode in ("L", "LA", "RGB", "RGBA") else picture.convert("RGB"))
    except ValueError as error:
        raise GenlabError(f"{path} cannot be read: {error}.") from error
    return image[..., np.newaxis] if image.ndim == 2 else image


def as_pixels(images: Tensor) -> np.ndarray:
    """Convert floats in [-1, 1] to uint8; return uint8 unchanged."""
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else to_pixels(images)


def interpolate(start: np.ndarray, end: np.ndarray, frames: int, spherical: bool) -> np.ndarray:
    """Interpolate latents from `start` to `end`, both [latent], in `frames` even steps -> [frames, latent].

    Spherical interpolation stays in the shell where a Gaussian prior has its mass (Shoemake 1985; White 2016,
    https://arxiv.org/abs/1609.04468). Linear interpolation is for priors without such a shell.
    """
    shares = np.linspace(0.0, 1.0, frames)[:, np.newaxis]
    cosine = np.dot(start, end) / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if not spherical or np.sin(angle) < 1e-6:
        return ((1 - shares) * start + shares * end).astype(np.float32)
    weights = np.sin((1 - shares) * angle), np.sin(shares * angle)
    return ((weights[0] * start + weights[1] * end) / np.sin(angle)).astype(np.float32)


def _drop_grey_axis(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] if picture.shape[-1] == 1 else picture
