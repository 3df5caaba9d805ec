"""The user's cache folder: what takes minutes to find out, and can be found out again."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable


def folder() -> pathlib.Path:
    """GENLAB_CACHE, or genlab in the user's own cache folder."""
    if chosen := os.environ.get("GENLAB_CACHE"):
        return pathlib.Path(chosen)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "genlab"


def write(path: pathlib.Path, writing: Callable[[pathlib.Path], object]) -> None:
    """Let a file be written beside its place and put it there at once: others see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        writing(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
