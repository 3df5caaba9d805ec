"""What a report shows of a run: read from the run's folder, without TensorFlow and without the data."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from genlab import outcome
from genlab.data import image_files
from genlab.errors import GenlabError
from genlab.evaluate import results
from genlab.evaluate.results import Evaluation
from genlab.run import Run, grids_of

WIDEST = 960
"""Pixels in width to which pictures are shrunk."""
MOST_FRAMES = 40
"""Maximum number of grids of a run in the slider."""
PICTURE_BYTES = 1_900_000
"""Bytes of all pictures of a report, which base64 makes a third larger: with plotly's script the page stays below 8 MB."""
WARNING = re.compile(r"^\S+ \S+  warning (.*)")
"""A warning in log.txt, after the date and time."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture for the page."""

    title: str
    webp: bytes
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Content:
    """A run's part of the report."""

    run: Run
    step: int
    """Step of the newest checkpoint; 0 if there is none."""
    state: outcome.State
    reason: str
    """Why training ended, in one line; empty if it is not known."""
    metrics: list[dict[str, float]]
    """Lines of metrics.jsonl."""
    evaluation: Evaluation | None
    """Metrics with protocol, if the run was evaluated."""
    warnings: list[str]
    """Warnings that training logged, each once."""
    frames: list[Picture]
    """Grids of the fixed latents, in the order of training."""
    pictures: dict[str, Picture]
    """Other pictures by kind: `real`, `nearest`, and the model's own, such as `reconstructions`."""

    @property
    def is_stale(self) -> bool:
        """Whether training went on after the evaluation."""
        return self.evaluation is not None and self.evaluation.step != self.step


def read(run: Run, count: int) -> Content:
    """Read what a report of `count` runs shows of one. Damaged pictures and metrics are left out."""
    try:
        evaluated = results.read(run)
    except GenlabError:
        evaluated = None
    log = run.path / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    warnings = dict.fromkeys(match[1] for line in lines if (match := WARNING.match(line)))
    pictures = dict(_pictures(run))
    left = PICTURE_BYTES // count - sum(len(each.webp) for each in pictures.values())
    return Content(
        run=run,
        step=run.saved_step,
        state=run.state,
        reason=outcome.reason_of(run.path),
        metrics=run.metrics(),
        evaluation=evaluated,
        warnings=list(warnings),
        frames=_frames(run, left),
        pictures=pictures,
    )


def _pictures(run: Run) -> Iterator[tuple[str, Picture]]:
    """Yield the newest picture of each kind but the grids of the fixed latents."""
    if picture := _picture(run.samples / "real.png", "real images"):
        yield "real", picture
    newest: dict[str, pathlib.Path] = {}
    for file in sorted(run.samples.glob("*-step-*.png")):
        if named := re.fullmatch(r"([a-z_]+)-step-[0-9]+\.png", file.name):
            newest[named[1]] = file
    for kind, file in newest.items():
        if picture := _picture(file, kind.replace("_", " ")):
            yield kind, picture
    if picture := _picture(run.path / "evaluation-nearest.png", "nearest training images"):
        yield "nearest", picture


def _frames(run: Run, most_bytes: int) -> list[Picture]:
    """Return evenly spaced grids, with the first and the last, that take at most this many bytes."""
    files = grids_of(run.samples)
    if not files:
        return []
    last = _picture(files[-1], "")
    affordable = max(1, most_bytes // max(1, len(last.webp) if last else 1))
    shown = [files[index] for index in evenly(len(files), min(MOST_FRAMES, affordable))]
    frames = [_picture(file, f"step {int(file.stem.partition('-')[2]):,}") for file in shown]
    return [frame for frame in frames if frame is not None]


def evenly(count: int, most: int) -> Sequence[int]:
    """Return at most `most` evenly spaced indices below `count`; the last one is always among them."""
    if most == 1:
        return [count - 1]
    return [int(index) for index in np.linspace(0, count - 1, min(most, count)).round()]


def _picture(path: pathlib.Path, title: str) -> Picture | None:
    """Read a picture, shrunk to WIDEST, as WebP; None if there is none or it is damaged."""
    from PIL import Image

    try:
        with image_files.opened(path) as image:
            shown = image.convert("RGB" if image.mode not in ("L", "RGB") else image.mode)
            if shown.width > WIDEST:
                height = max(1, round(shown.height * WIDEST / shown.width))
                shown = shown.resize((WIDEST, height), Image.Resampling.BOX)
            encoded = io.BytesIO()
            shown.save(encoded, "WEBP", quality=80)
    except ValueError:
        return None
    return Picture(title, encoded.getvalue(), shown.width, shown.height)
