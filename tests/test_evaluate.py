"""Evaluation of runs: every metric with its floor and its protocol, and a clear word where it cannot be had."""

from __future__ import annotations

import dataclasses
import json
import math
import types

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import TINY, fails

import genlab
from genlab import files
from genlab.backend import keras, tf
from genlab.data import stacked
from genlab.data.spec import DataSpec
from genlab.evaluate import __main__ as evaluate
from genlab.evaluate import evaluation, extractors, results


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return genlab.fit("cgan", steps=4, out=tmp_path_factory.mktemp("conditional"), **TINY)


@pytest.fixture(scope="module")
def metrics(conditional):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "LABEL_EPOCHS", 1)
        evaluate.main([str(conditional.path), "--samples", "300"])
    return results.read(conditional)


def test_every_metric_has_its_floor_and_the_protocol_says_how(metrics, conditional):
    expected = "frechet_distance kernel_distance precision recall density coverage inception_score class_entropy"
    expected += " smallest_class classes class_kl label_accuracy train_on_fake memorization"
    assert set(metrics.metrics) == set(expected.split())
    for name, metric in metrics.metrics.items():
        assert math.isfinite(metric.value) and metric.floor is not None, name
    assert metrics.protocol == {
        "data": "digits",
        "data_sha256": conditional.config.dataset["sha256"],
        "split": "held out",
        "real": 300,
        "generated": 300,
        "seed": 0,
        "labels": "shares of the reference",
        "extractor": "digits",
        "extractor_sha256": extractors.load("digits", conditional.data()).sha256,
        "resize": "none",
        "searched": 1437,
    }
    assert metrics.step == 4 and metrics.run == conditional.name
    # Real digits are told from the blobs of four steps.
    floors = {name: metric.floor for name, metric in metrics.metrics.items()}
    assert metrics.metrics["frechet_distance"].value > 5 * floors["frechet_distance"]
    assert floors["label_accuracy"] > 0.9 and floors["precision"] > 0.6 and floors["train_on_fake"] > 0.9
    assert metrics.metrics["train_on_fake"].value < 0.5


def test_the_nearest_training_images_are_drawn(metrics, conditional):
    assert imageio.imread(conditional.path / "evaluation-nearest.png").shape == (8 * 58 + 2, 8 * 58 + 2)


def test_runs_stand_side_by_side_and_the_best_is_marked():
    kinds = [("a", 3.0, 0.9), ("b", 2.0, 0.8)]
    protocol = {"data": "digits", "generated": 10, "real": 10, "split": "held out"}
    both = [
        results.Evaluation(
            run, "dcgan", 1, protocol, {
                "frechet_distance": results.Metric(distance, 1.5),
                "precision": results.Metric(precision, 0.7, 0.1),
            }, {}
        )
        for run, distance, precision in kinds
    ]  # fmt: skip
    lines = evaluate.table(both).splitlines()
    assert lines[1].split() == ["frechet", "distance", "3", "2", "*", "1.5"]
    assert lines[2].split() == ["precision", "0.9", "±", "0.1", "*", "0.8", "±", "0.1", "0.7"]


def test_metrics_of_other_protocols_are_not_compared(metrics):
    other = results.Evaluation("other", "gan", 1, metrics.protocol | {"generated": 7, "seed": 1}, metrics.metrics, {})
    with pytest.raises(genlab.errors.UsageError, match=r"generated \(300 and 7\), seed \(0 and 1\)"):
        results.comparable([metrics, other])
    results.comparable([metrics, metrics])


def test_runs_on_different_data_are_refused_before_any_is_evaluated(conditional, small_images, monkeypatch, capsys):
    other = genlab.fit("gan", small_images[0], steps=1, **TINY)
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("evaluated"))
    status, message = fails(lambda: evaluate.main([str(conditional.path), str(other.path)]), capsys)
    assert status == 2 and f"{other.name} on array, so their metrics cannot be compared" in message


