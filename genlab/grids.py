"""Write images, grids of images and animations."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable

import imageio.v3 as imageio
import numpy as np
import numpy.typing as npt

from genlab import bounds, files
from genlab.backend import Tensor
from genlab.data import image_files
from genlab.data.spec import to_pixels
from genlab.errors import GenlabError, UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of the formats in which images are written."""
MOST_PIXELS = 2**28
"""Pixels of the largest picture, or of all frames of an animation: 16,384 x 16,384."""
GAP = 2
BACKGROUND = 127


def to_grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Arrange images [N, H, W, C] row by row in one uint8 picture [height, width, C].

    Images are uint8, or floats in [-1, 1]. `columns` defaults to a nearly square grid. `scale` repeats every pixel; by
    default small images are enlarged to about 64 pixels. Raises UsageError for other images.
    """
    images = _checked(images, 4, "[N, H, W, C]")
    count, height, width, channels = images.shape
    picture = picture_size(count, height, width, columns, scale)
    columns, scale = _columns_and_scale(count, height, width, columns, scale)
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    grid = np.full((*picture, channels), BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        grid[top : top + height, left : left + width] = image
    return grid


def picture_size(
    count: int, height: int, width: int, columns: int | None = None, scale: int | None = None
) -> tuple[int, int]:
    """Return the height and width of the picture of `to_grid`, in pixels."""
    columns, scale = _columns_and_scale(count, height, width, columns, scale)
    return math.ceil(count / columns) * (height * scale + GAP) + GAP, columns * (width * scale + GAP) + GAP


def check_size(count: int, height: int, width: int, columns: int | None = None, scale: int | None = None) -> None:
    """Raise UsageError if the picture of `to_grid` would have more than MOST_PIXELS."""
    pixels = math.prod(picture_size(count, height, width, columns, scale))
    if pixels > MOST_PIXELS:
        raise UsageError(
            f"a grid of {count:,} images has {pixels:,} pixels here; at most {MOST_PIXELS:,} are drawn. Use fewer images or "
            "columns."
        )


def _columns_and_scale(count: int, height: int, width: int, columns: int | None, scale: int | None) -> tuple[int, int]:
    """Return `columns` and `scale` of `to_grid`, or their defaults."""
    columns = math.ceil(math.sqrt(count)) if columns is None else bounds.whole("columns", columns, 1)
    return columns, max(1, 64 // max(height, width)) if scale is None else bounds.whole("scale", scale, 1)


def save_grid(
    images: Tensor, path: str | os.PathLike[str], columns: int | None = None, scale: int | None = None
) -> pathlib.Path:
    """Write images [N, H, W, C], uint8 or floats in [-1, 1], as one picture; see `to_grid` and `save_image`.

    Raises UsageError for NaN, and for a picture of more than MOST_PIXELS pixels.
    """
    return save_image(_grid(images, columns, scale), path)


def _grid(images: Tensor, columns: int | None, scale: int | None) -> np.ndarray:
    """Return the picture of `to_grid`. Raises UsageError for NaN and for too many pixels."""
    images = _pixels_or_floats(images)
    if images.dtype != np.uint8 and np.isnan(images).any():
        raise UsageError("images hold NaN; they must be uint8, or floats in [-1, 1].")
    if images.ndim == 4 and images.size:
        count, height, width = images.shape[:3]
        check_size(count, height, width, columns, scale)
    return to_grid(images, columns, scale)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows."""

    png: bytes
    """Content of a PNG file."""

    def __repr__(self) -> str:
        return f"Picture of {len(self.png):,} bytes"

    def _repr_png_(self) -> bytes:
        return self.png


def show(images: Tensor, columns: int | None = None, scale: int | None = None) -> Picture:
    """Return images [N, H, W, C] as one picture, which a notebook shows; see `to_grid` and `save_grid`."""
    return Picture(png_of(_grid(images, columns, scale)))


