"""TFRecord shards: write images of any source in files with checksums, and read them by index."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import mmap
import pathlib
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from genlab import files
from genlab.backend import tf
from genlab.data.dataset import FIELDS, Dataset, Part
from genlab.data.frame import GREY, to_picture
from genlab.data.records import Header, Reader, Records
from genlab.errors import UsageError

INDEX = "index.json"
SUFFIXES = (".tfrecord", ".tfrecords")
IMAGES_PER_SHARD = 1000
BYTES_PER_SHARD = 100_000_000
FORMAT = "genlab-shards-1"
ImagesOf: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Function of rows [N] that returns their images, uint8 [N, H, W, C], and their labels [N] or None."""


@dataclasses.dataclass(frozen=True)
class Keys:
    """Keys of the image and its label in an example."""

    image: str = "image"
    label: str = "label"
    raw_shape: tuple[int, int, int] | None = None
    """(height, width, channels) of raw bytes; None: the image is encoded."""


class Shards(Reader):
    """Reads the examples of TFRecord files by index."""

    def __init__(self, paths: list[pathlib.Path], keys: Keys) -> None:
        self.paths = paths
        self.keys = keys
        # Files are neither kept open nor mapped: there may be thousands, and mapped pages count as memory.
        places = []
        for path in paths:
            with _mapped(path) as content:
                places.append(_record_places(path, content))
        starts, lengths = zip(*places, strict=True)
        self._ends = np.cumsum([len(start) for start in starts])
        self._starts, self._lengths = np.concatenate(starts), np.concatenate(lengths)

    def __len__(self) -> int:
        return len(self._starts)

    def example(self, index: int) -> Mapping[str, tf.train.Feature]:
        """Return the features of an example by key. Raises ValueError if it is not an example."""
        with self.paths[self._shard(index)].open("rb", buffering=0) as file:
            file.seek(int(self._starts[index]))
            return _features(file.read(int(self._lengths[index])))

    def read(self, index: int) -> Image.Image | np.ndarray:
        features = self.example(index)
        if self.keys.image not in features:
            raise ValueError(
                f"it has no image under {self.keys.image!r}, but {', '.join(sorted(features)) or 'nothing'}; name the key with "
                "--tfrecord-image"
            )
        values = features[self.keys.image].bytes_list.value
        if len(values) != 1:
            raise ValueError(f"{self.keys.image!r} holds {len(values)} byte strings; it must hold one")
        shape = self.keys.raw_shape
        if shape is None:
            picture = Image.open(io.BytesIO(values[0]))
            picture.load()
            return picture
        if len(values[0]) != np.prod(shape):
            raise ValueError(
                f"it holds {len(values[0]):,} bytes, and {'x'.join(map(str, shape))} takes {np.prod(shape):,}"
            )
        return np.frombuffer(values[0], np.uint8).reshape(shape)

    def header(self, index: int) -> Header:
        picture = self.read(index)
        if isinstance(picture, np.ndarray):
            return Header(picture.shape[0], picture.shape[1], picture.shape[2] < 3, f"{picture.shape[2]} channels")
        return Header(picture.height, picture.width, picture.mode in GREY, picture.mode)

    def labels(self) -> np.ndarray | None:
        """Return labels, int32 [N]; None if the first example has none. Raises UsageError for missing or invalid labels."""
        key = self.keys.label
        if not len(self) or key not in self.example(0):
            return None
        labels = np.empty(len(self), np.int32)
        for path, first, end in zip(self.paths, [0, *self._ends], self._ends, strict=False):
            with _mapped(path) as content:  # mapped once: opening the file for each label takes minutes
                for index in range(first, end):
                    start = int(self._starts[index])
                    values = _features(content[start : start + int(self._lengths[index])])[key].int64_list.value
                    if len(values) != 1 or not 0 <= values[0] < 2**31:
                        raise UsageError(f"{self.name(index)}: its label {key!r} must be one integer, at least 0.")
                    labels[index] = values[0]
        return labels

    def name(self, index: int) -> str:
        shard = self._shard(index)
        before = int(self._ends[shard - 1]) if shard else 0
        return f"{self.paths[shard].name}, record {index - before}"

    def _shard(self, index: int) -> int:
        return int(np.searchsorted(self._ends, index, side="right"))

    def digest(self) -> str:
        sizes = [f"{path.name} {path.stat().st_size}" for path in self.paths]
        return hashlib.sha256("\n".join([*sizes, repr(self.keys)]).encode()).hexdigest()


