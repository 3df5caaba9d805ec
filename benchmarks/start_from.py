"""Train a dcgan on few images, from nothing and from a run on another data set: Fréchet distance to held-out images by steps.

    python benchmarks/start_from.py --data mnist [--images 500] [--ancestor digits] [--steps 2000] [--seeds 3]

The ancestor is a dcgan with default settings on all training images of `--ancestor`. Every condition takes the same number of steps with
`--differentiable-augmentation translation`, and is measured along the way. Results go to benchmarks/results/start_from.json, one
entry per condition and seed, and the table to benchmarks/results/start_from-DATA.md. Existing entries are not measured again.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import results

import genlab
from genlab import run as runs
from genlab.evaluate import evaluation

KEPT = "start_from"
EVERY = 250
"""Steps between measurements."""
SHOWN = (250, 500, 1000, 2000)
"""Steps in the table."""
CONDITIONS: dict[str, dict[str, Any]] = {
    "from nothing": {},
    "from the run": {"from_run": "ANCESTOR"},
    "from the run, 1 layer frozen": {"from_run": "ANCESTOR", "freeze_discriminator": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--ancestor", default="digits", help="the data of the other run")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    for seed in range(arguments.seeds):
        for condition, settings in CONDITIONS.items():
            measure(dataset, condition, dict(settings), seed, arguments)
            write_table(dataset.name)


def measure(dataset: Any, condition: str, settings: dict[str, Any], seed: int, arguments: argparse.Namespace) -> None:
    """Train and evaluate one condition, unless its entry exists."""
    entry = {"data": dataset.name, "images": arguments.images, "steps": arguments.steps, "seed": seed}
    entry |= {"ancestor": arguments.ancestor, "condition": condition, "every": EVERY}
    if results.is_known(KEPT, entry):
        return
    if "from_run" in settings:
        settings["from_run"] = str(ancestor(arguments.ancestor).path)
    run = genlab.fit(
        "dcgan",
        arguments.data,
        limit=arguments.images,
        steps=arguments.steps,
        seed=seed,
        differentiable_augmentation=("translation",),
        precision="float32",
        checkpoint_every=EVERY,
        keep=arguments.steps // EVERY + 1,
        out=str(results.CACHE / KEPT),
        description=f"{condition.replace(' ', '-').replace(',', '')}-seed{seed}",
        **settings,
    )
    quick = evaluation.QuickEvaluation(run.data(), 10_000, seed=0)
    steps = range(EVERY, arguments.steps + 1, EVERY)
    distances = [quick(genlab.load(run.path, checkpoint=step).model)["frechet_distance"] for step in steps]
    found = evaluation.evaluate(run, samples=10_000)
    entry |= {"at": list(steps), "multiples": [distance / quick.floor for distance in distances]}
    entry |= {"memorization": found.metrics["memorization"].value, "protocol": found.protocol}
    results.add(KEPT, entry | {"seconds": run.metrics()[-1]["seconds"]})


def ancestor(data: str) -> runs.Run:
    """Return the run to start from, trained once and kept."""
    out = results.CACHE / KEPT
    for path in runs.all_runs(out):
        if path.name.endswith("-ancestor") and runs.open(path).config.dataset["name"] == data:
            return runs.open(path)
    return genlab.fit("dcgan", data, precision="float32", out=str(out), description="ancestor")


def write_table(data: str) -> None:
    """Write the distances by condition, as multiples of that of real images."""
    entries = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    first = entries[0]
    shown = [step for step in SHOWN if step <= first["steps"]]
    lines = [
        f"# `dcgan` on {first['images']} images of {data}, from a run on {first['ancestor']}",
        "",
        "Fréchet distance, relative to real images, after some steps with `--differentiable-augmentation translation`; last, the share of "
        "samples that are closer to training images than 99% of real ones. Mean ± standard deviation over seeds. "
        f"{results.machines(entries)}.",
        "",
        f"| | seeds | {' | '.join(f'{step:,} steps' for step in shown)} | close to training images |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for condition in CONDITIONS:
        chosen = [entry for entry in entries if entry["condition"] == condition]
        if chosen:
            columns = [spread([each["multiples"][each["at"].index(step)] for each in chosen]) for step in shown]
            columns.append(spread([each["memorization"] for each in chosen]))
            lines.append(f"| {condition} | {len(chosen)} | {' | '.join(columns)} |")
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


def spread(values: list[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3g}{deviation}"


if __name__ == "__main__":
    main()
