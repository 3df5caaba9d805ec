"""How well models find the images of a class that they were not trained on: AUROC by model and score.

    python benchmarks/anomaly.py --data mnist [--digits 0 1 ... 9] [--models vae flow autoencoder dcgan] [--epochs 4] [--scores all]

For each class in turn, each model is trained without it. Its test images then count as strange, those of the other classes as
normal. Results go to benchmarks/results/anomaly.json, one entry per model, class and score, and the table to
benchmarks/results/anomaly-DATA-EPOCHS.md. Existing entries are not measured again and interrupted runs are resumed, so the script
can be stopped at any time and run again.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

import numpy as np
import results

import genlab
from genlab import files
from genlab import run as runs
from genlab.anomaly import Detector, images, report
from genlab.train import __main__ as train

KEPT = "anomaly"
MODELS = ("autoencoder", "vae", "dcgan", "flow")
RATE = 0.01
"""False-alarm rate at which the share of strange images that are flagged is measured."""
FLAGS: dict[str, dict[str, Any]] = {
    # Steps of a flow take ten times as long, and its likelihood a tenth of a second per image.
    "flow": {"epochs": 0.5},
    # 320 Gaussians take longer to fit than the training of few epochs, and serve one score only.
    "autoencoder": {"components": 40},
    "vae": {"components": 40},
}
"""Settings of a model that differ from the others'; `epochs` are a factor."""
SCORED = {"likelihood": 1000}
"""Test images that a slow score is measured on; 10,000 for the others."""
IMPORTANCE_SAMPLES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default="mnist", help="name or path of labelled data with test images, as in genlab.train"
    )
    parser.add_argument("--digits", nargs="*", help="classes to leave out, by name, each in turn; by default all")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument(
        "--scores", nargs="*", default=["all"], help="scores to measure; by default those that a model offers"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(results.CACHE / KEPT), help="folder of the runs")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    for left_out in arguments.digits or dataset.class_names:
        for model in arguments.models:
            measure(model, left_out, dataset, arguments)
            write_table(dataset.name, arguments.epochs)


def measure(model: str, left_out: str, dataset: Any, arguments: argparse.Namespace) -> None:
    """Train a model without a class, and measure each score that has no entry yet."""
    asked = {
        "data": dataset.name,
        "model": model,
        "left_out": left_out,
        "epochs": arguments.epochs,
        "seed": arguments.seed,
    }
    known = [entry for entry in results.entries(KEPT) if asked.items() <= entry.items()]
    done = {entry["score"] for entry in known}
    if done.issuperset(known[0]["offered"] if known and arguments.scores == ["all"] else arguments.scores):
        return
    run = trained(model, left_out, dataset, arguments)
    offered = [
        f"{score} - {correct}" if correct != "none" else score
        for score in run.model.anomaly_scores(IMPORTANCE_SAMPLES)
        for correct in (("none", "complexity") if score == "likelihood" else ("none",))
    ]
    for name in offered:
        if name not in done and (arguments.scores == ["all"] or name in arguments.scores):
            score, _, correct = name.partition(" - ")
            found = measured(run, left_out, arguments, score, correct or "none")
            results.add(KEPT, asked | {"score": name, "offered": offered} | found)


def measured(run: runs.Run, left_out: str, arguments: argparse.Namespace, score: str, correct: Any) -> dict[str, Any]:
    """Return the AUROC of a score, and the share of strange images that it flags."""
    started = time.perf_counter()
    chosen = images.load(run, arguments.data, "test", SCORED.get(score), "", left_out)
    detector = Detector(run, score, correct=correct, importance_samples=IMPORTANCE_SAMPLES)
    scores = detector.score(chosen.take(np.arange(len(chosen))))
    normal, strange = scores[chosen.kinds == 0], scores[chosen.kinds == 1]
    return {
        "auroc": report.auroc(normal, strange),
        "flagged": float((strange > np.quantile(normal, 1 - RATE)).mean()),
        "normal": len(normal),
        "strange": len(strange),
        "steps": run.step,
        "importance_samples": IMPORTANCE_SAMPLES,
        "seconds": round(time.perf_counter() - started, 1),
        "command": command(run),
    }


def trained(model: str, left_out: str, dataset: Any, arguments: argparse.Namespace) -> runs.Run:
    """Return the run without a class, started or resumed."""
    flags = dict(FLAGS.get(model, {}))
    epochs = arguments.epochs * flags.pop("epochs", 1.0)
    # `--classes` separates names by commas, so classes go by their numbers.
    numbers = [str(number) for number, name in enumerate(dataset.class_names) if name != left_out]
    if len(numbers) == len(dataset.class_names):
        raise SystemExit(f"there is no class {left_out!r}; there are {', '.join(dataset.class_names)}")
    description = f"without-{left_out}-epochs-{epochs:g}-seed-{arguments.seed}"
    for path in runs.all_runs(pathlib.Path(arguments.out), model):
        if path.name.endswith(files.file_name(description)):
            run = runs.open(path)
            if run.saved_step < run.config.steps or run.never_began:
                train.main(["--resume", str(path)])
            return runs.open(path)
    return genlab.fit(
        model,
        arguments.data,
        classes=",".join(numbers),
        epochs=epochs,
        seed=arguments.seed,
        checkpoint_every=100_000,
        out=arguments.out,
        description=description,
        **flags,
    )


def command(run: runs.Run) -> str:
    options, data = run.config.options, run.config.data_options
    flags = {"data": options.data, "classes": data.classes, "steps": options.steps, "seed": options.seed}
    flags |= {name: value for name, value in FLAGS.get(run.config.model, {}).items() if name != "epochs"}
    return " ".join(
        [f"python -m genlab.train {run.config.model}", *(f"--{name} {value}" for name, value in flags.items())]
    )


def write_table(data: str, epochs: float) -> None:
    entries = [entry for entry in results.entries(KEPT) if (entry["data"], entry["epochs"]) == (data, epochs)]
    if not entries:
        return
    left_out = sorted({entry["left_out"] for entry in entries})
    rows: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for entry in entries:
        rows.setdefault((entry["model"], entry["score"]), {}).setdefault(entry["left_out"], []).append(entry)
    lines = [
        f"# Images of a class of {data} that a model was not trained on",
        "",
        f"AUROC of the test images of that class against those of the others, by the class that was left out, after {epochs:g} epochs "
        f"(flow: {epochs * FLAGS['flow']['epochs']:g}). The last column is the share of them that is flagged at a false-alarm rate of "
        f"{RATE:g}. {results.machines(entries)}.",
        "",
        f"| model | score | mean | {' | '.join(left_out)} | flagged |",
        "|---" * (4 + len(left_out)) + "|",
    ]
    for (model, score), by_class in sorted(rows.items(), key=lambda row: -mean(row[1], "auroc")):
        cells = [f"{mean({name: by_class[name]}, 'auroc'):.3f}" if name in by_class else "" for name in left_out]
        lines.append(
            f"| `{model}` | {score} | {mean(by_class, 'auroc'):.3f} | {' | '.join(cells)} | {mean(by_class, 'flagged'):.0%} |"
        )
    (results.FOLDER / f"{KEPT}-{data}-{epochs:g}.md").write_text("\n".join(lines) + "\n")


def mean(by_class: dict[str, list[dict[str, Any]]], field: str) -> float:
    """Return the mean over classes of the mean over seeds."""
    return float(np.mean([np.mean([entry[field] for entry in entries]) for entries in by_class.values()]))


if __name__ == "__main__":
    main()
