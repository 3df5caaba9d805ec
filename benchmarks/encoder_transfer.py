"""Gain of a trained backbone for a classifier with few labels, compared with training from scratch and a linear probe.

    python benchmarks/encoder_transfer.py --data mnist [--models vae autoencoder dcgan] [--labels 100 1000 all] [--seeds 5]
    python benchmarks/encoder_transfer.py --data mnist --models dcgan --labels 100 --steps 3000 --augment shift rotate zoom

The runs are those of quality.py (20 epochs, seed 0), trained if they are missing. Results go to
benchmarks/results/encoder_transfer.json, one entry per model, count, steps and changes of the images. Existing entries are not
measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import quality
import results

import genlab
from genlab.evaluate import comparison
from genlab.transfer import __main__ as transfer
from genlab.transfer import study as few_labels

KEPT = "encoder_transfer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--models", nargs="*", default=["vae", "autoencoder", "dcgan"])
    parser.add_argument("--labels", nargs="*", default=["100", "1000", "all"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument(
        "--augment", nargs="*", default=[], help="changes of the labelled images, as in genlab.transfer"
    )
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the run that provides the backbone")
    parser.add_argument("--out", default=str(results.CACHE / "quality"), help="folder of the runs")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    for labels in arguments.labels:
        for name in arguments.models:
            measure(name, labels, dataset, arguments)
            write_table(dataset.name)


def measure(name: str, labels: str, dataset, arguments) -> None:
    entry = {"data": dataset.name, "model": name, "labels": labels, "seeds": arguments.seeds, "steps": arguments.steps}
    entry |= {"augment": arguments.augment}
    if results.is_known(KEPT, entry):
        return
    run = quality.trained(name, 0, arguments.data, arguments.epochs, arguments.out)
    (setting,) = few_labels.study(
        run,
        (dataset.images[:], dataset.labels),
        (dataset.test_images[:], dataset.test_labels),
        dataset.spec.num_classes,
        counts=[None if labels == "all" else int(labels)],
        seeds=arguments.seeds,
        steps=arguments.steps,
        views=arguments.augment,
    )
    results.add(KEPT, entry | dataclasses.asdict(setting))


def compared(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return what entries have in common that are corrected together."""
    return entry["model"], entry["steps"], *entry["augment"]


def write_table(data: str) -> None:
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    conditions = few_labels.CONDITIONS
    lines = [
        f"# A trained backbone in a classifier of {data}",
        "",
        "Accuracy on the test images, mean ± standard deviation over seeds, and the p-value of fine-tuned against scratch, with "
        f"Holm's correction over the numbers of labels. {results.test(entries)} {results.machines(entries)}.",
        "",
        f"| labels | backbone of | seeds | steps of 64 images | changed by | {' | '.join(conditions)} | fine-tuned - scratch, points | p |",
        "|---" * (len(conditions) + 7) + "|",
    ]
    by_model: dict[tuple[Any, ...], list[comparison.Setting]] = {}
    for entry in entries:
        fields = ("images", "accuracy", "tested", "right")
        setting = comparison.Setting(**{name: entry[name] for name in fields if name in entry})
        by_model.setdefault(compared(entry), []).append(setting)
    found = {name: iter(comparison.differences(settings, *transfer.PAIR)) for name, settings in by_model.items()}
    for entry in entries:
        cells = [comparison.spread(entry["accuracy"][each]) for each in conditions]
        each = next(found[compared(entry)])
        lines.append(
            f"| {entry['labels']} | `{entry['model']}` | {entry['seeds']} | {entry['steps']:,} "
            f"| {', '.join(entry['augment'])} | {' | '.join(cells)} | {100 * each.gain:+.1f} | {comparison.shown(each.p_holm)} |"
        )
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
