"""Pretrain a classifier on shards of generated images, then train on few real ones; compare with few real ones only.

    python benchmarks/synthetic_pretraining.py --data mnist [--per-class 5 20 100] [--seeds 5]

The second training has a low learning rate, on real images only, or on batches with a quarter of real images. The generator
is quality.py's cgan (20 epochs of all training images, seed 0): the case of someone who has a trained generator and few
images. Results go to benchmarks/results/synthetic_pretraining.json. Existing entries are not measured again.
"""

from __future__ import annotations

import argparse

import numpy as np
import quality
import results

import genlab
from genlab.backend import keras
from genlab.data import __main__ as data_command
from genlab.evaluate import classifier, comparison

KEPT = "synthetic_pretraining"
GENERATED = 20_000
BATCH = 64
REAL = 16
"""Real images in a mixed batch."""
RATE = 2e-3
"""Learning rate of training from scratch."""
GENTLE = {"generated, then real": (1e-4, 200), "generated, then both": (5e-4, 300)}
"""Learning rate and steps of the second training; more on few images would undo the pretraining."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--per-class", type=int, nargs="*", default=[5, 20, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=600, help="steps on generated images; twice as many on only real ones"
    )
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the generator's run")
    parser.add_argument("--out", default=str(results.CACHE / "quality"), help="folder of that run")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    run = quality.trained("cgan", 0, arguments.data, arguments.epochs, arguments.out)
    shards = results.CACHE / KEPT / run.name
    data_command.main(["shard", f"run:{run.path}", str(shards), "--count", str(GENERATED)])
    generated = genlab.data.load(str(shards))
    made = np.asarray(generated.images[:]), generated.labels
    for seed in range(arguments.seeds):
        for count in arguments.per_class:
            measure(dataset, made, count, seed, arguments)
        write_table(dataset.name)


def measure(dataset, made, count: int, seed: int, arguments) -> None:
    entry = {"data": dataset.name, "per_class": count, "seed": seed, "steps": arguments.steps, "generated": GENERATED}
    if results.is_known(KEPT, entry):
        return
    rows = comparison.chosen_rows(dataset.labels, count, seed)
    few = dataset.images[:][rows], dataset.labels[rows]
    test, predictions = dataset.test_images[:], {}
    network = fresh(dataset, seed)
    classifier.fit(network, classifier.stream(*few, BATCH, seed), 2 * arguments.steps, RATE)
    predictions["real"] = classifier.predicted(network, test)
    network = fresh(dataset, seed)
    classifier.fit(network, classifier.stream(*made, BATCH, seed), arguments.steps, RATE)
    predictions["generated"] = classifier.predicted(network, test)
    weights = network.get_weights()
    both = classifier.mixed(classifier.stream(*few, REAL, seed), classifier.stream(*made, BATCH - REAL, seed + 1))
    for (condition, (rate, steps)), stream in zip(
        GENTLE.items(), (classifier.stream(*few, BATCH, seed), both), strict=True
    ):
        network.set_weights(weights)
        classifier.fit(network, stream, steps, rate)
        predictions[condition] = classifier.predicted(network, test)
    setting = comparison.Setting(count)
    setting.add(predictions, dataset.test_labels, dataset.spec.num_classes)
    one_seed = {
        key: {name: values[0] for name, values in kept.items()}
        for key, kept in (("accuracy", setting.accuracy), ("right", setting.right))
    }
    results.add(KEPT, entry | one_seed | {"tested": setting.tested})


def fresh(dataset, seed: int):
    """Return the classifier of genlab.augment with initial weights from a seed: images in [-1, 1] -> logits."""
    keras.utils.set_random_seed(seed)
    network = classifier.build(dataset.spec.shape, dataset.spec.num_classes)
    return keras.Model(network.inputs[0], network.outputs[1])


def write_table(data: str) -> None:
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    names = list(entries[0]["accuracy"])
    lines = [
        f"# Pretraining on generated images, then few real ones, {data}",
        "",
        "Accuracy on the test images, mean ± standard deviation over seeds, and the p-value of the last against the first, with "
        f"Holm's correction over the numbers of images. {results.test(entries)} {results.machines(entries)}.",
        f"{GENERATED:,} images of a cgan that was trained on all training images.",
        "",
        f"| real images per class | seeds | {' | '.join(names)} | last - first, points | p |",
        "|---" * (len(names) + 4) + "|",
    ]
    by_count: dict[int, list[dict]] = {}
    for entry in sorted(entries, key=lambda entry: entry["per_class"]):
        by_count.setdefault(entry["per_class"], []).append(entry)
    settings = [results.setting(chosen, [each["accuracy"] for each in chosen]) for chosen in by_count.values()]
    found = comparison.differences(settings, names[-1], names[0])
    for (count, chosen), setting, each in zip(by_count.items(), settings, found, strict=True):
        cells = [comparison.spread(values) for values in setting.accuracy.values()]
        lines.append(
            f"| {count} | {len(chosen)} | {' | '.join(cells)} | {100 * each.gain:+.1f} | {comparison.shown(each.p_holm)} |"
        )
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
