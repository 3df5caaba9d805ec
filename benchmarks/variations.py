"""Gain from variations of a classifier's own few images, on top of shifts, rotations and zooms.

    python benchmarks/variations.py --data mnist [--per-class 20 50 100] [--seeds 5] [--sources vae:perturb:0.3 flow:renoise:0.8]

A source is a model, a mode of the Augmenter and an amount. Its generator is trained without labels, once on all training images
("all", as when labels are what is scarce) and once for each setting and seed on the classifier's own images ("own"). The
classifier is trained on real images, with the usual changes, and with variations on top of those: a share of 0.6 of each batch
(Norouzi et al. 2020, https://arxiv.org/abs/2004.04795). Variations are left out to whose label a classifier, trained only on the same
images, gives less than --confidence, and others of their class are repeated. The same is done with 50 images of each class but a
tenth of them for one rare class, whose images are repeated in all conditions until it is as frequent as the others; with --rare-alone,
only its images are varied, and the others take the place of their variations. The amount
of re-noising and the confidence were chosen with another seed, 20 images a class, on 10,000 other training images; for CIFAR-10
a confidence of 0.5 with 50 a class, on 5,000 others.

Results go to benchmarks/results/variations.json, one entry per setting, source and seed, and the table to
benchmarks/results/variations-DATA.md. Existing entries are not measured again. Those of a rare class
whose images are not repeated are from before.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import results

import genlab
from genlab import run as runs
from genlab.augment import study
from genlab.augment.variations import vary
from genlab.evaluate import comparison

KEPT = "variations"
SHARE = 0.6
"""Variations of a batch, as a fraction."""
RARE = 0.1
"""Images of the rare class, as a fraction of the others'."""
BASELINE = "classical"
BASELINES = ("real", BASELINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--per-class", type=int, nargs="*", default=[20, 50, 100])
    parser.add_argument(
        "--rare-class", type=int, default=9, help="class with a tenth of the images, in a setting of its own"
    )
    parser.add_argument("--rare-per-class", type=int, default=50, help="images of the other classes there")
    parser.add_argument("--sources", nargs="*", default=["vae:perturb:0.3", "vae:interpolate:0.5", "flow:renoise:0.8"])
    parser.add_argument("--pools", nargs="*", default=["all", "own"], choices=["all", "own"])
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument(
        "--rare-alone", action="store_true", help="vary the images of the rare class alone, where there is one"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--generator-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=1000, help="steps of each classifier")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    settings = [(f"{count} a class", count, None) for count in arguments.per_class]
    rare = arguments.rare_class
    name = f"class {rare} rare, {arguments.rare_per_class} a class, oversampled"
    settings.append((name, arguments.rare_per_class, rare))
    for seed in range(arguments.seeds):
        for name, count, cut in settings:
            if cut is not None or not arguments.rare_alone:
                measure(dataset, name, rows(dataset, count, cut, seed), seed, arguments)
            write_table(dataset)


def rows(dataset: Any, per_class: int, rare: int | None, seed: int) -> np.ndarray:
    """Return which training images the classifier gets; of the rare class a tenth, repeated."""
    chosen = comparison.chosen_rows(dataset.labels, per_class, seed)
    if rare is None:
        return chosen
    of_rare = dataset.labels[chosen] == rare
    left_out = np.flatnonzero(of_rare)[max(1, round(RARE * per_class)) :]
    chosen = np.delete(chosen, left_out)
    return chosen[comparison.oversampled_rows(dataset.labels[chosen])]


def measure(dataset: Any, setting: str, chosen: np.ndarray, seed: int, arguments: argparse.Namespace) -> None:
    """Measure the baselines and every source for one setting and seed, unless they are there already."""
    real = dataset.images[:][chosen], dataset.labels[chosen]
    entry = {"data": dataset.name, "setting": setting, "seed": seed, "steps": arguments.steps}
    train = functools.partial(
        study.predictions_by_condition,
        real=real,
        test=dataset.test_images[:],
        num_classes=dataset.spec.num_classes,
        fraction=SHARE,
        steps=arguments.steps,
        seed=seed,
    )
    # The classical baseline once more, which the sources share.
    scorer = functools.cache(
        lambda: study.trained(
            real, None, dataset.spec.num_classes, classical=True, fraction=SHARE, steps=arguments.steps, seed=seed
        )
    )
    baselines = entry | {"source": "none", "pool": "none"}
    if not results.is_known(KEPT, baselines):
        keep(dataset, baselines, train(real, conditions=BASELINES))
    for source in arguments.sources:
        for pool in arguments.pools:
            name, mode, amount = source.split(":")
            described = entry | {"source": source, "pool": pool, "confidence": arguments.confidence}
            described |= {
                "generator_steps": arguments.generator_steps,
                "varied": "rare" if arguments.rare_alone else "all",
            }
            if results.is_known(KEPT, described):
                continue
            run = generator(name, dataset, real if pool == "own" else None, f"{setting} {seed}", arguments)
            augment = genlab.Augmenter.from_run(run, mode=mode, amount=float(amount), fraction=1.0, seed=seed)
            count = min(study.POOL // 2, arguments.steps * study.BATCH)
            classes = [arguments.rare_class] if arguments.rare_alone else None
            varied = vary(
                augment, *real, count, classifier=scorer(), confidence=arguments.confidence, classes=classes, seed=seed
            )
            found = train(varied, conditions=["both"])
            name = f"{source}, {pool}, {arguments.confidence:.0%} sure{', the rare class alone' * arguments.rare_alone}"
            keep(dataset, described, {name: found["both"]})


def generator(name: str, dataset: Any, real: study.Arrays | None, part: str, arguments: argparse.Namespace) -> runs.Run:
    """Return a run of a model without labels on all training images, or on `real` ones alone; trained once and kept."""
    out = results.CACHE / KEPT
    words = f"{dataset.name} {'all' if real is None else part}".replace(" ", "-").replace(",", "")
    for path in runs.all_runs(out, name):
        if path.name.endswith(f"-{words}") and runs.open(path).state == "finished":
            return runs.open(path)
    images = dataset.images[:] if real is None else real[0]
    steps = arguments.generator_steps
    size = min(64, len(images))
    settings = {"steps": steps, "sample_every": steps, "checkpoint_every": steps, "batch_size": size}
    return genlab.fit(name, images, out=str(out), description=words, **settings)


def keep(dataset: Any, entry: dict[str, Any], predictions: dict[str, np.ndarray]) -> None:
    """Store accuracy and recall by condition."""
    results.add(KEPT, entry | results.of_predictions(predictions, dataset.test_labels, dataset.spec.num_classes))


def write_table(dataset: Any) -> None:
    """Write accuracy by condition, and the recall of a rare class, with the gains over the usual changes and their p-values."""
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == dataset.name]
    lines = [
        f"# Variations of a classifier's own images, {dataset.name}",
        "",
        "Accuracy on held-out images, mean ± standard deviation over seeds, and the gain over `classical` (shifts, rotations, "
        "zooms), with Holm's correction over all tests of the table. Where a class is rare, also the share of its images that is "
        f"recognized. {results.test(entries)} {results.machines(entries)}.",
        'Variations come on top of the usual changes. "all": their generator saw all training images without labels; "own": only '
        "the classifier's.",
    ]
    by_setting: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for entry in entries:
        setting = f"{entry['setting']}, {entry['steps']:,} steps"
        by_setting.setdefault(setting, {}).setdefault(entry["seed"], []).append(entry)
    # By setting, condition and measure, on the seeds that have the condition and the baseline.
    measured: dict[tuple[str, str, str], comparison.Setting] = {}
    for setting, by_seed in by_setting.items():
        for name in dict.fromkeys(
            name for entries in by_seed.values() for entry in entries for name in entry["accuracy"]
        ):
            paired = joined(by_seed, (name, BASELINE))
            measured[setting, name, "accuracy"] = paired
            if "rare" in setting:
                rare = int(setting.split()[1])
                measured[setting, name, f"recall of class {rare}"] = of_images(paired, dataset.test_labels == rare)
    compared = {
        place: paired.difference(place[1], BASELINE)
        for place, paired in measured.items()
        if place[1] not in BASELINES and len(paired.accuracy[BASELINE]) > 1
    }
    tested = [place for place, (_, p) in compared.items() if p is not None]
    corrected = dict(zip(tested, comparison.holm([compared[place][1] for place in tested]), strict=True))
    for setting in by_setting:
        names, measures = (
            list(dict.fromkeys(place[part] for place in measured if place[0] == setting)) for part in (1, 2)
        )
        header = "".join(f" {measure} | gain | p |" for measure in measures)
        lines += ["", f"## {setting}", "", f"| | seeds |{header}", "|---" * (2 + 3 * len(measures)) + "|"]
        for name in names:
            cells = f" {len(measured[setting, name, 'accuracy'].accuracy[name])} |"
            for measure in measures:
                place = (setting, name, measure)
                gain, p = compared.get(place, (None, None))
                shown = (
                    " | |" if gain is None else f" {100 * gain:+.2f} | {comparison.shown(corrected.get(place, p))} |"
                )
                cells += f" {comparison.spread(measured[place].accuracy[name])} |{shown}"
            lines.append(f"| {name} |{cells}")
    (results.FOLDER / f"{KEPT}-{dataset.name}.md").write_text("\n".join(lines) + "\n")


def of_images(setting: comparison.Setting, chosen: np.ndarray) -> comparison.Setting:
    """Return the results for some test images alone, chosen by a mask [N]."""
    right = {
        name: [comparison.unpacked(bits, setting.tested)[chosen] for bits in of_seeds]
        for name, of_seeds in setting.right.items()
    }
    return comparison.Setting(
        None,
        {name: [float(each.mean()) for each in of_seeds] for name, of_seeds in right.items()},
        tested=int(chosen.sum()),
        right={name: [comparison.packed(each) for each in of_seeds] for name, of_seeds in right.items()},
    )


def joined(by_seed: dict[int, list[dict[str, Any]]], names: Iterable[str]) -> comparison.Setting:
    """Return accuracies and correct predictions of some conditions, over the seeds that have all of them."""
    found = comparison.Setting(None, tested=next(iter(by_seed.values()))[0]["tested"])
    for entries in by_seed.values():
        of_name = {name: entry for entry in entries for name in entry["accuracy"]}
        if of_name.keys() >= set(names):
            for name in set(names):
                found.accuracy.setdefault(name, []).append(of_name[name]["accuracy"][name])
                found.right.setdefault(name, []).append(of_name[name]["right"][name])
    return found


if __name__ == "__main__":
    main()