def _features(content: bytes) -> Mapping[str, tf.train.Feature]:
    """Parse the features of an example by key."""
    try:
        return tf.train.Example.FromString(content).features.feature
    except Exception as error:  # protobuf's own exception is in a private module
        raise ValueError("its bytes are not a tf.train.Example") from error


@contextlib.contextmanager
def _mapped(path: pathlib.Path) -> Iterator[bytes | mmap.mmap]:
    """Map a file of any size into memory for a while."""
    if not path.stat().st_size:  # nothing to map
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _record_places(path: pathlib.Path, content: bytes | mmap.mmap) -> tuple[np.ndarray, np.ndarray]:
    """Return start and length of the records of a TFRecord file, in bytes.

    A record is its length (8 bytes), a checksum of that (4), the bytes, and a checksum of these (4).
    """
    if content[:2] == b"\x1f\x8b":
        raise UsageError(
            f"{path} is compressed as a whole, so records cannot be read by index. Write it again without compression."
        )
    starts: list[int] = []
    lengths: list[int] = []
    position = 0
    while position < len(content):
        if position + 12 > len(content):
            raise UsageError(f"{path} is cut short: its record {len(starts)} is incomplete.")
        (length,) = struct.unpack_from("<Q", content, position)
        if position + 16 + length > len(content):
            raise UsageError(f"{path} is cut short or not a TFRecord file: its record {len(starts)} is incomplete.")
        starts.append(position + 12)
        lengths.append(length)
        position += 16 + length
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def is_shard_folder(folder: pathlib.Path) -> bool:
    return (folder / INDEX).is_file() or bool(_record_files(folder))


def _record_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) or ".tfrecord-" in path.name)


def load(path: pathlib.Path, keys: Keys) -> Dataset:
    """Load the images of a folder of shards, or of one TFRecord file; they have no frame yet.

    For shards written by genlab, the index describes content and splits. Raises UsageError if a shard is missing or its
    size differs from the index.
    """
    if path.is_file():
        return _foreign(path, [path], keys)
    if not (path / INDEX).is_file():
        return _foreign(path, _record_files(path), keys)
    index = read_index(path)
    keys = Keys(raw_shape=tuple(index["shape"]) if index["encoding"] == "raw" else None)
    parts: dict[str, Part] = {}
    for split in FIELDS:
        named = [shard for shard in index["shards"] if shard["split"] == split]
        for shard in named:
            file = path / shard["file"]
            if not file.is_file() or file.stat().st_size != shard["bytes"]:
                found = f"{file.stat().st_size:,} bytes" if file.is_file() else "missing"
                raise UsageError(
                    f"{file} is {found}, and the index says {shard['bytes']:,} bytes. Write the shards again."
                )
        if named:
            shards = Shards([path / shard["file"] for shard in named], keys)
            parts[split] = Records.all_of(shards), shards.labels() if index["class_names"] else None
    if "train" not in parts:
        raise UsageError(f"{path}: its index lists no shards for training.")
    images, labels = parts["train"]
    dataset = Dataset(index["name"], str(path), images, labels, class_names=tuple(index["class_names"]))
    return dataset.with_parts(parts)


