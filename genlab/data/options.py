"""How data is read and prepared, as flags of every command that loads it."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What becomes of the images of `--data` on their way to training; each field is a flag."""

    size: str = ""
    """Height and width that images are brought to, in pixels: 64, or 48x80 (height x width). By default their own."""
    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How: crop cuts off what is over, pad adds bars of the background, stretch changes the proportions."""
    channels: Literal["auto", "1", "3"] = "auto"
    """Grey (1) or colour (3). auto: grey where every image is."""
    background: str = "white"
    """Colour behind transparent pixels and of the bars of --resize pad: a name, or #rrggbb."""
    value_range: str = ""
    """Darkest and lightest value of the numbers in arrays: 0,255. By default uint8 has its own, and floats 0,1 or -1,1, as
    they plainly lie."""
    classes: str = ""
    """Only these classes, by name or number: 3,7. They are numbered anew, in their old order."""
    limit: int | None = None
    """At most so many training images, drawn once for all in equal shares of the classes they are of."""
    split: str = ""
    """Shares to train on, to validate with and to test with: 0.8/0.1/0.1; or of training and test alone: 0.9/0.1. Stratified
    by label. By default the source's own split, or none."""
    split_seed: int = 0
    """Seeds --split and --limit."""
    balance: Literal["none", "oversample", "weight"] = "none"
    """Against classes of unequal size: oversample repeats the images of the smaller ones in every epoch until all are as
    large as the largest; weight draws every image by chance, each class as often as the others."""
    flip: bool = False
    """Mirror half of the training images, left to right, anew each time."""
    augment: tuple[Literal["shift", "rotate", "zoom", "brightness", "contrast"], ...] = ()
    """Change training images a little, at random and anew each time: shift by up to an eighth, rotate by up to 10 degrees,
    zoom by up to a tenth, brightness and contrast by up to a fifth."""
    skip_bad: bool = False
    """Leave out image files that cannot be read, and note their names, instead of refusing to start."""
    memory: float = 2.0
    """Images are held in memory where all take less than so many GiB, decoded; else they are read as they are needed."""
    tfrecord_image: str = "image"
    """Key of the image in the examples of TFRecord files that others wrote: encoded, or raw with --tfrecord-shape."""
    tfrecord_label: str = "label"
    """Key of the label, an integer, in such files; without it there are no labels."""
    tfrecord_shape: str = ""
    """Height x width x channels of raw bytes in such files: 28x28x1."""

    def __post_init__(self) -> None:
        """Raise ValueError for the first value that cannot be meant."""
        for name in ("limit", "memory"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        if not 0 <= self.split_seed < 2**31:
            raise ValueError(f"split_seed is {self.split_seed}; it must be from 0 to {2**31 - 1}")
        for name in ("height_and_width", "low_and_high", "shares", "raw_shape", "background_colour"):
            getattr(self, name)  # each raises for what it cannot read

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """What `size` asks for, in pixels; None: the images' own."""
        if not self.size:
            return None
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", self.size)
        if match is None:
            raise ValueError(f"size is {self.size!r}; it must be like 64 or 48x80 (height x width)")
        height, width = int(match[1]), int(match[2] or match[1])
        if min(height, width) < 8 or max(height, width) > 1024:
            raise ValueError(f"size is {self.size}; height and width must be from 8 to 1024")
        return height, width

    @property
    def low_and_high(self) -> tuple[float, float] | None:
        """What `value_range` says; None: to be seen from the values."""
        if not self.value_range:
            return None
        try:
            low, high = (float(value) for value in self.value_range.split(","))
        except ValueError:
            raise ValueError(f"value_range is {self.value_range!r}; it must be two numbers, like 0,255") from None
        if not low < high:
            raise ValueError(f"value_range is {self.value_range}; the first number must be the smaller one")
        return low, high

    @property
    def shares(self) -> tuple[float, float, float] | None:
        """Shares for training, validation and test; None: the source's own."""
        if not self.split:
            return None
        try:
            parts = [float(part) for part in self.split.split("/")]
        except ValueError:
            parts = []
        if len(parts) == 2:
            parts = [parts[0], 0.0, parts[1]]
        if len(parts) != 3 or min(parts) < 0 or parts[0] == 0 or parts[2] == 0 or abs(sum(parts) - 1) > 1e-6:
            raise ValueError(
                f"split is {self.split!r}; it must be shares that add up to 1, like 0.8/0.1/0.1 (train/validation/test) or 0.9/0.1"
            )
        return parts[0], parts[1], parts[2]

    @property
    def raw_shape(self) -> tuple[int, int, int] | None:
        """What `tfrecord_shape` says; None: images are encoded."""
        if not self.tfrecord_shape:
            return None
        match = re.fullmatch(r"(\d+)x(\d+)x([1-4])", self.tfrecord_shape)
        if match is None:
            raise ValueError(
                f"tfrecord_shape is {self.tfrecord_shape!r}; it must be like 28x28x1 (height x width x channels)"
            )
        return int(match[1]), int(match[2]), int(match[3])

    @property
    def background_colour(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        from PIL import ImageColor

        try:
            return ImageColor.getcolor(self.background, "RGB")  # type: ignore[return-value]
        except ValueError:
            raise ValueError(f"background is {self.background!r}; it must be a colour's name or #rrggbb") from None
