"""From a trained run to metrics with their protocol: what was measured, on what, by what, beside what real images give."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import time
from typing import Any

import numpy as np

from genlab import __version__, files, grids, pictures
from genlab import run as runs
from genlab.data import Dataset
from genlab.data.dataset import Images
from genlab.data.spec import to_model_range
from genlab.errors import GenlabError, UsageError
from genlab.evaluate import classifier, extractors
from genlab.evaluate.metrics import classes, distances, modes, neighbours
from genlab.evaluate.metrics.reconstruction import reconstruction_metrics
from genlab.models.base import GenerativeModel

log = logging.getLogger("genlab")

CHUNK = 1024
"""How many samples are drawn at once."""
MEMORY_IMAGES = 200_000
"""How many training images the nearest ones are looked for among, at most."""
LABEL_EPOCHS = 4
"""Epochs of the classifiers that learn from generated and from real images."""
NLL_IMAGES = 1000
"""How many held-out images likelihoods are estimated on, at most."""
LOWER_IS_BETTER = (
    "frechet_distance",
    "kernel_distance",
    "memorization",
    "class_kl",
    "modes_kl",
    "mse",
    "nll",
    "negative_elbo",
    "bits_per_dimension",
    "feature_distance",
)
NEITHER_IS_BETTER = ("reconstruction", "kl", "active_units")


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of a run."""

    value: float
    floor: float | None = None
    """The same metric of real images in the place of the generated ones; None where that has no meaning."""
    spread: float | None = None
    """Standard deviation over subsets or splits, or the standard error, where the metric has one."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Every metric of a run, with the protocol that a comparison needs."""

    run: str
    model: str
    step: int
    protocol: dict[str, Any]
    metrics: dict[str, Metric]
    facts: dict[str, Any]
    """Date, seconds, version: what does not touch the metrics."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class _Images:
    """Images or vectors, uint8 or float32 [N, ...], with labels where there are some."""

    images: np.ndarray
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None
    """Which training images these are, [N]; None where they are held out or generated."""

    def features(self, extractor: extractors.Extractor) -> _Features:
        return _Features(*extractor(self.images))


@dataclasses.dataclass(frozen=True)
class _Features:
    features: np.ndarray
    logits: np.ndarray | None

    @property
    def classes(self) -> np.ndarray:
        assert self.logits is not None
        return self.logits.argmax(axis=1)


def evaluate(
    run: runs.Run, *, samples: int = 10_000, extractor: str = "auto", seed: int = 0, importance_samples: int = 100
) -> Evaluation:
    """Measure a run and write `evaluation.json` into its folder, with a picture of the nearest training images.

    `samples` images are drawn, of the seeds from `seed` on, at most as many as there are training images; so many
    training images are measured beside them as the floor; both against the held-out images. A conditional model is
    asked for classes in the shares that these have. Raises UsageError where there are too few images for a metric, or
    the extractor does not fit.
    """
    started = time.perf_counter()
    if samples < 2 or importance_samples < 1 or seed < 0:
        raise UsageError("--samples must be at least 2, --importance-samples at least 1, and --seed at least 0.")
    dataset = run.data()
    reference, training, split = _real_images(dataset, samples, seed)
    seeds = np.arange(seed, seed + len(training.images))
    labels = _labels_to_draw(run.model, _labels_of(reference, training), len(seeds), seed)
    drawn = draw(run.model, seeds, labels)
    protocol = {
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "split": split,
        "real": len(reference.images),
        "generated": len(seeds),
        "seed": seed,
    }
    if labels is not None:
        protocol["labels"] = "shares of the reference"
    if run.checkpoint == "best":
        protocol["checkpoint"] = _how_best_was_chosen(run, dataset)
    if not dataset.spec.is_image:
        metrics = _point_metrics(dataset, drawn.images, training.images)
    else:
        scorer = extractors.load(extractor, dataset)
        protocol |= scorer.protocol(dataset.spec.shape)
        protocol["searched"] = min(MEMORY_IMAGES, len(dataset.images))
        metrics = _sample_metrics(run, dataset, scorer, reference, training, drawn, seed)
        if run.model.encoder is not None:
            metrics |= _reconstruction_metrics(run, reference.images)
        likelihood = run.model.likelihood_metrics(
            to_model_range(reference.images[:NLL_IMAGES]), importance_samples, seed
        )
        if likelihood:
            protocol["likelihood_images"] = min(NLL_IMAGES, len(reference.images))
            if "nll" in likelihood and not run.model.exact_likelihood:
                protocol["importance_samples"] = importance_samples
            metrics |= {name: Metric(value, spread=spread) for name, (value, spread) in likelihood.items()}
    facts = {
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.perf_counter() - started, 1),
        "genlab": __version__,
    }
    evaluation = Evaluation(run.name, run.config.model, run.step, protocol, metrics, facts)
    files.write_text(run.path / "evaluation.json", json.dumps(evaluation.to_json(), indent=2) + "\n")
    return evaluation


def _labels_to_draw(model: GenerativeModel, real: np.ndarray | None, count: int, seed: int) -> np.ndarray | None:
    """The classes that a conditional model is asked for, int32 [count], in the shares of the real labels.

    `default_labels` asks for all classes alike, and the distance to real images would be that between the shares too,
    however good each image is. None for models without labels.
    """
    if not model.conditional or real is None:
        return None
    return classes.in_shares(real, model.spec.num_classes, count, seed)


def _labels_of(reference: _Images, training: _Images) -> np.ndarray | None:
    """Labels of what samples are measured against; those of training images where held-out ones have none."""
    return training.labels if reference.labels is None else reference.labels


def draw(model: GenerativeModel, seeds: np.ndarray, labels: np.ndarray | None = None) -> _Images:
    """The samples of those seeds: uint8 images [N, H, W, C], or vectors, with the labels that they were drawn of.

    `labels`, [N], are for conditional models; by default each seed's own. A sample depends on its seed and label alone.
    """
    if labels is None:
        labels = model.default_labels(seeds)
    parts = []
    for start in range(0, len(seeds), CHUNK):
        part = slice(start, start + CHUNK)
        drawn = model.sample(model.sample_latents(seeds[part]), None if labels is None else labels[part]).numpy()
        parts.append(drawn if drawn.ndim == 2 else grids.as_pixels(drawn))
    return _Images(np.concatenate(parts), labels)


class QuickEvaluation:
    """A few metrics of a model in training, against real images whose features are taken once."""

    def __init__(self, dataset: Dataset, samples: int, seed: int) -> None:
        self.dataset = dataset
        reference, training, _ = _real_images(dataset, samples, seed, validation=True)
        self.seeds = np.arange(len(training.images))
        self.labels, self.seed = _labels_of(reference, training), seed
        self.extractor = None if dataset.modes is not None else extractors.load("auto", dataset)
        if self.extractor is not None:
            self.real = reference.features(self.extractor)
            # Refuses counts that are too small before any training is done.
            self.floor = distances.frechet_distance(training.features(self.extractor).features, self.real.features)

    @property
    def real_classes(self) -> int:
        """How many classes the extractor finds in the real images."""
        assert self.extractor is not None
        return len(np.unique(self.real.classes)) if self.extractor.num_classes else 0

    def __call__(self, model: GenerativeModel) -> dict[str, float]:
        """Metrics by name; the first one is what the best checkpoint is chosen by, the lowest."""
        drawn = draw(model, self.seeds, _labels_to_draw(model, self.labels, len(self.seeds), self.seed))
        if self.extractor is None:
            assert self.dataset.modes is not None
            metrics = modes.mode_metrics(drawn.images, self.dataset.modes, self.dataset.deviation)
            return {name: metrics[name] for name in ("modes_kl", "modes", "high_quality")}
        fake = drawn.features(self.extractor)
        metrics = {"frechet_distance": distances.frechet_distance(fake.features, self.real.features)}
        if self.extractor.num_classes:
            metrics["classes"] = float(len(np.unique(fake.classes)))
        return metrics


def comparable(evaluations: list[Evaluation]) -> None:
    """Raise UsageError, with the difference, where the protocols of evaluations differ."""
    first, *others = evaluations
    for other in others:
        differing = [
            f"{name} ({first.protocol.get(name)} and {other.protocol.get(name)})"
            for name in {**first.protocol, **other.protocol}
            if first.protocol.get(name) != other.protocol.get(name)
            and name in first.protocol
            and name in other.protocol
        ]
        if differing:
            raise UsageError(
                f"the metrics of {first.run} and {other.run} cannot be compared: they differ in {', '.join(differing)}."
            )


def _real_images(
    dataset: Dataset, samples: int, seed: int, *, validation: bool = False
) -> tuple[_Images, _Images, str]:
    """What samples are measured against, what stands in for them in the floor, and how the two were split.

    With `validation` they are the images held out for decisions in training, where there are some.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(dataset.images))
    images, labels = dataset.test_images, dataset.test_labels
    if validation and dataset.validation_images is not None:
        images, labels = dataset.validation_images, dataset.validation_labels
    if images is not None:
        held_out = random.permutation(len(images))[:samples]
        reference = _Images(*_rows(images, labels, held_out))
        return reference, _Images(*_rows(dataset.images, dataset.labels, order[:samples])), "held out"
    half = len(order) // 2
    first, second = (
        _Images(*_rows(dataset.images, dataset.labels, part), rows=part)
        for part in (order[:half][:samples], order[half:][:samples])
    )
    return first, second, "two halves of the training images: none are held out"


