"""The only training loop: it runs any model's step, watches its figures, and logs, draws and saves on schedule.

It knows no model by name.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm

from genlab import grids, pictures
from genlab.backend import tf
from genlab.data.dataset import Dataset
from genlab.data.spec import to_model_range
from genlab.errors import Collapsed, GenlabError, Interrupted
from genlab.evaluate import evaluation
from genlab.evaluate.metrics.modes import mode_figures
from genlab.run import Run, State, newest_checkpoint, to_floats
from genlab.train import collapse as watch
from genlab.train import distribution, histograms, profiling
from genlab.train.steps import Steps

log = logging.getLogger("genlab")

SECONDS_PER_CALL = 0.5
"""Steps are run in calls of about this length: long enough that a call costs nothing, short enough for Ctrl-C."""
ROLLBACKS = 3
"""How often a run goes back to its last checkpoint, with --on-nan rollback, before it gives up."""
PRIOR_IMAGES, FINAL_PRIOR_IMAGES = 2000, 20_000
"""How many training images a model's prior is fitted to, at most: while it trains, where seconds count, and in the end."""
HELD_OUT = 2000
"""How many held-out images are handed to what a model draws beside samples."""


def train(run: Run, dataset: Dataset, *, resume: bool = False, debug: bool = False) -> None:
    """Train the run's model to `run.config.options.steps`, from its newest checkpoint where `resume`.

    Raises GenlabError where a figure is not finite, and Interrupted, after saving, on SIGINT or SIGTERM.
    """
    with _signals() as signals:
        _Training(run, dataset, resume, debug).loop(signals)