def test_a_vae_is_measured_by_its_likelihood_and_reconstructions(small_images):
    images = np.concatenate([small_images[0]] * 4)[..., np.newaxis]
    run = genlab.fit("vae", images, steps=3, batch_size=8, latent_size=3, encoder_widths=(4,), decoder_widths=(4,))
    model = run.model
    scaled = tf.constant(images[:6] / 127.5 - 1, tf.float32)
    found = model.likelihood_metrics(scaled, 3000, 0)
    assert found["nll"][0] < found["negative_elbo"][0]
    total = found["reconstruction"][0] + found["kl"][0]
    assert total == pytest.approx(found["negative_elbo"][0], rel=1e-5)
    assert found["bits_per_dimension"][0] == pytest.approx(found["nll"][0] / (120 * math.log(2)), rel=1e-5)
    # The bound of the same weights, taken in one piece, on the same binarization.
    observed = model.observed(scaled, tf.random.split(tf.constant([0, 0]), 2, alg="philox")[0])
    bound = -np.mean(model.importance_weighted_bound(observed, 3000, tf.constant([5, 5])))
    assert found["nll"][0] == pytest.approx(bound, rel=0.01)
    network = keras.Sequential([keras.Input((12, 10, 1)), keras.layers.AveragePooling2D(4), keras.layers.Flatten()])
    network.save("average.keras")
    measured = evaluation.evaluate(run, extractor="average.keras", importance_samples=5)
    assert {"mse", "psnr", "ssim", "nll", "active_units", "frechet_distance"} <= set(measured.metrics)
    assert "inception_score" not in measured.metrics
    assert measured.protocol["split"].startswith("two halves") and measured.protocol["real"] == 80
    assert measured.protocol["importance_samples"] == 5


def test_a_likelihood_that_is_not_a_density_has_no_nll(small_images):
    images = np.concatenate([small_images[0]] * 4)[..., np.newaxis]
    sizes = {"batch_size": 8, "discriminator_widths": (6,), "generator_widths": (4,)}
    scorer = genlab.fit("dcgan", images, steps=1, **sizes)
    widths = {"latent_size": 3, "encoder_widths": (4,), "decoder_widths": (4,), "batch_size": 8}
    run = genlab.fit("vae", images, steps=2, likelihood="discriminator", discriminator=str(scorer.path), **widths)
    network = keras.Sequential([keras.Input((12, 10, 1)), keras.layers.AveragePooling2D(4), keras.layers.Flatten()])
    network.save("average.keras")
    found = evaluation.evaluate(run, extractor="average.keras", importance_samples=1)
    assert not {"nll", "negative_elbo", "bits_per_dimension", "reconstruction"} & set(found.metrics)
    assert {"feature_distance", "kl", "active_units", "mse"} <= set(found.metrics)
    assert found.protocol["likelihood_images"] == 80 and "importance_samples" not in found.protocol
    scaled = tf.constant(images / 127.5 - 1, tf.float32)
    distances = np.asarray(run.model.discriminator_distance(scaled, run.model.reconstruct(scaled)))
    value = found.metrics["feature_distance"].value
    assert distances.min() < value < distances.max() and found.metrics["feature_distance"].spread > 0


# -- models whose metrics are known ------------------------------------------------------------------------------------


class Shown:
    """Stands in for a trained model: shows images of a pool, of the class asked for where it is conditional."""

    encoder = classifier = None

    def __init__(self, images, labels=None, classes=0):
        self.images, self.labels, self.conditional = images / np.float32(127.5) - 1, labels, labels is not None
        self.spec = DataSpec(images.shape[1:], classes)

    def default_labels(self, seeds):
        return np.asarray(seeds) % self.spec.num_classes if self.conditional else None

    def sample_latents(self, seeds):
        return np.asarray(seeds)

    def sample(self, latents, labels=None):
        if labels is None:
            return tf.constant(self.images[latents % len(self.images)])
        rows = [np.flatnonzero(self.labels == label) for label in labels]
        return tf.constant(self.images[[of[seed % len(of)] for of, seed in zip(rows, latents, strict=True)]])

    def likelihood_metrics(self, *_):
        return {}


class Averages(extractors.Extractor):
    """Takes averages of 7x7 pixels for features: quicker than a network. Its predictions are `known` by heart, else wrong."""

    def __init__(self, known=None):
        super().__init__("classifier", None, (28, 28, 1))
        object.__setattr__(self, "known", known)

    num_classes = property(lambda self: 0 if self.known is None else 2)
    sha256 = "none"

    def __call__(self, images):
        features = images.reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16) / 255
        if self.known is None:
            return features.astype(np.float32), None
        return features.astype(np.float32), np.eye(2)[[self.known.get(image.tobytes(), 0) for image in images]]


@pytest.fixture
def averages(monkeypatch):
    monkeypatch.setattr(extractors, "load", lambda *_: Averages())


