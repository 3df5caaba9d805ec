"""Periodic actions of training, run at fixed intervals: evaluate, log, draw, save, trace."""

from __future__ import annotations

import abc
import logging
import math
import time

import numpy as np

from genlab import grids, history, pictures
from genlab.backend import Tensor, tf
from genlab.data.spec import to_model_range
from genlab.evaluate.evaluation import QuickEvaluation
from genlab.evaluate.metrics.modes import mode_metrics
from genlab.train import histograms, tensorboard
from genlab.train.profiling import Profile
from genlab.train.steps import WAITING
from genlab.train.training import Training, duration, sample_steps, scalars

log = logging.getLogger("genlab")

HELD_OUT = 2000
"""Maximum number of held-out images passed to a model's pictures."""


class Action(abc.ABC):
    """Something to do after certain steps."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @abc.abstractmethod
    def next_step(self, step: int) -> int | None:
        """Return the first step after `step` at which the action is due; None if there is none."""

    @abc.abstractmethod
    def act(self) -> None:
        """Run the action at the training's current step."""

    def begin(self) -> None:  # noqa: B027  most actions do nothing here
        """Run before the first step, also when training is resumed."""

    def before(self) -> None:  # noqa: B027
        """Run before each call of steps."""

    def observe(self, history: dict[str, np.ndarray], seconds: float) -> None:  # noqa: B027
        """Run after each call of steps, with the metrics of every step, [count] by name, and the duration of the call."""

    def forget(self) -> None:  # noqa: B027
        """Drop all observations: training rolls back to an earlier step."""

    def end(self) -> None:  # noqa: B027
        """Run when training ends, for whatever reason."""


