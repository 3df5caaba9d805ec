"""Trainings of a classifier under several conditions, over seeds: what is a difference, as a table, a plot and a report."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab import plots
from genlab.errors import UsageError

SIGNIFICANT = 0.05
"""Chance of so large a difference between equals, below which it is taken for one."""


@dataclasses.dataclass
class Setting:
    """What came out with one number of real images."""

    images: int | None
    """How many real images were learned from (a class, or in all, as the study says); None: all there are."""
    accuracy: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """On real held-out images, by condition: one for each seed."""
    recall: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    """The same of each class: share of its images that are found to be of it; nan where it has none."""

    def add(self, answers: dict[str, np.ndarray], labels: np.ndarray, num_classes: int) -> None:
        """Take in one seed: the classes [N] that were answered under each condition, and the right ones."""
        counts = np.bincount(labels, minlength=num_classes)
        for condition, found in answers.items():
            hits = np.bincount(labels[found == labels], minlength=num_classes)
            recall = np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)
            self.accuracy.setdefault(condition, []).append(float((found == labels).mean()))
            self.recall.setdefault(condition, []).append(recall.tolist())

    def newest(self) -> str:
        """The accuracies of the seed that was added last."""
        return ", ".join(f"{condition} {values[-1]:.1%}" for condition, values in self.accuracy.items())

    def difference(self, condition: str, baseline: str) -> tuple[float, float]:
        """Mean difference of accuracy, and its p-value by a paired t-test over seeds (1 with a single seed)."""
        from scipy import stats

        first, second = np.array(self.accuracy[condition]), np.array(self.accuracy[baseline])
        gain = float((first - second).mean())
        if len(first) < 2 or np.ptp(first - second) == 0:
            return gain, 1.0 if len(first) < 2 or gain == 0 else 0.0
        return gain, float(stats.ttest_rel(first, second).pvalue)

    def verdict(self, condition: str, baseline: str) -> str:
        """What the condition does beside the baseline: help, make no difference, or harm."""
        gain, chance = self.difference(condition, baseline)
        if chance >= SIGNIFICANT:
            return "make no difference"
        return "help" if gain > 0 else "harm"

    @property
    def name(self) -> str:
        return "all" if self.images is None else f"{self.images:,}"


def table(settings: Sequence[Setting], images: str, condition: str, baseline: str) -> str:
    """Accuracy by condition with its spread over seeds, and what one condition gains over another.

    `images` says what the settings count.
    """
    rows = [[images, *settings[0].accuracy, f"{condition} - {baseline}", "p"]]
    for setting in settings:
        gain, chance = setting.difference(condition, baseline)
        cells = [spread(values) for values in setting.accuracy.values()]
        tested = f"{chance:.3f}" if len(setting.accuracy[condition]) > 1 else "–"
        rows.append([setting.name, *cells, f"{100 * gain:+.2f}", tested])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds of shares, in percent; one seed has no spread."""
    return f"{np.mean(values):.2%}" + (f" ± {np.std(values, ddof=1):.2%}" if len(values) > 1 else "")


def plot(settings: Sequence[Setting], images: str, path: str | os.PathLike) -> None:
    """Accuracy against the number of real images, a line with its spread for each condition."""
    conditions = list(settings[0].accuracy)
    with plots.axes(path, 6, 4) as axes:
        for index, condition in enumerate(conditions):
            values = [setting.accuracy[condition] for setting in settings]
            spread = [100 * np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in values]
            places = np.arange(len(settings)) + 0.04 * (index - (len(conditions) - 1) / 2)  # side by side
            means = [100 * np.mean(each) for each in values]
            axes.errorbar(places, means, spread, marker="o", capsize=3, label=condition)
        axes.set_xticks(range(len(settings)), [setting.name for setting in settings])
        axes.set_xlim(-0.5, len(settings) - 0.5)  # a single count stands in the middle
        axes.set(xlabel=images, ylabel="accuracy on real held-out images, %")
        axes.legend()


def parts(dataset: Any) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Images and labels to train on, and held-out ones to test on. Raises UsageError for data without them."""
    if dataset.labels is None or dataset.test_images is None or dataset.test_labels is None:
        raise UsageError(
            f"{dataset.name} has no labels or no held-out images: a classifier cannot be trained and tested on it."
        )
    return (dataset.images[:], dataset.labels), (dataset.test_images[:], dataset.test_labels)


def report(
    run: Any,
    dataset: Any,
    settings: Sequence[Setting],
    *,
    name: str,
    images: str,
    pair: tuple[str, str],
    arguments: Any,
    **facts: Any,
) -> None:
    """Write `name`.json and `name`.png into the run's folder and print the table.

    `pair` are the condition and the baseline whose difference is the answer; `arguments` the command's.
    """
    from genlab import files

    kept = {
        "date": datetime.date.today().isoformat(),
        "run": run.name,
        "step": run.step,
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "tested_on": len(dataset.test_images),
        "arguments": dataclasses.asdict(arguments),
        **facts,
        "settings": [
            dataclasses.asdict(each)
            | dict(zip(("gain", "p"), each.difference(*pair), strict=True))
            | {"verdict": each.verdict(*pair)}
            for each in settings
        ],
    }
    files.write_text(run.path / f"{name}.json", json.dumps(kept, indent=2) + "\n")
    plot(settings, images, run.path / f"{name}.png")
    print(table(settings, images, *pair))
