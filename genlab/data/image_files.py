"""Image files: only the documented formats, no more pixels than memory holds, and one error for any damage."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import threading
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError

from genlab import files
from genlab.errors import decoding

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats that are read. Pillow knows many more: some have decoders that are hardly ever used, and PostScript runs a program."""
MOST_PIXELS = 80_000_000
"""Maximum number of pixels of an image, checked before it is decoded. Decoding takes up to 16 bytes for each."""
MANY_PIXELS = 10_000_000
"""Number of pixels above which images are decoded one at a time, so that threads do not multiply their memory."""
LARGEST_FILE = 2**30
"""Maximum size of a file, in bytes: some decoders read all of it at once."""

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | bytes) -> Iterator[Image.Image]:
    """Open an image, given by its path or its bytes. Its header is read; pixels are decoded when they are first used.

    Raises ValueError with one line that says why if the image cannot be read, also when that shows within the `with`
    statement: the file does not exist or is no regular file, has another format, is damaged, or is too large.
    """
    with decoding():
        if not isinstance(source, bytes):
            files.check_regular(source)
        size = len(source) if isinstance(source, bytes) else pathlib.Path(source).stat().st_size
        if size > LARGEST_FILE:
            raise ValueError(f"it has {size:,} bytes, and at most {LARGEST_FILE:,} are read")
        with _identified(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            count = picture.width * picture.height
            if count > MOST_PIXELS:
                raise ValueError(
                    f"it has {picture.width:,}x{picture.height:,} pixels, and at most {MOST_PIXELS:,} are read"
                )
            with _one_at_a_time if count > MANY_PIXELS else contextlib.nullcontext():
                yield picture


def _identified(source: io.BytesIO | str | os.PathLike[str]) -> Image.Image:
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("it is not an image in the format PNG, JPEG, WebP, BMP, GIF or TIFF") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels") from None
