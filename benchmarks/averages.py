"""Compare moving averages of weights: one training with several averages side by side, each evaluated.

    python benchmarks/averages.py --data mnist [--models dcgan wgan cgan vae] [--steps 500 1000 2000] [--seeds 2] [--schedule cosine]

Averages do not influence training, so one run is enough. Learning-rate schedules span the largest number of steps; smaller
numbers evaluate the same training before its end. Results go to benchmarks/results/averages.json, one entry per run, and
the table to benchmarks/results/averages-DATA.md. Existing entries are not measured again.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import results

import genlab
from genlab.backend import tf
from genlab.data.spec import to_model_range
from genlab.evaluate import evaluation, extractors
from genlab.evaluate.metrics import distances
from genlab.models import base
from genlab.networks import averaging

KEPT = "averages"
SAMPLES = 10_000


def corrected(decay: float) -> Any:
    """Return the weight of the newest weights after t steps, with Adam's bias correction."""
    return lambda t: (1.0 - decay) / (1.0 - tf.pow(decay, t))


def warmed_up(decay: float, least: float) -> Any:
    """Return the weight of the newest weights for a decay of (1 + t) / (least + t), at most `decay`."""
    return lambda t: 1.0 - tf.minimum(decay, (1.0 + t) / (least + t))


def shared(share: float) -> Any:
    """Return the weight of the newest weights for a mean age of `share` of t (genlab's, without a largest decay)."""
    return lambda t: 1.0 - tf.pow(1.0 - 1.0 / t, 1.0 / share - 1.0)


AVERAGES = {
    "none": lambda t: tf.ones_like(t),
    "0.998, decay of (1 + t) / (10 + t) at first": warmed_up(0.998, 10.0),
    "0.998, decay of (1 + t) / (4 + t) at first": warmed_up(0.998, 4.0),
    "share 0.03": shared(0.03),
    "share 0.06": shared(0.06),
    "share 0.1": shared(0.1),
    "share 0.15": shared(0.15),
    "share 0.2": shared(0.2),
    "0.99, corrected": corrected(0.99),
    "0.995, corrected": corrected(0.995),
    "0.998, corrected": corrected(0.998),
    "0.999, corrected": corrected(0.999),
}
"""Weight r of the newest weights in average <- average + r (weights - average), after t steps, from 1."""


class Several(averaging.WeightAverage):
    """Updates all AVERAGES in addition to the model's own."""

    newest: Several

    def __init__(self, pairs: Any, decay: float, share: float, step: Any) -> None:
        super().__init__(pairs, decay, share, step)
        self.kept = {name: [tf.Variable(weight.value) for _, weight in self.variables] for name in AVERAGES}
        Several.newest = self

    def update(self) -> None:
        super().update()
        step = tf.cast(self.step + 1, tf.float32)
        for name, rate in AVERAGES.items():
            for kept, (_, weight) in zip(self.kept[name], self.variables, strict=True):
                kept.assign_add(rate(step) * (weight.value - kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--models", nargs="*", default=["dcgan", "wgan", "cgan", "vae"])
    parser.add_argument("--steps", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--schedule", default="cosine", help="learning-rate schedule, as in genlab.train")
    arguments = parser.parse_args()
    base.WeightAverage = Several  # type: ignore[misc]
    dataset = genlab.data.load(arguments.data)
    extractor = extractors.load("auto", dataset)
    random = np.random.default_rng(0)
    real = extractor(dataset.test_images[:SAMPLES])[0]
    rows = random.permutation(len(dataset.images))[: len(real)]
    floor = distances.frechet_distance(extractor(dataset.images[rows])[0], real)
    for seed in range(arguments.seeds):
        for steps in arguments.steps:
            for name in arguments.models:
                asked = {"data": dataset.name, "model": name, "steps": steps, "seed": seed}
                asked |= {"schedule": arguments.schedule, "schedule_steps": max(arguments.steps)}
                if results.is_known(KEPT, asked):
                    continue
                run = genlab.fit(
                    name,
                    dataset,
                    steps=steps,
                    schedule_steps=asked["schedule_steps"],
                    schedule=arguments.schedule,
                    precision="float32",
                    seed=seed,
                    out=results.CACHE / KEPT,
                    log_every=steps,
                    sample_every=steps,
                    checkpoint_every=steps,
                )
                found = measured(run, dataset, extractor, real)
                multiples = {each: value / floor for each, value in found.items()}
                results.add(KEPT, asked | {"multiples": multiples, "precision": run.config.options.precision})
                write_table(dataset.name)


def measured(run: Any, dataset: Any, extractor: Any, real: np.ndarray) -> dict[str, float]:
    """Return the Fréchet distance of samples for each average of the newest run."""
    found = {}
    trained = Several.newest
    model = run.model  # restored from the checkpoint, which sets Several.newest to its own averages
    own = Several.newest
    for name in AVERAGES:
        for (average, _), kept in zip(own.variables, trained.kept[name], strict=True):
            average.assign(kept)
        if model.prior.is_fitted:
            model.fit_prior(map(to_model_range, dataset.example_batches(20_000)))
        drawn = evaluation.draw(model, np.arange(len(real)))
        found[name] = distances.frechet_distance(extractor(drawn.images)[0], real)
    return found


def write_table(data: str) -> None:
    chosen = [entry for entry in results.entries(KEPT) if entry["data"] == data]
    columns = sorted({(entry["model"], entry["steps"], entry["schedule"]) for entry in chosen})
    seeds = len({entry["seed"] for entry in chosen})
    lines = [
        f"# Averages of weights: {data}",
        "",
        "Fréchet distance as a multiple of that of real images, mean over seeds "
        f"({seeds} at most), by model, training step and schedule; {results.machines(chosen)}.",
        "",
        "| average | " + " | ".join(f"`{name}` {steps:,} {schedule}" for name, steps, schedule in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for average in AVERAGES:
        cells = []
        for column in columns:
            values = [
                each["multiples"][average]
                for each in chosen
                if (each["model"], each["steps"], each["schedule"]) == column and average in each["multiples"]
            ]
            cells.append(f"{np.mean(values):.3g}" if values else "")
        lines.append(f"| {average} | " + " | ".join(cells) + " |")
    (results.FOLDER / f"{KEPT}-{data}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
