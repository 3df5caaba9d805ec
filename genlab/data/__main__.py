"""Command line: `python -m genlab.data inspect SOURCE` and `python -m genlab.data shard SOURCE OUT`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from typing import Annotated, Any

import numpy as np
import tqdm
import tyro

from genlab import data
from genlab.data import shards
from genlab.data.dataset import Dataset
from genlab.data.options import DataOptions
from genlab.data.records import Records
from genlab.errors import UsageError, console_log, reported

PROGRAM = "python -m genlab.data"
SHOWN = 64
"""Images of the preview."""
NAMED = 20
"""Files that are named, of those that cannot be read."""


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Say what a source holds and what training on it would do; draw a preview."""

    source: tyro.conf.Positional[str]
    """Data, as of genlab.train --data."""
    options: DataOptions = dataclasses.field(default_factory=DataOptions)
    preview: str = "samples/preview.png"
    """Where a grid of its images is drawn; empty: nowhere."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Write a source, or images that a run generates (run:RUN), as TFRecord shards with an index and checksums."""

    source: tyro.conf.Positional[str]
    """Data, as of genlab.train --data; or run:RUN, a run's folder, number or `latest`."""
    out: tyro.conf.Positional[str]
    """Folder that the shards are written to. One that was begun with the same command is gone on with."""
    options: DataOptions = dataclasses.field(default_factory=DataOptions)
    encoding: str = "png"
    """png, or raw: larger files that are read faster."""
    images_per_shard: int = shards.IMAGES_PER_SHARD
    """Images in a file."""
    count: int = 10_000
    """Images that run:RUN generates."""
    label: str | None = None
    """Class of the images that run:RUN generates, by name or number; by default all in turn, where it knows classes."""
    seed: int = 0
    """First seed of those images."""
    checkpoint: str = "latest"
    """Whose weights generate: latest, best, or a step."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM), console_log():
        command = tyro.cli(
            Annotated[Inspect, tyro.conf.subcommand("inspect")] | Annotated[Shard, tyro.conf.subcommand("shard")],  # type: ignore[arg-type]
            args=sys.argv[1:] if argv is None else argv,
            prog=PROGRAM,
            description=__doc__,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        if isinstance(command, Inspect):
            inspect(command)
        else:
            shard(command)


def inspect(command: Inspect) -> None:
    """Print what is there: splits, sizes, kinds of pixels, classes, bad files, and what becomes of it."""
    options = command.options
    found = data.find(command.source, options=options)
    print(f"{found.source}: {found.name}")
    for split, (images, labels) in found.parts().items():
        print(f"  {split:12} {len(images):,} images{'' if labels is None else ', labelled'}")
    heights_and_widths, modes, bad = _looked_at(found)
    if found.images.ndim != 2 if isinstance(found.images, np.ndarray) else True:
        print(f"  sizes        {_counted(heights_and_widths)}")
        print(f"  pixels       {_counted(modes)}")
    if bad:
        print(f"  unreadable   {len(bad):,} files")
        for name, why in bad[:NAMED]:
            print(f"    {name}: {why}")
        if len(bad) > NAMED:
            print(f"    and {len(bad) - NAMED:,} more")
    if found.class_names and found.labels is not None:
        print(f"  classes      {found.class_counts(most=30)}")
        counts = np.bincount(found.labels, minlength=len(found.class_names))
        if counts.max() > 1.5 * counts.min():
            print("               of unequal size: --balance oversample or weight makes up for it")
    _check_shards(command.source)
    if bad and not options.skip_bad:
        raise UsageError(
            f"training on {command.source} would refuse to start: {len(bad):,} images cannot be read (--skip-bad leaves them out)."
        )
    _say_what_training_does(data.load(command.source, options=options), command.preview)


def _looked_at(found: Dataset) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Sizes and kinds of pixels of all images, and what cannot be read of them."""
    from genlab.data.frame import Frame

    sizes, modes, bad = [], [], []
    for images, _ in found.parts().values():
        if not isinstance(images, Records):
            shape = images.shape[1:]
            sizes += ["x".join(map(str, shape[:2]))] * len(images)
            modes += [f"{shape[-1]} channels" if shape[-1] > 1 else "grey"] * len(images)
            continue
        headers, unknown = images.headers()
        for header in headers:
            if header is not None:
                sizes.append(f"{header.height}x{header.width}")
                modes.append(header.mode)
        unread = dataclasses.replace(images, frame=Frame(8, 8, 3, "stretch")).checked()
        bad += [(images.name(row), why) for row, why in sorted((unread | unknown).items())]
    return sizes, modes, bad