class Every(Action):
    """Action that is due at multiples of an interval and at the last step."""

    interval: int

    def next_step(self, step: int) -> int | None:
        return min(step // self.interval * self.interval + self.interval, self.training.total)


class Evaluate(Every):
    """Runs a quick evaluation of samples, and keeps the checkpoint if it is the best so far."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        options = training.options
        self.interval = options.evaluate_every
        self.quick = QuickEvaluation(training.dataset, options.evaluate_samples, options.seed)
        log.info(f"quick   evaluation of {len(self.quick.seeds):,} samples every {self.interval:,} steps")

    def act(self) -> None:
        training = self.training
        training.fit_prior()
        metrics = history.rounded(self.quick(training.model))
        name, value = next(iter(metrics.items()))
        earlier = [line[f"quick_{name}"] for line in training.run.metrics() if f"quick_{name}" in line]
        earlier = [each for each in earlier if math.isfinite(each)]
        named = {f"quick_{each}": number for each, number in metrics.items()}
        history.append(training.run.path, {"step": training.step, "seconds": round(training.seconds, 3)} | named)
        scalars(training.board, training.step, named)
        best = value < min(earlier, default=math.inf)
        if best:
            training.state.save_alone(training.run.checkpoints / "best")
        shown = "  ".join(f"{each} {number:.4g}" for each, number in metrics.items())
        log.info(f"quick   step {training.step:,}  {shown}{'  best so far' if best else ''}")
        if "classes" in metrics and training.watched:
            training.warn(training.watch.classes(metrics["classes"], self.quick.real_classes))


class Log(Every):
    """Writes metrics, averaged over the steps since the last line, to metrics.jsonl, TensorBoard and the log."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.interval = training.options.log_every
        self.last_console_line = 0.0
        self.warm = False
        """Whether a call of steps has ended; start-up time does not count in the throughput."""
        self.forget()

    def forget(self) -> None:
        self.recent: list[dict[str, np.ndarray]] = []
        self.since = (self.training.step, self.training.seconds)

    def begin(self) -> None:
        if self.training.step == 0:
            tensorboard.write_hparams(self.training.board, self.training.run)

    def observe(self, history: dict[str, np.ndarray], seconds: float) -> None:
        self.recent.append(history)
        if not self.warm:
            self.since = (self.training.step, self.training.seconds)
            self.warm = True

    def act(self) -> None:
        training = self.training
        # In float64: the sum of large float32 is infinite before their mean is.
        means = {
            name: np.concatenate([each[name] for each in self.recent]).mean(dtype=np.float64) for name in self.recent[0]
        }
        waited = float(means.pop(WAITING))
        metrics = history.rounded(means | self._modes())
        steps, seconds = training.step - self.since[0], training.seconds - self.since[1]
        rate = steps * training.images_per_step / max(1e-9, seconds)
        waiting = waited / max(1e-9, seconds / max(1, steps))
        images = training.step * training.images_per_step
        epoch = round(images / training.dataset.epoch_size, 4)
        speed = {"images_per_second": round(rate, 1), "data_waiting": round(min(1.0, max(0.0, waiting)), 4)}
        where = {"step": training.step, "epoch": epoch, "images": images, "seconds": round(training.seconds, 3)}
        history.append(training.run.path, where | speed | metrics)
        scalars(training.board, training.step, metrics | speed)
        self.forget()
        self._tell(metrics, epoch, rate)
        if training.watched:
            training.warn(training.watch.metrics(metrics))

    def _tell(self, metrics: dict[str, float], epoch: float, rate: float) -> None:
        training = self.training
        shown = "  ".join(f"{name} {value:.3g}" for name, value in metrics.items())
        training.bar.set_postfix_str(f"{shown}  {rate:,.0f} images/s")
        left = (training.total - training.step) * training.images_per_step / max(rate, 1e-9)
        # A terminal shows the progress bar; other outputs get a line every few seconds. The log file gets every line.
        now = time.perf_counter()
        done = training.step == training.total
        quiet = not training.bar.disable or (now - self.last_console_line < 5 and not done)
        if not quiet:
            self.last_console_line = now
        log.info(
            f"step {training.step:,}/{training.total:,}  epoch {epoch:.2f}  {shown}  {rate:,.0f} images/s  {duration(left)} left",
            extra={"file_only": quiet},
        )

    def _modes(self) -> dict[str, float]:
        """Return mode-coverage metrics if the data is a mixture with known modes."""
        dataset = self.training.dataset
        if dataset.modes is None:
            return {}
        return mode_metrics(self.training.fixed_samples(), dataset.modes, dataset.deviation)


class Draw(Action):
    """Draws samples of the fixed latents and the model's other pictures; writes histograms with --histograms."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.steps = sorted(sample_steps(training.options.sample_every, training.total))

    def next_step(self, step: int) -> int | None:
        return next((each for each in self.steps if each > step), None)

    def begin(self) -> None:
        training = self.training
        real, _ = training.dataset.examples(len(training.grid_latents))
        grids.save_image(pictures.samples(real, training.grid_columns), training.run.samples / "real.png")
        if training.step == 0:
            self.act()

    def act(self) -> None:
        training, model = self.training, self.training.model
        drawn = training.fixed_samples()
        held_out, labels = training.dataset.held_out(HELD_OUT)
        extra = model.pictures(to_model_range(held_out), labels) if model.spec.is_image else {}
        picture = pictures.samples(drawn, training.grid_columns, training.dataset.images)
        if training.live_picture.shown:
            training.live_picture.show(grids.png_of(picture))
        with training.board.as_default(step=training.step):
            for name, each in {"": picture, **extra}.items():
                file = f"{name}{name and '-'}step-{training.step:06d}.png"
                grids.save_image(each, training.run.samples / file)
                tf.summary.image(name or "samples", each[np.newaxis])
            if training.options.histograms:
                histograms.write(model.networks, self._shown_inputs())
                tf.summary.histogram("latents", training.grid_latents)
                if model.encoder is not None:
                    tf.summary.histogram("codes", model.encoder(to_model_range(held_out), training=False))
        training.board.flush()
        if training.watched:
            training.warn(training.watch.samples(drawn))

    def _shown_inputs(self) -> dict[str, Tensor | None]:
        """Return the inputs for histograms of activations: the grid's latents, and as many training images and labels."""
        latents = self.training.grid_latents
        images, labels = self.training.dataset.examples(len(latents))
        return {"latents": latents[: len(images)], "images": to_model_range(images), "labels": labels}


class Save(Every):
    """Saves a checkpoint."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.interval = training.options.checkpoint_every

    def begin(self) -> None:
        if self.training.step == 0:
            self.act()

    def act(self) -> None:
        self.training.save()


class Project(Every):
    """Writes codes or features for TensorBoard's projector when training ends."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.interval = training.total

    def act(self) -> None:
        training = self.training
        tensorboard.project(training.run, training.model, training.dataset)


class Trace(Action):
    """Traces the steps of --profile for TensorBoard."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.profile = Profile(training.options.profile, training.run.path / "tensorboard")

    def next_step(self, step: int) -> int | None:
        return next((each for each in self.profile.steps if each > step), None)

    def before(self) -> None:
        self.profile.before(self.training.step)

    def observe(self, history: dict[str, np.ndarray], seconds: float) -> None:
        self.profile.after(self.training.step, seconds, float(history[WAITING].sum()))

    def act(self) -> None:
        """Do nothing: being due ends the call of steps here, which is enough."""

    def end(self) -> None:
        self.profile.close()


def periodic(training: Training) -> list[Action]:
    """Return the actions of a training, in the order in which they run after a step."""
    options = training.options
    evaluated = [Evaluate(training)] if options.evaluate_every else []
    traced = [Trace(training)] if options.profile else []
    projected = [Project(training)] if options.projector else []
    return [*traced, *evaluated, Log(training), Draw(training), Save(training), *projected]