class _Training:
    def __init__(self, run: Run, dataset: Dataset, resume: bool, debug: bool) -> None:
        self.run = run
        self.options = run.config.options
        self.dataset = dataset
        self.debug = debug
        self.distribution = distribution.Distribution(self.options, run.config.hparams.batch_size)
        with self.distribution.scope():
            self.model = run.build()
            self.state = State(self.model)
        self.step = 0
        self.seconds = 0.0
        if resume:
            self.restore()
        self.metric_names: list[str] = []
        self.recent: list[np.ndarray] = []
        self.recent_start = (self.step, self.seconds)
        self.last_console_line = 0.0
        self.sample_steps = _sample_schedule(self.options.sample_every, self.run.config.steps)
        count, self.grid_columns = pictures.layout(self.model)
        self.grid_latents = self.model.sample_latents(np.arange(count))
        self.grid_labels = self.model.default_labels(np.arange(count))
        self.prior_step: int | None = None
        self.watch = watch.Watch(self.model, to_model_range(dataset.examples(count)[0]))
        self.profile = profiling.Profile(self.options.profile, run.path / "tensorboard")
        self.quick: evaluation.QuickEvaluation | None = None
        if self.options.evaluate_every:
            self.quick = evaluation.QuickEvaluation(dataset, self.options.evaluate_samples, self.options.seed)
            log.info(
                f"quick   evaluations of {len(self.quick.seeds):,} samples every {self.options.evaluate_every:,} steps"
            )
        # tf.summary needs no purging on resume: TensorBoard shows the newest value of a step.
        self.board = tf.summary.create_file_writer(str(run.path / "tensorboard"))

    def restore(self) -> None:
        """Take up where the newest checkpoint ends; figures that were logged after it are forgotten."""
        self.state.restore(self.run)
        self.step = int(self.state.step.numpy())
        self.run.drop_metrics_after(self.step)
        self.seconds = max((line["seconds"] for line in self.run.metrics()), default=0.0)

    def loop(self, signals: _Signals) -> None:
        total = self.run.config.steps
        if self.step >= total:
            log.info(f"all {total:,} steps are done already; --steps with a larger number goes on")
            return
        steps = self._steps()
        real, _ = self.dataset.examples(len(self.grid_latents))
        grids.save_image(pictures.samples(real, self.grid_columns), self.run.samples / "real.png")
        if self.step == 0:
            self.draw()
            self.save()
        bar = tqdm.tqdm(
            total=total,
            initial=self.step,
            unit="step",
            disable=not (sys.stderr.isatty() and self.distribution.chief),
            dynamic_ncols=True,
        )
        steps_per_call, steps_done = 1, 0
        try:
            while self.step < total:
                count = min(steps_per_call, self._next_event() - self.step)
                self.profile.before(self.step)
                started = time.perf_counter()
                with self.distribution.watched(self.run.path):
                    count, stop = self.distribution.agree(count, bool(signals.received))
                    history = steps(count)
                elapsed = time.perf_counter() - started
                # What one process of several was told must not stop it alone: the next agreement stops all.
                stop = stop or (self.distribution.workers == 1 and bool(signals.received))
                self.metric_names = steps.metric_names
                if bad := self.not_finite(history, self.step + count):
                    self.roll_back(bad, bar)
                    steps = self._steps()
                    continue
                self.recent.append(history)
                self.step += count
                self.seconds += elapsed
                if steps_done == 0:  # starting up is no part of the rate
                    self.recent_start = (self.step, self.seconds)
                steps_done += count
                self.profile.after(self.step, elapsed, float(history[:, -1].sum()))
                steps_per_call = max(1, min(2 * steps_per_call, int(SECONDS_PER_CALL * count / elapsed)))
                bar.update(count)
                if self.quick is not None and self._due(self.options.evaluate_every):
                    self.evaluate(self.quick)
                if self._due(self.options.log_every):
                    self.log_metrics(bar)
                if self.step in self.sample_steps:
                    self.draw()
                if self._due(self.options.checkpoint_every) or stop:
                    self.save()
                if stop and self.step < total:
                    self.film()
                    number = signals.received or signal.SIGTERM
                    by = signal.Signals(number).name if signals.received else "another worker"
                    raise Interrupted(
                        f"Stopped by {by} at step {self.step:,}; a checkpoint is saved.\n"
                        f"Go on:  python -m genlab.train --resume {self.run.path}",
                        number,
                    )
        finally:
            bar.close()
            self.profile.close()
            self.board.close()
        self.film()

    def _steps(self) -> Steps:
        """The steps that follow where training stands."""
        return Steps(self.run.config, self.model, self.state, self.dataset, self.distribution, debug=self.debug)

    def _next_event(self) -> int:
        """The next step after which something is due."""
        options = self.options
        intervals = (options.log_every, options.checkpoint_every, options.evaluate_every)
        regular = [self.step // n * n + n for n in intervals if n]
        drawn = [step for step in self.sample_steps if step > self.step]
        profiled = [step for step in self.profile.steps if step > self.step]
        return min(*regular, *drawn, *profiled, self.run.config.steps)

    def _due(self, interval: int) -> bool:
        return self.step % interval == 0 or self.step == self.run.config.steps

    def not_finite(self, history: np.ndarray, step: int) -> str | None:
        """What is not finite, in words: a figure of the steps up to `step`, or a weight where a checkpoint is due then."""
        bad = np.argwhere(~np.isfinite(history))
        if len(bad):
            row, column = bad[0]
            return f"{[*self.metric_names, 'data_waiting'][column]} is {history[row, column]} at step {self.step + int(row) + 1:,}"
        due = step % self.options.checkpoint_every == 0 or step == self.run.config.steps
        if due and not all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.model.weights):
            return f"the weights are not finite after step {step:,}"
        return None

    def roll_back(self, what: str, bar: tqdm.tqdm) -> None:
        """Back to the newest checkpoint with halved rates and other noise."""
        rollbacks = int(self.state.rollbacks.numpy()) + 1
        if self.options.on_nan == "stop" or rollbacks > ROLLBACKS:
            self._fail(what)
        factor = 0.5 * float(self.model.rate_factor.numpy())
        self.restore()
        self.state.rollbacks.assign(rollbacks)
        self.model.rate_factor.assign(factor)
        self.recent, self.recent_start = [], (self.step, self.seconds)
        bar.n = self.step
        log.info(
            f"{what}: back to step {self.step:,}, learning rates halved, other noise ({rollbacks} of {ROLLBACKS} times)"
        )

    def _fail(self, what: str) -> None:
        newest = newest_checkpoint(self.run.path)
        raise GenlabError(
            f"{what}: training stopped. The last good checkpoint is {newest}. "
            "A lower learning rate is the usual cure, --on-nan rollback takes it by itself; --precision float32 is another "
            "where it was a lower one."
        )

    def warn(self, warnings: list[str]) -> None:
        """Say, or stop because of, what the watch has seen; nothing in the first part of a run."""
        for text in warnings:
            if self.options.on_collapse == "stop":
                self.save()
                raise Collapsed(
                    f"{text}\nStopped at step {self.step:,} by --on-collapse stop; a checkpoint is saved in {self.run.path}."
                )
            log.warning(f"warning {text}")

    @property
    def watched(self) -> bool:
        return self.step >= watch.BEGIN * self.run.config.steps

    def evaluate(self, quick: evaluation.QuickEvaluation) -> None:
        """Figures of the newest weights' samples; the checkpoint is kept where they are the best so far."""
        self.fit_prior()
        figures = to_floats(quick(self.model))
        name, value = next(iter(figures.items()))
        earlier = [line[f"quick_{name}"] for line in self.run.metrics() if f"quick_{name}" in line]
        line = {"step": self.step, "seconds": round(self.seconds, 3)}
        self.run.append_metrics(line | {f"quick_{each}": number for each, number in figures.items()})
        with self.board.as_default(step=self.step):
            for each, number in figures.items():
                tf.summary.scalar(f"quick_{each}", number)
        best = value < min(earlier, default=math.inf)
        if best:
            self.state.save_best(self.run)
        shown = "  ".join(f"{each} {number:.4g}" for each, number in figures.items())
        log.info(f"quick   step {self.step:,}  {shown}{'  the best so far' if best else ''}")
        if "classes" in figures and self.watched:
            self.warn(self.watch.classes(figures["classes"], quick.real_classes))

    def log_metrics(self, bar: tqdm.tqdm) -> None:
        history = np.concatenate(self.recent)
        start_step, start_seconds = self.recent_start
        consumed = self.run.config.hparams.batches_per_step * self.run.config.hparams.batch_size
        images = self.step * consumed
        rate = (self.step - start_step) * consumed / max(1e-9, self.seconds - start_seconds)
        *means, waited = history.mean(axis=0)
        figures = to_floats(dict(zip(self.metric_names, means, strict=True)) | self.mode_figures())
        step_seconds = (self.seconds - start_seconds) / max(1, self.step - start_step)
        waiting = float(waited) / max(1e-9, step_seconds)
        speed = {"images_per_second": round(rate, 1), "data_waiting": round(min(1.0, waiting), 4)}
        line = {
            "step": self.step,
            "epoch": round(images / self.dataset.epoch_size, 4),
            "images": images,
            "seconds": round(self.seconds, 3),
            **speed,
            **figures,
        }
        self.run.append_metrics(line)
        with self.board.as_default(step=self.step):
            for name, value in (figures | speed).items():
                tf.summary.scalar(name, value)
        self.recent, self.recent_start = [], (self.step, self.seconds)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        bar.set_postfix_str(f"{shown}  {rate:,.0f} images/s")
        left = (self.run.config.steps - self.step) * consumed / max(rate, 1e-9)
        text = (
            f"step {self.step:,}/{self.run.config.steps:,}  epoch {line['epoch']:.2f}  {shown}  "
            f"{rate:,.0f} images/s  {_duration(left)} left"
        )
        # On a terminal the bar shows it; elsewhere a line now and then. The log file has every line.
        now = time.perf_counter()
        quiet = not bar.disable or (now - self.last_console_line < 5 and self.step < self.run.config.steps)
        if not quiet:
            self.last_console_line = now
        log.info(text, extra={"file_only": quiet})
        if self.watched:
            self.warn(self.watch.figures(figures))

    def fit_prior(self) -> None:
        """Let models without a prior of their own fit one, before samples are drawn and before it is saved."""
        if self.model.prior.is_fitted and self.prior_step != self.step:
            done = self.step == self.run.config.steps
            batches = self.dataset.example_batches(FINAL_PRIOR_IMAGES) if done else self.prior_batches
            self.model.fit_prior(map(to_model_range, batches))
            self.grid_latents = self.model.sample_latents(np.arange(len(self.grid_latents)))
            self.prior_step = self.step

    @functools.cached_property
    def prior_batches(self) -> list[np.ndarray]:
        return list(self.dataset.example_batches(PRIOR_IMAGES))

    def mode_figures(self) -> dict[str, float]:
        """How many of the data's Gaussians the samples reach, where the data has such."""
        if self.dataset.modes is None:
            return {}
        self.fit_prior()
        drawn = self.model.sample(self.grid_latents, self.grid_labels).numpy()
        return mode_figures(drawn, self.dataset.modes, self.dataset.deviation)

    def draw(self) -> None:
        """The fixed latents as the newest weights decode them, and what the model draws beside."""
        self.fit_prior()
        drawn = self.model.sample(self.grid_latents, self.grid_labels).numpy()
        held_out, labels = self.dataset.held_out(HELD_OUT)
        beside = self.model.pictures(to_model_range(held_out), labels) if self.model.spec.is_image else {}
        picture = pictures.samples(drawn, self.grid_columns, self.dataset.images)
        with self.board.as_default(step=self.step):
            for name, each in {"": picture, **beside}.items():
                grids.save_image(each, self.run.samples / f"{name}{name and '-'}step-{self.step:06d}.png")
                tf.summary.image(name or "samples", each[np.newaxis])
            if self.options.histograms:
                histograms.write(self.model.networks, self.shown_inputs())
        self.board.flush()
        if self.watched:
            self.warn(self.watch.samples(drawn))

    def shown_inputs(self) -> dict[str, Any]:
        """What histograms of activations are taken on: the grid's latents, and as many training images and labels."""
        images, labels = self.dataset.examples(len(self.grid_latents))
        return {"latents": self.grid_latents[: len(images)], "images": to_model_range(images), "labels": labels}

    def save(self) -> None:
        self.fit_prior()
        self.state.save(self.run)

    def film(self) -> None:
        paths = sorted(self.run.samples.glob("step-*.png"), key=lambda path: int(path.stem.partition("-")[2]))
        if paths:
            grids.save_film((grids.load_image(path) for path in paths), self.run.samples / "progress.gif")


def _sample_schedule(every: int, total: int) -> set[int]:
    """First and last step, multiples of `every`, and its halves down to a 32nd for the quick early course."""
    early = {math.ceil(every / 2**power) for power in range(1, 6)}
    return {step for step in {0, total, *early, *range(every, total, every)} if step <= total}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class _Signals:
    received = 0


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    """SIGINT and SIGTERM are noted, for the loop to finish its step and save; a second one acts at once."""
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def note(number, frame):
        signals.received = number
        for each, handler in previous.items():
            signal.signal(each, handler)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
