"""Compare classifiers trained under several conditions, over seeds: significance tests, a table, a plot and a report."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import os
from collections.abc import Sequence
from typing import Any, Required, TypedDict

import numpy as np

from genlab import files, plots
from genlab.command_line import JsonOption
from genlab.console import aligned, say, say_json
from genlab.data import Dataset
from genlab.errors import GenlabError, UsageError, reason
from genlab.run import Run

SIGNIFICANT = 0.05
"""Highest p-value, after Holm's correction, of a significant difference."""
FEWEST_SEEDS = 3
"""Fewest seeds for a p-value: two differences say next to nothing about their variance."""
NO_DIFFERENCE = "make no significant difference"
UNDECIDED = "have no verdict"


@dataclasses.dataclass
class Setting:
    """Results for one number of real training images."""

    images: int | None
    """Number of real training images (per class or in total, depending on the study); None: all."""
    accuracy: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """Accuracy on real held-out images by condition, one per seed."""
    recall: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    """Recall of each class by condition and seed; nan for a class without test images."""
    tested: int = 0
    """Number of test images behind the accuracies."""
    right: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Which test images were classified correctly, by condition and seed: packed bits in base64, see `unpacked`."""

    def add(self, predictions: dict[str, np.ndarray], labels: np.ndarray, num_classes: int) -> None:
        """Add the results of one seed: predicted classes [N] by condition, and the true labels [N]."""
        counts = np.bincount(labels, minlength=num_classes)
        self.tested = len(labels)
        for condition, found in predictions.items():
            hits = np.bincount(labels[found == labels], minlength=num_classes)
            recall = np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)
            self.accuracy.setdefault(condition, []).append(float((found == labels).mean()))
            self.recall.setdefault(condition, []).append(recall.tolist())
            self.right.setdefault(condition, []).append(packed(found == labels))

    def newest(self) -> str:
        """Describe the accuracies of the seed that was added last."""
        return ", ".join(f"{condition} {values[-1]:.1%}" for condition, values in self.accuracy.items())

    def difference(self, condition: str, baseline: str) -> tuple[float, float | None]:
        """Return the mean difference of accuracy over seeds, and its two-sided p-value (None with fewer than three seeds).

        The test is a paired t-test over k seeds, whose standard error includes the sampling noise of the n test images:

            t = gain / sqrt(S / k + Q / n), with k - 1 degrees of freedom.

        S is the variance of the seeds' differences. Q is the mean square, over test images, of how much more often the
        condition classifies an image correctly than the baseline, from -1 to 1. Without Q / n this is the paired t-test;
        without S / k, and with seeds that all agree, t is the root of McNemar's chi-square (McNemar 1947, Psychometrika 12).
        If `right` lacks one of the conditions, Q is bounded by their accuracies, as if their errors were independent.
        Raises ValueError if `tested` is 0.
        """
        from scipy import stats

        first, second = np.array(self.accuracy[condition]), np.array(self.accuracy[baseline])
        gain = float((first - second).mean())
        if len(first) < FEWEST_SEEDS:
            return gain, None
        if gain == 0:
            return gain, 1.0
        # A plain t-test ignores that the test images are a sample. Seeds share them, so it reports chance in their choice as
        # a difference; with identical differences, common on few test images, its p is 0. Adding Q / n with k - 1 degrees
        # of freedom can only raise p, so the level holds wherever the t-test's does. Satterthwaite's degrees of freedom have
        # slightly more power, but exceed 5% with three seeds. A sign-flip test cannot reach 5% with five.
        of_seeds = (first - second).var(ddof=1) / len(first)
        of_images = self._disagreement(condition, baseline) / self.tested
        statistic = abs(gain) / np.sqrt(of_seeds + of_images)
        return gain, float(2 * stats.t.sf(statistic, len(first) - 1))

    def _disagreement(self, condition: str, baseline: str) -> float:
        """Return Q of `difference`."""
        if not self.tested:
            raise ValueError("Setting.tested is 0; the number of test images is needed for a p-value")
        if condition in self.right and baseline in self.right:
            means = [
                np.mean([unpacked(each, self.tested) for each in self.right[name]], axis=0)
                for name in (condition, baseline)
            ]
            return float(np.square(means[0] - means[1]).mean())
        first, second = np.array(self.accuracy[condition]), np.array(self.accuracy[baseline])
        return float((first * (1 - second) + second * (1 - first)).mean())

    @property
    def name(self) -> str:
        return "all" if self.images is None else f"{self.images:,}"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Gain of a condition over the baseline in one of several settings."""

    gain: float
    """Mean difference of accuracy."""
    p: float | None
    """Uncorrected p-value of this setting; None with fewer than three seeds."""
    p_holm: float | None
    """P-value after Holm's correction over all settings."""
    verdict: str
    """`help`, `harm`, NO_DIFFERENCE or, with fewer than three seeds, UNDECIDED."""


