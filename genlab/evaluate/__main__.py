"""Command line: `python -m genlab.evaluate [RUN ...]` measures trained runs."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any

import tyro

from genlab.errors import aligned, console_log, reported
from genlab.run import FolderOptions

PROGRAM = "python -m genlab.evaluate"


@dataclasses.dataclass(frozen=True)
class Arguments(FolderOptions):
    """Measure trained runs: metrics of their samples beside the same metrics of real images, and how they were taken.

    Each run's folder gets evaluation.json and a picture of the samples that are nearest to training images.
    """

    run: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Runs: folders or numbers. By default the newest. Several are shown side by side, the best metrics marked."""
    samples: int = 10_000
    """Images to draw, at most as many as there are training images."""
    extractor: str = "auto"
    """Where features come from: digits, classifier, inception, or a Keras model's path. auto: digits for 28x28 digits,
    classifier for other data with labels, else inception."""
    seed: int = 0
    """First seed of the samples; picks the real images too."""
    importance_samples: int = 100
    """Samples per image for the likelihood of a model that has one."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = tyro.cli(Arguments, args=argv, prog=PROGRAM)
        from genlab.evaluate import evaluation

        opened = [arguments.opened(each) for each in arguments.run or ("latest",)]
        with console_log():
            done = [
                evaluation.evaluate(
                    run,
                    samples=arguments.samples,
                    extractor=arguments.extractor,
                    seed=arguments.seed,
                    importance_samples=arguments.importance_samples,
                )
                for run in opened
            ]
        evaluation.comparable(done)
        print(table(done))
        for run in opened:
            print(f"{run.path / 'evaluation.json'} has these metrics and how they were taken")


def table(evaluations: list[Any]) -> str:
    """Metrics by row, runs by column, real images last; * marks the best of several runs."""
    from genlab.evaluate.evaluation import LOWER_IS_BETTER, NEITHER_IS_BETTER

    names = list(dict.fromkeys(name for each in evaluations for name in each.metrics))
    rows = [["", *(each.run for each in evaluations), "real images"]]
    for name in names:
        metrics = [each.metrics.get(name) for each in evaluations]
        values = [metric.value for metric in metrics if metric is not None]
        best = (
            None if len(values) < 2 or name in NEITHER_IS_BETTER else (min if name in LOWER_IS_BETTER else max)(values)
        )
        cells = ["" if metric is None else _cell(metric, metric.value == best) for metric in metrics]
        floor = next((metric.floor for metric in metrics if metric is not None), None)
        rows.append([name.replace("_", " "), *cells, "–" if floor is None else f"{floor:.4g}"])
    protocol = evaluations[0].protocol
    told = f"{protocol['generated']:,} samples and {protocol['real']:,} real images ({protocol['split']}) of {protocol['data']}"
    if "extractor" in protocol:
        told += f", features of {protocol['extractor']} {protocol['extractor_sha256'][:8]}"
    if "checkpoint" in protocol:
        told += f"; checkpoint: {protocol['checkpoint']}"
    return f"{aligned(rows)}\n\n{told}"


def _cell(metric: Any, best: bool) -> str:
    spread = "" if metric.spread is None else f" ± {metric.spread:.2g}"
    return f"{metric.value:.4g}{spread}{' *' if best else ''}"


if __name__ == "__main__":
    main(sys.argv[1:])