def measured(model, dataset, path, checkpoint="latest"):
    """The evaluation of a model that was not trained."""
    config = types.SimpleNamespace(model="shown")
    run = types.SimpleNamespace(name="shown", path=path, step=0, checkpoint=checkpoint, model=model, config=config)
    run.writable = True
    run.data = lambda: dataset
    return evaluation.evaluate(run)


@pytest.fixture(scope="module")
def digits():
    """All 1,797 digits in a random order, and their labels."""
    whole = genlab.data.load("digits")
    order = np.random.default_rng(0).permutation(1797)
    return (
        np.concatenate([whole.images, whole.test_images])[order],
        np.concatenate([whole.labels, whole.test_labels])[order],
    )


def dataset_of(training, held_out=(None, None), class_names=()):
    """Data of those (images, labels)."""
    return genlab.data.Dataset("shown", "", *training, *held_out, class_names=class_names)


@pytest.mark.parametrize("held_out", [True, False])
def test_copies_of_training_images_are_memorized_and_new_images_are_not(digits, held_out, averages, tmp_path):
    images, _ = digits
    dataset = dataset_of((images[:800], None), (images[800:1200] if held_out else None, None))
    copies = measured(Shown(images[:800]), dataset, tmp_path)
    assert copies.metrics["memorization"].value == 1.0
    assert copies.protocol["searched"] == 800
    new = measured(Shown(images[1200:]), dataset, tmp_path).metrics["memorization"]
    # Four standard errors of a share of a hundredth, by 400 images and among 400.
    assert new.value == pytest.approx(0.01, abs=4 * math.sqrt(0.01 * 2 / 400))
    assert new.floor == pytest.approx(0.01, abs=3e-3)


def test_memorization_where_some_of_the_training_images_are_searched(digits, averages, monkeypatch, tmp_path):
    images, _ = digits
    monkeypatch.setattr(evaluation, "MEMORY_IMAGES", 300)
    dataset = dataset_of((images[:800], None))
    found = measured(Shown(images[:800]), dataset, tmp_path)
    # Copies of images that are searched are found, and those are 300 of 800.
    assert found.metrics["memorization"].value == pytest.approx(300 / 800, abs=0.08)
    assert found.protocol["searched"] == 300
    new = measured(Shown(images[1200:]), dataset, tmp_path).metrics["memorization"]
    assert new.value < 0.04 and new.floor < 0.02