def differences(settings: Sequence[Setting], condition: str, baseline: str) -> list[Difference]:
    """Return the difference between two conditions in each setting, with p-values corrected for multiple tests."""
    pairs = [setting.difference(condition, baseline) for setting in settings]
    corrected = iter(holm([p for _, p in pairs if p is not None]))
    found = []
    for gain, p in pairs:
        p_holm = None if p is None else next(corrected)
        if p_holm is None:
            verdict = UNDECIDED
        elif p_holm >= SIGNIFICANT:
            verdict = NO_DIFFERENCE
        else:
            verdict = "help" if gain > 0 else "harm"
        found.append(Difference(gain, p, p_holm, verdict))
    return found


class StoredSetting(TypedDict, total=False):
    """A `Setting` and its `Difference`, as `report` stores them."""

    images: Required[int | None]
    accuracy: Required[dict[str, list[float]]]
    recall: dict[str, list[list[files.Number]]]
    tested: int
    right: dict[str, list[str]]
    gain: float
    p: float | None
    p_holm: float | None
    verdict: str


class Stored(TypedDict, total=False):
    """Content of a file of `report`, such as augment.json. Early versions lack some of it."""

    date: str
    run: str
    step: int
    data: Required[str]
    data_sha256: str
    tested_on: Required[int]
    arguments: dict[str, Any]
    generator_saw: int
    trained_weights: dict[str, int]
    settings: Required[list[StoredSetting]]


def read(path: str | os.PathLike[str], condition: str, baseline: str) -> tuple[Stored, list[Setting], list[Difference]]:
    """Read a file of `report`: its content, its settings, and the differences between two conditions in each.

    Old files have p-values of another test, so the differences are computed again. Raises FileNotFoundError if there is no
    file, GenlabError if it cannot be read.
    """
    kept = files.read_json(path, Stored)
    try:
        settings = [_setting(each, each.get("tested", kept["tested_on"])) for each in kept["settings"]]
        return kept, settings, differences(settings, condition, baseline)
    except (KeyError, ValueError) as error:
        raise GenlabError(f"{path} cannot be read: {reason(error)}.") from error


