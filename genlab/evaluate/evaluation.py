"""Evaluate a trained run: metrics with their floor and protocol (data, split, counts, extractor, seed)."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import pathlib
import time
from typing import Any

import numpy as np

from genlab import __version__, bounds, files, grids, pictures
from genlab import run as runs
from genlab.backend import Network, in_parts, keras, tf
from genlab.data import Dataset
from genlab.data.dataset import Images
from genlab.data.spec import to_model_range
from genlab.errors import UsageError
from genlab.evaluate import classifier, extractors
from genlab.evaluate.metrics import classes, distances, modes, neighbours
from genlab.evaluate.metrics.reconstruction import reconstruction_metrics
from genlab.evaluate.results import ClassCounts, Evaluation, Metric
from genlab.models.base import GenerativeModel

log = logging.getLogger("genlab")

MEMORY_IMAGES = 200_000
"""Maximum number of training images to search for nearest neighbours."""
LABEL_EPOCHS = 4
"""Epochs of the classifiers trained on generated and on real images."""
NLL_IMAGES = 1000
"""Maximum number of held-out images for likelihoods."""
MOST_IMPORTANCE_SAMPLES = 100_000
"""Maximum number of importance samples: their weights for all images are in memory at once."""


@dataclasses.dataclass(frozen=True)
class _Images:
    """Images or vectors, uint8 or float32 [N, ...], with labels or None."""

    images: np.ndarray
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None
    """Indices [N] among the training images; None if they are held out or generated."""

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
    """Measure a run and write `evaluation.json` to its folder, with a picture of the nearest training images.

    Nothing is written, and a warning logged, if the folder is read-only. Draws `samples` images with consecutive seeds from `seed`, at most the number of training images. They are compared with
    the held-out images. The floor compares as many training images with them. A conditional model draws classes in the
    proportions of the held-out images. Raises UsageError if there are too few images for a metric, or the extractor does
    not fit.
    """
    started = time.perf_counter()
    check_numbers(samples, seed, importance_samples)
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
    counts = None
    if not dataset.spec.is_image:
        metrics = _point_metrics(dataset, drawn.images, training.images)
    else:
        features_by = extractors.load(extractor, dataset)
        protocol |= features_by.protocol(dataset.spec.shape)
        protocol["searched"] = min(MEMORY_IMAGES, len(dataset.images))
        metrics, counts = _sample_metrics(run, dataset, features_by, reference, training, drawn, seed)
        if run.model.classifier is not None:
            found, facts_of = _classifier_metrics(run.model.classifier, dataset, seed)
            metrics |= found
            protocol |= facts_of
        if run.model.encoder is not None:
            metrics |= _reconstruction_metrics(run, reference.images)
        likelihood = run.model.likelihood_metrics(
            to_model_range(reference.images[:NLL_IMAGES]), importance_samples, seed
        )
        if likelihood:
            protocol["likelihood_images"] = min(NLL_IMAGES, len(reference.images))
            protocol |= run.model.likelihood_protocol(importance_samples)
            metrics |= {name: Metric(value, spread=spread) for name, (value, spread) in likelihood.items()}
    facts = {
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.perf_counter() - started, 1),
        "genlab": __version__,
    }
    evaluation = Evaluation(run.name, run.config.model, run.step, protocol, metrics, facts, counts)
    if run.writable:
        files.write_json(run.path / "evaluation.json", evaluation.to_json())
        _write_scalars(evaluation, run.path / "tensorboard")
    else:
        log.warning(f"{run.path} cannot be written: its metrics are shown, and not stored there.")
    return evaluation


def _write_scalars(evaluation: Evaluation, folder: pathlib.Path) -> None:
    """Add the metrics to what TensorBoard shows of the run, if training wrote such a folder; a link is not followed."""
    if folder.is_dir() and not folder.is_symlink():
        with tf.summary.create_file_writer(str(folder)).as_default(step=evaluation.step):
            for name, metric in evaluation.metrics.items():
                tf.summary.scalar(f"evaluation/{name}", metric.value)


def check_numbers(samples: int, seed: int, importance_samples: int) -> None:
    """Raise UsageError if a number of `evaluate` is out of range."""
    bounds.whole("--samples", samples, 2)
    bounds.whole("--seed", seed)
    bounds.whole("--importance-samples", importance_samples, 1, MOST_IMPORTANCE_SAMPLES)


def _labels_to_draw(model: GenerativeModel, real: np.ndarray | None, count: int, seed: int) -> np.ndarray | None:
    """Return classes for a conditional model, int32 [count], in the proportions of the real labels; else None.

    `default_labels` draws all classes equally. Distances to real images would then include the difference of class
    proportions, however good each image is.
    """
    if not model.conditional or real is None:
        return None
    return classes.in_shares(real, model.spec.num_classes, count, seed)


def _labels_of(reference: _Images, training: _Images) -> np.ndarray | None:
    """Return the labels of the reference images; those of the training images if held-out ones have none."""
    return training.labels if reference.labels is None else reference.labels


def draw(model: GenerativeModel, seeds: np.ndarray, labels: np.ndarray | None = None) -> _Images:
    """Draw the samples of some seeds: uint8 images [N, H, W, C], or vectors, with their labels.

    `labels`, [N], are for conditional models; the default is each seed's own. A sample depends only on its seed and label.
    """
    if labels is None:
        labels = model.default_labels(seeds)

    def drawn(seeds: np.ndarray, *labels: np.ndarray) -> np.ndarray:
        images = model.sample(model.sample_latents(seeds), *labels)
        return grids.as_pixels(images) if model.spec.is_image else images.numpy()

    return _Images(in_parts(drawn, seeds, *([] if labels is None else [labels])), labels)


class QuickEvaluation:
    """A few metrics of a model in training. Features of the real images are computed once."""

    def __init__(self, dataset: Dataset, samples: int, seed: int) -> None:
        self.dataset = dataset
        reference, training, _ = _real_images(dataset, samples, seed, validation=True)
        self.seeds = np.arange(len(training.images))
        self.labels, self.seed = _labels_of(reference, training), seed
        self.extractor = None if dataset.modes is not None else extractors.load("auto", dataset)
        if self.extractor is not None:
            self.real = reference.features(self.extractor)
            # Raises for too few images before training starts.
            self.floor = distances.frechet_distance(training.features(self.extractor).features, self.real.features)

    @property
    def real_classes(self) -> int:
        """Number of classes that the extractor finds in the real images."""
        assert self.extractor is not None
        return len(np.unique(self.real.classes)) if self.extractor.num_classes else 0

    def __call__(self, model: GenerativeModel) -> dict[str, float]:
        """Return metrics by name. The best checkpoint is the one with the lowest value of the first."""
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


def _real_images(
    dataset: Dataset, samples: int, seed: int, *, validation: bool = False
) -> tuple[_Images, _Images, str]:
    """Return the reference images, the training images of the floor, and a description of the split.

    With `validation`, the reference is the validation set, if there is one.
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
    """Return the protocol's entry for `--checkpoint best`. Logs a warning if its metrics are optimistic.

    Without a validation set, quick evaluations in training use the same held-out images as this evaluation. Holding out
    more by default would cost training images or test images, for a checkpoint that few use. Choosing by training images
    would favour a model that copies them. So it is allowed, with a warning. The effect is small: of 20 checkpoints of a
    dcgan, the best by one half of the digits' held-out images had 1% (± 2%) less Frechet distance to that half than to the
    other (40 divisions into halves).
    """
    if dataset.modes is not None:  # the Gaussians themselves, and the same latents
        return "best by these metrics"
    if dataset.validation_images is not None:
        return "best on the validation images"
    log.warning(
        f"the best checkpoint of {run.name} was chosen on the images that it is measured on, since the data has no "
        "validation set: its metrics are optimistic. Add a folder validation/, or train with --split 0.8/0.1/0.1 if the "
        "source has no held-out images of its own."
    )
    return "best on the images it is measured on"


