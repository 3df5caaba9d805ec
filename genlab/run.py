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
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import tyro

from genlab import data as sources
from genlab import files, models
from genlab.backend import Network, tf
from genlab.config import Config
from genlab.data import Dataset
from genlab.data.spec import DataSpec
from genlab.errors import GenlabError, UsageError
from genlab.models.base import GenerativeModel
from genlab.networks import precision

log = logging.getLogger("genlab")
log.setLevel(logging.INFO)
log.propagate = False  # the command line adds a handler, and so may a program that uses genlab

NAME = re.compile(r"(\d{5,})-")


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

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, ordered by step."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def append_metrics(self, line: dict[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def drop_metrics_after(self, step: int) -> None:
        """Drop the lines that a killed run wrote after its last checkpoint; resuming writes them again."""
        kept = [line for line in _complete_lines(self.path / "metrics.jsonl") if line["step"] <= step]
        files.write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def write_config(self, config: Config) -> None:
        self.config = config
        files.write_text(self.path / "config.json", json.dumps(config.to_json(), indent=2) + "\n")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Lock the run for training, and copy log records to log.txt.

        Raises GenlabError if another process holds the lock. The operating system releases it when that process ends.
        """
        lock = filelock.FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise GenlabError(
                f"{self.path} is being trained by another process. Wait for it, or start a new run."
            ) from None
        handler = logging.FileHandler(self.path / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            handler.close()
            lock.release()

    def data(self, source: str = "") -> Dataset:
        """Load the data that the run was trained on, or another source, prepared in the same way.

        Raises GenlabError if the run's data has changed, UsageError if the other source has a different shape.
        """
        if source:
            other = sources.load(source, options=self.config.data_options)
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
        facts = self.config.dataset
        spec = DataSpec(tuple(facts["shape"]), facts["num_classes"])
        options = self.config.options
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
        State(model).restore(self)
        return model

    @property
    def step(self) -> int:
        """Training step of the checkpoint that `model` is restored from."""
        return int(self.find_checkpoint().rpartition("-")[2])

    def find_checkpoint(self) -> str:
        """Return the path of the checkpoint that `checkpoint` names. Raises GenlabError if there is none."""
        if self.checkpoint == "latest":
            path = newest_checkpoint(self.path)
            if path is None:
                raise GenlabError(
                    f"{self.path} holds no checkpoint: training ended before the first one. Train a new run."
                )
            return path
        if self.checkpoint == "best":
            path = tf.train.latest_checkpoint(str(self.checkpoints / "best"))
            if path is None:
                raise UsageError(f"{self.path} has no best checkpoint. Train with --evaluate-every to keep one.")
            return path
        kept = sorted(int(path.stem.rpartition("-")[2]) for path in self.checkpoints.glob("step-*.index"))
        if not self.checkpoint.isdigit() or int(self.checkpoint) not in kept:
            raise UsageError(
                f"--checkpoint {self.checkpoint}: {self.path} has latest, best (with --evaluate-every) and the steps "
                f"{', '.join(map(str, kept)) or 'none'}."
            )
        return str(self.checkpoints / f"step-{int(self.checkpoint)}")

    @property
    def decoder(self) -> Network:
        """Keras model latents -> images in [-1, 1]."""
        return self.model.decoder


class State:
    """Content of a checkpoint: the model's networks and optimizers, the step, the batches consumed, the rollbacks.

    The noise of a step and the data order depend only on the seed and these counters, so there is no other random state.
    """

    def __init__(self, model: GenerativeModel) -> None:
        self.step = model.step
        self.batches = tf.Variable(0, dtype=tf.int64, name="batches")
        self.rollbacks = tf.Variable(0, name="rollbacks")
        self._checkpoint = tf.train.Checkpoint(batches=self.batches, rollbacks=self.rollbacks, **model.state())
        self._managers: dict[str, Any] = {}

    def save(self, run: Run) -> None:
        """Save a checkpoint and delete the oldest beyond `keep`. An interrupted save leaves the others intact."""
        self._save(run.checkpoints, run.config.options.keep)

    def save_best(self, run: Run) -> None:
        """Save this state as the run's best checkpoint, replacing the previous one."""
        self._save(run.checkpoints / "best", 1)

    def _save(self, folder: pathlib.Path, keep: int) -> None:
        manager = self._managers.get(str(folder))
        if manager is None:
            manager = tf.train.CheckpointManager(self._checkpoint, str(folder), keep, checkpoint_name="step")
            self._managers[str(folder)] = manager
        manager.save(checkpoint_number=int(self.step.numpy()))

    def restore(self, run: Run) -> None:
        """Restore the run's checkpoint completely. Raises GenlabError if there is none or it does not fit."""
        path = run.find_checkpoint()
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0][:200]
            raise GenlabError(f"the checkpoint {path} is damaged or from another version: {reason}") from error


def create(out: str | os.PathLike[str], config: Config) -> Run:
    """Create a run folder `00003-model-data[-description]` in `out` with config.json, with the next free number.

    Safe if several runs start at once: the number is taken under a lock on `out`.
    """
    root = pathlib.Path(out)
    root.mkdir(parents=True, exist_ok=True)
    words = [config.model, config.dataset["name"], config.options.description]
    label = "-".join(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words if word)
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
        return Run(path, Config.from_json(json.loads(file.read_text())), str(checkpoint))
    except FileNotFoundError:
        raise UsageError(f"{path} is not a run: it has no config.json.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise GenlabError(f"{file} cannot be read: {error}.") from error


def newest_checkpoint(path: pathlib.Path) -> str | None:
    return tf.train.latest_checkpoint(str(path / "checkpoints"))


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
    if pathlib.Path(run).is_dir():
        return pathlib.Path(run)
    if (out / run).is_dir():
        return out / run
    numbered = [path for path in all_runs(out) if run.isdigit() and int(path.name.split("-")[0]) == int(run)]
    if numbered:
        return numbered[-1]
    newest = ", ".join(path.name for path in all_runs(out)[-3:]) or "none"
    raise UsageError(f"there is no run {run!r}. Newest in {out}: {newest}.")


def _complete_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines that can be parsed; a killed run may leave an incomplete last one."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def to_floats(values: Mapping[str, float]) -> dict[str, float]:
    """Round metrics to six significant digits, for JSON."""
    return {name: float(f"{value:.6g}") for name, value in values.items()}
