"""What evaluations found: metrics with their protocol, stored and read, and compared as a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from genlab import files, notebook
from genlab import run as runs
from genlab.errors import GenlabError, UsageError

LOWER_IS_BETTER = (
    "frechet_distance",
    "kernel_distance",
    "memorization",
    "class_kl",
    "modes_kl",
    "mse",
    "nll",
    "negative_elbo",
    "bits_per_dimension",
    "feature_distance",
)
NEITHER_IS_BETTER = ("reconstruction", "kl", "active_units")
ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of a run."""

    value: float
    floor: float | None = None
    """The same metric with real images instead of generated ones; None if that has no meaning."""
    spread: float | None = None
    """Standard deviation over subsets or splits, or standard error; None if there is none."""

    @property
    def relative(self) -> float | None:
        """The value as a multiple of the floor; None without a floor, or if it is no finite number."""
        relative = self.value / self.floor if self.floor else math.inf
        return relative if math.isfinite(relative) else None


class ClassCounts(TypedDict):
    """Images by class, as the extractor finds them: one number for each class."""

    names: list[str]
    generated: list[int]
    real: list[int]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All metrics of a run, with the protocol that a comparison needs."""

    run: str
    model: str
    step: int
    protocol: dict[str, Any]
    metrics: dict[str, Metric]
    facts: dict[str, Any]
    """Date, seconds, version: facts that do not affect the metrics."""
    classes: ClassCounts | None = None
    """How often the extractor finds each class; None if it finds none."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the metrics with their floors, and the protocol."""
        shown = [(row.name, row.cells[0].text, row.real) for row in rows([self])]
        return "".join(
            [
                notebook.heading(f"{self.run}, step {self.step:,}"),
                notebook.table(shown, ("metric", self.model, "real images")),
                notebook.details("protocol", notebook.table((self.protocol | self.facts).items())),
            ]
        )


class StoredMetric(TypedDict):
    """A `Metric` in evaluation.json."""

    value: files.Number
    floor: NotRequired[files.Number | None]
    spread: NotRequired[files.Number | None]


class StoredEvaluation(TypedDict):
    """Content of evaluation.json."""

    run: str
    model: str
    step: int
    protocol: dict[str, Any]
    metrics: NotRequired[dict[str, StoredMetric]]
    figures: NotRequired[dict[str, StoredMetric]]
    """The key of the metrics in early versions."""
    facts: dict[str, Any]
    classes: NotRequired[ClassCounts | None]
    """Early versions have none."""


def read(run: runs.Run) -> Evaluation:
    """Read the result of `evaluate`. Raises GenlabError if the run was not evaluated, or the file cannot be read."""
    try:
        stored: StoredEvaluation = files.read_json(run.path / "evaluation.json", StoredEvaluation)
    except FileNotFoundError:
        raise GenlabError(f"{run.name} has not been evaluated. Type: python -m genlab.evaluate {run.path}") from None

    def number(value: files.Number | None) -> float | None:
        return None if value is None else float(value)

    metrics = {
        name: Metric(float(metric["value"]), number(metric.get("floor")), number(metric.get("spread")))
        for name, metric in (stored.get("metrics") or stored.get("figures") or {}).items()
    }
    return Evaluation(
        stored["run"],
        stored["model"],
        stored["step"],
        stored["protocol"],
        metrics,
        stored["facts"],
        stored.get("classes"),
    )


# -- several runs ------------------------------------------------------------------------------------------------------


def check_same_data(opened: Sequence[runs.Run]) -> None:
    """Raise UsageError if runs were trained on different data. It takes no time, and `comparable` needs evaluations."""
    first, *others = opened
    for other in others:
        data, others_data = first.config.dataset, other.config.dataset
        if data["sha256"] != others_data["sha256"]:
            name, others_name = data["name"], others_data["name"]
            raise UsageError(
                f"{first.name} was trained on {name}, {other.name} on "
                f"{others_name if others_name != name else 'other images of that name'}, so their metrics cannot be compared. "
                "Evaluate each alone."
            )


def comparable(evaluations: list[Evaluation]) -> None:
    """Raise UsageError, naming the differences, if the protocols of evaluations differ."""
    first, *others = evaluations
    for other in others:
        differing = [
            f"{name} ({first.protocol.get(name)} and {other.protocol.get(name)})"
            for name in {**first.protocol, **other.protocol}
            if first.protocol.get(name) != other.protocol.get(name)
            and name in first.protocol
            and name in other.protocol
        ]
        if differing:
            raise UsageError(
                f"the metrics of {first.run} and {other.run} cannot be compared: they differ in {', '.join(differing)}."
            )


@dataclasses.dataclass(frozen=True)
class Cell:
    """A metric of a run."""

    text: str
    """Value ± spread; ABSENT if the run has none."""
    best: bool
    """Whether it is the best of several runs."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A metric of several runs."""

    name: str
    cells: list[Cell]
    """One for each run."""
    real: str
    """The same metric of real images, or ABSENT."""


def rows(evaluations: Sequence[Evaluation | None]) -> list[Row]:
    """Return the table of runs, of which some may not be evaluated."""
    names = dict.fromkeys(name for each in evaluations if each for name in each.metrics)
    return [_row(name, [each.metrics.get(name) if each else None for each in evaluations]) for name in names]


def _row(name: str, metrics: Sequence[Metric | None]) -> Row:
    values = [metric.value for metric in metrics if metric is not None]
    best = None
    if len(values) > 1 and name not in NEITHER_IS_BETTER:
        best = (min if name in LOWER_IS_BETTER else max)(values)
    cells = [Cell(ABSENT, False) if each is None else Cell(_text(each), each.value == best) for each in metrics]
    floor = next((each.floor for each in metrics if each is not None and each.floor is not None), None)
    return Row(name.replace("_", " "), cells, ABSENT if floor is None else f"{floor:.4g}")


def _text(metric: Metric) -> str:
    return f"{metric.value:.4g}" + ("" if metric.spread is None else f" ± {metric.spread:.2g}")