def _rows(images: Images, labels: np.ndarray | None, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    return images[rows], None if labels is None else labels[rows]


def _point_metrics(dataset: Dataset, drawn: np.ndarray, real: np.ndarray) -> dict[str, Metric]:
    if dataset.modes is None:
        raise UsageError(
            "vectors can only be evaluated if the data states its modes, like ring and grid; this data does not."
        )
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
) -> tuple[dict[str, Metric], ClassCounts | None]:
    """Return the metrics of images, and how many of each class there are."""
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
    if run.writable:
        grids.save_image(pairs, run.path / "evaluation-nearest.png")
    return metrics, _class_counts(dataset, extractor.num_classes, real, fake) if extractor.num_classes else None


def _class_counts(dataset: Dataset, num_classes: int, real: _Features, fake: _Features) -> ClassCounts:
    """Count classes. Their names are the data's, unless the extractor has classes of its own."""
    names = dataset.class_names if len(dataset.class_names) == num_classes else map(str, range(num_classes))
    generated, found = (np.bincount(each.classes, minlength=num_classes).tolist() for each in (fake, real))
    return {"names": list(names), "generated": generated, "real": found}


def _places(rows: np.ndarray, searched: np.ndarray, total: int) -> np.ndarray:
    """Return the position of each row among those searched, of `total` rows; -1 if it is not there."""
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
    """Return the agreement with requested labels, and the accuracy of a classifier trained on generated images."""
    count = dataset.spec.num_classes
    agree = extractor.num_classes == count
    if reference.labels is None or training.labels is None or not (agree or drawn.labels is not None):
        return {}
    metrics = {}
    if drawn.labels is not None and agree:
        # A classifier trained on this data is less accurate on unseen images, and generated ones cannot do better. So the
        # floor is its accuracy on held-out images; if it has seen all images, there is no floor.
        seen = extractor.name == "classifier" and reference.rows is not None
        metrics["label_accuracy"] = Metric(
            float((fake.classes == drawn.labels).mean()),
            None if seen else extractor.accuracy_on(reference.images, reference.labels),
        )
    # For unconditional models, the extractor predicts the classes.
    labels = fake.classes if drawn.labels is None else drawn.labels
    accuracies = []
    for images, classes_of in ((drawn.images, labels), (training.images, training.labels)):
        network = classifier.train(images, classes_of, count, epochs=LABEL_EPOCHS, seed=seed)
        trained = extractors.Extractor("classifier", network, dataset.spec.shape)
        accuracies.append(trained.accuracy_on(reference.images, reference.labels))
    return metrics | {"train_on_fake": Metric(*accuracies)}


