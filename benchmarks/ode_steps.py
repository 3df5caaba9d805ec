"""Quality of a flow's samples and their cost, by the steps of its solver: one trained run, each solver and number of steps.

    python benchmarks/ode_steps.py --data mnist [--epochs 20] [--steps 1 2 4 8 16] [--samples 10000] [--flags "conditioning labels"]

The run is trained once and kept; an interrupted one is resumed. Its decoder is then built again for each solver and number of
steps: the weights are the same. The samples, of the same latents each time, are compared with held-out images, as
`python -m genlab.evaluate` does. Seconds per image are those of drawing them, in batches of 64, after tracing.

Results go to benchmarks/results/ode_steps.json, one entry per solver and number of steps, and the table to
benchmarks/results/ode_steps-DATA-EPOCHS.md (with -FLAGS, if there are any). What is there already is not measured again.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import quality
import results

import genlab
from genlab.evaluate import evaluation
from genlab.networks import ode

KEPT = "ode_steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="name or path, as in genlab.train")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", default="", help="more flags of genlab.train: names without dashes, and values")
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--solvers", nargs="*", default=["euler:1", "heun:1", "adams_bashforth:4"], help="solver:shift")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", default=str(results.CACHE / "quality"), help="where the run is kept")
    arguments = parser.parse_args()
    dataset = genlab.data.load(arguments.data)
    asked = {"data": dataset.name, "epochs": arguments.epochs, "seed": arguments.seed, "flags": arguments.flags}
    cases = [
        asked
        | {"solver": solver.split(":")[0], "shift": float(solver.split(":")[1])}
        | {"steps": steps, "samples": arguments.samples}
        for solver in arguments.solvers
        for steps in arguments.steps
    ]
    missing = [case for case in cases if not results.is_known(KEPT, case)]
    if missing:
        run = quality.trained("flow", arguments.seed, arguments.data, arguments.epochs, arguments.out, arguments.flags)
        measure_quality = evaluation.QuickEvaluation(dataset, arguments.samples, seed=0)
        for case in missing:
            measure(run.model, case, measure_quality)
    write_table(asked | {"samples": arguments.samples})


def measure(model: Any, case: dict[str, Any], measure_quality: evaluation.QuickEvaluation) -> None:
    """Draw samples with one solver and number of steps, and store their distance and their time."""
    drawing = model.with_decoder(ode_steps=case["steps"], solver=case["solver"], time_shift=case["shift"])
    evaluation.draw(drawing, measure_quality.seeds[:1])  # traces
    started = time.perf_counter()
    evaluation.draw(drawing, measure_quality.seeds)
    seconds = (time.perf_counter() - started) / len(measure_quality.seeds)
    distance = measure_quality(drawing)["frechet_distance"]
    found = {
        "evaluations": case["steps"] * ode.EVALUATIONS[case["solver"]],
        "frechet_distance": distance,
        "frechet_multiple": distance / measure_quality.floor,
        "seconds_per_image": seconds,
    }
    results.add(KEPT, case | found)


def write_table(asked: dict[str, Any]) -> None:
    chosen = [entry for entry in results.entries(KEPT) if asked.items() <= entry.items()]
    lines = [
        f"# `flow` by steps of its solver: {asked['data']} after {asked['epochs']} epochs",
        "",
        f"One run, {asked['samples']:,} samples against held-out images; {results.machines(chosen)}. Written by",
        "`benchmarks/ode_steps.py`.",
        "",
        "| solver | shift | steps | evaluations of the network | Fréchet distance as a multiple of the real floor | ms per image |",
        "|---|---|---|---|---|---|",
    ]
    for entry in sorted(chosen, key=lambda entry: (entry["evaluations"], entry["solver"])):
        lines.append(
            f"| {entry['solver']} | {entry['shift']:g} | {entry['steps']} | {entry['evaluations']} | {entry['frechet_multiple']:.3g} | "
            f"{1000 * entry['seconds_per_image']:.3g} |"
        )
    name = f"{KEPT}-{asked['data']}-{asked['epochs']}{quality.slug(asked['flags'])}.md"
    (results.FOLDER / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
