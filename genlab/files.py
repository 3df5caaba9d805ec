"""Atomic file writes, and the user's cache folder."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def replace(path: str | os.PathLike, write: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """Write a file atomically: `write` gets a temporary path in the same folder, which then replaces `path`.

    The folder is created if missing. The temporary path keeps the suffix of `path`, which some writers depend on.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: str | os.PathLike, text: str) -> pathlib.Path:
    """Write text to a file atomically, in UTF-8."""
    return replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any], *, compressed: bool = True) -> pathlib.Path:
    """Replace an .npz file by these arrays; the suffix is added where it is missing. Return its path."""
    path = pathlib.Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    save = np.savez_compressed if compressed else np.savez
    return replace(path, lambda temporary: save(temporary, allow_pickle=False, **arrays))


def cache_folder() -> pathlib.Path:
    """Return the folder for cached results: GENLAB_CACHE, or genlab in the user's cache folder."""
    if chosen := os.environ.get("GENLAB_CACHE"):
        return pathlib.Path(chosen)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "genlab"
