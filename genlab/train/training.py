"""State of a training: the loop advances it, the periodic actions read it."""

from __future__ import annotations

import functools
import logging
import math

import numpy as np

from genlab import console, history, notebook, pictures
from genlab import run as runs
from genlab.backend import forget_kernels, tf
from genlab.data.dataset import Dataset
from genlab.data.spec import to_model_range
from genlab.errors import Collapsed, GenlabError
from genlab.run import Run, newest_checkpoint
from genlab.state import State
from genlab.train import animation, collapse, distribution, inheritance
from genlab.train.steps import WAITING, Steps

log = logging.getLogger("genlab")

ROLLBACKS = 3
"""Maximum number of rollbacks to the last checkpoint, with --on-nan rollback."""
PRIOR_IMAGES, FINAL_PRIOR_IMAGES = 2000, 60_000
"""Maximum number of training images to fit a prior to: during training, where it must be fast, and at the end."""


class Training:
    """One training of a run: its model and data, the current step, and what several actions share."""

    def __init__(self, run: Run, dataset: Dataset, *, resume: bool, debug: bool) -> None:
        """Build the model; `resume` starts from the newest whole checkpoint, `debug` runs steps eagerly."""
        self.run = run
        self.options = run.config.options
        self.total = run.config.steps
        self.dataset = dataset
        self.debug = debug
        self.distribution = distribution.Distribution(self.options, run.config.hparams.batch_size)
        with self.distribution.watched(run.path), self.distribution.scope():
            self.model = run.build()
            self.state = State(self.model)
        self.step = 0
        self.seconds = 0.0
        """Time spent on training steps, including earlier trainings of the run."""
        self._saved_step: int | None = None
        if resume and not run.never_began:
            self.restore()
        elif self.options.from_run:
            inheritance.start_from(self.model, runs.open(self.options.from_run), run.config)
        self.images_per_step = run.config.hparams.batches_per_step * run.config.hparams.batch_size
        count, self.grid_columns = pictures.layout(self.model)
        self.grid_latents = self.model.sample_latents(np.arange(count))
        self.grid_labels = self.model.default_labels(np.arange(count))
        self.watch = collapse.Watch(self.model, to_model_range(dataset.examples(count)[0]))
        self._prior_step: int | None = None
        # No purging on resume: TensorBoard shows the newest value of a step.
        self.board = tf.summary.create_file_writer(str(run.path / "tensorboard"))
        self.live_picture = notebook.LivePicture(shown=self.distribution.chief)
        self.bar = console.progress(total=self.total, unit="step", shown=self.distribution.chief, initial=self.step)

    def restore(self) -> None:
        """Restore the newest whole checkpoint and drop the metrics logged after it."""
        self.state.restore(self.run.find_checkpoint())
        self.step = self._saved_step = int(self.state.step.numpy())
        history.drop_after(self.run.path, self.step)
        self.seconds = max((line.get("seconds", 0.0) for line in self.run.metrics()), default=0.0)

    def steps(self) -> Steps:
        """Return the steps that follow the current one."""
        return Steps(self.run.config, self.model, self.state, self.dataset, self.distribution, debug=self.debug)

    def advance(self, count: int, seconds: float) -> None:
        """Count steps that were taken."""
        self.step += count
        self.seconds += seconds
        self.bar.update(count)

    def close(self) -> None:
        self.bar.close()
        self.board.close()
        forget_kernels()

    # -- the model's samples -------------------------------------------------------------------------------------------

    def fit_prior(self) -> None:
        """Fit the prior, if the model has a fitted one: before sampling and before saving."""
        if self.model.prior.is_fitted and self._prior_step != self.step:
            done = self.step == self.total
            if done:  # may take a minute
                log.info("prior   fitting a density to the codes of training images")
            batches = self.dataset.example_batches(FINAL_PRIOR_IMAGES) if done else self._prior_batches
            self.model.fit_prior(map(to_model_range, batches))
            self.grid_latents = self.model.sample_latents(np.arange(len(self.grid_latents)))
            self._prior_step = self.step

    @functools.cached_property
    def _prior_batches(self) -> list[np.ndarray]:
        return list(self.dataset.example_batches(PRIOR_IMAGES))

    def fixed_samples(self) -> np.ndarray:
        """Return samples of the grid's latents, which stay the same throughout training."""
        self.fit_prior()
        return self.model.sample(self.grid_latents, self.grid_labels).numpy()

    def save(self) -> None:
        """Save a checkpoint of the current step, unless there is one."""
        if self._saved_step != self.step:
            self.fit_prior()
            self.state.save(self.run.checkpoints, self.options.keep)
            self._saved_step = self.step

    def animate(self) -> None:
        """Write the animation of the grids drawn so far."""
        animation.write(self.run.samples, self.step)

    # -- failures ------------------------------------------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether signs of collapse count: not in the first part of a run, where every model draws one blob."""
        return self.step >= collapse.BEGIN * self.total

    def warn(self, warnings: list[str]) -> None:
        """Log warnings of failed training, or stop with --on-collapse stop."""
        for text in warnings:
            if self.options.on_collapse == "stop":
                self.save()
                raise Collapsed(
                    f"{text}\nStopped at step {self.step:,} by --on-collapse stop; a checkpoint is saved in {self.run.path}."
                )
            log.warning(f"warning {text}")

    def not_finite(self, history: dict[str, np.ndarray], *, weights: bool) -> str | None:
        """Describe the first metric of these steps that is not finite; None if all are.

        With `weights`, also look at everything that a checkpoint holds: it may be ill while the metrics are not.
        """
        bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in history.items() if name != WAITING}
        found = {name: int(rows[0]) for name, rows in bad.items() if len(rows)}
        if found:
            name = min(found, key=found.__getitem__)
            row = found[name]
            return f"{name} is {history[name][row]} at step {self.step + row + 1:,}"
        ill = self.state.not_finite() if weights else None
        return ill and f"{ill} is not finite after step {self.step + len(history[WAITING]):,}"

    def roll_back(self, what: str) -> None:
        """Roll back to the newest checkpoint with halved learning rates and new noise.

        Raises GenlabError with --on-nan stop, or after ROLLBACKS rollbacks.
        """
        rollbacks = int(self.state.rollbacks.numpy()) + 1
        if self.options.on_nan == "stop" or rollbacks > ROLLBACKS:
            raise GenlabError(
                f"{what}: training stopped. The last good checkpoint is {newest_checkpoint(self.run.path)}. "
                "Try a lower learning rate, --on-nan rollback (halves it automatically) or, after a lower precision, "
                "--precision float32."
            )
        factor = 0.5 * float(self.model.rate_factor.numpy())
        self.restore()
        self.state.rollbacks.assign(rollbacks)
        self.model.rate_factor.assign(factor)
        self.bar.n = self.step
        log.info(
            f"{what}: back to step {self.step:,}, learning rates halved, new noise ({rollbacks} of {ROLLBACKS} times)"
        )


def sample_steps(every: int, total: int) -> set[int]:
    """Return the steps with a grid: first and last, multiples of `every`, and early ones at 1/2, 1/4, ... 1/32 of it."""
    early = {math.ceil(every / 2**power) for power in range(1, 6)}
    return {step for step in {0, total, *early, *range(every, total, every)} if step <= total}


def duration(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def scalars(board: tf.summary.SummaryWriter, step: int, values: dict[str, float]) -> None:
    """Write values by name to TensorBoard."""
    with board.as_default(step=step):
        for name, value in values.items():
            tf.summary.scalar(name, value)
