"""TFRecord shards: write images of any source in files with checksums, and read them by index."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import pathlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal, NotRequired, TypeAlias, TypedDict

import numpy as np
from PIL import Image

from genlab import files
from genlab.backend import tf
from genlab.data import image_files
from genlab.data.dataset import FIELDS, Dataset, Part
from genlab.data.frame import to_picture
from genlab.data.labels import UNLABELLED, classes_of
from genlab.data.records import Reader, Records
from genlab.errors import GenlabError, UsageError, decoding, disk_is_full, listed, reason

INDEX = "index.json"
SUFFIXES = (".tfrecord", ".tfrecords")
IMAGES_PER_SHARD = 1000
BYTES_PER_SHARD = 100_000_000
FORMAT = "genlab-shards-1"
ImagesOf: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Function of rows [N] that returns their images, uint8 [N, H, W, C], and their labels [N], which may be UNLABELLED, or None."""
LONGEST_RECORD = 2**31
"""Bytes above which a record is no example: a protocol buffer cannot be longer."""


@dataclasses.dataclass(frozen=True)
class Keys:
    """Keys of the image and its label in an example."""

    image: str = "image"
    label: str = "label"
    raw_shape: tuple[int, int, int] | None = None
    """(height, width, channels) of raw bytes; None: the image is encoded."""


