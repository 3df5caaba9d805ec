"""Command line: `python -m genlab.anomaly RUN --data FOLDER` finds the images that are strange to a trained model."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from genlab import bounds, command_line, files
from genlab.console import aligned, console_log, reported, say, say_json
from genlab.run import FolderOptions, Run

if TYPE_CHECKING:
    from genlab.anomaly.detector import Detector
    from genlab.anomaly.report import Report

PROGRAM = "python -m genlab.anomaly"


@dataclasses.dataclass(frozen=True)
class Arguments(command_line.JsonOption, FolderOptions):
    """Score images by how strange they are to a trained model, and flag those above a threshold.

    The threshold comes from held-out images of the run's own data, at a false-alarm rate of your choice. Writes the scores as
    .csv, and a picture of the strangest images.
    """

    run: tyro.conf.Positional[str] = "latest"
    """The run: folder, number, or latest."""
    data: str = dataclasses.field(kw_only=True)
    """Images to score: data set or path, as in genlab.train --data."""
    split: Literal["auto", "test", "validation", "train", "all"] = "auto"
    """Split of the data to score. auto: the test images if there are some, else all."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Maximum number of images to score, drawn at random. By default all."""
    score: str = "auto"
    """neighbours, codes, reconstruction, likelihood, denoising or discriminator, if the run's model has it. auto: its best."""
    correct: Literal["none", "complexity"] = "none"
    """Correct the likelihood, which is high for plain images. complexity: subtract the length of the image's PNG code."""
    against: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Correct the likelihood by that of another run, of images in general: score by the ratio of the two."""
    importance_samples: int = 50
    """Importance samples per image of a vae's likelihood."""
    false_alarms: float = 0.01
    """False-alarm rate: share of images like the run's that may be flagged. Above 0, at most 0.5."""
    held_out: int = 1000
    """Maximum number of the run's held-out images for the threshold."""
    normal: str = ""
    """Classes of the data that are not strange, by name or number, like 0,1: for the AUROC."""
    strange: str = ""
    """Classes of the data that are strange. By default those that --normal does not name."""
    shown: int = 32
    """Strangest images to draw."""
    out: str = "anomalies"
    """Output folder."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        bounds.real("--false-alarms", arguments.false_alarms, 0, 0.5, above=True)
        bounds.whole("--held-out", arguments.held_out, 1)
        bounds.whole("--importance-samples", arguments.importance_samples, 1, 1000)
        bounds.whole("--shown", arguments.shown, 1, 1000)
        if arguments.limit is not None:
            bounds.whole("--limit", arguments.limit, 1)
        _examine(arguments)


def _examine(arguments: Arguments) -> None:
    from genlab.anomaly import images, picture, report

    run = arguments.opened(arguments.run)
    against = None if arguments.against is None else arguments.opened(arguments.against)
    chosen = images.load(run, arguments.data, arguments.split, arguments.limit, arguments.normal, arguments.strange)
    with console_log(quiet=arguments.json, to_stderr=arguments.json):
        found = report.make(_detector(arguments, run, against), chosen)
    out = pathlib.Path(arguments.out)
    stem = f"{files.file_name(run.name)}-{files.file_name(chosen.name)}"
    written = [
        files.write_text(out / f"{stem}.csv", found.csv()),
        picture.draw(found, arguments.shown, out / f"{stem}.png"),
    ]
    if arguments.json:
        say_json(found.to_json() | {"files": [str(path) for path in written]})
        return
    for line in summary(found):
        say(line)
    for path in written:
        say(path)


def _detector(arguments: Arguments, run: Run, against: Run | None) -> Detector:
    from genlab.anomaly.detector import Detector

    return Detector.from_run(
        run,
        arguments.score,
        false_alarms=arguments.false_alarms,
        correct=arguments.correct,
        against=against,
        held_out=arguments.held_out,
        importance_samples=arguments.importance_samples,
    )


def summary(found: Report) -> list[str]:
    """Return what the user reads of a report."""
    detector = found.detector
    threshold = detector.threshold
    assert threshold is not None
    low, high = threshold.interval()
    rows = [["", "images", "flagged", "share"]]
    rows += [[group.name, f"{group.images:,}", f"{group.flagged:,}", f"{group.share:.1%}"] for group in found.groups]
    lines = [
        f"{detector.run.name}, step {detector.run.step:,}: {detector.name}, {detector.sentence}",
        f"threshold {threshold.value:.6g} from {len(threshold.held_out):,} held-out images, for false alarms in "
        f"{threshold.false_alarms:.3g} of images like them (95% certain: {low:.3g} to {high:.3g})",
        "",
        aligned(rows),
        "",
    ]
    if found.auroc is not None:
        lines.append(f"AUROC {found.auroc:.3f}: {found.compared}")
    return lines + found.remarks()


if __name__ == "__main__":
    main()