def _classifier_metrics(network: Network, dataset: Dataset, seed: int) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Return the accuracy of a model's own classifier on held-out images that have a label, and its protocol.

    Its floor is the accuracy of a small classifier that is trained from scratch on the labelled training images alone. Without
    held-out labels there is no accuracy: the model has seen all other labels.
    """
    labelled = dataset.labelled_part()
    if labelled.test_images is None or labelled.labels is None or labelled.test_labels is None:
        return {}, {"classifier": "not measured: no held-out image has a label"}
    images, labels = labelled.examples(MEMORY_IMAGES)
    assert labels is not None
    small = classifier.train(images, labels, dataset.spec.num_classes, epochs=LABEL_EPOCHS, seed=seed)
    scratch = keras.Model(small.inputs[0], small.outputs[1])
    accuracies = [
        float((classifier.predicted(each, labelled.test_images) == labelled.test_labels).mean())
        for each in (network, scratch)
    ]
    facts = {
        "classifier": "accuracy on held-out images; real images: trained from scratch on the labelled images alone",
        "classifier_labels": len(labelled.images),
        "classifier_tested": len(labelled.test_images),
    }
    return {"classifier_accuracy": Metric(*accuracies)}, facts


def _reconstruction_metrics(run: runs.Run, images: np.ndarray) -> dict[str, Metric]:
    scaled = np.asarray(to_model_range(images))
    reconstructed = in_parts(run.model.reconstruct, scaled)
    return {name: Metric(value) for name, value in reconstruction_metrics(scaled, reconstructed).items()}
