"""What a training has at hand and where it stands: the loop advances it, the periodic actions look at it."""

from __future__ import annotations

import functools
import logging
import math
import sys
from typing import Any

import numpy as np
import tqdm

from genlab import grids, pictures
from genlab.backend import tf
from genlab.data.dataset import Dataset
from genlab.data.spec import to_model_range
from genlab.errors import Collapsed, GenlabError
from genlab.run import Run, State, newest_checkpoint
from genlab.train import collapse, distribution
from genlab.train.steps import WAITING, Steps

log = logging.getLogger("genlab")

ROLLBACKS = 3
"""How often a run goes back to its last checkpoint, with --on-nan rollback, before it gives up."""
PRIOR_IMAGES, FINAL_PRIOR_IMAGES = 2000, 20_000
"""How many training images a model's prior is fitted to, at most: while it trains, where seconds count, and in the end."""


class Training:
    """One training of a run: its model and data, the step it has reached, and what several actions need."""

    def __init__(self, run: Run, dataset: Dataset, *, resume: bool, debug: bool) -> None:
        """Begin at the newest checkpoint where `resume`; with `debug` steps are run eagerly."""
        self.run = run
        self.options = run.config.options
        self.total = run.config.steps
        self.dataset = dataset
        self.debug = debug
        self.distribution = distribution.Distribution(self.options, run.config.hparams.batch_size)
        with self.distribution.scope():
            self.model = run.build()
            self.state = State(self.model)
        self.step = 0
        self.seconds = 0.0
        """Time spent on training steps, of earlier calls too."""
        if resume:
            self.restore()
        self.images_per_step = run.config.hparams.batches_per_step * run.config.hparams.batch_size
        count, self.grid_columns = pictures.layout(self.model)
        self.grid_latents = self.model.sample_latents(np.arange(count))
        self.grid_labels = self.model.default_labels(np.arange(count))
        self.watch = collapse.Watch(self.model, to_model_range(dataset.examples(count)[0]))
        self._prior_step: int | None = None
        self._saved_step: int | None = None
        # tf.summary needs no purging on resume: TensorBoard shows the newest value of a step.
        self.board = tf.summary.create_file_writer(str(run.path / "tensorboard"))
        self.bar = tqdm.tqdm(
            total=self.total,
            initial=self.step,
            unit="step",
            disable=not (sys.stderr.isatty() and self.distribution.chief),
            dynamic_ncols=True,
        )

    def restore(self) -> None:
        """Take up where the newest checkpoint ends; metrics that were logged after it are forgotten."""
        self.state.restore(self.run)
        self.step = int(self.state.step.numpy())
        self.run.drop_metrics_after(self.step)
        self.seconds = max((line["seconds"] for line in self.run.metrics()), default=0.0)

    def steps(self) -> Steps:
        """The steps that follow where training stands."""
        return Steps(self.run.config, self.model, self.state, self.dataset, self.distribution, debug=self.debug)

    def advance(self, count: int, seconds: float) -> None:
        """Note that so many steps were taken."""
        self.step += count
        self.seconds += seconds
        self.bar.update(count)

    def close(self) -> None:
        self.bar.close()
        self.board.close()

    # -- the model's samples -------------------------------------------------------------------------------------------

    def fit_prior(self) -> None:
        """Let a model whose prior is fitted fit it, before samples are drawn and before it is saved."""
        if self.model.prior.is_fitted and self._prior_step != self.step:
            done = self.step == self.total
            batches = self.dataset.example_batches(FINAL_PRIOR_IMAGES) if done else self._prior_batches
            self.model.fit_prior(map(to_model_range, batches))
            self.grid_latents = self.model.sample_latents(np.arange(len(self.grid_latents)))
            self._prior_step = self.step

    @functools.cached_property
    def _prior_batches(self) -> list[np.ndarray]:
        return list(self.dataset.example_batches(PRIOR_IMAGES))

    def fixed_samples(self) -> np.ndarray:
        """What the newest weights make of the grid's latents, the same ones all through the training."""
        self.fit_prior()
        return self.model.sample(self.grid_latents, self.grid_labels).numpy()

    def save(self) -> None:
        """A checkpoint of this step, unless it has one."""
        if self._saved_step != self.step:
            self.fit_prior()
            self.state.save(self.run)
            self._saved_step = self.step

    def animate(self) -> None:
        """Write the animation of all grids that were drawn so far."""
        paths = sorted(self.run.samples.glob("step-*.png"), key=lambda path: int(path.stem.partition("-")[2]))
        if paths:
            grids.save_animation((grids.load_image(path) for path in paths), self.run.samples / "progress.gif")

    # -- when it goes wrong --------------------------------------------------------------------------------------------

    def warn(self, warnings: list[str]) -> None:
        """Log the warnings of collapse, or stop because of one; nothing in the first part of a run."""
        if self.step < collapse.BEGIN * self.total:
            return
        for text in warnings:
            if self.options.on_collapse == "stop":
                self.save()
                raise Collapsed(
                    f"{text}\nStopped at step {self.step:,} by --on-collapse stop; a checkpoint is saved in {self.run.path}."
                )
            log.warning(f"warning {text}")

    def not_finite(self, history: dict[str, np.ndarray]) -> str | None:
        """What is not finite, in words: a metric of the steps just taken, or a weight where a checkpoint is due after them."""
        bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in history.items() if name != WAITING}
        found = {name: int(rows[0]) for name, rows in bad.items() if len(rows)}
        if found:
            name = min(found, key=found.__getitem__)
            row = found[name]
            return f"{name} is {history[name][row]} at step {self.step + row + 1:,}"
        step = self.step + len(history[WAITING])
        due = step % self.options.checkpoint_every == 0 or step == self.total
        if due and not all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.model.weights):
            return f"the weights are not finite after step {step:,}"
        return None

    def roll_back(self, what: str) -> None:
        """Back to the newest checkpoint with halved rates and other noise. Raises GenlabError where that is not to be done."""
        rollbacks = int(self.state.rollbacks.numpy()) + 1
        if self.options.on_nan == "stop" or rollbacks > ROLLBACKS:
            raise GenlabError(
                f"{what}: training stopped. The last good checkpoint is {newest_checkpoint(self.run.path)}. "
                "A lower learning rate is the usual cure, --on-nan rollback takes it by itself; --precision float32 is another "
                "where it was a lower one."
            )
        factor = 0.5 * float(self.model.rate_factor.numpy())
        self.restore()
        self.state.rollbacks.assign(rollbacks)
        self.model.rate_factor.assign(factor)
        self.bar.n = self.step
        log.info(
            f"{what}: back to step {self.step:,}, learning rates halved, other noise ({rollbacks} of {ROLLBACKS} times)"
        )


def sample_steps(every: int, total: int) -> set[int]:
    """When grids are drawn: first and last step, multiples of `every`, and its halves down to a 32nd for the early steps."""
    early = {math.ceil(every / 2**power) for power in range(1, 6)}
    return {step for step in {0, total, *early, *range(every, total, every)} if step <= total}


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def scalars(board: Any, step: int, values: dict[str, float]) -> None:
    """Write values by name to TensorBoard."""
    with board.as_default(step=step):
        for name, value in values.items():
            tf.summary.scalar(name, value)
