"""Command line: `python -m genlab.sample` draws samples from a trained run."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import tyro

from genlab import bounds, command_line, files, grids, pictures
from genlab.backend import in_parts
from genlab.console import reported, say
from genlab.data.spec import to_model_range
from genlab.errors import UsageError, closest, listed
from genlab.models.base import GenerativeModel
from genlab.run import FolderOptions, Run

PROGRAM = "python -m genlab.sample"
MOST_FILES = 1_000_000
"""Files that --individual writes."""
AT_ONCE = 1000
"""Images that --individual draws at once."""


@dataclasses.dataclass(frozen=True)
class Arguments(FolderOptions):
    """Draw samples from a trained run. The same seed always gives the same image, whatever else is drawn."""

    run: str = "latest"
    """The run: its folder, its number, or `latest`."""
    out: str = "samples"
    """Output folder."""
    count: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of images, with consecutive seeds from --seed. By default as many as --grid holds, or 64, or 8 per class."""
    seed: int = 0
    """First seed."""
    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS")] = None
    """Seeds instead of --seed and --count: numbers and ranges, like 0-15,40."""
    grid: Annotated[str | None, tyro.conf.arg(metavar="COLUMNSxROWS")] = None
    """Size of the grid, like 8x8. By default nearly square, or one column per class."""
    truncation: float = 1.0
    """Move latents towards the prior's mean: below 1, samples are more typical and less diverse. 0 to 2."""
    invert: Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE")] = ()
    """Search latents whose samples come close to these image files, and draw both; --array also stores the latents."""
    label: Annotated[str | None, tyro.conf.arg(metavar="CLASS")] = None
    """Class to draw, by name or number (conditional models)."""
    interpolate: Annotated[str | None, tyro.conf.arg(metavar="A:B")] = None
    """Animate from the image of seed A to that of seed B (spherical interpolation if the prior is Gaussian)."""
    frames: int = 60
    """Frames of the animation."""
    format: str = "gif"
    """Format of the animation: gif or mp4 (mp4 needs the extra genlab[video])."""
    individual: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write one PNG per seed (seed0004.png) instead of a grid."""
    array: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Write an .npz with images (uint8), latents and seeds instead of a grid."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        for path in draw(arguments):
            say(path)


def draw(arguments: Arguments) -> list[pathlib.Path]:
    """Draw what the arguments ask for. Return the paths of the files written.

    Raises UsageError for arguments that do not fit, or that ask for more than fits into memory, before anything is drawn.
    """
    columns, spans = _layout(arguments)
    between = _two_seeds(arguments.interpolate) if arguments.interpolate else None
    bounds.whole("--frames", arguments.frames, 2)
    if arguments.format not in ("gif", "mp4"):
        raise UsageError(f"--format {bounds.shown(arguments.format)}: it must be gif or mp4.")
    array = None if arguments.array is None else files.arrays_path(arguments.array)
    bounds.real("--truncation", arguments.truncation, 0, 2)
    run = arguments.opened(arguments.run)
    model = run.model
    if not model.spec.is_image and (between or arguments.individual):
        raise UsageError(f"{run.name} draws points, not images: use --array instead of --interpolate and --individual.")
    label = class_number(run, arguments.label) if arguments.label is not None else None
    name = _name(run, label)
    out = pathlib.Path(arguments.out)
    if arguments.invert:
        return _inverted(run, arguments.invert, label, out / f"{name}-inverted.png", array)
    if between:
        return [_animation(model, between, label, arguments, out / name)]
    if spans is None:
        count, columns = (64, 8) if label is not None else pictures.layout(model)
        spans = _from(arguments.seed, count)
    if arguments.individual and array is None:
        return list(_individual(model, spans, label, arguments.truncation, out / name))
    _check_size(model, spans, columns if array is None else None, array is not None)
    seeds = _seeds(spans)
    latents, labels, drawn = _drawn(model, seeds, label, arguments.truncation)
    if array is not None:
        arrays = {"images": drawn, "latents": latents, "seeds": seeds}
        return [files.write_arrays(array, arrays | ({} if labels is None else {"labels": labels}))]
    real = None if model.spec.is_image else run.data().images
    return [grids.save_image(pictures.samples(drawn, columns, real), out / f"{name}-{_seeds_label(spans)}.png")]


def class_number(run: Run, text: str, flag: str = "--label") -> int:
    """Return the number of a class, given by name or by number from 0. Raises UsageError, about `flag`, for an unknown class."""
    names = run.config.dataset["class_names"]
    if not run.model.conditional:
        raise UsageError(f"{flag}: {run.config.model} draws without labels. Use a conditional model, such as cgan.")
    if text in names:
        return names.index(text)
    number = bounds.parsed(text, len(names) - 1)
    if number is None:
        raise UsageError(
            f"{flag} {bounds.shown(text)}: the classes of {run.name} are {listed(names)}{closest(text[:80], names)}"
        )
    return number


def _name(run: Run, label: int | None) -> str:
    """Return the first part of the names of files and folders: the run, and the class if one was asked for."""
    name = files.file_name(run.name)
    return name if label is None else f"{name}-label{files.file_names(run.config.dataset['class_names'])[label]}"


def _inverted(
    run: Run, paths: Sequence[str], label: int | None, picture: pathlib.Path, array: pathlib.Path | None
) -> list[pathlib.Path]:
    """Search latents for image files. Draw the images over their counterparts, and store the latents in `array`."""
    images = np.stack([run.read_image(path) for path in paths])
    labels = None if label is None else np.full(len(images), label)
    found = run.model.invert(to_model_range(images), labels)
    drawn = grids.as_pixels(found.images)
    written = [grids.save_image(pictures.reconstructions(images, drawn, columns=min(8, len(images))), picture)]
    if array is not None:
        arrays = {"images": drawn, "latents": found.latents, "errors": found.errors}
        written.append(files.write_arrays(array, arrays | ({} if found.labels is None else {"labels": found.labels})))
    return written


def _drawn(
    model: GenerativeModel, seeds: np.ndarray, label: int | None, truncation: float
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return latents [N, latent], labels [N] or None, and samples: uint8 images [N, H, W, C], or vectors [N, D]."""
    labels = model.default_labels(seeds) if label is None else np.full(len(seeds), label)

    def part(seeds: np.ndarray, *labels: np.ndarray) -> list[np.ndarray]:
        latents = model.truncated(model.sample_latents(seeds), truncation)
        drawn = model.sample(latents, *labels).numpy()
        return [np.asarray(latents), grids.as_pixels(drawn) if model.spec.is_image else drawn]

    latents, drawn = in_parts(part, seeds, *([] if labels is None else [labels]))
    return latents, labels, drawn


