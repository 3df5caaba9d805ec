"""Images on disk that are read on demand, with the interface of an array."""

from __future__ import annotations

import abc
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from genlab import console
from genlab.console import one_line
from genlab.data.frame import GREY, Frame
from genlab.errors import UsageError, reason

NAMED = 10
"""Maximum number of unreadable files that an error lists."""
SLOW = 1e-3
"""Seconds per image above which threads are used. For 64x64 images, mostly Python's work, they halve the throughput."""
AT_ONCE = 1024
"""Images read between two updates of the progress bar."""
Item = TypeVar("Item")
Result = TypeVar("Result")
ORIENTATION = 0x0112
"""EXIF's entry for how the camera was held."""
UPRIGHT = (1, 2, 3, 4)
"""EXIF orientations that do not swap width and height."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Properties of an image that are known before decoding."""

    height: int
    width: int
    grey: bool
    mode: str

    @classmethod
    def of(cls, image: Image.Image | np.ndarray) -> Header:
        """Describe a picture that need not be decoded yet, or an array uint8 [H, W, C]."""
        if isinstance(image, np.ndarray):
            return cls(image.shape[0], image.shape[1], image.shape[2] < 3, f"{image.shape[2]} channels")
        width, height = image.size
        # Pillow turns TIFF images by itself, and its size is that of the turned image.
        if image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) not in UPRIGHT:
            width, height = height, width
        return cls(height, width, image.mode in GREY, image.mode)


class Reader(abc.ABC):
    """Reads the images of a source by index; their sizes may differ."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def opened(self, index: int) -> contextlib.AbstractContextManager[Image.Image | np.ndarray]:
        """Open a picture, whose pixels are decoded when they are first used, or an array uint8 [H, W, C].

        Raises ValueError or OSError if it cannot be read, also when that shows within the `with` statement.
        """

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Return a name by which the user can find the image."""

    @abc.abstractmethod
    def digest(self) -> str:
        """Return a hash of the files' names and sizes, not of their content."""


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Images of a reader, like an array uint8 [N, H, W, C] that is read row by row.

    `records[rows]` with a slice, an index or an array of indices reads those rows. Without a frame, images may have any
    size and cannot be read yet.
    """

    reader: Reader
    rows: np.ndarray
    """Indices of these images in the reader, int64 [N]."""
    frame: Frame | None = None

    dtype = np.dtype(np.uint8)

    @classmethod
    def all_of(cls, reader: Reader) -> Records:
        return cls(reader, np.arange(len(reader)))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Return a name by which the user can find the image of a row."""
        return self.reader.name(int(self.rows[row]))

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.frame is not None
        return len(self.rows), *self.frame.shape

    @property
    def nbytes(self) -> int:
        """Bytes that the images take in memory."""
        return int(np.prod(self.shape, dtype=np.int64))

    def take(self, rows: np.ndarray) -> Records:
        """Return the records of some rows, without reading them."""
        return dataclasses.replace(self, rows=self.rows[rows])

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        chosen = self.rows[rows]
        if chosen.ndim == 0:
            return self._read(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, image in enumerate(by_threads(self._read, chosen.tolist())):
            images[place] = image
        return images

    def _read(self, index: int) -> np.ndarray:
        try:
            return self._decoded(index)
        except (OSError, ValueError) as error:
            name = one_line(self.reader.name(index))  # TensorFlow, which calls this, passes on no other text
            raise UsageError(f"{name} can no longer be read: {reason(error)}.") from error

    def _decoded(self, index: int) -> np.ndarray:
        assert self.frame is not None
        with self.reader.opened(index) as image:
            return self.frame.of(image)

    def _header(self, index: int) -> Header:
        with self.reader.opened(index) as image:
            return Header.of(image)

    def sha256(self) -> str:
        """Return a hash of the files' names and sizes, the rows and the frame."""
        digest = hashlib.sha256(f"{self.reader.digest()} {self.frame}".encode())
        digest.update(self.rows.tobytes())
        return digest.hexdigest()

    def headers(self) -> tuple[list[Header | None], dict[int, str]]:
        """Return the header of every row (None if it cannot be read), and the reasons by row."""
        found: list[Header | None] = [None] * len(self)
        distinct: dict[Header, Header] = {}  # a million images have few different headers

        def keep(row: int, header: Header) -> None:
            found[row] = distinct.setdefault(header, header)

        return found, self._attempt(self._header, "looking at images", keep)

    def checked(self, into: np.ndarray | None = None) -> dict[int, str]:
        """Decode every row, into `into` [N, H, W, C] if given. Return the reasons of failures by row."""

        def keep(row: int, image: np.ndarray) -> None:
            if into is not None:
                into[row] = image

        return self._attempt(self._decoded, "reading images" if into is not None else "checking images", keep)

    def _attempt(
        self, work: Callable[[int], Result], title: str, keep: Callable[[int, Result], None]
    ) -> dict[int, str]:
        """Call `work` on every row, in threads, and `keep` with its results. Return the reasons of failures by row."""

        def attempt(index: int) -> Result | str:
            try:
                return work(index)
            except (OSError, ValueError) as error:
                return reason(error)

        bad: dict[int, str] = {}
        shown = len(self) >= AT_ONCE
        with console.progress(total=len(self), unit="image", shown=shown, desc=title, leave=False) as bar:
            for start in range(0, len(self), AT_ONCE):
                chunk = self.rows[start : start + AT_ONCE].tolist()
                for row, result in enumerate(by_threads(attempt, chunk), start):
                    if isinstance(result, str):
                        bad[row] = result
                    else:
                        keep(row, result)
                bar.update(len(chunk))
        return bad


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads that decode images: Pillow releases Python's lock while it decodes."""
    return concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1), "genlab-images")


def by_threads(work: Callable[[Item], Result], images: Sequence[Item] | np.ndarray) -> Iterator[Result]:
    """Yield the result of `work` for each image (or index), in order; uses threads once an image takes longer than SLOW."""
    for done, image in enumerate(images):
        started = time.perf_counter()
        result = work(image)
        slow = time.perf_counter() - started > SLOW
        yield result
        if slow:
            yield from _pool().map(work, images[done + 1 :])
            return


def refusal(source: str, bad: Iterable[tuple[str, str]]) -> UsageError:
    """Return the error that lists unreadable images, the first ten of them."""
    named = list(bad)
    lines = [f"  {name}: {why}" for name, why in named[:NAMED]]
    if len(named) > NAMED:
        lines.append(f"  and {len(named) - NAMED:,} more")
    return UsageError(
        f"{source}: {len(named):,} of the images cannot be read. Repair or remove them, or add --skip-bad to skip them:\n"
        + "\n".join(lines)
    )