def _how_best_was_chosen(run: runs.Run, dataset: Dataset) -> str:
    """What the protocol says of `--checkpoint best`, with a warning where the metrics flatter it.

    Without validation images the quick evaluations in training compare with the images that are compared with here.
    Holding some out unasked would take them from training or from every metric, for a checkpoint that few ask for; and
    choosing by training images would favour a model that copies them. So it is allowed, with a warning. The effect is
    small: of 20 checkpoints of a dcgan, the best by one half of the digits' held-out images had 1% (± 2%) less Frechet
    distance to that half than to the other (40 divisions into halves).
    """
    if dataset.modes is not None:  # the Gaussians themselves, and the same latents
        return "best by these metrics"
    if dataset.validation_images is not None:
        return "best on the validation images"
    log.warning(
        f"the best checkpoint of {run.name} was chosen on the images that it is measured on here, because the data has "
        "no validation images: its metrics are optimistic. A folder validation/ has some, or --split 0.8/0.1/0.1 where "
        "the source has no held-out images of its own."
    )
    return "best on the images it is measured on"


def _rows(images: Images, labels: np.ndarray | None, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    return images[rows], None if labels is None else labels[rows]


def _point_metrics(dataset: Dataset, drawn: np.ndarray, real: np.ndarray) -> dict[str, Metric]:
    if dataset.modes is None:
        raise UsageError("vectors are measured by the Gaussians that they were drawn from, and this data names none.")
    values, floors = (modes.mode_metrics(points, dataset.modes, dataset.deviation) for points in (drawn, real))
    return {name: Metric(value, floors[name]) for name, value in values.items()}


def _sample_metrics(
    run: runs.Run,
    dataset: Dataset,
    extractor: extractors.Extractor,
    reference: _Images,
    training: _Images,
    drawn: _Images,
    seed: int,
) -> dict[str, Metric]:
    real, floor, fake = (images.features(extractor) for images in (reference, training, drawn))
    metrics = {
        "frechet_distance": Metric(
            distances.frechet_distance(fake.features, real.features),
            distances.frechet_distance(floor.features, real.features),
        )
    }
    value, spread = distances.kernel_distance(fake.features, real.features, seed=seed)
    metrics["kernel_distance"] = Metric(
        value, distances.kernel_distance(floor.features, real.features, seed=seed)[0], spread
    )
    for names, measure in (
        (("precision", "recall"), neighbours.precision_and_recall),
        (("density", "coverage"), neighbours.density_and_coverage),
    ):
        values, floors = measure(real.features, fake.features), measure(real.features, floor.features)
        metrics |= {name: Metric(*pair) for name, *pair in zip(names, values, floors, strict=True)}
    if extractor.num_classes:
        metrics |= _class_metrics(extractor.num_classes, real, floor, fake)
    metrics |= _label_metrics(dataset, reference, training, drawn, fake, extractor, seed)
    seen, places = dataset.images, reference.rows
    if len(seen) > MEMORY_IMAGES:
        searched = np.random.default_rng(0).permutation(len(seen))[:MEMORY_IMAGES]
        places = None if places is None else _places(places, searched, len(seen))
        seen = seen[searched]
    memory = neighbours.memorization(extractor(seen)[0], real.features, fake.features, places)
    metrics["memorization"] = Metric(memory.share, memory.floor)
    pairs = pictures.reconstructions(drawn.images[memory.generated[:32]], seen[memory.training[:32]])
    grids.save_image(pairs, run.path / "evaluation-nearest.png")
    return metrics


def _places(rows: np.ndarray, searched: np.ndarray, total: int) -> np.ndarray:
    """Where each of the rows is among those searched, of `total`; -1 where it is not."""
    places = np.full(total, -1)
    places[searched] = np.arange(len(searched))
    return places[rows]


def _class_metrics(num_classes: int, real: _Features, floor: _Features, fake: _Features) -> dict[str, Metric]:
    assert fake.logits is not None and floor.logits is not None
    value, spread = classes.inception_score(fake.logits)
    metrics = {"inception_score": Metric(value, classes.inception_score(floor.logits)[0], spread)}
    values, floors = (classes.balance(each.classes, real.classes, num_classes) for each in (fake, floor))
    metrics |= {name: Metric(value, floors[name]) for name, value in values.items()}
    counts = [classes.captured(each.classes, real.classes, num_classes) for each in (fake, floor)]
    for index, name in enumerate(("classes", "class_kl")):
        metrics[name] = Metric(float(counts[0][index]), float(counts[1][index]))
    return metrics


def _label_metrics(
    dataset: Dataset,
    reference: _Images,
    training: _Images,
    drawn: _Images,
    fake: _Features,
    extractor: extractors.Extractor,
    seed: int,
) -> dict[str, Metric]:
    """Agreement with the labels asked for, and what a classifier learns from the generated images."""
    count = dataset.spec.num_classes
    agree = extractor.num_classes == count
    if reference.labels is None or training.labels is None or not (agree or drawn.labels is not None):
        return {}
    metrics = {}
    if drawn.labels is not None and agree:
        # A classifier of the data has learned the labels of the training images: on images that it has not seen it is
        # right less often, and no more can be asked of generated ones. Where it has seen all there are, there is no floor.
        seen = extractor.name == "classifier" and reference.rows is not None
        metrics["label_accuracy"] = Metric(
            float((fake.classes == drawn.labels).mean()),
            None if seen else extractor.accuracy_on(reference.images, reference.labels),
        )
    # Where a model draws without labels, the extractor names the classes.
    labels = fake.classes if drawn.labels is None else drawn.labels
    accuracies = []
    for images, answers in ((drawn.images, labels), (training.images, training.labels)):
        network = classifier.train(images, answers, count, epochs=LABEL_EPOCHS, seed=seed)
        scorer = extractors.Extractor("classifier", network, dataset.spec.shape)
        accuracies.append(scorer.accuracy_on(reference.images, reference.labels))
    return metrics | {"train_on_fake": Metric(*accuracies)}


def _reconstruction_metrics(run: runs.Run, images: np.ndarray) -> dict[str, Metric]:
    scaled = np.asarray(to_model_range(images))
    parts = [np.asarray(run.model.reconstruct(scaled[start : start + CHUNK])) for start in range(0, len(scaled), CHUNK)]
    return {name: Metric(value) for name, value in reconstruction_metrics(scaled, np.concatenate(parts)).items()}


def read(run: runs.Run) -> Evaluation:
    """What `evaluate` wrote. Raises GenlabError where it has not been, or the file cannot be read."""
    path = run.path / "evaluation.json"
    try:
        stored = json.loads(path.read_text())
        if "figures" in stored:  # as they were called at first
            stored["metrics"] = stored.pop("figures")
        metrics = {name: Metric(**metric) for name, metric in stored["metrics"].items()}
        return Evaluation(**stored | {"metrics": metrics})
    except FileNotFoundError:
        raise GenlabError(f"{run.name} has not been evaluated. Do: python -m genlab.evaluate {run.path}") from None
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise GenlabError(f"{path} cannot be read: {error}.") from error
