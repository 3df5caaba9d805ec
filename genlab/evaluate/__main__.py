"""Command line: `python -m genlab.evaluate [RUN ...]` measures trained runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from genlab import command_line
from genlab.console import aligned, console_log, reported, say, say_json
from genlab.evaluate import results
from genlab.run import FolderOptions

if TYPE_CHECKING:
    from genlab.evaluate.results import Evaluation

PROGRAM = "python -m genlab.evaluate"


@dataclasses.dataclass(frozen=True)
class Arguments(command_line.JsonOption, FolderOptions):
    """Measure trained runs. Each metric comes with its floor: the same metric computed on real training images.

    Writes evaluation.json, with the protocol, and a picture of the samples closest to training images to each run's folder.
    """

    run: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Runs (folders or numbers), by default the newest. Several are shown side by side, with the best values marked."""
    samples: int = 10_000
    """Images to draw, at most the number of training images."""
    extractor: str = "auto"
    """Feature extractor: digits, classifier, inception, or the path of a Keras model. auto: digits for 28x28 digits,
    classifier for other data with labels, else inception."""
    seed: int = 0
    """First seed of the samples; also selects the real images."""
    importance_samples: int = 100
    """Importance samples per image, for models with a likelihood."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        from genlab.evaluate import evaluation

        evaluation.check_numbers(arguments.samples, arguments.seed, arguments.importance_samples)
        opened = [arguments.opened(each) for each in arguments.run or ("latest",)]
        results.check_same_data(opened)
        with console_log(quiet=arguments.json, to_stderr=arguments.json):
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
        results.comparable(done)
        if arguments.json:
            say_json([each.to_json() for each in done])
            return
        say(table(done))
        for run in (each for each in opened if each.writable):
            say(f"{run.path / 'evaluation.json'} has these metrics and their protocol")


def table(evaluations: Sequence[Evaluation]) -> str:
    """Return a table of metrics by row and runs by column, with real images last; * marks the best of several runs."""
    rows = [["", *(each.run for each in evaluations), "real images"]]
    for row in results.rows(evaluations):
        rows.append([row.name, *(f"{cell.text}{' *' if cell.best else ''}" for cell in row.cells), row.real])
    protocol = evaluations[0].protocol
    summary = f"{protocol['generated']:,} samples and {protocol['real']:,} real images ({protocol['split']}) of {protocol['data']}"
    if "extractor" in protocol:
        summary += f", features of {protocol['extractor']} {protocol['extractor_sha256'][:8]}"
    if "checkpoint" in protocol:
        summary += f"; checkpoint: {protocol['checkpoint']}"
    return f"{aligned(rows)}\n\n{summary}"


if __name__ == "__main__":
    main()
