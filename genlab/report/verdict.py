"""A verdict on a run in a few sentences, each with the metric that it comes from and what to try."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from genlab.evaluate.results import Metric
from genlab.report.content import Content

# Where the verdict changes, in the units of the metric. On MNIST, three seeds of one setting differ by 0.01 in precision
# and recall and by 0.3 points in accuracy (benchmarks/results/quality-mnist-20.md): these are well above.
SHORTFALL = 0.05
"""Difference of precision and recall to real images that is told."""
ACCURACY = 0.01
"""Difference in accuracy that is told."""
MEMORIZED = 3
"""Multiple of the floor of memorization that is told."""
RARE = 0.5
"""Proportion of a class, relative to its real one, below which it counts as rare."""


Kind = Literal["good", "fair", "bad", "unknown"]
QUALITIES: tuple[tuple[float, Kind, str], ...] = (
    (
        1.5,
        "good",
        "As a set, the samples can hardly be told from real images: {multiple} times the distance of real images.",
    ),
    (3, "good", "The samples are close to real images: {multiple} times the distance of real images."),
    (
        10,
        "fair",
        "The samples resemble real images, with visible differences: {multiple} times the distance of real images.",
    ),
    (
        math.inf,
        "bad",
        "The samples are far from real images: {multiple} times their distance. Try longer training first.",
    ),
)
"""What a Fréchet distance says, below each multiple of its floor."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence of the verdict."""

    kind: Kind
    text: str
    source: str
    """Metric and value that the sentence comes from, or the file."""


def verdict(content: Content) -> list[Finding]:
    """Return the findings on a run, the overall quality first."""
    return [*_overall(content), *_details(content), *_training(content)]


def _overall(content: Content) -> Iterator[Finding]:
    found = content.evaluation
    if found is None:
        command = f"python -m genlab.evaluate {content.run.path}"
        yield Finding("unknown", f"The run has not been evaluated. To measure it, type: {command}", "evaluation.json")
        return
    metric = found.metrics.get("frechet_distance")
    if metric is not None and (multiple := metric.relative) is not None:
        kind, text = next((kind, text) for limit, kind, text in QUALITIES if multiple < limit)
        text = text.format(multiple=f"{multiple:.1f}" if multiple < 10 else f"{multiple:,.0f}")
        yield Finding(kind, text, f"Fréchet distance {metric.value:.4g}, real images {metric.floor:.4g}")
    if content.is_stale:
        command = f"python -m genlab.evaluate {content.run.path}"
        text = (
            f"These metrics are from step {found.step:,}, and the run is at step {content.step:,}. To update: {command}"
        )
        yield Finding("unknown", text, "evaluation.json")


def _details(content: Content) -> Iterator[Finding]:
    metrics = content.evaluation.metrics if content.evaluation else {}
    for name, limit, sentence in (
        (
            "recall",
            SHORTFALL,
            f"Recall is {{gap:.2f}} below real images: modes are missing. Try {_for_recall(content)}.",
        ),
        (
            "precision",
            SHORTFALL,
            "Precision is {gap:.2f} below real images: some samples look like no real image. Try longer training, or fewer "
            "latent dimensions.",
        ),
        (
            "label_accuracy",
            ACCURACY,
            "The classifier finds the requested class in {value:.1%} of the samples, and in {floor:.1%} of real images. Try "
            f"{_for_labels(content)}.",
        ),
        (
            "train_on_fake",
            ACCURACY,
            "A classifier trained on the samples reaches {value:.1%} on real images, and {floor:.1%} if trained on real ones. "
            "Measure before you augment with them: python -m genlab.augment",
        ),
    ):
        metric = metrics.get(name)
        if metric is None or metric.floor is None or metric.floor - metric.value <= limit:
            continue
        gap = metric.floor - metric.value
        text = sentence.format(gap=gap, value=metric.value, floor=metric.floor)
        yield Finding("fair" if gap < 4 * limit else "bad", text, _source(name, metric))
    memory = metrics.get("memorization")
    if memory is not None and memory.floor is not None and memory.value > MEMORIZED * memory.floor:
        text = (
            f"{memory.value:.0%} of the samples are closer to a training image than 99% of real images are: the model copies. "
            "Look at the nearest training images below; try more data or --differentiable-augmentation."
        )
        yield Finding("bad", text, _source("memorization", memory))
    rare = metrics.get("smallest_class")
    if rare is not None and rare.value < RARE:
        text = f"One class is drawn {rare.value:.2f} times as often as it occurs. See the class balance below."
        yield Finding("fair", text, _source("smallest_class", rare))
    captured = metrics.get("modes")
    if captured is not None and captured.floor is not None and captured.value < captured.floor:
        text = f"{captured.value:.0f} of {captured.floor:.0f} modes are captured: mode collapse. Try minibatch discrimination."
        yield Finding("bad", text, _source("modes", captured))


def _training(content: Content) -> Iterator[Finding]:
    for text in content.warnings:
        yield Finding("fair", f"During training: {text}", "log.txt")
    at = f"at step {content.step:,} of {content.run.config.steps:,}"
    match content.state:
        case "running":
            yield Finding("unknown", f"The run is being trained, and is {at}.", ".lock")
        case "interrupted":
            command = f"python -m genlab.train --resume {content.run.path}"
            yield Finding("unknown", f"Training was interrupted {at}. To finish it, type: {command}", "checkpoints")
        case "collapsed" | "failed":
            why = f": {content.reason}" if content.reason else ""
            yield Finding("bad", f"Training {content.state} {at}{why}.", "outcome.json")


def _for_recall(content: Content) -> str:
    """Return what to try against missing modes, for the model at hand."""
    hparams = content.run.config.hparams
    if hasattr(hparams, "minibatch_discrimination"):
        return "--minibatch-discrimination, a larger --batch-size, or longer training"
    return "longer training, or wider networks"


def _for_labels(content: Content) -> str:
    if getattr(content.run.config.hparams, "conditioning", None) == "concatenate":
        return "longer training, or --conditioning projection"
    return "longer training"


def _source(name: str, metric: Metric) -> str:
    floor = "" if metric.floor is None else f", real images {metric.floor:.4g}"
    return f"{name.replace('_', ' ')} {metric.value:.4g}{floor}"
