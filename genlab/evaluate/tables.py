"""Tables of metrics: a row for each metric, a column for each run, and the value of real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.evaluate.evaluation import Evaluation, Metric

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
