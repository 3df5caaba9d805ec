"""Prepare a source for training: select images, bring them to one frame, and load them into memory if they fit."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import logging

import numpy as np

from genlab import files
from genlab.data.dataset import Dataset, Images, part_of
from genlab.data.frame import Frame
from genlab.data.options import DataOptions
from genlab.data.records import Records, by_threads, refusal
from genlab.data.selection import select
from genlab.errors import GenlabError, UsageError

log = logging.getLogger("genlab")

SMALLEST, LARGEST = 8, 1024
"""Allowed range of height and width, in pixels."""
SUGGESTED = 64


def prepare(dataset: Dataset, options: DataOptions) -> Dataset:
    """Prepare a data set according to the options.

    Raises UsageError if options do not fit the data, if images differ in size without `size`, and if some cannot be read
    without `skip_bad`.
    """
    if len(dataset.images) == 0:
        raise UsageError(f"{dataset.source or dataset.name}: there are no images in it.")
    if isinstance(dataset.images, np.ndarray) and dataset.images.ndim == 2:
        for name in ("size", "channels", "flip", "augment"):
            if getattr(options, name) != getattr(DataOptions(), name):
                raise UsageError(f"--{name} is for images; {dataset.name} holds points.")
        return select(dataset, options)
    if isinstance(dataset.images, np.ndarray):
        dataset = select(dataset, options)
        frame = _frame([(*dataset.images.shape[1:3], dataset.images.shape[3])], dataset, options)
        parts = dataset.parts()
        return dataset.with_parts(
            {split: (_framed(images, frame), labels) for split, (images, labels) in parts.items()}
        )
    headers, bad = {}, {}
    for split, records in _records(dataset).items():
        headers[split], bad[split] = records.headers()
    dataset = _without_bad(dataset, _records(dataset), bad, options)
    seen = [header for part in headers.values() for header in part if header is not None]
    colours = 1 if all(header.grey for header in seen) else 3
    frame = _frame([(header.height, header.width, colours) for header in seen], dataset, options)
    framed = {split: dataclasses.replace(records, frame=frame) for split, records in _records(dataset).items()}
    dataset = dataset.with_parts({split: (framed[split], labels) for split, (_, labels) in dataset.parts().items()})
    return select(_read(dataset, framed, options), options)


def _frame(shapes: list[tuple[int, int, int]], dataset: Dataset, options: DataOptions) -> Frame:
    """Return the frame given by the options, or the common size and channels of all images."""
    counts = collections.Counter((height, width) for height, width, _ in shapes)
    size = options.height_and_width
    if size is None:
        (size, _), *others = counts.most_common()
        if others:
            heights, widths = [shape[0] for shape in shapes], [shape[1] for shape in shapes]
            raise UsageError(
                f"{dataset.source or dataset.name}: the images are of {len(counts):,} sizes, from {min(heights)} to {max(heights)} "
                f"pixels high and {min(widths)} to {max(widths)} wide. Resize them: --size {SUGGESTED}, or --size HEIGHTxWIDTH."
            )
        if min(size) < SMALLEST or max(size) > LARGEST:
            raise UsageError(
                f"{dataset.source or dataset.name}: the images are {size[0]}x{size[1]} pixels; from {SMALLEST}x{SMALLEST} to "
                f"{LARGEST}x{LARGEST} are supported. Resize them: --size {SUGGESTED}."
            )
    channels = shapes[0][2] if options.channels == "auto" else int(options.channels)
    return Frame(*size, channels, options.resize, options.background_colour)


def _framed(images: Images, frame: Frame) -> np.ndarray:
    """Bring an array to the frame. Returns the same array if it fits already."""
    assert isinstance(images, np.ndarray)
    if images.shape[1:] == frame.shape:
        return images
    framed = np.empty((len(images), *frame.shape), np.uint8)
    for row, image in enumerate(by_threads(frame.of, images)):
        framed[row] = image
    return framed


def _records(dataset: Dataset) -> dict[str, Records]:
    """Return the images on disk, by split."""
    return {split: images for split, (images, _) in dataset.parts().items() if isinstance(images, Records)}


def _read(dataset: Dataset, records: dict[str, Records], options: DataOptions) -> Dataset:
    """Decode every image once: into memory if all fit, else only to check them, with the result cached."""
    size = sum(each.nbytes for each in records.values())
    if size > options.memory * 2**30:
        log.info(
            f"data    {size / 2**30:.1f} GiB of pixels are more than --memory {options.memory:g}: images are read on demand"
        )
        return _without_bad(dataset, records, _checked_once(records), options)
    arrays = {split: np.empty(each.shape, np.uint8) for split, each in records.items()}
    bad = {split: each.checked(into=arrays[split]) for split, each in records.items()}
    dataset = dataset.with_parts({split: (arrays[split], labels) for split, (_, labels) in dataset.parts().items()})
    return _without_bad(dataset, records, bad, options)


def _checked_once(records: dict[str, Records]) -> dict[str, dict[int, str]]:
    """Return the images that cannot be decoded, from the cache if the same files were checked before."""
    digest = hashlib.sha256("".join(each.sha256() for each in records.values()).encode()).hexdigest()
    path = files.cache_folder() / f"checked-{digest[:16]}.json"
    # What is no such cache is written again.
    with contextlib.suppress(FileNotFoundError, GenlabError, KeyError, ValueError):
        stored = files.read_json(path, dict[str, dict[str, str]])
        bad = {split: {int(row): why for row, why in stored[split].items()} for split in records}
        if all(0 <= row < len(records[split]) for split, rows in bad.items() for row in rows):
            return bad
    bad = {split: each.checked() for split, each in records.items()}
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        files.write_text(path, json.dumps(bad))
    return bad


def _without_bad(
    dataset: Dataset, records: dict[str, Records], bad: dict[str, dict[int, str]], options: DataOptions
) -> Dataset:
    """Return the data set without unreadable images. Raises UsageError with their names unless `skip_bad` is on."""
    named = [(records[split].name(row), why) for split, rows in bad.items() for row, why in rows.items()]
    if not named:
        return dataset
    parts = dataset.parts()
    good = {split: np.setdiff1d(np.arange(len(images)), list(bad[split])) for split, (images, _) in parts.items()}
    if not options.skip_bad or not all(map(len, good.values())):
        raise refusal(dataset.source, named)
    log.warning(f"warning {len(named):,} images cannot be read and are skipped; config.json has their names")
    skipped = dataset.skipped + tuple(name for name, _ in named)
    return dataset.with_parts({split: part_of(part, good[split]) for split, part in parts.items()}, skipped=skipped)
