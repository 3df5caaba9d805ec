"""The animation of a run: its grids of samples in the order of training."""

from __future__ import annotations

import logging
import pathlib
import statistics
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from genlab import grids
from genlab.errors import GenlabError
from genlab.run import grids_of

log = logging.getLogger("genlab")

Content = TypeVar("Content")

FRAMES = 200
"""Maximum number of grids: forty seconds. Of a longer run, as many are shown, evenly spaced."""
MEMORY = 250_000_000
"""Maximum number of pixels' bytes in all frames, which are encoded at once: of large grids, fewer are shown."""


def path(samples: pathlib.Path) -> pathlib.Path:
    """Return the path of the animation in a run's folder of grids."""
    return samples / "progress.gif"


def is_missing(samples: pathlib.Path, step: int) -> bool:
    """Whether there are grids up to a training step, and no animation that is as new."""
    drawn, made = grids_of(samples, step), path(samples)
    return bool(drawn) and (not made.is_file() or made.stat().st_mtime < drawn[-1].stat().st_mtime)


def write(samples: pathlib.Path, step: int) -> None:
    """Write the animation of the grids up to a training step. Files that are damaged or of another size are passed over."""
    sizes = {file: size for file in grids_of(samples, step) if (size := _read(file, grids.image_size)) is not None}
    if not sizes:
        return
    usual = statistics.mode(sizes.values())
    same = [file for file, size in sizes.items() if _fits(file, size, usual)]
    frames = {file: grid for file in _thinned(same, usual) if (grid := _read(file, grids.load_image)) is not None}
    chosen = [grid for file, grid in frames.items() if _fits(file, grid.shape, usual)]
    if chosen:
        grids.save_animation(chosen, path(samples))


def _thinned(files: list[pathlib.Path], size: tuple[int, ...]) -> list[pathlib.Path]:
    """Return at most as many files as an animation holds: evenly spaced, with the first and the last."""
    most = max(2, min(FRAMES, MEMORY // int(np.prod(size))))
    return [files[index] for index in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]


def _read(file: pathlib.Path, read: Callable[[pathlib.Path], Content]) -> Content | None:
    try:
        return read(file)
    except GenlabError as error:
        log.warning(f"warning {error} It is left out of the animation.")
        return None


def _fits(file: pathlib.Path, size: tuple[int, ...], usual: tuple[int, ...]) -> bool:
    if size != usual:
        log.warning(f"warning {file} is {size}, and the other grids are {usual}. It is left out of the animation.")
    return size == usual
