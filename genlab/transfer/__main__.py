"""Command line: `python -m genlab.transfer RUN` measures a run's value as the backbone of a classifier with few labels."""

from __future__ import annotations

import dataclasses

from genlab import bounds, command_line
from genlab.console import console_log, reported, say
from genlab.data.options import View
from genlab.run import RunOptions
from genlab.transfer.backbone import classifier, feature_network, unfreeze, weights_trained

PROGRAM = "python -m genlab.transfer"
COUNTED = "labelled images"
PAIR = ("fine-tuned", "scratch")
"""The condition and the baseline to compare."""


@dataclasses.dataclass(frozen=True)
class Arguments(command_line.JsonOption, RunOptions):
    """Train a classifier on few labels with a run's encoder (or discriminator) as backbone, and compare with alternatives.

    Compares on real held-out images: training from scratch, a linear probe on the frozen codes, a new head on the frozen
    backbone, and fine-tuning. Writes transfer.json and transfer.png to the run's folder.
    """

    data: str = ""
    """Labelled images of the same shape; by default the run's training data."""
    labels: str = ""
    """Total numbers of labelled training images, equally many per class. By default 100,1000,all; all where some have no label,
    compared with the run's own classifier if it has one (semi_gan)."""
    seeds: int = 5
    """Trainings per condition, at least 3 for a p-value. Each seed draws its own labelled images and initial weights."""
    steps: int = 500
    """Training steps of each classifier."""
    augment: tuple[View, ...] = ()
    """Change the labelled images at random, differently at each use, from scratch too."""
    layers: str = ""
    """Cut the backbone after the last layer whose name matches (comma-separated patterns). By default the last convolution's
    activation."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        counts = bounds.counts("--labels", arguments.labels) if arguments.labels else []
        bounds.whole("--seeds", arguments.seeds, 1)
        bounds.whole("--steps", arguments.steps, 1)
        with console_log(quiet=arguments.json, to_stderr=arguments.json):
            _compare(arguments, counts)


def _compare(arguments: Arguments, counts: list[int | None]) -> None:
    from genlab.evaluate import comparison
    from genlab.transfer import study

    run = arguments.open()
    dataset = run.data(arguments.data)
    real, test = comparison.parts(dataset)
    counts = counts or ([None] if dataset.partial_labels else [100, 1000, None])
    model = classifier(run, dataset.spec.num_classes, layers=arguments.layers, trainable="")
    trained = {"frozen": weights_trained(model), "whole": unfreeze(model)}
    last = [layer.name for layer in model.layers if layer.name not in ("trunk_features", "class_logits")][-1]
    if not arguments.json:
        say(f"backbone   {feature_network(run).name} of {run.name} up to {last}")
        say(f"trained    {trained['frozen']:,} weights with the backbone frozen, {trained['whole']:,} in total")
    settings = study.study(
        run,
        real,
        test,
        dataset.spec.num_classes,
        counts=counts,
        seeds=arguments.seeds,
        steps=arguments.steps,
        layers=arguments.layers,
        views=arguments.augment,
        own=not arguments.data,
    )
    comparison.report(
        run,
        dataset,
        settings,
        name="transfer",
        images=COUNTED,
        pair=PAIR,
        arguments=arguments,
        trained_weights=trained,
    )
    if not arguments.json:
        say(f"{run.path / 'transfer.json'} and transfer.png have the details.")


if __name__ == "__main__":
    main()