def test_a_conditional_model_draws_the_classes_in_the_shares_of_the_data(digits, averages, monkeypatch, tmp_path):
    images, labels = digits
    monkeypatch.setattr(evaluation, "LABEL_EPOCHS", 0.02)  # nothing here is of labels
    ones, sevens = (np.flatnonzero(labels == digit) for digit in (1, 7))
    rows = np.random.default_rng(1).permutation(np.concatenate([ones[: len(ones) // 9], sevens]))  # a tenth
    images, labels = images[rows], (labels[rows] == 7).astype(np.int32)
    half = len(rows) // 2
    dataset = dataset_of((images[:half], labels[:half]), (images[half:], labels[half:]), ("one", "seven"))
    model = Shown(images, labels, classes=2)  # perfect: real images of the class asked for
    found = measured(model, dataset, tmp_path)
    assert found.protocol["labels"] == "shares of the reference"
    distance = found.metrics["frechet_distance"]
    assert distance.value < 1.5 * distance.floor
    quick = evaluation.QuickEvaluation(dataset, 1000, 0)
    assert quick(model)["frechet_distance"] < 1.5 * quick.floor


def test_the_floor_of_label_agreement_is_of_images_the_classifier_has_not_seen(digits, monkeypatch, tmp_path):
    images, labels = digits[0][:200], digits[1][:200] % 2
    known = {image.tobytes(): label for image, label in zip(images[:100], labels[:100], strict=True)}
    monkeypatch.setattr(extractors, "load", lambda *_: Averages(known))
    monkeypatch.setattr(
        evaluation.classifier, "train", lambda images, *_, **__: evaluation.classifier.build((28, 28, 1), 2)
    )
    model, names = Shown(images, labels, classes=2), ("even", "odd")
    both = dataset_of((images[:100], labels[:100]), (images[100:], labels[100:]), names)
    found = measured(model, both, tmp_path).metrics["label_accuracy"]
    assert found.floor == np.mean(labels[100:] == 0)
    # Where the classifier has learned all images there are, nothing says what to expect of others.
    found = measured(model, dataset_of((images[:100], labels[:100]), class_names=names), tmp_path)
    assert found.metrics["label_accuracy"].floor is None


def test_a_sample_depends_on_its_seed_and_label_alone(conditional):
    seeds, labels = np.array([5, 6, 7, 8]), np.array([3, 3, 0, 9])
    four = evaluation.draw(conditional.model, seeds, labels)
    np.testing.assert_array_equal(four.labels, labels)
    one = evaluation.draw(conditional.model, seeds[1:2], labels[1:2])
    np.testing.assert_array_equal(one.images[0], four.images[1])


@pytest.mark.parametrize("validation", [True, False])
def test_the_protocol_says_what_the_best_checkpoint_was_chosen_on(validation, digits, averages, tmp_path, caplog):
    images, _ = digits
    dataset = dataset_of((images[:200], None), (images[200:400], None))
    if validation:
        dataset = dataclasses.replace(dataset, validation_images=images[400:500])
    model = Shown(images[500:])
    assert "checkpoint" not in measured(model, dataset, tmp_path).protocol
    with caplog.at_level("WARNING", "genlab"):
        found = measured(model, dataset, tmp_path, checkpoint="best")
    words = "best on the validation images" if validation else "best on the images it is measured on"
    assert found.protocol["checkpoint"] == words and words in evaluate.table([found])
    assert ("metrics are optimistic" in caplog.text) != validation


def test_points_are_measured_by_their_modes(own_run):
    metrics = evaluation.evaluate(own_run("gan", "ring"), samples=500).metrics
    assert set(metrics) == {"modes", "high_quality", "modes_kl"}
    assert metrics["modes"].floor == 8 and metrics["high_quality"].floor == pytest.approx(0.989, abs=0.02)


def stored(path):
    """A run of which evaluation.json alone is read."""
    return types.SimpleNamespace(name="stored", path=path)


def test_metrics_that_are_not_finite_are_stored_as_valid_json(tmp_path):
    infinite = {"class_kl": results.Metric(math.inf, 0.5), "psnr": results.Metric(math.nan, None, -math.inf)}
    found = results.Evaluation("a", "cgan", 1, {"data": "digits"}, infinite, {})
    path = files.write_json(tmp_path / "evaluation.json", found.to_json())

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["metrics"]["class_kl"] == {"value": "Infinity", "floor": 0.5, "spread": None}
    assert content["metrics"]["psnr"] == {"value": "NaN", "floor": None, "spread": "-Infinity"}
    again = results.read(stored(tmp_path))
    assert again.metrics["class_kl"] == infinite["class_kl"] and math.isnan(again.metrics["psnr"].value)
    # Early versions wrote these words without quotes, and metrics under another key.
    path.write_text(path.read_text().replace('"Infinity"', "Infinity").replace('"metrics"', '"figures"'))
    assert results.read(stored(tmp_path)).metrics["class_kl"].value == math.inf


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": [1]},
        {"metrics": {"kl": {"value": "many"}}},
        {"metrics": {"kl": {"value": None}}},
        {"metrics": {"kl": 3}},
        {"step": "two"},
        {"protocol": None},
        {"more": 1},
    ],
    ids=str,
)
def test_an_evaluation_of_other_types_is_not_read(change, tmp_path):
    right = {"run": "a", "model": "cgan", "step": 1, "protocol": {}, "metrics": {}, "facts": {}}
    (tmp_path / "evaluation.json").write_text(json.dumps(right))
    assert results.read(stored(tmp_path)).step == 1
    (tmp_path / "evaluation.json").write_text(json.dumps(right | change))
    with pytest.raises(genlab.GenlabError, match=r"evaluation\.json cannot be read"):
        results.read(stored(tmp_path))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--samples", "20"], "needs more than 64 images"),
        (["--extractor", "colour.keras"], "takes 2 channels"),
        (["--checkpoint", "3"], "steps 0, 4"),
        (["--checkpoint", "best"], "--evaluate-every"),
    ],
)
def test_wrong_input(conditional, capsys, tmp_path, flags, words):
    keras.Sequential([keras.Input((28, 28, 2)), keras.layers.Flatten()]).save("colour.keras")
    status, message = fails(lambda: evaluate.main([str(conditional.path), *flags]), capsys)
    assert status == 2 and words in message, message


def test_a_run_of_passed_arrays_and_one_without_labels(small_images, capsys):
    images, _ = small_images
    run = genlab.fit("gan", np.repeat(images, 4, axis=0), steps=1, batch_size=8, **{"generator_widths": (4,)})
    with pytest.raises(genlab.errors.UsageError, match="has none"):
        evaluation.evaluate(run, extractor="classifier")
    status, message = fails(lambda: evaluate.main([str(run.path)]), capsys)
    assert status == 1 and "not stored with it" in message


