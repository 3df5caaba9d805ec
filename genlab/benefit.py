"""Does a trained generator help a classifier? The same one is trained with and without generated images, and compared."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from genlab import augmentation
from genlab.backend import keras, tf
from genlab.errors import UsageError
from genlab.metrics import classifier

log = logging.getLogger("genlab")

CONDITIONS = ("real", "classical", "generated", "both")
"""Real images alone; shifted, turned and zoomed at random; with generated ones among them; both."""
CLASSICAL = ("shift", "rotate", "zoom")
BATCH = 64
LEARNING_RATE = 2e-3
POOL = 20_000
"""Generated images that batches are filled from, at most."""
SIGNIFICANT = 0.05
"""Chance of so large a difference between equals, below which it is taken for one."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What came out with one number of real images a class."""

    per_class: int | None
    """Real images a class; None: all there are."""
    accuracy: dict[str, list[float]]
    """On real held-out images, by condition: one for each seed."""
    recall: dict[str, list[float]]
    """Mean over seeds of each class's recall, by condition."""

    def difference(self, condition: str = "generated", baseline: str = "real") -> tuple[float, float]:
        """Mean difference of accuracy, and its p-value by a paired t-test over seeds (1 with a single seed)."""
        from scipy import stats

        first, second = np.array(self.accuracy[condition]), np.array(self.accuracy[baseline])
        gain = float((first - second).mean())
        if len(first) < 2 or np.ptp(first - second) == 0:
            return gain, 1.0 if len(first) < 2 or gain == 0 else 0.0
        return gain, float(stats.ttest_rel(first, second).pvalue)

    def verdict(self, condition: str = "generated", baseline: str = "real") -> str:
        """What generated images do: help, make no difference, or harm."""
        gain, chance = self.difference(condition, baseline)
        if chance >= SIGNIFICANT:
            return "make no difference"
        return "help" if gain > 0 else "harm"


def study(
    generated: tuple[np.ndarray, np.ndarray],
    real: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    *,
    per_class: Sequence[int | None] = (None,),
    seeds: int = 5,
    fraction: float = 0.5,
    steps: int = 1000,
    conditions: Sequence[str] = CONDITIONS,
) -> list[Setting]:
    """Train a small classifier under each condition, with each number of real images a class, and each seed.

    All images are uint8 [N, H, W, C] with integer labels [N]. Every training takes the same number of steps on batches
    of 64, of which `fraction` are generated where there are any. A seed draws the real images, the initial weights and
    the order, the same ones for all conditions: the differences are paired. Raises UsageError where a class has too few images.
    """
    counts = np.bincount(real[1], minlength=num_classes)
    settings = []
    for count in per_class:
        if count is not None and counts.min() < count:
            raise UsageError(f"--per-class {count}: a class has {counts.min():,} training images alone.")
        accuracy: dict[str, list[float]] = {condition: [] for condition in conditions}
        recalls: dict[str, list[np.ndarray]] = {condition: [] for condition in conditions}
        for seed in range(seeds):
            rows = chosen_rows(real[1], count, seed)
            for condition in conditions:
                extra = generated if condition in ("generated", "both") else None
                network = trained(
                    (real[0][rows], real[1][rows]),
                    extra,
                    num_classes,
                    classical=condition in ("classical", "both"),
                    fraction=fraction,
                    steps=steps,
                    seed=seed,
                )
                answers = predicted(network, test[0])
                accuracy[condition].append(float((answers == test[1]).mean()))
                recalls[condition].append(recall_by_class(answers, test[1], num_classes))
            shown = ", ".join(f"{condition} {values[-1]:.1%}" for condition, values in accuracy.items())
            log.info(f"{'all' if count is None else count} a class, seed {seed}: {shown}")
        mean_recall = {condition: np.nanmean(values, axis=0).tolist() for condition, values in recalls.items()}
        settings.append(Setting(count, accuracy, mean_recall))
    return settings


def chosen_rows(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """That many rows of each class, drawn at random; all rows with None."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if per_class is None:
        return order
    return np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])


def trained(
    real: tuple[np.ndarray, np.ndarray],
    generated: tuple[np.ndarray, np.ndarray] | None,
    num_classes: int,
    *,
    classical: bool,
    fraction: float,
    steps: int,
    seed: int,
) -> Any:
    """The classifier, images in [-1, 1] -> logits [B, K], trained for so many steps."""
    keras.utils.set_random_seed(seed)
    made = 0 if generated is None else round(BATCH * fraction)
    parts = [_batches(*real, BATCH - made, seed)] if made < BATCH else []
    if generated is not None and made:
        parts.append(_batches(*generated, made, seed + 1))
    stream = tf.data.Dataset.zip(*parts) if len(parts) > 1 else parts[0]

    def prepared(*batches: Any) -> Any:
        pairs = batches if isinstance(batches[0], tuple) else (batches,)
        images = tf.cast(tf.concat([images for images, _ in pairs], axis=0), tf.float32) / 127.5 - 1.0
        return images, tf.concat([labels for _, labels in pairs], axis=0)

    def changed(number: Any, batch: Any) -> Any:
        images, labels = batch
        seeds = tf.stack([tf.cast(number, tf.int32), seed])
        return augmentation.augmented(images, seeds, CLASSICAL), labels

    stream = stream.map(prepared)
    if classical:
        stream = stream.enumerate().map(changed)
    network = classifier.build(real[0].shape[1:], num_classes)
    model = keras.Model(network.inputs[0], network.outputs[1])
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(stream.prefetch(4), epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def _batches(images: np.ndarray, labels: np.ndarray, size: int, seed: int) -> Any:
    stream = tf.data.Dataset.from_tensor_slices((images, labels.astype(np.int32)))
    return stream.shuffle(len(images), seed=seed).repeat().batch(size)


def predicted(model: Any, images: np.ndarray) -> np.ndarray:
    """The class that the classifier takes each image for, [N]."""
    parts = [
        np.asarray(model(tf.cast(images[start : start + 500], tf.float32) / 127.5 - 1.0, training=False)).argmax(axis=1)
        for start in range(0, len(images), 500)
    ]
    return np.concatenate(parts)


def recall_by_class(answers: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Share of each class's images that are found to be of it, [K]; nan where the class has none."""
    hits = np.bincount(labels[answers == labels], minlength=num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    return np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def table(settings: list[Setting]) -> str:
    """Accuracy by condition with its spread over seeds, and what is to be said of each."""
    head = ["real images a class", *settings[0].accuracy, "gain", "p", "generated images"]
    rows = [head]
    for setting in settings:
        gain, chance = setting.difference()
        cells = [
            f"{np.mean(values):.2%} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2%}"
            for values in setting.accuracy.values()
        ]
        name = "all" if setting.per_class is None else f"{setting.per_class:,}"
        rows.append([name, *cells, f"{100 * gain:+.2f}", f"{chance:.3f}", setting.verdict()])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def plot(settings: list[Setting], path: pathlib.Path) -> None:
    """Accuracy against the number of real images, a line with its spread for each condition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    names = ["all" if setting.per_class is None else f"{setting.per_class:,}" for setting in settings]
    for index, condition in enumerate(settings[0].accuracy):
        values = [setting.accuracy[condition] for setting in settings]
        spread = [np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in values]
        places = np.arange(len(settings)) + 0.04 * (index - 1.5)  # side by side
        axes.errorbar(
            places,
            [100 * np.mean(each) for each in values],
            100 * np.array(spread),
            marker="o",
            capsize=3,
            label=condition,
        )
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="real images a class", ylabel="accuracy on real held-out images, %")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
