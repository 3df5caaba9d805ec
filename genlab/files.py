"""Files: atomic writes, checked reads, names that are safe as file names, and the user's cache folder."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import stat
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from genlab.errors import GenlabError, UsageError

LARGEST_JSON = 100_000_000
"""Bytes above which a JSON file is not read."""
LARGEST_RATIO = 1032
"""Bytes that one deflated byte can stand for, at most."""
CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""
MOST_BYTES = 2 * 2**30
"""Bytes of arrays that are drawn or decoded into memory at once."""
LONGEST_NAME = 80
"""Bytes of a name that `file_name` keeps; most file systems take 255, and a file name may hold two names."""
Content = TypeVar("Content")


class Readable(Protocol):
    """An open file, perhaps within an archive."""

    def read(self, size: int, /) -> bytes: ...


def replace(path: str | os.PathLike[str], write: Callable[[pathlib.Path], object]) -> pathlib.Path:
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


def write_text(path: str | os.PathLike[str], text: str) -> pathlib.Path:
    """Write text to a file atomically, in UTF-8."""
    return replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, npt.ArrayLike], *, compressed: bool = True
) -> pathlib.Path:
    """Replace an .npz file by these arrays, at `arrays_path(path)`. Return that path."""
    path = arrays_path(path)
    save = np.savez_compressed if compressed else np.savez
    return replace(path, lambda temporary: save(temporary, allow_pickle=False, **arrays))


def arrays_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return a path with the suffix .npz, which is added where it is missing. Raises UsageError for a folder."""
    path = pathlib.Path(path)
    if path.name in ("", "..") or path.is_dir():
        raise UsageError(f"{path} is a folder; name a file, like {path / 'arrays.npz'}.")
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def write_json(path: str | os.PathLike[str], content: Any) -> pathlib.Path:
    """Write JSON to a file atomically. Numbers that JSON lacks become the texts NaN, Infinity and -Infinity: see `Number`."""
    known = json.loads(json.dumps(content), parse_constant=str)
    return write_text(path, json.dumps(known, indent=2, allow_nan=False) + "\n")


Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""A number in a file of `write_json`; `float` converts it. Files of early versions have it without quotes."""


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if the path is no regular file: a pipe or a device may block for ever, or never end."""
    if not stat.S_ISREG(pathlib.Path(path).stat().st_mode):
        raise ValueError("it is not a regular file")


def memory() -> int:
    """Return the size of this machine's memory, in bytes; if the system does not tell, 1 TiB."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def read_exactly(file: Readable, size: int, stored: int, *, compressed: bool = False) -> np.ndarray:
    """Read the rest of a file: the bytes that its header promises, uint8 [size].

    `stored` are the bytes on disk that hold them, deflated if `compressed`. Raises ValueError if these cannot make as many,
    if memory cannot hold them, before any is taken, and if there turn out to be fewer or more.
    """
    if size > stored * (LARGEST_RATIO if compressed else 1):
        raise ValueError(
            f"it is damaged: its header promises {size:,} bytes, and {stored:,} {'compressed ' * compressed}bytes are there"
        )
    if size > memory():
        raise ValueError(f"its header promises {size:,} bytes, and this machine has {memory():,} bytes of memory")
    content = np.empty(size, np.uint8)  # takes no memory before it is filled
    end = 0
    while end < size and (part := file.read(min(CHUNK, size - end))):
        content[end : end + len(part)] = np.frombuffer(part, np.uint8)
        end += len(part)
    if end < size or file.read(1):
        found = f"{end:,}" if end < size else "more"
        raise ValueError(f"it is damaged: its header promises {size:,} bytes, and it holds {found}")
    return content


def read_json(path: str | os.PathLike[str], kind: type[Content]) -> Content:
    """Read a JSON file whose content must be of the type `kind`, such as a TypedDict. All JSON files are read here.

    Raises FileNotFoundError if there is none, GenlabError with what does not fit for any other content.
    """
    path = pathlib.Path(path)
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and at most {LARGEST_JSON:,} are read")
        return parse_json(path.read_bytes(), kind)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise GenlabError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error


def parse_json(content: bytes, kind: type[Content]) -> Content:
    """Return JSON, at most LARGEST_JSON bytes, as a value of the type `kind`. Raises ValueError with one line for any other."""
    if len(content) > LARGEST_JSON:
        raise ValueError(f"it has {len(content):,} bytes, and at most {LARGEST_JSON:,} are read")
    try:
        return checked(json.loads(content), kind)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def checked(value: object, kind: type[Content]) -> Content:
    """Return `value` if it is of the type `kind`, in all its parts. Raises ValueError with one line about the first misfit."""
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    try:
        return check_type(value, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        first, *rest = [line.strip() for line in str(error).splitlines()]
        raise ValueError(" ".join([first, "; ".join(rest)]).strip()) from None


def file_name(text: str) -> str:
    """Convert any text, such as the name of a class, to one that is safe as part of a file name on every system.

    Letters, digits, `_`, `.` and `-` are kept, everything else becomes `-`; leading dots are dropped.
    """
    name = re.sub(r"[^\w.]+", "-", text).strip("-.")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore") or "unnamed"


def file_names(texts: Sequence[str]) -> list[str]:
    """Convert texts, such as the names of all classes, to file names that differ, also without regard to case.

    Those that would not differ get their numbers in the list: `a/b` and `a-b` become `a-b-0` and `a-b-1`.
    """
    names = [file_name(text) for text in texts]
    counts = collections.Counter(name.casefold() for name in names)
    found = []
    for number, name in enumerate(names):
        while counts[name.casefold()] > (name == names[number]):
            name = f"{name}-{number}"
        found.append(name)
    return found


def cache_folder() -> pathlib.Path:
    """Return the folder for cached results: GENLAB_CACHE, or genlab in the user's cache folder."""
    if chosen := os.environ.get("GENLAB_CACHE"):
        return pathlib.Path(chosen)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "genlab"
