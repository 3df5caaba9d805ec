"""Command line: `python -m genlab.augment RUN` measures whether a run's images help to train a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from genlab import bounds, command_line
from genlab.backend import Network
from genlab.console import console_log, reported, say
from genlab.errors import Harmful, UsageError
from genlab.run import RunOptions

PROGRAM = "python -m genlab.augment"
FRESH, VARIED = ("generated", "real"), ("both", "classical")
"""The condition and the baseline to compare: of fresh images, and of variations, which come on top of the usual changes."""
COUNTED = "real images per class"


@dataclasses.dataclass(frozen=True)
class Arguments(command_line.JsonOption, RunOptions):
    """Train a classifier on real images only, with classical augmentation, with generated images, and with both.

    Tests each on real held-out images and reports whether generated images help, make no significant difference, or harm
    (exit status 4). With --vary, generated images are variations of the classifier's own, and the question is whether they help
    on top of classical augmentation. With several --per-class, p-values have Holm's correction. Writes augment.json and augment.png to the
    run's folder.
    """

    data: str = ""
    """Real images with labels; by default the run's training data."""
    per_class: str = ""
    """Numbers of real training images per class, like 20,50,100 or 20,all. By default all."""
    seeds: int = 5
    """Trainings per condition, at least 3 for a verdict; the test for significance uses their variance."""
    fraction: float = 0.5
    """Fraction of generated images in a batch."""
    steps: int = 1000
    """Training steps of each classifier."""
    balance: Literal["none", "oversample"] = "none"
    """Balance classes of unequal size in all conditions: oversample repeats real images of smaller classes."""
    vary: Literal["none", "perturb", "interpolate", "renoise"] = "none"
    """Use variations of the real images instead of fresh ones: perturb or interpolate (a run with an encoder), or renoise (a flow)."""
    vary_classes: str = ""
    """With --vary: classes whose images are varied, by name or number, separated by commas. By default all; images of the others stay
    as they are."""
    amount: float = 0.3
    """Size of the variations, as in the Augmenter."""
    confidence: float = 0.0
    """Leave out variations to whose label a classifier, trained only on the real images, gives a smaller probability, and repeat
    others of their class. 0 to 1."""
    candidates: int = 1
    """Images to generate for each one used: the best by --select."""
    select: str = "none"
    """Scorer of --candidates: discriminator or classifier. The classifier is trained only on the real images of each setting
    and seed, so that no other labels leak into the comparison."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        counts = bounds.counts("--per-class", arguments.per_class or "all")
        bounds.whole("--seeds", arguments.seeds, 1)
        bounds.whole("--steps", arguments.steps, 1)
        bounds.whole("--candidates", arguments.candidates, 1)
        bounds.real("--fraction", arguments.fraction, 0, 1, above=True)
        bounds.real("--confidence", arguments.confidence, 0, 1)
        if arguments.confidence and arguments.vary == "none":
            raise UsageError("--confidence is for variations: add --vary perturb, interpolate or renoise.")
        if arguments.vary_classes and arguments.vary == "none":
            raise UsageError("--vary-classes is for variations: add --vary perturb, interpolate or renoise.")
        if arguments.vary != "none" and arguments.select != "none":
            raise UsageError("--vary and --select do not go together; leave one out. --confidence rejects variations.")
        with console_log(quiet=arguments.json, to_stderr=arguments.json):
            _study(arguments, counts)


def _study(arguments: Arguments, counts: list[int | None]) -> None:
    from genlab.augment import study, variations
    from genlab.augment.augmenter import Augmenter
    from genlab.augment.decoders import TrainedDecoder
    from genlab.data import selection
    from genlab.evaluate import classifier, comparison

    varies = arguments.vary != "none"
    run = arguments.open()
    dataset = run.data(arguments.data)
    real, test = comparison.parts(dataset)
    classes = dataset.spec.num_classes
    if classes != run.model.spec.num_classes and not varies:
        raise UsageError(f"{dataset.name} has {classes} classes; the run draws {run.model.spec.num_classes}.")
    study.check_counts(real[1], classes, counts)
    to_vary = (
        selection.class_numbers(dataset, arguments.vary_classes, "--vary-classes") if arguments.vary_classes else None
    )
    # The run's default scorer has seen all labels, so the study trains one with the labels of each setting instead.
    by_classifier = arguments.select == "classifier"
    source = TrainedDecoder.of_run(
        run, "none" if by_classifier else arguments.select, renoises=arguments.vary == "renoise"
    )
    if by_classifier:
        source.scorer = classifier.untrained(dataset.spec.shape, classes)
    chosen: dict[str, Any] = {"mode": arguments.vary, "amount": arguments.amount, "fraction": 1.0} if varies else {}
    augment = Augmenter([source], candidates=arguments.candidates, select=arguments.select, **chosen)
    count = min(study.POOL, arguments.steps * study.BATCH)

    def selected(few: study.Arrays, scorer: Callable[[], Network]) -> study.Arrays:
        assert source.scorer is not None
        source.scorer.set_weights(scorer().get_weights())
        return augment.generate(count)

    def varied(few: study.Arrays, scorer: Callable[[], Network]) -> study.Arrays:
        return variations.vary(
            augment, *few, count, classifier=scorer(), confidence=arguments.confidence, classes=to_vary
        )

    made = varied if varies else selected if by_classifier else augment.generate(count)
    pair = VARIED if varies else FRESH
    seen = run.config.dataset["train_images"]
    largest = len(real[0]) if None in counts else classes * max(count for count in counts if count is not None)
    settings = study.study(
        made,
        real,
        test,
        classes,
        per_class=counts,
        seeds=arguments.seeds,
        fraction=arguments.fraction,
        steps=arguments.steps,
        oversample=arguments.balance == "oversample",
    )
    comparison.report(
        run, dataset, settings, name="augment", images=COUNTED, pair=pair, arguments=arguments, generator_saw=seen
    )
    if seen > largest and not arguments.json:
        say(
            f"The generator was trained on {seen:,} images, more than these classifiers. So this is its value to someone who "
            "has the trained generator and few images, not what it learns from those few."
        )
    found = comparison.differences(settings, *pair)
    what = "variations on top of classical augmentation" if varies else "generated images"
    if not arguments.json:
        for setting, each in zip(settings, found, strict=True):
            name = "all images" if setting.images is None else f"{setting.name} per class"
            say(f"With {name}, {what} {each.verdict}: {100 * each.gain:+.2f} points of accuracy.")
        say(f"{run.path / 'augment.json'} and augment.png have the details.")
    if any(each.verdict == "harm" for each in found):
        raise Harmful(f"{what} of this run make the classifier worse. Do not use them, or train the run longer.")


if __name__ == "__main__":
    main()
