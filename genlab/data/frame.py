"""Convert pictures of any kind to uint8 [height, width, channels] of one frame."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageOps

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes with one channel (and transparency)."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Target size and channels of pictures, and how to resize them."""

    height: int
    width: int
    channels: int
    resize: str = "crop"
    """crop, pad or stretch."""
    background: tuple[int, int, int] = (255, 255, 255)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def of(self, picture: Image.Image | np.ndarray) -> np.ndarray:
        """Convert a picture, or an array uint8 [H, W, C] with 1 to 4 channels, to uint8 [height, width, channels].

        An array that fits already is returned unchanged. Raises ValueError or OSError if a picture cannot be decoded.
        """
        if isinstance(picture, np.ndarray):
            if picture.shape == self.shape:
                return picture
            if picture.shape[-1] == self.channels:  # channels are only resized, whatever they mean
                planes = [self._resized(Image.fromarray(picture[..., index])) for index in range(self.channels)]
                return np.stack([np.asarray(plane) for plane in planes], axis=-1)
            picture = to_picture(picture)
        picture = self._resized(_in_mode(flat(picture, self.background), "L" if self.channels == 1 else "RGB"))
        return np.asarray(picture).reshape(self.shape)

    def _resized(self, picture: Image.Image) -> Image.Image:
        size = (self.width, self.height)
        if picture.size == size:
            return picture
        method = Image.Resampling.LANCZOS  # averages when it reduces the size
        match self.resize:
            case "crop":
                return ImageOps.fit(picture, size, method)
            case "pad":
                colour = self.background
                grey = round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])
                return ImageOps.pad(picture, size, method, colour if picture.mode == "RGB" else grey)
        return picture.resize(size, method)


def to_picture(array: np.ndarray) -> Image.Image:
    """Convert an array uint8 [H, W, C] to a picture: grey, grey with alpha, RGB or RGBA."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def flat(picture: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Return the picture upright, in 8 bits, grey (L) or colour (RGB), with transparency blended onto the background.

    The picture is rotated in place and copied only if needed.
    """
    picture.load()  # the first frame, if there are several; some formats tell the mode only now
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _of_8_bits(picture)
    if picture.has_transparency_data:
        grey = picture.mode in ("L", "LA", "La") and len(set(background)) == 1
        picture = picture.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(canvas, picture).convert("L" if grey else "RGB")
    return _in_mode(picture, "L" if picture.mode in GREY else "RGB")


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    return picture if picture.mode == mode else picture.convert(mode)


def _of_8_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F":
        if not (low >= 0 and high <= 1):  # nor anything that is not a number
            raise ValueError(f"its pixels are floats from {low:g} to {high:g}; they must be in [0, 1]")
        return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels are integers from {low:g} to {high:g}; they must be from 0 to 65535")
    # Rounded division by 257, in integers and in place: floats would take four times the memory.
    scaled = values.astype(np.uint32)
    scaled += 128
    scaled //= 257
    return Image.fromarray(scaled.astype(np.uint8))
