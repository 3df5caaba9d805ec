"""Options for reading and preparing data, as flags of all commands that load it."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal, TypeAlias

import tyro

from genlab import settings
from genlab.bounds import shown

View: TypeAlias = Literal["shift", "rotate", "zoom", "brightness", "contrast"]
"""Name of a random change of images that keeps the class of most."""
LARGEST_NUMBER = 1e30
"""Maximum size of numbers in `value_range`, and the inverse of their smallest difference: float32 holds the ratio."""


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """How the images of `--data` are prepared for training; each field is a flag."""

    size: str = ""
    """Resize images to this height and width in pixels: 64, or 48x80 (height x width). By default their own size."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How to fit other aspect ratios: crop, pad with the background colour, or stretch."""
    channels: Literal["auto", "1", "3"] = "auto"
    """Grey (1) or colour (3). auto: grey if all images are grey."""
    background: str = "white"
    """Colour behind transparent pixels and for --resize pad: a name, or #rrggbb."""
    value_range: str = ""
    """Values of black and white in arrays, like 0,255. By default 0,255 for uint8, and 0,1 or -1,1 for floats, depending on
    their values."""
    classes: str = ""
    """Use only these classes, by name or number, like 3,7. They are renumbered in their original order."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Maximum number of training images: a fixed random subset with the same class proportions."""
    split: str = ""
    """Fractions for training, validation and test, like 0.8/0.1/0.1; or for training and test, like 0.9/0.1. Stratified by
    label. By default the source's own split, or none."""
    split_seed: int = 0
    """Seed of --split and --limit."""
    labelled: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Keep the labels of this many training images, equally many of each class, and hide all others; for semi_gan."""
    labelled_seed: int = 0
    """Seed of --labelled."""
    balance: Literal["none", "oversample", "weight"] = "none"
    """Balance classes of unequal size: oversample repeats images of smaller classes in every epoch until all are as large
    as the largest; weight samples with replacement, all classes equally often."""
    flip: bool = False
    """Mirror training images horizontally, each with probability 1/2 each time it is used."""
    augment: tuple[View, ...] = ()
    """Augment training images at random each time they are used: shift by up to 1/8, rotate by up to 10 degrees, zoom by up
    to 10%, brightness and contrast by up to 20%."""
    skip_bad: bool = False
    """Skip unreadable image files and record their names, instead of raising an error."""
    memory: float = 2.0
    """Keep decoded images in memory if they take less than this, in GiB; else read them on demand."""
    tfrecord_image: str = "image"
    """Key of the image in TFRecord files from other programs: encoded, or raw with --tfrecord-shape."""
    tfrecord_label: str = "label"
    """Key of the integer label in such files; if it is missing, there are no labels."""
    tfrecord_shape: str = ""
    """Shape of raw bytes in such files, height x width x channels: 28x28x1."""

    def __post_init__(self) -> None:
        """Raise ValueError for the first value that is of another type or out of range."""
        if isinstance(self.augment, list):
            object.__setattr__(self, "augment", tuple(self.augment))
        settings.check(type(self), vars(self))
        for name in ("limit", "labelled", "memory"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        for name in ("split_seed", "labelled_seed"):
            if not 0 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {2**31 - 1}")
        for name in ("height_and_width", "low_and_high", "shares", "raw_shape", "background_colour"):
            getattr(self, name)  # each raises for an invalid format

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """Height and width of `size`, in pixels; None: the images' own."""
        if not self.size:
            return None
        match = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", self.size)
        if match is None:
            raise ValueError(f"size is {shown(self.size)}; it must be like 64 or 48x80 (height x width)")
        height, width = int(match[1]), int(match[2] or match[1])
        if min(height, width) < 8 or max(height, width) > 1024:
            raise ValueError(f"size is {self.size}; height and width must be from 8 to 1024")
        return height, width

    @property
    def low_and_high(self) -> tuple[float, float] | None:
        """Values of black and white of `value_range`; None: derived from the data."""
        if not self.value_range:
            return None
        try:
            low, high = map(_number, self.value_range.split(","))
        except ValueError:
            raise ValueError(f"value_range is {shown(self.value_range)}; it must be two numbers, like 0,255") from None
        if not low < high:
            raise ValueError(f"value_range is {self.value_range}; the first number must be smaller than the second")
        if max(-low, high) > LARGEST_NUMBER or high - low < 1 / LARGEST_NUMBER:
            raise ValueError(
                f"value_range is {self.value_range}; its numbers must be at most {LARGEST_NUMBER:g} and differ by at least "
                f"{1 / LARGEST_NUMBER:g}"
            )
        return low, high

    @property
    def shares(self) -> tuple[float, float, float] | None:
        """Fractions for training, validation and test; None: the source's own split."""
        if not self.split:
            return None
        try:
            parts = [_number(part) for part in self.split.split("/")]
        except ValueError:
            parts = []
        if len(parts) == 2:
            parts = [parts[0], 0.0, parts[1]]
        if len(parts) != 3 or min(parts) < 0 or parts[0] == 0 or parts[2] == 0 or abs(sum(parts) - 1) > 1e-6:
            raise ValueError(
                f"split is {shown(self.split)}; it must be fractions that add up to 1, like 0.8/0.1/0.1 (train/validation/test) or 0.9/0.1"
            )
        return parts[0], parts[1], parts[2]

    @property
    def raw_shape(self) -> tuple[int, int, int] | None:
        """Shape given by `tfrecord_shape`; None: images are encoded."""
        if not self.tfrecord_shape:
            return None
        match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})x([1-4])", self.tfrecord_shape)
        if match is None:
            raise ValueError(
                f"tfrecord_shape is {shown(self.tfrecord_shape)}; it must be like 28x28x1 (height x width x channels)"
            )
        return int(match[1]), int(match[2]), int(match[3])

    @property
    def background_colour(self) -> tuple[int, int, int]:
        """Red, green and blue of `background`, 0 to 255."""
        from PIL import ImageColor

        try:
            red, green, blue = ImageColor.getrgb(self.background)[:3]  # without transparency
            if not all(0 <= value <= 255 for value in (red, green, blue)):
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(
                f"background is {shown(self.background)}; it must be the name of a colour or #rrggbb"
            ) from None
        return red, green, blue


def _number(text: str) -> float:
    """Parse a number in decimal notation. Raises ValueError for anything else, such as nan and digits of other scripts."""
    if re.fullmatch(r" *[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})? *", text) is None:
        raise ValueError(f"{shown(text)} is no number")
    return float(text)
