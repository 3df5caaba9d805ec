"""Gain from generated images for a classifier with few real ones, if the generator saw only those few.

    python benchmarks/augmentation_benefit.py --data mnist [--per-class 20 50 100] [--seeds 5]

For each number of images per class and each seed, a cgan is trained on only these images. Then a classifier is trained on
real images only, with shift, rotation and zoom, with generated images, and with both. The same is done with all images
except for one class cut to 1%, where generated images of that class restore its proportion, compared with copies of its real
ones (oversampled). Results go to benchmarks/results/augmentation_benefit.json, one entry per setting and seed. Existing
entries are not measured again.
"""

from __future__ import annotations

import argparse

import numpy as np
import results

import genlab
from genlab.augment import study as benefit
from genlab.evaluate import comparison

KEPT = "augmentation_benefit"
RECIPE = {"differentiable_augmentation": ("translation",)}
"""For few images: keeps the discriminator from memorizing them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--per-class", type=int, nargs="*", default=[20, 50, 100])
    parser.add_argument("--cut-class", type=int, default=9, help="class to cut to 1%%")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--generator-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000, help="steps of each classifier")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    for seed in range(arguments.seeds):
        for count in arguments.per_class:
            few(dataset, count, seed, arguments)
        cut(dataset, seed, arguments)
        write_table(dataset.name)


def few(dataset, count: int, seed: int, arguments) -> None:
    """Measure with few images of every class."""
    entry = described(dataset, f"{count} a class", seed, arguments)
    if results.is_known(KEPT, entry):
        return
    rows = comparison.chosen_rows(dataset.labels, count, seed)
    real = dataset.images[:][rows], dataset.labels[rows]
    augment = generator(real, entry, arguments)
    predictions = benefit.predictions_by_condition(
        augment.generate(benefit.POOL),
        real,
        dataset.test_images[:],
        dataset.spec.num_classes,
        fraction=0.5,
        steps=arguments.steps,
        seed=seed,
    )
    keep(dataset, entry, predictions)


def cut(dataset, seed: int, arguments) -> None:
    """Measure with all images, except for one class cut to 1%."""
    label = arguments.cut_class
    entry = described(dataset, f"class {label} cut to 1%", seed, arguments)
    if results.is_known(KEPT, entry):
        return
    rare = np.flatnonzero(dataset.labels == label)
    kept = np.random.default_rng(seed).permutation(rare)[: len(rare) // 100]
    rows = np.sort(np.concatenate([np.flatnonzero(dataset.labels != label), kept]))
    real = dataset.images[:][rows], dataset.labels[rows]
    augment = generator(real, entry, arguments, balance="oversample")
    share = 1 / dataset.spec.num_classes
    settings = {"fraction": share, "steps": arguments.steps, "seed": seed}
    test, classes = dataset.test_images[:], dataset.spec.num_classes
    made = augment.generate(benefit.POOL // classes, labels=label)
    predictions = benefit.predictions_by_condition(made, real, test, classes, **settings)
    copies = dataset.images[:][kept], dataset.labels[kept]
    for condition, source in (("oversampled", "generated"), ("oversampled and classical", "both")):
        found = benefit.predictions_by_condition(copies, real, test, classes, conditions=[source], **settings)
        predictions[condition] = found[source]
    keep(dataset, entry, predictions, dataset.test_labels == label)


def described(dataset, setting: str, seed: int, arguments) -> dict:
    keys = ("generator_steps", "steps")
    return {"data": dataset.name, "setting": setting, "seed": seed} | {key: getattr(arguments, key) for key in keys}


def generator(real, entry: dict, arguments, **options) -> genlab.Augmenter:
    """Train a conditional GAN on only these images and return its Augmenter."""
    run = genlab.fit(
        "cgan",
        *real,
        steps=arguments.generator_steps,
        seed=entry["seed"],
        out=str(results.CACHE / KEPT),
        description=entry["setting"].replace(" ", "-").replace("%", ""),
        sample_every=arguments.generator_steps,
        checkpoint_every=arguments.generator_steps,
        **RECIPE,
        **options,
    )
    entry["generator_saw"] = len(real[0])
    return genlab.Augmenter.from_run(run, seed=entry["seed"])


def keep(dataset, entry: dict, predictions: dict[str, np.ndarray], compared: np.ndarray | slice = slice(None)) -> None:
    """Store predicted classes by condition. `compared` selects the test images for the p-value."""
    kept = results.of_predictions(predictions, dataset.test_labels, dataset.spec.num_classes, compared)
    results.add(KEPT, entry | kept)


def write_table(data: str) -> None:
    """Write accuracy by condition, and recall of the class that was cut."""
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    lines = [
        f"# Generated images in addition to few real ones, {data}",
        "",
        "Mean ± standard deviation over seeds, and the p-value of the gain over only real images, with Holm's correction over "
        f"the numbers of images per class. {results.test(entries)} {results.machines(entries)}.",
        "The generator, a cgan, was trained on only the classifier's training images.",
    ]
    groups: dict[bool, dict[str, list[dict]]] = {}
    for entry in entries:
        cut_class = entry["setting"].startswith("class")
        groups.setdefault(cut_class, {}).setdefault(entry["setting"], []).append(entry)
    for cut_class, by_setting in groups.items():  # recall of one class is a separate question, with its own correction
        compared = [
            results.setting(chosen, [_metrics(entry, setting, cut_class) for entry in chosen])
            for setting, chosen in by_setting.items()
        ]
        for place, (setting, chosen) in enumerate(by_setting.items()):
            metric = f"recall of class {setting.split()[1]}" if cut_class else "accuracy"
            lines += [
                "",
                f"## {setting}, {len(chosen)} seeds",
                "",
                f"| | {metric} | gain | p | accuracy |",
                "|---|---|---|---|---|",
            ]
            for name, values in compared[place].accuracy.items():
                found = comparison.differences(compared, name, "real")[place]
                gain = "| | |" if name == "real" else f"| {100 * found.gain:+.2f} | {comparison.shown(found.p_holm)} |"
                accuracy = [entry["accuracy"][name] for entry in chosen]
                lines.append(f"| {name} | {comparison.spread(values)} {gain} {comparison.spread(accuracy)} |")
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


def _metrics(entry: dict, setting: str, cut_class: bool) -> dict[str, float]:
    """Return the metric to compare, by condition."""
    if not cut_class:
        return entry["accuracy"]
    return {name: recall[int(setting.split()[1])] for name, recall in entry["recall"].items()}


if __name__ == "__main__":
    main()
