"""Accuracy of classifiers with few labels: trained on these alone, on the unlabelled images too, and as semi_gan's discriminator.

    python benchmarks/few_labels.py --data mnist [--labels 100 1000] [--draws 5] [--epochs 6] [--flip]

For each number of labels and each draw of them (--labelled-seed), on the test images:

- scratch: the convolutional classifier of genlab.evaluate on the labelled images alone, which are shifted, turned and zoomed;
- consistency: the same classifier, which also learns from the unlabelled images: that of `genlab.data label --steps`;
- rotations: the same, but it learns from these to tell by how much images are turned;
- semi_gan: RECIPE for --epochs of all images; its classifier;
- semi_gan, not augmented: the same without changes of images, and without consistency, which needs them: the paper's losses;
- semi_gan, rotations: its discriminator tells by how much images are turned, and there is no consistency;
- semi_gan, defaults: as it is without flags.

--flip also mirrors images at random, in every condition. Results go to benchmarks/results/few_labels.json, an entry for each condition
and draw, and few_labels-DATA.md. What is there already is not measured again, and runs are resumed, so the script can be stopped and
called again. The recipe was chosen on 10,000 of MNIST's training images, set aside, but for two of its parts: that targets are aligned
and that there is no R1 penalty was decided when variants were still compared on the test images, with one draw of labels. Rotations were
chosen on 2,000 of CIFAR-10's training images.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import quality
import results

import genlab
from genlab.backend import Network, keras
from genlab.data import DataOptions
from genlab.evaluate import classifier, comparison, semi_supervised

KEPT = "few_labels"
RECIPE = "consistency-alignment"
"""Flags of semi_gan that differ from its defaults, as `quality.trained` takes them. Classes of MNIST are about equally frequent."""
SCRATCH = "scratch"
WITHOUT_GENERATOR: dict[str, dict[str, Any]] = {
    "consistency": {"align": True},
    "rotations": {"consistency_weight": 0.0, "rotation_weight": 1.0},
}
"""Settings of `semi_supervised.train` by condition."""
CONDITIONS = {
    SCRATCH: None,
    **dict.fromkeys(WITHOUT_GENERATOR),
    "semi_gan": RECIPE,
    "semi_gan, not augmented": "views, consistency-weight 0",
    "semi_gan, rotations": "consistency-weight 0, discriminator-normalization batch, r1-penalty 0, rotation-weight 1",
    "semi_gan, defaults": "",
}
"""Conditions with the flags of their run; None: no run."""
STEPS = 4000
"""Training steps of the conditions without a run."""
LEARNING_RATE = 1e-3
"""Of training from scratch."""
PUBLISHED = """Published, with 100 labels of MNIST: 99.07% (Salimans et al. 2016), 99.2% (Dai et al. 2017), both with dense layers and more
epochs, without changes of images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--labels", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--draws", type=int, default=5, help="draws of the labelled images, of seeds 0, 1, ...")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--flip", action="store_true", help="mirror half of the images, as --flip of genlab.train")
    parser.add_argument(
        "--conditions", nargs="*", default=[SCRATCH, "consistency", "semi_gan"], choices=list(CONDITIONS)
    )
    parser.add_argument("--out", default=str(results.CACHE / KEPT), help="where the runs are kept")
    arguments = parser.parse_args()
    for draw in range(arguments.draws):
        for labels in arguments.labels:
            for condition in arguments.conditions:
                measure(condition, labels, draw, arguments)
                write_table(arguments.data)


def measure(condition: str, labels: int, draw: int, arguments: argparse.Namespace) -> None:
    """Train and test one classifier, unless its entry exists."""
    of_run = CONDITIONS[condition]
    flags = ", ".join(filter(None, [of_run, "flip" if arguments.flip else None])) or None
    asked = {"data": arguments.data, "labels": labels, "draw": draw, "condition": condition, "flags": flags}
    asked |= {"epochs": arguments.epochs} if of_run is not None else {"epochs": None, "steps": STEPS}
    if results.is_known(KEPT, asked):
        return
    dataset = genlab.data.load(arguments.data, options=DataOptions(labelled=labels, labelled_seed=draw))
    facts: dict[str, Any] = {}
    if of_run is None:
        settings = {"flip": arguments.flip, "steps": STEPS, "seed": draw}
        start = time.perf_counter()
        if condition == SCRATCH:
            few = dataset.labelled_part()
            network = from_scratch(few.images[:], few.labels, dataset.spec.num_classes, **settings)
        else:
            network = semi_supervised.train(dataset, dataset, **WITHOUT_GENERATOR[condition], **settings)
        facts["minutes"] = (time.perf_counter() - start) / 60
    else:
        every = ", ".join(filter(None, [f"labelled {labels}", f"labelled-seed {draw}", flags]))
        run = quality.trained("semi_gan", draw, arguments.data, arguments.epochs, arguments.out, every)
        network = run.model.classifier
        facts |= {"precision": run.config.options.precision, "minutes": run.metrics()[-1]["seconds"] / 60}
    right = classifier.predicted(network, dataset.test_images) == dataset.test_labels
    facts |= {"accuracy": float(right.mean()), "tested": len(right), "right": comparison.packed(right)}
    results.add(KEPT, asked | facts)


def from_scratch(
    images: np.ndarray, labels: np.ndarray, num_classes: int, *, flip: bool, steps: int, seed: int
) -> Network:
    """Train the classifier on uint8 images alone, which change at random at each use."""
    keras.utils.set_random_seed(seed)
    network = classifier.untrained(images.shape[1:], num_classes)
    stream = classifier.stream(images, labels, semi_supervised.LABELLED, seed)
    classifier.fit(network, classifier.changing(stream, classifier.VIEWS, seed, flip=flip), steps, LEARNING_RATE)
    return network


def write_table(data: str) -> None:
    """Write the accuracies as a Markdown table, mean ± standard deviation over draws of the labels."""
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    counts = sorted({entry["labels"] for entry in entries})
    tested = entries[0]["tested"]
    lines = [
        f"# Classifiers of {data} with few labels",
        "",
        f"Accuracy on {tested:,} test images, mean ± standard deviation over draws of the labels, and the lowest of them. "
        f"All but `scratch` also learned from all other training images, without labels. {results.machines(entries)}.",
        "",
        "| condition | trained for | flags | " + " | ".join(f"{count:,} labels" for count in counts) + " | minutes |",
        "|---" * (len(counts) + 4) + "|",
    ]
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda each: (list(CONDITIONS).index(each["condition"]), each["epochs"] or 0)):
        length = f"{entry['epochs']} epochs" if entry["epochs"] else f"{entry['steps']:,} steps"
        typed = f"`{' '.join(quality.as_typed(entry['flags']))}`" if entry["flags"] else ""
        rows.setdefault((entry["condition"], length, typed), []).append(entry)
    for described, measured in rows.items():
        cells = [cell([each["accuracy"] for each in measured if each["labels"] == count]) for count in counts]
        took = f"{np.mean([each['minutes'] for each in measured]):.0f}"
        lines.append(f"| {' | '.join([*described, *cells, took])} |")
    if data == "mnist":
        lines += ["", PUBLISHED]
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


def cell(accuracies: list[float]) -> str:
    """Return mean ± standard deviation, the lowest value, and how many there are."""
    if not accuracies:
        return ""
    draws = f"{len(accuracies)} draw{'s' * (len(accuracies) > 1)}"
    return f"{comparison.spread(accuracies)} (lowest {min(accuracies):.2%}, {draws})"


if __name__ == "__main__":
    main()
