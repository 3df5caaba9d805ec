"""Check that the 2,000-sample Frechet distance logged in training tracks the 10,000-sample one, on a dcgan.

    pip install -e ".[benchmarks]"
    python benchmarks/light_against_full.py --data mnist

Results go to benchmarks/results/light_against_full.json and .png.
"""

from __future__ import annotations

import argparse

import results
from scipy import stats

import genlab
from genlab import plots
from genlab.evaluate import evaluation

KEPT = "light_against_full"
EVERY, LIGHT, FULL = 250, 2000, 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    settings = {"evaluate_every": EVERY, "evaluate_samples": LIGHT, "checkpoint_every": EVERY, "keep": 1000}
    run = genlab.fit("dcgan", dataset, steps=arguments.steps, out=results.CACHE / KEPT, **settings)
    lines = [line for line in run.metrics() if "quick_frechet_distance" in line]
    light = {line["step"]: line["quick_frechet_distance"] for line in lines}
    full_evaluation = evaluation.QuickEvaluation(dataset, FULL, seed=0)
    full = {}
    for step in light:
        full[step] = full_evaluation(genlab.load(run.path, checkpoint=step).model)["frechet_distance"]
    rank = stats.spearmanr(list(light.values()), list(full.values()))
    entry = {
        "data": dataset.name,
        "light_samples": LIGHT,
        "full_samples": FULL,
        "steps": list(light),
        "light": list(light.values()),
        "full": list(full.values()),
        "rank_correlation": float(rank.statistic),
        "command": f"python benchmarks/light_against_full.py --data {dataset.name} --steps {arguments.steps}",
    }
    results.add(KEPT, entry)
    plot(entry)


def plot(entry: dict) -> None:
    with plots.axes(results.FOLDER / f"{KEPT}.png", 6, 3.5) as axes:
        axes.semilogy(entry["steps"], entry["light"], "o-", label=f"light, {entry['light_samples']:,} samples")
        axes.semilogy(entry["steps"], entry["full"], "s--", label=f"full, {entry['full_samples']:,} samples")
        axes.set(xlabel="training step", ylabel="Fréchet distance", title=f"dcgan on {entry['data']}")
        axes.legend()


if __name__ == "__main__":
    main()