def _counted(words: list[str], most: int = 8) -> str:
    values, counts = np.unique(words, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    text = ", ".join(f"{values[index]} ({counts[index]:,})" for index in order)
    return text + (f", and {len(values) - most:,} others" if len(values) > most else "")


def _check_shards(source: str) -> None:
    folder = pathlib.Path(source)
    if (folder / shards.INDEX).is_file():
        damaged = shards.damaged(folder)
        if damaged:
            raise UsageError(
                f"{folder}: the checksums of {', '.join(damaged)} are not what the index says. Write the shards anew."
            )
        print("  checksums    as the index says")


def _say_what_training_does(dataset: Dataset, preview: str) -> None:
    shape = "x".join(map(str, dataset.spec.shape))
    held_out = ", ".join(
        f"{len(images):,} for {split}" for split, (images, _) in dataset.parts().items() if split != "train"
    )
    size = sum(images.nbytes for images, _ in dataset.parts().values()) / 2**20
    where = "read as they are needed" if isinstance(dataset.images, Records) else f"{size:,.1f} MiB in memory"
    print(f"training would see {len(dataset.images):,} images {shape}, {where}; held out: {held_out or 'none'}")
    if not held_out:
        print("  --split 0.9/0.1 holds some out, for metrics that mean something")
    if preview and dataset.spec.is_image:
        from genlab import grids

        path = grids.save_grid(dataset.examples(SHOWN)[0], preview)
        print(f"  {path} shows {min(SHOWN, len(dataset.images))} of them")


def shard(command: Shard) -> None:
    """Write the shards, and say where they are."""
    if command.encoding not in ("png", "raw"):
        raise UsageError(f"--encoding {command.encoding}: png and raw are known.")
    if command.images_per_shard < 1 or command.count < 1:
        raise UsageError("--images-per-shard and --count must be at least 1.")
    kind, _, name = command.source.partition(":")
    facts, parts = _of_run(name or "latest", command) if kind == "run" else _of_source(command)
    # A shard of large images is kept to some 100 MB, too.
    fitting = max(1, shards.BYTES_PER_SHARD // int(np.prod(facts["shape"])))
    with tqdm.tqdm(
        total=sum(count for count, _ in parts.values()),
        unit="image",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    ) as bar:
        index = shards.write(
            pathlib.Path(command.out),
            facts,
            parts,
            raw=command.encoding == "raw",
            images_per_shard=min(fitting, command.images_per_shard),
            progress=bar.update,
        )
    size = sum(each["bytes"] for each in index["shards"]) / 1e6
    print(f"{command.out}: {bar.total:,} images in {len(index['shards']):,} shards, {size:,.1f} MB")
    print(f"train on them: python -m genlab.train dcgan --data {command.out}")


def _of_source(command: Shard) -> tuple[dict[str, Any], dict[str, Any]]:
    dataset = data.load(command.source, options=command.options)
    if not dataset.spec.is_image:
        raise UsageError(f"{command.source} holds points; shards are of images.")
    facts = _facts(dataset.name, dataset.spec.shape, dataset.class_names) | {"data_sha256": dataset.sha256}

    def reading(images: Any, labels: Any):
        return lambda rows: (images[rows], None if labels is None else labels[rows])

    return facts, {split: (len(images), reading(images, labels)) for split, (images, labels) in dataset.parts().items()}


def _of_run(name: str, command: Shard) -> tuple[dict[str, Any], dict[str, Any]]:
    """Images of seeds one after the other, with the labels that they were drawn of."""
    from genlab import grids
    from genlab import run as runs
    from genlab.sample import class_number

    run = runs.open(name, checkpoint=command.checkpoint)
    model = run.model
    if not model.spec.is_image:
        raise UsageError(f"{run.path} draws points; shards are of images.")
    label = None if command.label is None else class_number(run, command.label)

    def drawn(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        seeds = command.seed + rows
        labels = model.default_labels(seeds) if label is None else np.full(len(rows), label)
        return grids.as_pixels(model.sample(model.sample_latents(seeds), labels).numpy()), labels

    class_names = run.config.dataset["class_names"] if model.conditional else []
    facts = _facts(f"{run.name}-generated", model.spec.shape, class_names)
    facts |= {"run": run.name, "step": run.step, "seed": command.seed, "label": label}
    return facts, {"train": (command.count, drawn)}


def _facts(name: str, shape: Any, class_names: Any) -> dict[str, Any]:
    return json.loads(json.dumps({"name": name, "shape": list(shape), "class_names": list(class_names)}))


if __name__ == "__main__":
    main()