def _foreign(path: pathlib.Path, files: list[pathlib.Path], keys: Keys) -> Dataset:
    shards = Shards(files, keys)
    if not len(shards):
        raise UsageError(f"{path} holds no records.")
    labels = shards.labels()
    classes = 0 if labels is None else int(labels.max()) + 1
    return Dataset(
        name=path.resolve().name.partition(".")[0],
        source=str(path),
        images=Records.all_of(shards),
        labels=labels,
        class_names=tuple(str(label) for label in range(classes)),
    )


def read_index(folder: pathlib.Path) -> dict[str, Any]:
    """Read the index of shards written by genlab. Raises UsageError if it is unreadable, incomplete or of another format."""
    try:
        index = json.loads((folder / INDEX).read_text())
        if index["format"] != FORMAT or not index["complete"]:
            state = "of another format" if index["format"] != FORMAT else "not complete: type the same command again"
            raise UsageError(f"{folder / INDEX} is {state}.")
        return index
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / INDEX} cannot be read: {error}.") from error


def damaged(folder: pathlib.Path) -> list[str]:
    """Return the names of the shards whose checksums do not match the index."""
    return [
        shard["file"] for shard in read_index(folder)["shards"] if _sha256(folder / shard["file"]) != shard["sha256"]
    ]


def write(
    folder: pathlib.Path,
    facts: dict[str, Any],
    parts: dict[str, tuple[int, ImagesOf]],
    *,
    raw: bool = False,
    images_per_shard: int = IMAGES_PER_SHARD,
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """Write images as shards with an index, and return the index. Existing shards of the same command are kept.

    `facts` describe the images: `name`, `shape` [H, W, C], `class_names`, and anything else to store in the index. They must
    be the same to resume an interrupted call. `parts` holds for each split the number of images and a function of rows ->
    (uint8 [N, H, W, C], labels [N] or None). `progress` is called with the number of images written. Images are encoded as
    PNG, or stored `raw`, which is always the case for two or four channels. Raises UsageError if the folder has other
    content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = raw or facts["shape"][2] not in (1, 3)
    facts = {"format": FORMAT, "encoding": "raw" if raw else "png", "images_per_shard": images_per_shard} | facts
    index = _begun(folder, facts)
    done = {shard["file"]: shard for shard in index["shards"]}
    shards = []
    for split, (count, images_of) in parts.items():
        for number, start in enumerate(range(0, count, images_per_shard)):
            file = f"{split}-{number:05d}.tfrecord"
            shard = done.get(file)
            rows = np.arange(start, min(count, start + images_per_shard))
            if shard is None or not (folder / file).is_file() or (folder / file).stat().st_size != shard["bytes"]:
                images, labels = images_of(rows)
                shard = {"file": file, "split": split} | _write_shard(folder / file, images, labels, raw)
            shards.append(shard)
            _write_index(folder, index | {"shards": shards})
            progress(len(rows))
    index |= {"shards": shards, "complete": True}
    _write_index(folder, index)
    return index


def _begun(folder: pathlib.Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the index of an interrupted call, or a new one."""
    new = facts | {"complete": False, "shards": []}
    path = folder / INDEX
    if not path.is_file():
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and holds no shards written by genlab. Choose another folder.")
        return new
    try:
        index = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    differing = [name for name in facts if index.get(name) != json.loads(json.dumps(facts[name]))]
    if differing:
        raise UsageError(f"{folder} holds other shards: they differ in {', '.join(differing)}. Choose another folder.")
    return index | {"complete": False}


def _write_shard(path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None, raw: bool) -> dict[str, Any]:
    def write(temporary: pathlib.Path) -> None:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for row, image in enumerate(images):
                features = {"image": _bytes(image.tobytes() if raw else _png(image))}
                if labels is not None:
                    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(labels[row])]))
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())

    files.replace(path, write)
    return {"images": len(images), "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _write_index(folder: pathlib.Path, index: dict[str, Any]) -> None:
    files.write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "png")
    return buffer.getvalue()


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