def _setting(stored: StoredSetting, tested: int) -> Setting:
    """Return a stored setting. Raises ValueError if its parts do not fit each other."""
    recall = {
        name: [[float(share) for share in seed] for seed in seeds] for name, seeds in stored.get("recall", {}).items()
    }
    setting = Setting(stored["images"], stored["accuracy"], recall, tested, stored.get("right", {}))
    seeds = {len(values) for values in setting.accuracy.values()} | {len(texts) for texts in setting.right.values()}
    if len(seeds) != 1 or 0 in seeds or tested < 1:
        raise ValueError("its conditions have different numbers of seeds, or nothing was tested")
    characters = -(-tested // 24) * 4  # of base64, for a bit of each test image
    if any(len(text) != characters for texts in setting.right.values() for text in texts):
        raise ValueError(f"its answers are not those of {tested:,} test images")
    return setting


def holm(p_values: Sequence[float]) -> list[float]:
    """Apply Holm's step-down correction to p-values; keeps their order (Holm 1979, Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def packed(right: np.ndarray) -> str:
    """Encode booleans [N] as a string for JSON: eight per byte, in base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """Decode a string from `packed`: [count] values 0 and 1."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count)


def table(settings: Sequence[Setting], images: str, condition: str, baseline: str) -> str:
    """Return a table of accuracies by condition, mean ± standard deviation over seeds, and the gain of one over another.

    `images` is the header of the settings' image counts. With several settings, p-values have Holm's correction.
    """
    header = "p" if len(settings) == 1 else "p (Holm)"
    rows = [[images, *settings[0].accuracy, f"{condition} - {baseline}", header]]
    for setting, found in zip(settings, differences(settings, condition, baseline), strict=True):
        cells = [spread(values) for values in setting.accuracy.values()]
        rows.append([setting.name, *cells, f"{100 * found.gain:+.2f}", shown(found.p_holm)])
    return aligned(rows)


def shown(p: float | None) -> str:
    """Format a p-value for a table."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def spread(values: Sequence[float]) -> str:
    """Format mean ± standard deviation over seeds, in percent; with one seed, only the mean."""
    return f"{np.mean(values):.2%}" + (f" ± {np.std(values, ddof=1):.2%}" if len(values) > 1 else "")


def plot(settings: Sequence[Setting], images: str, path: str | os.PathLike[str]) -> None:
    """Plot accuracy against the number of real images, one line with error bars per condition."""
    conditions = list(settings[0].accuracy)
    with plots.axes(path, 6, 4) as axes:
        for index, condition in enumerate(conditions):
            values = [setting.accuracy[condition] for setting in settings]
            deviations = [float(100 * np.std(each, ddof=1)) if len(each) > 1 else 0.0 for each in values]
            places = np.arange(len(settings)) + 0.04 * (index - (len(conditions) - 1) / 2)  # side by side
            means = [100 * np.mean(each) for each in values]
            axes.errorbar(places, means, deviations, marker="o", capsize=3, label=condition)
        axes.set_xticks(range(len(settings)), [setting.name for setting in settings])
        axes.set_xlim(-0.5, len(settings) - 0.5)  # centres a single count
        axes.set(xlabel=images, ylabel="accuracy on real held-out images, %")
        axes.legend()


def chosen_rows(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Return random row indices, `per_class` of each class; all rows, shuffled, for None."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if per_class is None:
        return order
    return np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])


def oversampled_rows(labels: np.ndarray) -> np.ndarray:
    """Return row indices that repeat rows of smaller classes until all have as many as the largest.

    Each row is there as often as the others of its class, or once more.
    """
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    largest = max(map(len, by_class))
    return np.concatenate([np.resize(rows, largest) for rows in by_class])


def parts(dataset: Dataset) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return training images that have a label with their labels, and held-out ones. Raises UsageError for data without them."""
    if dataset.partial_labels:
        dataset = dataset.labelled_part()
    if dataset.labels is None or dataset.test_images is None or dataset.test_labels is None:
        raise UsageError(
            f"{dataset.name} has no labels or no held-out images; a classifier needs both. Use other data, or --split."
        )
    return (dataset.images[:], dataset.labels), (dataset.test_images[:], dataset.test_labels)


def report(
    run: Run,
    dataset: Dataset,
    settings: Sequence[Setting],
    *,
    name: str,
    images: str,
    pair: tuple[str, str],
    arguments: JsonOption,
    **facts: Any,
) -> None:
    """Write `name`.json and `name`.png to the run's folder, and print the table, or with --json the content of the file.

    `pair` is the condition and the baseline to compare, `arguments` the command's.
    """
    assert dataset.test_images is not None  # see `parts`
    kept = {
        "date": datetime.date.today().isoformat(),
        "run": run.name,
        "step": run.step,
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "tested_on": len(dataset.test_images),
        "arguments": {key: value for key, value in dataclasses.asdict(arguments).items() if key != "json"},
        **facts,
        "settings": [
            dataclasses.asdict(each) | dataclasses.asdict(found)
            for each, found in zip(settings, differences(settings, *pair), strict=True)
        ],
    }
    files.write_json(run.path / f"{name}.json", kept)
    plot(settings, images, run.path / f"{name}.png")
    if arguments.json:
        say_json(kept)
        return
    say(table(settings, images, *pair))
    seeds = len(settings[0].accuracy[pair[0]])
    if seeds < FEWEST_SEEDS:
        say(
            f"No verdict from {seeds} seed{'s' * (seeds > 1)}: {FEWEST_SEEDS} are needed. Type --seeds 3, or --seeds 5 to find smaller differences."
        )
