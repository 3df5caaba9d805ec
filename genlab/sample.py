"""Command line: `python -m genlab.sample` draws samples from a trained run."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
from typing import Annotated

import numpy as np
import tyro

from genlab import files, grids, pictures
from genlab.errors import UsageError, closest, reported
from genlab.run import FolderOptions, Run

PROGRAM = "python -m genlab.sample"


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
        arguments = tyro.cli(Arguments, args=argv, prog=PROGRAM)
        for path in draw(arguments):
            print(path)


def draw(arguments: Arguments) -> list[pathlib.Path]:
    """Draw what the arguments ask for. Return the paths of the files written."""
    columns, seeds = _layout(arguments)
    between = _two_seeds(arguments.interpolate) if arguments.interpolate else None
    if arguments.frames < 2:
        raise UsageError(f"--frames {arguments.frames}: an animation needs at least 2.")
    if arguments.format not in ("gif", "mp4"):
        raise UsageError(f"--format {arguments.format}: it must be gif or mp4.")
    run = arguments.opened(arguments.run)
    model = run.model
    out = pathlib.Path(arguments.out)
    vectors = not model.spec.is_image
    if vectors and (between or arguments.individual):
        raise UsageError(f"{run.name} draws points, not images: use --array instead of --interpolate and --individual.")
    label = class_number(run, arguments.label) if arguments.label is not None else None
    suffix = "" if label is None else f"-label{run.config.dataset['class_names'][label]}"
    if between:
        return [_animation(run, between, label, suffix, arguments, out)]
    if seeds is None:
        count, columns = pictures.layout(model)
        if label is not None:
            count, columns = 64, 8
        seeds = list(range(arguments.seed, arguments.seed + count))
    latents = model.sample_latents(seeds)
    labels = model.default_labels(seeds) if label is None else np.full(len(seeds), label)
    drawn = model.sample(latents, labels).numpy()
    if arguments.array is not None:
        arrays = {"images": drawn if vectors else grids.as_pixels(drawn), "latents": np.asarray(latents)}
        arrays |= {"seeds": np.asarray(seeds)} | ({} if labels is None else {"labels": labels})
        return [files.write_arrays(arguments.array, arrays)]
    if arguments.individual:
        return [
            grids.save_image(image, out / f"{run.name}{suffix}" / f"seed{seed:04d}.png")
            for seed, image in zip(seeds, drawn, strict=True)
        ]
    real = run.data().images if vectors else None
    return [
        grids.save_image(pictures.samples(drawn, columns, real), out / f"{run.name}{suffix}-{_seeds_label(seeds)}.png")
    ]


def class_number(run: Run, text: str) -> int:
    """Return the number of a class, given by name or by number from 0. Raises UsageError for an unknown class."""
    names = run.config.dataset["class_names"]
    if not run.model.conditional:
        raise UsageError(f"--label: {run.config.model} draws without labels. Use a conditional model, such as cgan.")
    if text in names:
        return names.index(text)
    if text.isdigit() and int(text) < len(names):
        return int(text)
    raise UsageError(f"--label {text}: the classes of {run.name} are {', '.join(names)}{closest(text, names)}")


def _animation(
    run: Run, seeds: tuple[int, int], label: int | None, suffix: str, arguments: Arguments, out: pathlib.Path
) -> pathlib.Path:
    model = run.model
    start, end = np.asarray(model.sample_latents(seeds))
    latents = grids.interpolate(start, end, arguments.frames, model.prior.is_spherical)
    # All frames have one class: an animation between classes would jump.
    own = model.default_labels(seeds)
    labels = None if own is None else np.full(arguments.frames, own[0] if label is None else label)
    frames = [grids.to_grid(image[np.newaxis]) for image in model.sample(latents, labels).numpy()]
    name = f"{run.name}{suffix}-seeds{seeds[0]}to{seeds[1]}.{arguments.format}"
    return grids.save_animation(frames, out / name, frames_per_second=20)


def _layout(arguments: Arguments) -> tuple[int | None, list[int] | None]:
    """Return the columns of the grid (None: nearly square) and the seeds (None: as many as the model's grid shows)."""
    columns, cells = None, None
    if arguments.grid is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", arguments.grid)
        if not match or int(match[1]) * int(match[2]) == 0:
            raise UsageError(f"--grid {arguments.grid}: it must be COLUMNSxROWS, like 8x8.")
        columns, cells = int(match[1]), int(match[1]) * int(match[2])
    count = cells if arguments.count is None else arguments.count
    if count is not None and count < 1:
        raise UsageError(f"--count {count}: it must be at least 1.")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: it must be at least 0.")
    if arguments.seeds is not None:
        seeds = _parse_seeds(arguments.seeds)
    elif count is None:
        return None, None
    else:
        seeds = list(range(arguments.seed, arguments.seed + count))
    if cells is not None and len(seeds) > cells:
        raise UsageError(f"--grid {arguments.grid} holds {cells} images, and {len(seeds)} were asked for.")
    return columns, seeds


def _parse_seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"--seeds {text}: it must be numbers and increasing ranges, like 0-15,40.")
        seeds.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return seeds


def _two_seeds(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        raise UsageError(f"--interpolate {text}: it must be two seeds A:B, like 3:7.")
    return int(match[1]), int(match[2])


def _seeds_label(seeds: list[int]) -> str:
    return f"seed{seeds[0]}" if seeds == list(range(seeds[0], seeds[0] + len(seeds))) else f"seeds{len(seeds)}"


if __name__ == "__main__":
    main(sys.argv[1:])