def _individual(
    model: GenerativeModel, spans: list[range], label: int | None, truncation: float, folder: pathlib.Path
) -> Iterator[pathlib.Path]:
    """Draw and write one image per seed, a part at a time."""
    count = _count(spans)
    if count > MOST_FILES:
        raise UsageError(f"--individual: {count:,} files were asked for; at most {MOST_FILES:,} are written.")
    every = _seeds(spans)
    for start in range(0, count, AT_ONCE):
        seeds = every[start : start + AT_ONCE]
        for seed, image in zip(seeds, _drawn(model, seeds, label, truncation)[2], strict=True):
            yield grids.save_image(image, folder / f"seed{seed:04d}.png")


def _animation(
    model: GenerativeModel, seeds: tuple[int, int], label: int | None, arguments: Arguments, stem: pathlib.Path
) -> pathlib.Path:
    height, width = grids.picture_size(1, *model.spec.shape[:2])
    if arguments.frames > (most := grids.MOST_PIXELS // (height * width)):
        raise UsageError(
            f"--frames {arguments.frames:,}: at most {most:,} frames of {height}x{width} pixels are animated."
        )
    start, end = np.asarray(model.truncated(model.sample_latents(seeds), arguments.truncation))
    latents = grids.interpolate(start, end, np.linspace(0, 1, arguments.frames), model.prior.is_spherical)
    # All frames have one class: an animation between classes would jump.
    own = model.default_labels(seeds)
    labels = [] if own is None else [np.full(arguments.frames, own[0] if label is None else label)]
    drawn = in_parts(lambda *part: grids.as_pixels(model.sample(*part).numpy()), latents, *labels)
    path = stem.with_name(f"{stem.name}-seeds{seeds[0]}to{seeds[1]}.{arguments.format}")
    return grids.save_animation((grids.to_grid(image[np.newaxis]) for image in drawn), path, frames_per_second=20)


def _check_size(model: GenerativeModel, spans: list[range], columns: int | None, as_array: bool) -> None:
    """Raise UsageError if the samples, or the grid of them, would take more memory than is allowed."""
    count, shape = _count(spans), model.spec.shape
    if model.spec.is_image and not as_array:
        grids.check_size(count, shape[0], shape[1], columns)
    each = math.prod(shape) * (1 if model.spec.is_image else 4) + 4 * model.latent_size + 16
    if count > (most := files.MOST_BYTES // each):
        raise UsageError(
            f"{count:,} samples were asked for, and at most {most:,} of this size are drawn at once. For more images, type "
            "python -m genlab.data shard run:RUN FOLDER --count COUNT."
        )


def _layout(arguments: Arguments) -> tuple[int | None, list[range] | None]:
    """Return the columns of the grid (None: nearly square) and the seeds (None: as many as the model's grid shows)."""
    columns, cells = None, None
    if arguments.grid is not None:
        columns, rows = bounds.pair("--grid", arguments.grid, "x", bounds.LARGEST, "COLUMNSxROWS, like 8x8")
        cells = columns * rows
        if cells == 0:
            raise UsageError(f"--grid {arguments.grid}: it must be COLUMNSxROWS, like 8x8.")
    count = cells if arguments.count is None else bounds.whole("--count", arguments.count, 1)
    bounds.whole("--seed", arguments.seed, 0, bounds.LARGEST_SEED)
    if arguments.seeds is not None:
        spans = bounds.spans("--seeds", arguments.seeds)
    elif count is None:
        return None, None
    else:
        spans = _from(arguments.seed, count)
    if cells is not None and _count(spans) > cells:
        raise UsageError(f"--grid {arguments.grid} holds {cells:,} images, and {_count(spans):,} were asked for.")
    return columns, spans


def _from(seed: int, count: int) -> list[range]:
    """Return consecutive seeds."""
    bounds.whole("the last seed", seed + count - 1, 0, bounds.LARGEST_SEED)
    return [range(seed, seed + count)]


def _seeds(spans: list[range]) -> np.ndarray:
    """Return all seeds, int64. The end of a span may be one more than that type holds."""
    return np.concatenate([span.start + np.arange(span.stop - span.start, dtype=np.int64) for span in spans])


def _count(spans: list[range]) -> int:
    return sum(span.stop - span.start for span in spans)  # the length of a range has a limit


def _two_seeds(text: str) -> tuple[int, int]:
    return bounds.pair("--interpolate", text, ":", bounds.LARGEST_SEED, "two seeds A:B, like 3:7")


def _seeds_label(spans: list[range]) -> str:
    consecutive = all(before.stop == after.start for before, after in itertools.pairwise(spans))
    return f"seed{spans[0].start}" if consecutive else f"seeds{_count(spans)}"


if __name__ == "__main__":
    main()
