"""One critic update per step of `wgan`, or several: Fréchet distance after as many steps.

    python benchmarks/critic_updates.py --data mnist [--steps 1000] [--seeds 2]

Results go to benchmarks/results/critic_updates.json, an entry for each run, and the table to
benchmarks/results/critic_updates-DATA.md. What is there already is not measured again.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import results

import genlab
from genlab.evaluate import evaluation, extractors
from genlab.evaluate.metrics import distances

KEPT = "critic_updates"
SAMPLES = 10_000
CONDITIONS: dict[str, dict[str, Any]] = {
    "1 update (the default)": {},
    "3 updates": {"discriminator_updates": 3},
    "3 updates, both rates 3e-4": {
        "discriminator_updates": 3,
        "generator_learning_rate": 3e-4,
        "discriminator_learning_rate": 3e-4,
    },
    "3 updates, both rates 1e-3, beta2 0.9": {
        "discriminator_updates": 3,
        "generator_learning_rate": 1e-3,
        "discriminator_learning_rate": 1e-3,
        "beta2": 0.9,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as of genlab.train")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    extractor = extractors.load("auto", dataset)
    real = extractor(dataset.test_images[:SAMPLES])[0]
    rows = np.random.default_rng(0).permutation(len(dataset.images))[: len(real)]
    floor = distances.frechet_distance(extractor(dataset.images[rows])[0], real)
    for seed in range(arguments.seeds):
        for name, settings in CONDITIONS.items():
            asked = {"data": dataset.name, "condition": name, "steps": arguments.steps, "seed": seed}
            if results.is_known(KEPT, asked):
                continue
            quiet = {"log_every": arguments.steps, "sample_every": arguments.steps, "checkpoint_every": arguments.steps}
            out = results.CACHE / KEPT
            run = genlab.fit("wgan", dataset, steps=arguments.steps, seed=seed, out=out, **quiet, **settings)
            drawn = evaluation.draw(run.model, np.arange(len(real)))
            distance = distances.frechet_distance(extractor(drawn.images)[0], real)
            results.add(KEPT, asked | {"multiple": distance / floor} | {"settings": settings})
            write_table(dataset.name)


def write_table(data: str) -> None:
    chosen = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    lines = [
        f"# Critic updates of `wgan`: {data}",
        "",
        f"Fréchet distance relative to real images, by seed; {results.machines(chosen)}.",
        "",
        "| condition | steps | real images seen | Fréchet distance, relative |",
        "|---|---|---|---|",
    ]
    for steps in sorted({entry["steps"] for entry in chosen}):
        for name in CONDITIONS:
            found = [entry for entry in chosen if (entry["condition"], entry["steps"]) == (name, steps)]
            if found:
                multiples = ", ".join(f"{entry['multiple']:.3g}" for entry in found)
                images = 64 * steps * CONDITIONS[name].get("discriminator_updates", 1)
                lines.append(f"| {name} | {steps:,} | {images:,} | {multiples} |")
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
