"""TFRecord shards: write images of any source in files with checksums, and read them by index."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import hashlib
import io
import math
import pathlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image

from genlab import files
from genlab.backend import tf
from genlab.data import image_files, shard_index
from genlab.data.dataset import FIELDS, Dataset
from genlab.data.dataset import Part as Split
from genlab.data.frame import to_picture
from genlab.data.labels import UNLABELLED, classes_of
from genlab.data.records import Reader, Records
from genlab.data.shard_index import Entry, Index, Part
from genlab.errors import GenlabError, UsageError, decoding, disk_is_full, listed, reason

SUFFIXES = (".tfrecord", ".tfrecords")
IMAGES_PER_SHARD = 1000
BYTES_PER_SHARD = 100_000_000
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
    return shard_index.exists(folder) or bool(_record_files(folder))


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
    if not shard_index.exists(path):
        return _foreign(path, _record_files(path), keys)
    index = shard_index.read(path)
    shape, class_names = index["shape"], tuple(index["class_names"])
    keys = Keys(raw_shape=(shape[0], shape[1], shape[2]) if index["encoding"] == "raw" else None)
    parts: dict[str, Split] = {}
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


def damaged(folder: pathlib.Path) -> list[str]:
    """Return the names of the shards that are missing, or whose checksums do not match the index."""
    return [shard["file"] for shard in shard_index.read(folder)["shards"] if not shard_index.is_whole(folder, shard)]


@dataclasses.dataclass(frozen=True)
class Planned:
    """A shard that is to be written: consecutive rows of a split."""

    file: str
    split: str
    rows: range


def planned(counts: Mapping[str, int], images_per_shard: int, part: Part | None = None) -> list[Planned]:
    """Return the shards of splits with these numbers of images, or those of one part: each shard is the same in any number of parts.

    Raises UsageError if there are fewer shards than parts.
    """
    shards = [
        Planned(f"{split}-{number:05d}.tfrecord", split, range(start, min(count, start + images_per_shard)))
        for split, count in counts.items()
        for number, start in enumerate(range(0, count, images_per_shard))
    ]
    if part is None:
        return shards
    if part.of > len(shards):
        raise UsageError(
            f"--part {part}: {sum(counts.values()):,} images are {len(shards):,} shards of {images_per_shard:,}, which is the most "
            "parts there can be. Use fewer parts, or smaller shards with --images-per-shard."
        )
    return [shards[number] for number in part.shards(len(shards))]


def write(
    folder: pathlib.Path,
    facts: dict[str, Any],
    parts: dict[str, tuple[int, ImagesOf]],
    *,
    raw: bool = False,
    images_per_shard: int = IMAGES_PER_SHARD,
    part: Part | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> Index:
    """Write images as shards with an index, and return the index. Whole shards of the same command are kept.

    `facts` describe the images: `name`, `shape` [H, W, C], `class_names`, and other entries of Index. They must be the same
    to resume an interrupted call. `parts` holds for each split the number of images and a function of rows ->
    (uint8 [N, H, W, C], labels [N] or None). With `part`, only the shards of that part are written, with an index of its own;
    others may write theirs to the folder at the same time. `progress` is called with the number of images written. Images are
    encoded as PNG, or stored `raw`, which is always the case for two or four channels. Raises UsageError if the folder has
    other content, GenlabError if the disk is full.
    """
    counts = {split: count for split, (count, _) in parts.items()}
    plan = planned(counts, images_per_shard, part)
    path = folder / (shard_index.INDEX if part is None else part.file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = _with_encoding(facts, raw, images_per_shard)
        raw = facts["encoding"] == "raw"
        if part is not None:
            facts |= {"parts": part.of, "images": sum(counts.values())}
        index = shard_index.begun(folder, facts, part)
        shard_index.write(path, index)  # before the first shard: without it, the folder would count as somebody else's
        done = {shard["file"]: shard for shard in index["shards"]}
        for each in plan:
            if each.file not in done or not shard_index.is_whole(folder, done[each.file]):
                images, labels = parts[each.split][1](np.arange(each.rows.start, each.rows.stop))
                done[each.file] = _write_shard(folder / each.file, each.split, images, labels, raw)
                index["shards"] = list(done.values())
                shard_index.write(path, index)
            progress(len(each.rows))
        index["shards"], index["complete"] = [done[each.file] for each in plan], True
        shard_index.write(path, index)
    except (OSError, tf.errors.OpError) as error:
        if not disk_is_full(error):
            raise
        raise GenlabError(
            f"{folder}: the disk is full. Free some space, then type the same command again; finished shards are kept."
        ) from error
    return index


def check_folder(folder: pathlib.Path, facts: dict[str, Any], *, images_per_shard: int = IMAGES_PER_SHARD) -> None:
    """Raise UsageError, as `write` does with the same arguments, if the folder has other content."""
    if folder.is_dir():
        shard_index.begun(folder, _with_encoding(facts, False, images_per_shard), None)


def _with_encoding(facts: dict[str, Any], raw: bool, images_per_shard: int) -> dict[str, Any]:
    raw = raw or facts["shape"][2] not in (1, 3)
    encoding = {"encoding": "raw" if raw else "png", "images_per_shard": images_per_shard}
    return {"format": shard_index.FORMAT} | encoding | facts


def _write_shard(path: pathlib.Path, split: str, images: np.ndarray, labels: np.ndarray | None, raw: bool) -> Entry:
    def write(temporary: pathlib.Path) -> None:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for row, image in enumerate(images):
                features = {"image": _bytes(image.tobytes() if raw else _png(image))}
                if labels is not None and labels[row] != UNLABELLED:
                    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(labels[row])]))
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())

    files.replace(path, write)
    facts = {"images": len(images), "bytes": path.stat().st_size, "sha256": shard_index.sha256(path)}
    return files.checked({"file": path.name, "split": split} | facts, Entry)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "png")
    return buffer.getvalue()


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
