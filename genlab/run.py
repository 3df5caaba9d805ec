"""The run folder: created once, locked during training, and opened by everything that uses a trained model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
import tyro

from genlab import bounds, checkpoints, files, grids, history, lock, models, notebook, outcome
from genlab import data as sources
from genlab.backend import Network
from genlab.config import Config
from genlab.console import printable
from genlab.data import Dataset, image_files
from genlab.data.dataset import spec_of
from genlab.data.frame import Frame
from genlab.errors import GenlabError, UsageError
from genlab.models.base import GenerativeModel
from genlab.networks import precision
from genlab.state import State

log = logging.getLogger("genlab")
log.setLevel(logging.INFO)
log.propagate = False  # the command line adds a handler, and so may a program that uses genlab

NAME = re.compile(r"([0-9]{5,18})-")
GRID = re.compile(r"step-([0-9]+)\.png")
"""Names of the grids of the fixed latents, by step."""
WRITTEN = (lock.FILE, lock.HOLDER, outcome.FILE, history.FILE, "config.json", "log.txt")
IN_FOLDERS = ("tensorboard", "samples", "checkpoints")
"""What training writes in a run's folder: files, and folders of files."""


class LogFile(logging.FileHandler):
    """The file log.txt. An error in writing it ends training, as one in writing metrics does: the disk is full."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # it is called while the error is handled


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """Options of commands that use trained runs."""

    runs: str = "runs"
    """Folder of the runs."""
    checkpoint: str = "latest"
    """Checkpoint to load: latest, best (of a run with --evaluate-every), or the step of one that was kept."""

    def opened(self, run: str) -> Run:
        """Open a run by folder, number or `latest`. Raises UsageError if there is none."""
        return open(run, self.runs, checkpoint=self.checkpoint)


@dataclasses.dataclass(frozen=True)
class RunOptions(FolderOptions):
    """Options of commands that use one trained run."""

    run: tyro.conf.Positional[str] = "latest"
    """The run: folder, number, or latest."""

    def open(self) -> Run:
        """Open the run that was asked for. Raises UsageError if there is none."""
        return self.opened(self.run)


class Run:
    """A run folder: settings, metrics, grids, checkpoints, and the trained model."""

    def __init__(self, path: pathlib.Path, config: Config, checkpoint: str = "latest") -> None:
        self.path = path
        self.config = config
        self.checkpoint = checkpoint
        """Checkpoint that the model is restored from: `latest`, `best` or a step."""
        self._dataset: Dataset | None = None
        self._passed_over: set[pathlib.Path] = set()
        """Damaged checkpoints that were named in a warning."""

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def samples(self) -> pathlib.Path:
        """Folder of grids and animation."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def writable(self) -> bool:
        """Whether files can be written to the run's folder; a run that cannot be written can be used, but not trained."""
        return os.access(self.path, os.W_OK)

    @property
    def state(self) -> outcome.State:
        """`running` while a process trains it; else how the last training ended: finished, interrupted, collapsed or failed."""
        return outcome.state(self.path, self.saved_step, self.config.steps)

    @property
    def saved_step(self) -> int:
        """Training step of the newest checkpoint, whole or damaged; 0 if there is none."""
        return max(checkpoints.steps(self.checkpoints), default=0)

    def grid(self) -> grids.Picture | None:
        """Return the newest grid of samples, which a notebook shows; None if there is none. Raises GenlabError if it is damaged."""
        drawn = grids_of(self.samples)
        return grids.Picture(grids.png_of(grids.load_image(drawn[-1]))) if drawn else None

    def _repr_html_(self) -> str:
        """Return what a notebook shows: settings, state, the newest grid and the last metrics."""
        config = self.config
        facts = {
            "model": f"{config.model}, preset {config.preset}",
            "data": f"{config.dataset['name']}, {config.dataset['train_images']:,} images for training",
            "steps": f"{self.saved_step:,} of {config.steps:,}",
            "state": self.state,
        }
        parts = [notebook.heading(f"Run {self.name}"), notebook.table(facts.items())]
        settings = dataclasses.asdict(config.hparams) | dataclasses.asdict(config.options)
        parts.append(notebook.details("all settings", notebook.table(settings.items())))
        try:
            if (grid := self.grid()) is not None:
                parts.append(notebook.picture(grid.png, f"samples of {self.name}"))
            if lines := self.metrics():
                parts.append(notebook.table((name, f"{value:.6g}") for name, value in lines[-1].items()))
        except GenlabError as error:
            parts.append(notebook.paragraph(error))
        return "".join(parts)

    def metrics(self, name: str = "") -> list[dict[str, float]]:
        """Return the lines of metrics.jsonl, ordered by step; with `name`, only those that hold this metric.

        Lines that genlab did not write are passed over.
        """
        return history.read(self.path, name)

    def write_config(self, config: Config) -> None:
        self.config = config
        files.write_text(self.path / "config.json", json.dumps(config.to_json(), indent=2) + "\n")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Lock the run for training, copy log records to log.txt, and record how it ends in outcome.json.

        Raises GenlabError if another process holds the lock, if the folder cannot be written, or if what it writes is a
        link to elsewhere. The operating system releases the lock when the process ends.
        """
        self._refuse_links()
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock.held(self.path))
            handler = LogFile(self.path / "log.txt")
            stack.callback(handler.close)
            log.addHandler(handler)
            stack.callback(log.removeHandler, handler)
            stack.enter_context(outcome.recorded(self.path, lambda: (self.saved_step, self.config.steps)))
            yield

    def _refuse_links(self) -> None:
        for top in (self.path / name for name in (*WRITTEN, *IN_FOLDERS)):
            for path in (top, *top.rglob("*")):
                if path.is_symlink():
                    raise GenlabError(
                        f"{path} is a link to {path.readlink()}, and training would write there. Put the file or folder itself in "
                        "its place, then resume."
                    )

    def check_present(self) -> None:
        """Raise GenlabError if the folder was deleted or moved."""
        if not (self.path / "config.json").exists():
            raise GenlabError(
                f"{self.path} was deleted or moved while it was trained: it has no config.json any more. What training writes "
                "from now on would be lost, so it stopped."
            )

    def delete(self) -> None:
        """Delete the folder and all that is in it. Raises GenlabError if it is a link, or while a process trains the run."""
        if self.path.is_symlink():
            raise GenlabError(f"{self.path} is a link to a run; delete it yourself.")
        with lock.held(self.path):
            # The settings last: what is left after an error is still a run, and can be deleted again.
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == "config.json"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != lock.FILE:
                    path.unlink()
        shutil.rmtree(self.path)

    def data(self, source: str = "") -> Dataset:
        """Load the data that the run was trained on, or another source, prepared in the same way.

        Raises GenlabError if the run's data has changed, UsageError if the other source has a different shape.
        """
        if source:
            # Its own labels, however many of the run's were hidden.
            other = sources.load(source, options=dataclasses.replace(self.config.data_options, labelled=None))
            if list(other.spec.shape) != self.config.dataset["shape"]:
                raise UsageError(
                    f"{other.name} has shape {list(other.spec.shape)}; {self.name} was trained on "
                    f"{self.config.dataset['shape']}."
                )
            return other
        if self._dataset is None:
            facts = self.config.dataset
            if not facts["source"]:
                raise GenlabError(
                    f"{self.path} was trained on arrays that a program passed, which are not stored with it."
                )
            self.use_data(sources.load(facts["source"], options=self.config.data_options))
        assert self._dataset is not None
        return self._dataset

    def read_image(self, path: str | os.PathLike[str] | bytes) -> np.ndarray:
        """Read an image, a path or the content of a file, as the run's data was read: its size, channels, background.

        Returns uint8 [H, W, C]. Raises UsageError for a run of vectors, GenlabError if the image cannot be read.
        """
        shape, options = self.config.dataset["shape"], self.config.data_options
        if len(shape) != 3:
            raise UsageError(f"{self.name} was trained on points, not on images.")
        height, width, channels = shape
        try:
            with image_files.opened(path) as picture:
                return Frame(height, width, channels, options.resize, options.background_colour).of(picture)
        except ValueError as error:
            name = "the image" if isinstance(path, bytes) else path
            raise GenlabError(f"{name} cannot be read: {error}.") from error

    def use_data(self, dataset: Dataset) -> None:
        """Set the run's data. Raises GenlabError if its hash differs from the stored one."""
        if dataset.sha256 != self.config.dataset["sha256"]:
            raise GenlabError(
                f"the data {dataset.source or 'passed'} is not what {self.name} was trained on: its hash is "
                f"{dataset.sha256[:12]}, the run's {self.config.dataset['sha256'][:12]}. Restore the data, or start a new run."
            )
        self._dataset = dataset

    def build(self) -> GenerativeModel:
        """Build the model of config.json with its initial weights."""
        spec, options = spec_of(self.config.dataset), self.config.options
        with precision.scope(options.precision):
            model = models.load(self.config.model)(
                self.config.hparams, spec, seed=options.seed, schedule_steps=options.schedule_steps
            )
        model.open_run = lambda name: open(name).model
        return model

    @functools.cached_property
    def model(self) -> GenerativeModel:
        """The model with the weights of the run's checkpoint. Raises GenlabError if there is none."""
        model = self.build()
        State(model).restore(self.find_checkpoint())
        return model

    @property
    def never_began(self) -> bool:
        """Whether the run was stopped before its first checkpoint, that of step 0: it can begin again, for nothing is lost."""
        return not checkpoints.steps(self.checkpoints) and not self.metrics()

    @property
    def step(self) -> int:
        """Training step of the checkpoint that `model` is restored from."""
        return int(self.find_checkpoint().name.partition("-")[2])

    def find_checkpoint(self) -> pathlib.Path:
        """Return the path of the checkpoint that `checkpoint` names, without the suffixes of its files.

        `latest` is the newest that is whole; damaged ones are named in a warning. Raises GenlabError if there is none.
        """
        found = checkpoints.steps(self.checkpoints)
        chosen = bounds.parsed(self.checkpoint)
        if self.checkpoint in ("latest", "best"):
            folder = self.checkpoints / ("best" if self.checkpoint == "best" else "")
            path = checkpoints.newest_whole(folder, self._pass_over)
            if path is not None:
                return path
            if damaged := checkpoints.steps(folder):
                raise GenlabError(
                    f"every checkpoint in {folder} is damaged: {', '.join(f'step-{step}' for step in damaged)}. Restore one "
                    f"from a copy{', or use --checkpoint latest' if self.checkpoint == 'best' else ', or train a new run'}."
                )
            if self.checkpoint == "best":
                raise UsageError(f"{self.path} has no best checkpoint. Train with --evaluate-every to keep one.")
            if self.never_began:
                raise GenlabError(
                    f"{self.path} holds no checkpoint: training was stopped before the first one. To begin again, type: "
                    f"python -m genlab.train --resume {self.path}"
                )
            raise GenlabError(
                f"{self.path} holds no checkpoint, and has metrics. Restore its checkpoints, or train a new run."
            )
        if chosen not in found:
            raise UsageError(
                f"--checkpoint {self.checkpoint[:40]}: {self.path} has latest, best (with --evaluate-every) and the steps "
                f"{', '.join(map(str, found)) or 'none'}."
            )
        path = checkpoints.at(self.checkpoints, chosen)
        if reason := checkpoints.damage(path):
            raise GenlabError(f"the checkpoint {path} is damaged: {reason}. Choose another with --checkpoint.")
        return path

    def _pass_over(self, path: pathlib.Path, reason: str) -> None:
        if path not in self._passed_over:
            self._passed_over.add(path)
            log.warning(f"warning the checkpoint {path} is damaged and passed over: {reason}")

    @property
    def decoder(self) -> Network:
        """Keras model latents -> images in [-1, 1]."""
        return self.model.decoder