def fitting(shape: Sequence[int], most: int = IMAGES_PER_SHARD) -> int:
    """Return how many images [H, W, C] a shard holds: at most `most`, and about 100 MB."""
    return min(most, max(1, BYTES_PER_SHARD // math.prod(shape)))


class Entry(TypedDict):
    """What an index says about one shard."""

    file: str
    split: Literal["train", "validation", "test"]
    images: int
    bytes: int
    sha256: str


class Index(TypedDict):
    """Content of index.json."""

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
    """Name of the run that generated the images, with `step`, first `seed` and `label` (None: all classes)."""
    step: NotRequired[int]
    seed: NotRequired[int]
    label: NotRequired[int | None]
    threshold: NotRequired[float]
    """Least probability of the labels that the classifier of `run` gave."""


class Shards(Reader):
    """Reads the examples of TFRecord files by index."""

    def __init__(self, paths: list[pathlib.Path], keys: Keys) -> None:
        self.paths = paths
        self.keys = keys
        # Files are neither kept open nor mapped: there may be thousands, mapped pages count as memory, and a mapped file
        # that is cut short ends the process.
        starts, lengths = zip(*map(_record_places, paths), strict=True)
        self._ends = np.cumsum([len(start) for start in starts])
        self._starts, self._lengths = np.concatenate(starts), np.concatenate(lengths)

    def __len__(self) -> int:
        return len(self._starts)

    def example(self, index: int) -> Mapping[str, tf.train.Feature]:
        """Return the features of an example by key. Raises ValueError or OSError if it is not an example."""
        with self.paths[self._shard(index)].open("rb", buffering=0) as file:
            return self._features(file, index)

    def _features(self, file: IO[bytes], index: int) -> Mapping[str, tf.train.Feature]:
        """Parse the features of an example of an open shard, by key."""
        file.seek(int(self._starts[index]))
        with decoding():
            return tf.train.Example.FromString(file.read(int(self._lengths[index]))).features.feature

    @contextlib.contextmanager
    def opened(self, index: int) -> Iterator[Image.Image | np.ndarray]:
        features = self.example(index)
        if self.keys.image not in features:
            raise ValueError(
                f"it has no image under {self.keys.image!r}, but {listed(sorted(features), 10) or 'nothing'}; name the key with "
                "--tfrecord-image"
            )
        values = features[self.keys.image].bytes_list.value
        if len(values) != 1:
            raise ValueError(f"{self.keys.image!r} holds {len(values)} byte strings; it must hold one")
        shape = self.keys.raw_shape
        if shape is None:
            with image_files.opened(values[0]) as picture:
                yield picture
            return
        if len(values[0]) != math.prod(shape):
            raise ValueError(
                f"it holds {len(values[0]):,} bytes, and {'x'.join(map(str, shape))} takes {math.prod(shape):,}"
            )
        yield np.frombuffer(values[0], np.uint8).reshape(shape)

    def labels(self, classes: int | None = None) -> np.ndarray | None:
        """Return labels, int64 [N] from 0 up, below `classes` if given; None if the first example has none.

        With `classes`, any example may lack one, which gives UNLABELLED. Raises UsageError for labels that are otherwise
        missing or invalid, and for records that are no examples.
        """
        key, most = self.keys.label, 2**63 if classes is None else classes
        labels = np.empty(len(self), np.int64)
        for path, first, end in zip(self.paths, [0, *self._ends], self._ends, strict=False):
            with path.open("rb", buffering=0) as file:  # opened once: to open it for each label takes minutes
                for index in range(first, end):
                    try:
                        features = self._features(file, index)
                    except (OSError, ValueError) as error:
                        raise UsageError(f"{self.name(index)} is no tf.train.Example: {reason(error)}.") from error
                    if key not in features and (classes is not None or index == 0):
                        if classes is None:
                            return None
                        labels[index] = UNLABELLED
                        continue
                    values = features[key].int64_list.value
                    if len(values) != 1 or not 0 <= values[0] < most:
                        wanted = "at least 0" if classes is None else f"from 0 to {classes - 1}"
                        raise UsageError(f"{self.name(index)}: its label {key!r} must be one integer, {wanted}.")
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


def _record_places(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Return start and length of the records of a TFRecord file, in bytes. Raises UsageError if they do not fill it exactly.

    A record is its length (8 bytes), a checksum of that (4), the bytes, and a checksum of these (4).
    """
    starts, lengths = array.array("q"), array.array("q")
    try:
        with decoding():
            files.check_regular(path)
            size, position = path.stat().st_size, 0
            with path.open("rb", buffering=0) as file:
                if file.read(2) == b"\x1f\x8b":
                    raise ValueError(
                        "it is compressed as a whole, so records cannot be read by index. Write it again without compression"
                    )
                while position < size:
                    file.seek(position)
                    begin = file.read(12)
                    length = struct.unpack("<Q", begin[:8])[0] if len(begin) == 12 else size
                    if length > LONGEST_RECORD or position + 16 + length > size:
                        raise ValueError(f"it is cut short or no TFRecord file: its record {len(starts)} is incomplete")
                    starts.append(position + 12)
                    lengths.append(length)
                    position += 16 + length
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def is_shard_folder(folder: pathlib.Path) -> bool:
    return (folder / INDEX).is_file() or bool(_record_files(folder))


def _record_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the TFRecord files of a folder, without hidden ones, such as those that were being written."""
    return sorted(
        path
        for path in folder.iterdir()
        if (path.name.endswith(SUFFIXES) or ".tfrecord-" in path.name) and not path.name.startswith(".")
    )


def load(path: pathlib.Path, keys: Keys) -> Dataset:
    """Load the images of a folder of shards, or of one TFRecord file; they have no frame yet.

    For shards written by genlab, the index describes content and splits. Raises GenlabError if the index is damaged or
    incomplete, a shard is missing, or a shard's size or number of images differs from the index.
    """
    if path.is_file():
        return _foreign(path, [path], keys)
    if not (path / INDEX).is_file():
        return _foreign(path, _record_files(path), keys)
    index = read_index(path)
    shape, class_names = index["shape"], tuple(index["class_names"])
    keys = Keys(raw_shape=(shape[0], shape[1], shape[2]) if index["encoding"] == "raw" else None)
    parts: dict[str, Part] = {}
    for split in FIELDS:
        named = [shard for shard in index["shards"] if shard["split"] == split]
        for shard in named:
            file = path / shard["file"]
            found = f"{file.stat().st_size:,} bytes" if file.is_file() else "missing"
            if found != f"{shard['bytes']:,} bytes":
                raise UsageError(
                    f"{file} is {found}, and the index says {shard['bytes']:,} bytes. Write the shards again."
                )
        if named:
            shards = Shards([path / shard["file"] for shard in named], keys)
            expected = sum(shard["images"] for shard in named)
            if len(shards) != expected:
                raise UsageError(
                    f"{path}: the shards for {split} hold {len(shards):,} images, and the index says {expected:,}. "
                    "Write the shards again."
                )
            labels = shards.labels(len(class_names)) if class_names else None
            known = labels is not None and (labels != UNLABELLED).any()
            parts[split] = Records.all_of(shards), labels.astype(np.int32) if labels is not None and known else None
    if "train" not in parts:
        raise UsageError(f"{path}: its index lists no shards for training.")
    images, labels = parts["train"]
    dataset = Dataset(index["name"], str(path), images, labels, class_names=class_names if labels is not None else ())
    return dataset.with_parts(parts)


def _foreign(path: pathlib.Path, paths: list[pathlib.Path], keys: Keys) -> Dataset:
    shards = Shards(paths, keys)
    if not len(shards):
        raise UsageError(f"{path} holds no records.")
    labels = shards.labels()
    class_names: tuple[str, ...] = ()
    if labels is not None:
        (labels,), class_names = classes_of([labels])
    return Dataset(
        name=path.resolve().name.partition(".")[0],
        source=str(path),
        images=Records.all_of(shards),
        labels=labels,
        class_names=class_names,
    )


def read_index(folder: pathlib.Path) -> Index:
    """Read the index of shards written by genlab. Raises GenlabError if it is damaged, incomplete or of another format."""
    index = _index(folder)
    if not index["complete"]:
        raise UsageError(f"{folder / INDEX} is not complete: type the same command again.")
    return index


def _index(folder: pathlib.Path) -> Index:
    """Read an index that may be incomplete, and check all that its user relies on."""
    path = folder / INDEX
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


def damaged(folder: pathlib.Path) -> list[str]:
    """Return the names of the shards that are missing, or whose checksums do not match the index."""
    return [shard["file"] for shard in read_index(folder)["shards"] if not _is_whole(folder, shard)]


def write(
    folder: pathlib.Path,
    facts: dict[str, Any],
    parts: dict[str, tuple[int, ImagesOf]],
    *,
    raw: bool = False,
    images_per_shard: int = IMAGES_PER_SHARD,
    progress: Callable[[int], None] = lambda images: None,
) -> Index:
    """Write images as shards with an index, and return the index. Whole shards of the same command are kept.

    `facts` describe the images: `name`, `shape` [H, W, C], `class_names`, and other entries of Index. They must be the same
    to resume an interrupted call. `parts` holds for each split the number of images and a function of rows ->
    (uint8 [N, H, W, C], labels [N] or None). `progress` is called with the number of images written. Images are encoded as
    PNG, or stored `raw`, which is always the case for two or four channels. Raises UsageError if the folder has other
    content, GenlabError if the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        raw = raw or facts["shape"][2] not in (1, 3)
        facts = {"format": FORMAT, "encoding": "raw" if raw else "png", "images_per_shard": images_per_shard} | facts
        index = _begun(folder, facts)
        _write_index(folder, index)  # before the first shard: without it, the folder would count as somebody else's
        done = {shard["file"]: shard for shard in index["shards"]}
        shards: list[Entry] = []
        for split, (count, images_of) in parts.items():
            for number, start in enumerate(range(0, count, images_per_shard)):
                file = f"{split}-{number:05d}.tfrecord"
                rows = np.arange(start, min(count, start + images_per_shard))
                if file not in done or not _is_whole(folder, done[file]):
                    images, labels = images_of(rows)
                    done[file] = _write_shard(folder / file, split, images, labels, raw)
                    index["shards"] = list(done.values())
                    _write_index(folder, index)
                shards.append(done[file])
                progress(len(rows))
        index["shards"], index["complete"] = shards, True
        _write_index(folder, index)
    except (OSError, tf.errors.OpError) as error:
        if not disk_is_full(error):
            raise
        raise GenlabError(
            f"{folder}: the disk is full. Free some space, then type the same command again; finished shards are kept."
        ) from error
    return index


def _begun(folder: pathlib.Path, facts: dict[str, Any]) -> Index:
    """Return the index of an interrupted call, or a new one."""
    new = files.checked(json.loads(json.dumps(facts | {"complete": False, "shards": []})), Index)
    if not (folder / INDEX).is_file():
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and holds no shards written by genlab. Choose another folder.")
        return new
    index = _index(folder)
    differing = [name for name in facts if index.get(name) != new.get(name)]
    if differing:
        raise UsageError(f"{folder} holds other shards: they differ in {', '.join(differing)}. Choose another folder.")
    index["complete"] = False
    return index


def _is_whole(folder: pathlib.Path, shard: Entry) -> bool:
    path = folder / shard["file"]
    return path.is_file() and path.stat().st_size == shard["bytes"] and _sha256(path) == shard["sha256"]


def _write_shard(path: pathlib.Path, split: str, images: np.ndarray, labels: np.ndarray | None, raw: bool) -> Entry:
    def write(temporary: pathlib.Path) -> None:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for row, image in enumerate(images):
                features = {"image": _bytes(image.tobytes() if raw else _png(image))}
                if labels is not None and labels[row] != UNLABELLED:
                    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(labels[row])]))
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())

    files.replace(path, write)
    facts = {"images": len(images), "bytes": path.stat().st_size, "sha256": _sha256(path)}
    return files.checked({"file": path.name, "split": split} | facts, Entry)


def _write_index(folder: pathlib.Path, index: Index) -> None:
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