def png_of(image: Tensor) -> bytes:
    """Return one image [H, W, C], uint8 or floats in [-1, 1], as the content of a PNG file."""
    return _encoded(image, ".png")


def save_image(image: Tensor, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write one image [H, W, C], uint8 or floats in [-1, 1]. The suffix of the path, one of SUFFIXES, selects the format.

    Raises UsageError for another suffix or another image.
    """
    suffix = suffix_of(path)
    encoded = _encoded(image, suffix)  # in memory, so that a full disk fails only in the write
    return files.replace(path, lambda temporary: temporary.write_bytes(encoded))


def _encoded(image: Tensor, suffix: str) -> bytes:
    return imageio.imwrite("<bytes>", _drop_grey_axis(_checked(image, 3, "[H, W, C]")), extension=suffix)


def save_animation(
    frames: Iterable[Tensor], path: str | os.PathLike[str], frames_per_second: float = 5.0
) -> pathlib.Path:
    """Write frames [H, W, C] (uint8 or floats in [-1, 1], all of one size) as a looping .gif or an .mp4.

    MP4 needs the extra `genlab[video]`. Its codec takes only even sizes, so odd sides are padded by one pixel.
    """
    path = pathlib.Path(path)
    bounds.real("frames_per_second", frames_per_second, 0, 1000, above=True)
    pictures = [_checked(frame, 3, "[H, W, C]") for frame in frames]
    if len({picture.shape for picture in pictures}) != 1:
        raise UsageError("an animation needs frames, all of one size.")
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


def image_size(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Return height, width and channels of an image file, without decoding it. Raises GenlabError if it cannot be read."""
    try:
        with image_files.opened(path) as picture:
            return picture.height, picture.width, len(picture.getbands())
    except ValueError as error:
        raise GenlabError(f"{path} cannot be read: {error}.") from error


def as_pixels(images: Tensor) -> np.ndarray:
    """Convert floats in [-1, 1] to uint8; return uint8 unchanged. Raises UsageError for other types."""
    images = _pixels_or_floats(images)
    return images if images.dtype == np.uint8 else to_pixels(images)


def _pixels_or_floats(images: Tensor) -> np.ndarray:
    """Return images as an array. Raises UsageError for other types than uint8 and floats."""
    try:
        images = np.asarray(images)
    except ValueError:
        raise UsageError("images are not an array; all of them must have one shape.") from None
    if images.dtype != np.uint8 and images.dtype.kind != "f" and images.dtype.name != "bfloat16":
        raise UsageError(f"images are {images.dtype}; they must be uint8, or floats in [-1, 1].")
    return images


def _checked(images: Tensor, dimensions: int, shape: str) -> np.ndarray:
    """Return images as uint8. Raises UsageError for another number of dimensions or channels, and for empty ones."""
    images = as_pixels(images)
    if images.ndim != dimensions or not images.size or images.shape[-1] not in (1, 2, 3, 4):
        raise UsageError(f"images have the shape {list(images.shape)}; it must be {shape} with C from 1 to 4.")
    return images


def interpolate(start: np.ndarray, end: np.ndarray, shares: npt.ArrayLike, spherical: bool) -> np.ndarray:
    """Interpolate latents between `start` and `end`, both [latent], at shares [N] from 0 to 1 -> [N, latent].

    Spherical interpolation stays in the shell where a Gaussian prior has its mass (Shoemake 1985; White 2016,
    https://arxiv.org/abs/1609.04468). Linear interpolation is for priors without such a shell.
    """
    shares = np.asarray(shares, np.float64)[:, np.newaxis]
    cosine = np.dot(start, end) / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if not spherical or np.sin(angle) < 1e-6:
        return ((1 - shares) * start + shares * end).astype(np.float32)
    weights = np.sin((1 - shares) * angle), np.sin(shares * angle)
    return ((weights[0] * start + weights[1] * end) / np.sin(angle)).astype(np.float32)


def _drop_grey_axis(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] if picture.shape[-1] == 1 else picture
