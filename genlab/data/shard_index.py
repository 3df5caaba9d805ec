"""The index of shards: what they hold and whether they are whole. Parts written apart have one each, joined when read."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any, Literal, NotRequired, TypedDict

from genlab import bounds, files
from genlab.errors import GenlabError, UsageError, listed

INDEX = "index.json"
OF_PART = re.compile(r"index-([0-9]{5})-of-([0-9]{5})\.json")
"""Names of the indexes of parts."""
MOST_PARTS = 99_999
FORMAT = "genlab-shards-1"


class Entry(TypedDict):
    """What an index says about one shard."""

    file: str
    split: Literal["train", "validation", "test"]
    images: int
    bytes: int
    sha256: str


class Index(TypedDict):
    """Content of index.json, or of the index of a part."""

    format: str
    encoding: Literal["png", "raw"]
    images_per_shard: int
    name: str
    shape: list[int]
    """[height, width, channels]"""
    class_names: list[str]
    complete: bool
    """Whether all shards are written."""
    shards: list[Entry]
    data_sha256: NotRequired[str]
    """Hash of the data set that was written."""
    run: NotRequired[str]
    """Name of the run that generated the images, with `step`, first `seed`, `label` (None: all classes) and `shares`."""
    step: NotRequired[int]
    seed: NotRequired[int]
    label: NotRequired[int | None]
    shares: NotRequired[list[float]]
    """Share of each class; without it, all classes equally often."""
    threshold: NotRequired[float]
    """Least probability of the labels that the classifier of `run` gave, or a new one."""
    classifier_steps: NotRequired[int]
    """Training steps of the new classifier."""
    parts: NotRequired[int]
    """Number of parts that are written apart, this being one of them, with `images`, the number of images of all parts."""
    images: NotRequired[int]


@dataclasses.dataclass(frozen=True)
class Part:
    """A share of the shards that one process writes."""

    number: int
    """From 1 up."""
    of: int
    """Number of parts."""

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read a part like 3/16. Raises UsageError for any other text."""
        example = "K/N, part K of N from 1 up, like 3/16"
        number, of = bounds.pair("--part", text, "/", MOST_PARTS, example)
        if not 1 <= number <= of:
            raise UsageError(f"--part {text}: it must be {example}; here, K from 1 to {of:,}.")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def file(self) -> str:
        """Name of its index."""
        return f"index-{self.number:05d}-of-{self.of:05d}.json"

    def shards(self, count: int) -> range:
        """Return the numbers of its shards, of `count`: parts differ by at most one shard, and none is in two of them."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


def parts_in(folder: pathlib.Path) -> list[Part]:
    """Return the parts of which a folder has an index, in order."""
    found = (OF_PART.fullmatch(path.name) for path in folder.iterdir())
    return sorted((Part(int(each[1]), int(each[2])) for each in found if each), key=lambda part: (part.of, part.number))


def unfinished(folder: pathlib.Path) -> list[Part]:
    """Return the parts of a folder that are missing or not complete, in order. There must be one."""
    there = parts_in(folder)
    complete = {part.number for part in there if read_file(folder / part.file)["complete"]}
    of = there[-1].of
    return [Part(number, of) for number in range(1, of + 1) if number not in complete]


def exists(folder: pathlib.Path) -> bool:
    """Whether a folder has an index, or one of a part."""
    return (folder / INDEX).is_file() or bool(parts_in(folder))


def read(folder: pathlib.Path) -> Index:
    """Read the index of shards written by genlab; those of parts are joined.

    Raises GenlabError if it is damaged, incomplete or of another format, or if a part is missing.
    """
    if (folder / INDEX).is_file():
        index = read_file(folder / INDEX)
        if not index["complete"]:
            raise UsageError(f"{folder / INDEX} is not complete: type the same command again.")
        return index
    return _joined(folder, parts_in(folder))


def _joined(folder: pathlib.Path, parts: list[Part]) -> Index:
    """Return the indexes of all parts as one. Raises UsageError if parts are missing, incomplete or of different data."""
    (of, count), *others = collections.Counter(part.of for part in parts).most_common()
    if others:
        raise UsageError(
            f"{folder} holds parts of {listed(sorted({part.of for part in parts}))}; all must be parts of one number. Write "
            f"them again to an empty folder, or delete the indexes that are not of {of} ({count} are)."
        )
    read_parts = {part.number: read_file(folder / part.file) for part in parts}
    missing = [number for number in range(1, of + 1) if number not in read_parts]
    unfinished = [number for number, index in read_parts.items() if not index["complete"]]
    if missing or unfinished:
        lacking = [
            _named(numbers, of, state)
            for numbers, state in ((missing, "missing"), (unfinished, "not complete"))
            if numbers
        ]
        again = listed((f"--part {Part(number, of)}" for number in sorted(missing + unfinished)), 10)
        raise UsageError(f"{folder}: {', and '.join(lacking)}. Type the same command with {again}.")
    first, *rest = read_parts.values()
    for number, index in enumerate(rest, start=2):
        if differing := differences(first, index):
            raise UsageError(
                f"{folder}: parts 1 and {number} of {of} differ in {', '.join(differing)}. Write one of them again."
            )
    joined = first.copy()
    joined["shards"] = [shard for index in read_parts.values() for shard in index["shards"]]
    return joined


def _named(numbers: list[int], of: int, state: str) -> str:
    """Describe the state of parts: `parts 4 and 7 of 16 are missing`."""
    if len(numbers) == 1:
        return f"part {numbers[0]} of {of} is {state}"
    *first, last = numbers if len(numbers) <= 20 else [*map(str, numbers[:20]), f"{len(numbers) - 20:,} more"]
    return f"parts {', '.join(map(str, first))} and {last} of {of} are {state}"


def differences(index: Index, other: Index) -> list[str]:
    """Return the names of the facts in which two indexes differ: all but the shards and whether they are written."""
    names = (index.keys() | other.keys()) - {"complete", "shards"}
    return sorted(name for name in names if index.get(name) != other.get(name))


def read_file(path: pathlib.Path) -> Index:
    """Read one index, which may be incomplete, and check all that its user relies on."""
    content = files.read_json(path, dict[str, Any])
    if content.get("format") != FORMAT:
        raise UsageError(f"{path} is of another format than {FORMAT}.")
    try:
        index: Index = files.checked(content, Index)
        if len(index["shape"]) != 3 or min(index["shape"]) < 1 or index["shape"][2] > 4:
            raise ValueError(f"the shape is {index['shape']}; it must be [height, width, channels]")
        for shard in index["shards"]:
            if pathlib.PurePath(shard["file"]).name != shard["file"] or shard["file"] in ("", ".."):
                raise ValueError(f"the shard {shard['file']!r} is no file of its folder")
    except ValueError as error:
        raise GenlabError(f"{path} cannot be read: {error}.") from error
    return index


def write(path: pathlib.Path, index: Index) -> None:
    files.write_text(path, json.dumps(index, indent=2) + "\n")


def begun(folder: pathlib.Path, facts: dict[str, Any], part: Part | None) -> Index:
    """Return the index of an interrupted call, or a new one.

    Raises UsageError if the folder holds something else, shards with other facts, or parts of another number.
    """
    new: Index = files.checked(json.loads(json.dumps(facts | {"complete": False, "shards": []})), Index)
    own = folder / (INDEX if part is None else part.file)
    there = [folder / INDEX] * (folder / INDEX).is_file() + [folder / each.file for each in parts_in(folder)]
    # Hidden files may be those that another part is writing.
    if not there and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty, and holds no shards written by genlab. Choose another folder.")
    for path in there:
        index = read_file(path)
        if differing := differences(index, new):
            raise UsageError(
                f"{folder} holds other shards: they differ in {', '.join(differing)}. Choose another folder."
            )
    if not own.is_file():
        return new
    index = read_file(own)
    index["complete"] = False
    return index


def is_whole(folder: pathlib.Path, shard: Entry) -> bool:
    """Whether a shard is there with the size and the checksum of the index."""
    path = folder / shard["file"]
    return path.is_file() and path.stat().st_size == shard["bytes"] and sha256(path) == shard["sha256"]


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