def create(out: str | os.PathLike[str], config: Config) -> Run:
    """Create a run folder `00003-model-data[-description]` in `out` with config.json, with the next free number.

    Safe if several runs start at once: the number is taken under a lock on `out`.
    """
    root = pathlib.Path(out)
    root.mkdir(parents=True, exist_ok=True)
    words = [config.model, config.dataset["name"], config.options.description]
    label = files.file_name("-".join(word for word in words if word))
    with filelock.FileLock(root / ".lock"):
        number = 1 + max((int(match[1]) for path in root.iterdir() if (match := NAME.match(path.name))), default=-1)
        path = root / f"{number:05d}-{label}"
        path.mkdir()
    run = Run(path, config)
    run.write_config(config)
    return run


def open(
    run: str | os.PathLike[str] = "latest",
    out: str | os.PathLike[str] = "runs",
    model: str | None = None,
    checkpoint: str | int = "latest",
) -> Run:
    """Open a trained run: by path, by name or number in the folder `out`, or `latest`. All code that uses runs calls this.

    `model` limits `latest` to runs of that model. `checkpoint` is `latest`, `best` or the step of one that was kept. Raises
    UsageError if there is no such run.
    """
    path = _find(str(run), pathlib.Path(out), model)
    file = path / "config.json"
    try:
        content = files.read_json(file, dict[str, Any])
    except FileNotFoundError:
        raise UsageError(f"{path} is not a run: it has no config.json.") from None
    try:
        return Run(path, Config.from_json(content), str(checkpoint))
    except GenlabError as error:
        raise GenlabError(f"{file} cannot be used: {error}") from error