# -- extractors --------------------------------------------------------------------------------------------------------


def test_the_classifier_is_trained_once_and_kept(small_images, monkeypatch):
    images, labels = small_images
    # The class decides how bright an image is: learnt in a few steps.
    images = np.clip(images // 4 + 90 * labels[:, None, None], 0, 255).astype(np.uint8)
    dataset = genlab.data.load(images, labels)
    real = extractors.classifier.train
    monkeypatch.setattr(extractors.classifier, "train", lambda *arguments: real(*arguments, epochs=0.5))
    first = extractors.load("auto", dataset)
    assert first.name == "classifier" and first.accuracy > 0.9 and first.num_classes == 3
    with monkeypatch.context() as patch:
        patch.setattr(extractors.classifier, "train", None)
        assert extractors.load("classifier", dataset).sha256 == first.sha256
    (path,) = files.cache_folder().iterdir()
    content, trained = path.read_bytes(), []
    monkeypatch.setattr(extractors.classifier, "train", lambda *_: trained.append(1) or first.network)
    for change in (
        lambda: path.write_bytes(content[:5000]),
        lambda: path.write_bytes(b""),
        lambda: build([3, 4]).save(path),  # the classifier of other data
    ):
        change()
        extractors.load("classifier", dataset)
        assert extractors.load("classifier", dataset).sha256 == first.sha256  # written again
    assert len(trained) == 3


def build(outputs):
    """A small classifier with outputs of these sizes."""
    images = keras.Input((12, 10, 1))
    flat = keras.layers.Flatten()(images)
    return keras.Model(images, [keras.layers.Dense(size)(flat) for size in outputs])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: build([3, 1]), r"its outputs must be features \[B, ...\] and, if any, logits \[B, K\]"),
        (lambda: build([3, 4, 5]), "has 1 inputs and 3 outputs"),
        (lambda: keras.Sequential([keras.Input((12, 10)), keras.layers.Flatten()]), "it must have one input, images"),
        (
            lambda: keras.Sequential([keras.Input((12, 10, 1)), keras.layers.Lambda(lambda x: x)]),
            "it names keras.layers",
        ),
        (
            lambda: keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 30, strides=2)]),
            "cannot be applied to images of 12x10x1",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((12, 10, 1)), keras.layers.Rescaling(3e38), keras.layers.Rescaling(3e38)]
            ),
            "features that are not finite",
        ),
    ],
)
def test_an_extractor_that_does_not_fit_is_explained(network, words, small_images):
    network().save("mine.keras")
    dataset = genlab.data.load(small_images[0])
    with pytest.raises(genlab.GenlabError, match=words):
        extractors.load("mine.keras", dataset)(dataset.images)


def test_inception_resizes_repeats_grey_and_names_itself():
    extractor = extractors.inception(weights=None)
    features, logits = extractor(np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8))
    assert features.shape == (2, 2048) and logits.shape == (2, 1000)
    assert extractor.protocol((28, 28, 1))["resize"] == "bilinear to 299x299"


def test_inception_without_a_network_says_what_to_do(monkeypatch):
    def unreachable(**_):
        raise Exception("URL fetch failure on https://storage.example: None -- Name or service not known")

    monkeypatch.setattr(keras.applications, "InceptionV3", unreachable)
    with pytest.raises(genlab.errors.GenlabError, match=r"cannot be fetched.*--extractor classifier"):
        extractors.inception()


def test_stacked_digits_are_read_channel_by_channel():
    digits = genlab.data.load("digits")
    data = stacked.stack(digits, train=60, test=300)
    assert data.spec == DataSpec((28, 28, 3), 1000) and data.name == "stacked-digits"
    extractor = extractors.load("auto", data)
    features, logits = extractor(data.test_images)
    assert features.shape == (300, 3 * 64) and logits.shape == (300, 1000)
    # Three digits must all be right.
    single = extractors.load("digits", digits).accuracy_on(digits.test_images, digits.test_labels)
    assert (logits.argmax(1) == data.test_labels).mean() == pytest.approx(single**3, abs=0.06)
    red = extractors.load("digits", digits)(data.test_images[..., :1])[1].argmax(1)
    np.testing.assert_array_equal(red, logits.argmax(1) // 100)
