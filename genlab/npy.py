"""Files of arrays, .npy and .npz: no Python objects, only the arrays that are asked for, and none larger than its file allows."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from genlab import files
from genlab.errors import GenlabError, decoding

LONGEST_HEADER = 10_000
"""Maximum length of an array's header, in bytes; numpy's own limit."""
KINDS = "biufUS"
"""numpy's kinds of dtypes that are read: booleans, real numbers and text."""
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of an .npz file, and of one without arrays."""
SUFFIX = ".npy"
SINGLE = "arr_0"
"""Name of the array of an .npy file."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Mapping[str, np.ndarray]]:
    """Open an .npz or .npy file as a mapping of names to arrays; an array is read when it is looked up.

    An .npy file has one array, `arr_0`. Raises ValueError with one line that says why if the file cannot be read, also when
    that shows within the `with` statement.
    """
    with decoding():
        files.check_regular(path)
        with pathlib.Path(path).open("rb") as file:
            is_archive = file.read(4) in ARCHIVES
            file.seek(0)
            if is_archive:
                with zipfile.ZipFile(file) as archive:
                    yield _Members(archive)
            else:
                yield {SINGLE: _array(file, pathlib.Path(path).stat().st_size)}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz or .npy file by name. Raises GenlabError if there is none or it cannot be read."""
    try:
        with opened(path) as arrays:
            return dict(arrays)
    except ValueError as error:
        raise GenlabError(f"{path} cannot be read as arrays: {error}.") from error


class _Members(Mapping[str, np.ndarray]):
    """The arrays of an archive."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {
            info.filename.removesuffix(SUFFIX): info for info in archive.infolist() if info.filename.endswith(SUFFIX)
        }

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members  # Mapping's own would read the array

    def __getitem__(self, name: str) -> np.ndarray:
        info = self._members[name]
        if info.flag_bits & 1:
            raise ValueError(f"{name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed by another method than numpy uses")
        with self._archive.open(info) as member:
            return _array(member, info.compress_size, compressed=info.compress_type == zipfile.ZIP_DEFLATED)


def _array(file: IO[bytes], stored: int, *, compressed: bool = False) -> np.ndarray:
    """Read an array that takes `stored` bytes on disk, with its header."""
    shape, by_columns, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if dtype.kind not in KINDS or not dtype.itemsize or any(length < 0 for length in shape):
        raise ValueError(f"its header describes no array of numbers or text: {dtype}, {list(shape)}")
    size = dtype.itemsize
    for length in shape:
        size *= length
    content = files.read_exactly(file, size, stored if compressed else stored - file.tell(), compressed=compressed)
    return content.view(dtype).reshape(shape, order="F" if by_columns else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array: its shape, whether it is stored by columns, and its dtype."""
    begin = file.read(8)
    if begin[:6] != np.lib.format.MAGIC_PREFIX:
        raise ValueError("it is not an array that numpy wrote")
    layouts = {
        b"\1\0": ("<H", np.lib.format.read_array_header_1_0),
        b"\2\0": ("<I", np.lib.format.read_array_header_2_0),
    }
    if begin[6:] not in layouts:
        raise ValueError(f"its format has the unknown version {'.'.join(map(str, begin[6:]))}")
    kind, parse = layouts[begin[6:]]
    prefix = file.read(struct.calcsize(kind))
    (length,) = struct.unpack(kind, prefix)
    if length > LONGEST_HEADER:  # numpy would read it before it checks
        raise ValueError(f"its header has {length:,} bytes, and at most {LONGEST_HEADER:,} are read")
    return parse(io.BytesIO(prefix + file.read(length)), max_header_size=LONGEST_HEADER)