def grids_of(samples: pathlib.Path, step: int = bounds.LARGEST) -> list[pathlib.Path]:
    """Return the files of grids up to a training step, in order."""
    steps = {}
    for file in samples.glob("step-*.png"):
        named = GRID.fullmatch(file.name)
        number = bounds.parsed(named[1]) if named else None
        if number is not None and number <= step:
            steps[file] = number
    return sorted(steps, key=steps.__getitem__)


def newest_checkpoint(path: pathlib.Path) -> str | None:
    """Return the path of the newest whole checkpoint of a run folder; None if there is none."""
    found = checkpoints.newest_whole(path / "checkpoints", lambda *_: None)
    return None if found is None else str(found)


def all_runs(out: pathlib.Path, model: str | None = None) -> list[pathlib.Path]:
    """Return the run folders in `out`, oldest first."""
    if not out.is_dir():
        return []
    numbered = [(int(match[1]), path) for path in out.iterdir() if (match := NAME.match(path.name))]
    paths = [path for _, path in sorted(numbered) if (path / "config.json").is_file()]
    return [path for path in paths if model is None or path.name.split("-")[1] == model]


def _find(run: str, out: pathlib.Path, model: str | None) -> pathlib.Path:
    runs = all_runs(out, model)
    if run == "latest":
        if not runs:
            kind = f"{model} run" if model else "run"
            raise UsageError(f"there is no {kind} in {out}. Train one first: python -m genlab.train {model or 'dcgan'}")
        return runs[-1]
    for folder in (pathlib.Path(run), out / run):
        with contextlib.suppress(OSError, ValueError):  # no name of a file: too long, or with a zero byte
            if folder.is_dir():
                return folder
    number = bounds.parsed(run)
    if numbered := [path for path in all_runs(out) if number == int(path.name.partition("-")[0])]:
        return numbered[-1]
    newest = ", ".join(path.name for path in all_runs(out)[-3:]) or "none"
    raise UsageError(f"there is no run {run[:200]!r}. Newest in {out}: {newest}.")
