"""semi_gan: its losses against a softmax of K + 1 classes and numbers by hand, and its classifier in every command."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, TINY_FLAGS, batches, build, cut_after, fails, small_settings, state_of

import genlab
from genlab import config, labelling
from genlab.data import __main__ as data
from genlab.data.spec import DataSpec, to_model_range
from genlab.evaluate import classifier, evaluation, semi_supervised
from genlab.export import formats
from genlab.models import semi_gan
from genlab.networks import augmentation, losses
from genlab.train import __main__ as train
from genlab.transfer import __main__ as transfer

LOGITS = np.random.default_rng(0).normal(0, 3, (6, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the digits with 50 labels, which tests read."""
    return genlab.fit("semi_gan", labelled=50, steps=4, out=tmp_path_factory.mktemp("runs"), log_every=2, **TINY)


# -- losses ------------------------------------------------------------------------------------------------------------


def test_real_and_generated_are_a_softmax_with_one_more_class_of_logit_zero():
    """Salimans et al. 2016, section 5: p(generated) = 1 / (Z + 1), p(real) = Z / (Z + 1)."""
    with_zero = np.concatenate([LOGITS, np.zeros((6, 1), np.float32)], axis=1)
    generated = tf.nn.sparse_softmax_cross_entropy_with_logits(np.full(6, 4), with_zero)
    real = -tf.math.log(tf.reduce_sum(tf.nn.softmax(with_zero)[:, :4], axis=1))
    evidence = losses.class_evidence(LOGITS)
    assert evidence.shape == (6, 1)
    both = losses.non_saturating_discriminator(evidence, evidence)
    np.testing.assert_allclose(both, np.mean(real) + np.mean(generated), rtol=1e-5)


def test_logits_of_any_size_give_finite_losses_by_hand():
    # log(e^1000 + e^1000) = 1000 + log 2; log(e^-1000 + e^-1000) = -1000 + log 2
    found = losses.class_evidence(np.array([[1000.0, 1000.0], [-1000.0, -1000.0]], np.float32)).numpy()
    np.testing.assert_allclose(found[:, 0], [1000 + math.log(2), -1000 + math.log(2)], rtol=1e-6)
    # -log Z/(Z+1) = 0 and 1000 - log 2; -log 1/(Z+1) = 1000 + log 2 and 0: the mean of each over the two images
    expected = (1000 - math.log(2)) / 2 + (1000 + math.log(2)) / 2
    np.testing.assert_allclose(losses.non_saturating_discriminator(found, found), expected, rtol=1e-6)


def test_cross_entropy_by_hand():
    # softmax of (log 1, log 3) is (1/4, 3/4)
    logits = np.log(np.array([[1.0, 3.0], [1.0, 3.0]], np.float32))
    expected = -(math.log(1 / 4) + math.log(3 / 4)) / 2
    np.testing.assert_allclose(losses.cross_entropy(logits, np.array([0, 1])), expected, rtol=1e-6)


def test_feature_matching_is_the_squared_distance_of_the_means():
    random = np.random.default_rng(1)
    real, fake = random.normal(size=(5, 3, 2)).astype(np.float32), random.normal(size=(7, 3, 2)).astype(np.float32)
    difference = fake.mean(axis=0) - real.mean(axis=0)
    variable = tf.Variable(fake)
    with tf.GradientTape() as tape:
        loss = losses.feature_matching(real, variable)
    np.testing.assert_allclose(loss, np.square(difference).sum(), rtol=1e-5)
    by_hand = np.broadcast_to(2 * difference / 7, fake.shape)  # of |mean - m|^2 by each of seven images
    np.testing.assert_allclose(tape.gradient(loss, variable), by_hand, rtol=1e-5)


def test_consistency_counts_the_confident_alone():
    logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]], np.float32))
    targets = np.array([[0.1, 0.9], [0.4, 0.6]], np.float32)
    loss, confident = losses.confident_cross_entropy(logits, targets, 0.8)
    np.testing.assert_allclose(loss, -(0.1 * math.log(1 / 4) + 0.9 * math.log(3 / 4)) / 2, rtol=1e-6)
    assert float(confident) == 0.5


def test_alignment_by_hand():
    # (0.5 * 0.5 / 0.8, 0.5 * 0.5 / 0.2), divided by the sum: 1/5 and 4/5
    found = losses.aligned(np.array([[0.5, 0.5]], np.float32), np.array([0.5, 0.5]), np.array([0.8, 0.2]))
    np.testing.assert_allclose(found, [[0.2, 0.8]], rtol=1e-6)


# -- the step ----------------------------------------------------------------------------------------------------------


def test_a_step_reports_the_losses_of_its_batches():
    settings = {"discriminator_updates": 1, "discriminator_dropout": 0.0, "views": (), "consistency_weight": 0.0}
    model = build("semi_gan", unlabelled_weight=2.0, **settings)
    (images, _), (labelled, labels) = batches(model)
    of_labelled, of_images = (model.discriminator(each, training=True) for each in (labelled, images))
    metrics = model.train_step([(images, tf.zeros_like(labels)), (labelled, labels)], tf.constant([0, 1]))
    supervised = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, of_labelled))
    np.testing.assert_allclose(metrics["labelled_loss"], supervised, rtol=1e-5)
    real = tf.reduce_mean(tf.sigmoid(tf.reduce_logsumexp(of_images, axis=1)))
    np.testing.assert_allclose(metrics["real_score"], real, rtol=1e-5)
    whole = metrics["labelled_loss"] + 2 * metrics["unlabelled_loss"]
    np.testing.assert_allclose(metrics["discriminator_loss"], whole, rtol=1e-5)


def test_labels_of_the_batch_of_all_images_are_not_used():
    """They are hidden: whatever stands there, the step is the same."""
    weights = []
    for hidden in (0, 2):
        model = build("semi_gan", discriminator_updates=1)
        (images, labels), labelled = batches(model)
        model.train_step([(images, tf.fill(tf.shape(labels), hidden)), labelled], tf.constant([0, 1]))
        weights.append(model.classifier.get_weights() + model.decoder.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_classifier_has_averaged_weights_in_float32(run):
    network = run.model.classifier
    assert isinstance(network, keras.Model) and network.output_shape == (None, 10)
    assert network.compute_dtype == "float32"
    plain = {type(layer).__module__.partition(".")[0] for layer in network.layers}
    assert plain == {"keras"}
    differ = [
        np.abs(mean - weight).max()
        for mean, weight in zip(network.get_weights(), run.model.discriminator.get_weights(), strict=True)
    ]
    assert max(differ) > 0


def test_noise_is_for_training_alone():
    model = build("semi_gan", discriminator_noise=0.5, discriminator_input_noise=0.3)
    images = batches(model)[0][0]
    np.testing.assert_array_equal(model.classifier(images), model.classifier(images))
    np.testing.assert_allclose(model.discriminator(images), model.classifier(images), atol=1e-5)
    first, second = (model.discriminator(images, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0


@pytest.mark.parametrize("name", semi_gan.UNSUITED)
def test_options_that_do_not_fit_a_classifier_are_refused(name):
    wrong = {"conditioning": "projection", "updates": "simultaneous", "differentiable_augmentation": ("color",)}
    with pytest.raises(ValueError, match=f"{name} is"):
        semi_gan.Hparams(**{name: wrong.get(name, 1 if name == "minibatch_discrimination" else True)})


def test_images_are_turned_by_multiples_of_90_degrees():
    images = np.random.default_rng(0).normal(size=(6, 5, 5, 2)).astype(np.float32)
    turned, turns = augmentation.turned(tf.constant(images))
    assert turns.numpy().tolist() == [0, 1, 2, 3, 0, 1]
    for image, found, times in zip(images, turned.numpy(), turns.numpy(), strict=True):
        np.testing.assert_array_equal(found, np.rot90(image, times))


def test_a_second_head_learns_by_how_much_images_are_turned():
    settings = {"discriminator_dropout": 0.0, "views": (), "consistency_weight": 0.0, "unlabelled_weight": 0.0}
    model = build("semi_gan", shape=(12, 12, 1), rotation_weight=2.0, **settings)
    given = batches(model)
    images = np.stack([np.rot90(image, i % 4) for i, image in enumerate(given[0][0].numpy())])
    until_the_head = keras.Model(model.discriminator.inputs[0], model.discriminator.get_layer("logit_dense").input)
    logits = model.rotation_head(until_the_head(images, training=True))
    before = model.rotation_head.get_weights()[0]
    metrics = model.train_step(given, tf.constant([0, 1]))
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(len(images)) % 4, logits)
    np.testing.assert_allclose(metrics["rotation_loss"], tf.reduce_mean(expected), rtol=1e-5)
    whole = metrics["labelled_loss"] + 2 * metrics["rotation_loss"]
    np.testing.assert_allclose(metrics["discriminator_loss"], whole, rtol=1e-5)
    for step in range(30):
        last = model.train_step(given, tf.constant([step, 1]))["rotation_loss"]
    assert last < 0.7 * metrics["rotation_loss"]
    assert np.abs(model.rotation_head.get_weights()[0] - before).max() > 0
    assert model.classifier.output_shape == (None, 3)


def test_images_that_are_not_square_are_not_turned():
    for shape in ((12, 10, 1), (2,)):
        with pytest.raises(genlab.UsageError, match="--rotation-weight turns square images"):
            build("semi_gan", shape=shape, rotation_weight=1.0, network="conv" if len(shape) == 3 else "mlp")


@pytest.mark.parametrize(
    ("shape", "r1_penalty", "normalization", "consistency", "rotations"),
    [
        ((28, 28, 1), 0, "batch", 1, 0),
        ((32, 32, 3), 0.1, "none", 0, 1),
        ((32, 48, 3), 0.1, "none", 1, 0),
        ((2,), 0, "batch", 1, 0),
    ],
)
def test_defaults_follow_colour_and_shape(shape, r1_penalty, normalization, consistency, rotations):
    spec = DataSpec(shape, num_classes=3)
    found = semi_gan.Hparams().for_spec(spec)
    assert (found.r1_penalty, found.discriminator_normalization) == (r1_penalty, normalization)
    assert (found.consistency_weight, found.rotation_weight) == (consistency, rotations)
    chosen = {
        "r1_penalty": 2.0,
        "discriminator_normalization": "batch",
        "consistency_weight": 3.0,
        "rotation_weight": 4.0,
    }
    kept = semi_gan.Hparams(**chosen).for_spec(spec)
    assert {name: getattr(kept, name) for name in chosen} == chosen


def test_a_run_from_before_rotations_has_none():
    stored = {"model": "semi_gan", "hparams": {"views": []}, "format": 8}
    assert config.upgraded(stored)["hparams"] == {"views": [], "rotation_weight": 0.0}
    assert config.upgraded(stored | {"format": 9})["hparams"] == {"views": []}


def test_resumed_equals_uninterrupted():
    """With a stream of labelled images, averages of predictions, the noise of layers and a second head."""
    settings = {"discriminator_noise": 0.2, "discriminator_input_noise": 0.2, "consistency_alignment": True}
    settings |= {"rotation_weight": 1.0}
    settings |= {"discriminator_updates": 2, "labelled": 50, "checkpoint_every": 3, "log_every": 3}
    whole = genlab.fit("semi_gan", steps=7, out="whole", **TINY, **settings)
    parts = cut_after(whole, 3, "parts")
    train.main(["--resume", "--out", "parts"])
    first, second = state_of(whole), state_of(parts)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


# -- labels ------------------------------------------------------------------------------------------------------------


def test_all_data_will_do_but_none_without_labels(small_images):
    images, labels = small_images
    settings = small_settings("semi_gan")
    assert genlab.fit("semi_gan", images, labels, steps=1, **settings).config.dataset["labelled_images"] == 40
    with pytest.raises(genlab.UsageError, match="semi_gan needs labels of some images"):
        genlab.fit("semi_gan", images, steps=1, **settings)
    some = np.where(np.arange(40) < 9, labels, -1)
    found = genlab.fit("semi_gan", images, some, steps=1, **settings)
    assert found.config.dataset["labelled_images"] == 9 and found.model.spec.partly_labelled


def test_a_conditional_model_says_how_to_get_labels(capsys):
    for name in ("cgan", "flow --conditioning labels"):
        line = [*name.split(), "--labelled", "50", "--steps", "2"]
        status, message = fails(lambda line=line: train.main(line), capsys)
        assert status == 2 and "python -m genlab.data label RUN OUT" in message
    train.main(["dcgan", "--labelled", "50", "--steps", "1", *TINY_FLAGS])  # it asks for no labels


# -- other commands ----------------------------------------------------------------------------------------------------


def test_evaluation_measures_the_classifier_on_held_out_labels(run):
    found = evaluation.evaluate(run, samples=100)
    dataset = genlab.data.load("digits")
    logits = run.model.classifier(to_model_range(dataset.test_images)).numpy()
    expected = (logits.argmax(axis=1) == dataset.test_labels).mean()
    metric = found.metrics["classifier_accuracy"]
    assert metric.value == pytest.approx(expected)
    assert metric.floor > 0.6  # a network that learns 50 labels for a few hundred steps
    assert (found.protocol["classifier_labels"], found.protocol["classifier_tested"]) == (50, 360)


def test_the_classifier_is_exported(run, tmp_path):
    folder, written = formats.export(run, ["keras", "savedmodel", "litert"], tmp_path / "export")
    assert {each["file"] for each in written} >= {"classifier.keras", "classifier.tflite", "saved_model"}
    images = run.model.sample(run.model.sample_latents([5, 6]))
    expected = run.model.classifier(images).numpy()
    loaded = keras.saving.load_model(folder / "classifier.keras")
    np.testing.assert_allclose(loaded(images), expected, atol=1e-4)
    signature = tf.saved_model.load(str(folder / "saved_model")).signatures["classify"]
    np.testing.assert_allclose(signature(images=images)["logits"], expected, atol=1e-4)
    facts = json.loads((folder / "metadata.json").read_text())
    assert facts["classifier"] == list("0123456789") and facts["classes"] is None
    card = (folder / "MODEL_CARD.md").read_text()
    assert "50 of the examples had a label" in card and "The classifier takes such images" in card


def test_transfer_compares_with_the_runs_own_classifier(run, capsys):
    transfer.main([str(run.path), "--steps", "2", "--seeds", "1"])
    (setting,) = json.loads((run.path / "transfer.json").read_text())["settings"]
    assert list(setting["accuracy"]) == ["scratch", "probe", "frozen", "fine-tuned", "own classifier"]
    assert setting["images"] is None


@pytest.fixture
def sure(run, monkeypatch):
    """The run with a classifier that is sure of 3, but for the images whose mean is low."""
    images = keras.Input((28, 28, 1))
    mean = keras.layers.GlobalAveragePooling2D()(images)
    logits = keras.layers.Dense(10, kernel_initializer="zeros")(mean)
    network = keras.Model(images, logits)
    kernel = np.zeros((1, 10), np.float32)
    kernel[0, 3] = 100.0
    network.set_weights([kernel, np.array([0, 0, 0, 70, 0, 0, 0, 0, 0, 0], np.float32)])
    monkeypatch.setattr(run.model, "classifier", network)
    return run


def test_labels_are_those_above_the_threshold(sure):
    dataset = sure.data()
    found = labelling.label(sure, dataset, 0.9)
    known = dataset.parts()["train"][1]
    scores = np.asarray(to_model_range(dataset.images)).mean(axis=(1, 2, 3)) * 100 + 70
    certain = np.exp(scores) / (np.exp(scores) + 9) >= 0.9
    np.testing.assert_array_equal(found.rows, np.flatnonzero((known >= 0) | certain))
    np.testing.assert_array_equal(found.labels, np.where(known >= 0, known, 3)[found.rows])
    assert found.own.tolist() == [5] * 10
    assert found.kept.tolist() == [0, 0, 0, ((known < 0) & certain).sum(), 0, 0, 0, 0, 0, 0]
    assert found.kept.sum() + found.unsure.sum() == 1437 - 50
    right = (
        np.asarray(sure.model.classifier(to_model_range(dataset.test_images))).argmax(axis=1)
    ) == dataset.test_labels
    assert found.held_out == 360 and found.accuracy == pytest.approx(right.mean())
    alone = labelling.label(sure, genlab.data.from_arrays(dataset.images), 0.9)
    assert alone.held_out == 0 and alone.accuracy is None


def test_the_command_writes_data_that_a_conditional_model_trains_on(sure, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("genlab.run.open", lambda *_, **__: sure)
        data.main(["label", str(sure.path), "labelled", "--json"])
    counts = json.loads(capsys.readouterr().out)
    assert sum(counts["labelled before"].values()) == 50 and counts["threshold"] == 0.9
    assert counts["held_out"] == 360 and 0 <= counts["accuracy"] <= 1
    found = genlab.data.load("labelled")
    assert found.class_names == tuple("0123456789") and found.labels is not None
    assert len(found.images) == 50 + sum(counts["sure"].values())
    np.testing.assert_array_equal(found.test_labels, genlab.data.load("digits").test_labels)
    genlab.fit("cgan", "labelled", steps=1, **TINY)


@pytest.fixture(scope="module")
def halves():
    """200 images [16, 16, 1], bright above (0) or below (1), of which two have a label, and the classes of all."""
    random = np.random.default_rng(0)
    truth = random.permutation(np.repeat([0, 1], 100))
    images = random.integers(0, 80, (200, 16, 16, 1)).astype(np.uint8)
    images[truth == 0, :8] += 80
    images[truth == 1, 8:] += 80
    labels = np.full(200, -1)
    for each in (0, 1):
        labels[np.flatnonzero(truth == each)[0]] = each
    return genlab.data.from_arrays(images, labels), truth


def test_consistency_learns_what_two_labels_mean(halves):
    dataset, truth = halves
    seen: list[int] = []
    network = semi_supervised.train(dataset, dataset, threshold=0.8, steps=60, progress=seen.append)
    assert sum(seen) == 60
    assert (classifier.predicted(network, dataset.images) == truth).mean() > 0.97
    weights = network.get_weights()
    # Labels of the images that it learns from without labels have no effect, and the seed decides the rest.
    every = genlab.data.from_arrays(dataset.images, truth)
    again = semi_supervised.train(dataset, every, threshold=0.8, steps=60).get_weights()
    assert all(np.array_equal(*pair) for pair in zip(weights, again, strict=True))
    other = semi_supervised.train(dataset, dataset, threshold=0.8, steps=1, seed=1)
    assert not np.array_equal(other.get_weights()[0], weights[0])


def test_unlabelled_images_teach_by_consistency_and_rotations_alone(halves):
    dataset, truth = halves
    mirrored = genlab.data.from_arrays(dataset.images[:][:, :, ::-1], truth)

    def weights(**settings):
        found = [
            semi_supervised.train(dataset, unlabelled, (), steps=3, **settings).get_weights()[0]
            for unlabelled in (dataset, mirrored)
        ]
        return found[0], np.array_equal(*found)

    neither, same = weights(consistency_weight=0.0)
    assert same
    for settings in (
        {"consistency_weight": 1.0, "threshold": 0.0},
        {"consistency_weight": 0.0, "rotation_weight": 1.0},
    ):
        either, same = weights(**settings)
        assert not same and not np.array_equal(either, neither)


@pytest.mark.parametrize(("weight", "least", "most"), [(0.0, 0, 2), (1.0, 3, 20)])
def test_rotations_teach_features_that_differ_with_the_turn(weight, least, most):
    random = np.random.default_rng(1)
    images = random.integers(0, 120, (200, 16, 16, 1)).astype(np.uint8)
    images[:, :, :3] += 120  # a bright stripe at the left
    labels = np.full(200, -1)
    labels[:2] = 0, 1
    network = semi_supervised.train(
        genlab.data.from_arrays(images, labels),
        genlab.data.from_arrays(images),
        (),
        consistency_weight=0.0,
        rotation_weight=weight,
        steps=40,
    )
    turned, turns = augmentation.turned(to_model_range(images))
    features = keras.Model(network.inputs[0], network.get_layer("features").output)(turned).numpy()
    of_one_turn = np.mean([features[turns == turn].std(axis=0) for turn in range(4)])
    assert least <= features.std(axis=0).mean() / of_one_turn <= most


def test_a_new_classifier_has_the_settings_of_the_run(run, monkeypatch):
    given: list[dict[str, object]] = []

    def untrained(labelled, unlabelled, views, **settings):
        given.append({"labelled": labelled.name, "unlabelled": unlabelled.name, "views": views, **settings})
        return run.model.classifier

    monkeypatch.setattr(semi_supervised, "train", untrained)
    settings = {"views": ("shift",), "consistency_alignment": True, "consistency_threshold": 0.7}
    settings |= {"consistency_weight": 0.5, "rotation_weight": 2.0}
    other = genlab.fit("semi_gan", labelled=50, steps=1, flip=True, out="runs", **settings, **TINY)
    labelling.label(other, other.data(), 0.0, steps=7)
    images = genlab.data.from_arrays(other.data().images[:5])  # without labels: those of the run's data
    labelling.label(other, images, 0.0, steps=7)
    for each, name in zip(given, ("digits", images.name), strict=True):
        assert each.pop("progress") is not None
        expected = {"views": ("shift",), "flip": True, "align": True, "threshold": 0.7, "steps": 7, "seed": 0}
        expected |= {"consistency_weight": 0.5, "rotation_weight": 2.0}
        assert each == {"labelled": "digits", "unlabelled": name, **expected}


def test_the_command_keeps_a_new_classifier(run, monkeypatch, capsys):
    command = ["label", str(run.path), "labelled", "--steps", "3", "--threshold", "0"]
    data.main(command)
    printed = capsys.readouterr().out
    assert "labelled: 1,437 labelled images of 1,437" in printed
    assert "accuracy of the classifier on 360 held-out images: " in printed
    network = keras.saving.load_model("labelled/classifier.keras")
    images = genlab.data.load("labelled")
    logits = network(to_model_range(images.images[:])).numpy()
    assert (logits.argmax(axis=1) == images.labels).mean() > 0.96  # 50 had a label of their own
    # Nothing is trained before the folder is refused.
    monkeypatch.setattr(semi_supervised, "train", None)
    for other in (["--steps", "4"], ["--threshold", "0.8"]):
        status, message = fails(lambda other=other: data.main([*command, *other]), capsys)
        assert status == 2 and "holds other shards" in message


def test_vectors_get_their_labels_from_the_run_alone():
    points = genlab.fit("semi_gan", "ring", preset="points", labelled=80, steps=1, out="runs", log_every=1)
    with pytest.raises(genlab.UsageError, match="--steps needs a run of semi_gan on images"):
        labelling.label(points, points.data(), 0.0, steps=3)


def test_what_cannot_be_labelled_is_refused(sure, trained):
    dataset = genlab.data.load("digits")
    for run, images, threshold, words in (
        (trained, dataset, 0.9, "has no classifier"),
        (sure, dataset, 0.9, "has a label already"),
        (sure, sure.data(), 1.5, "from 0 to 1"),
        (
            sure,
            genlab.data.load("digits", options=genlab.data.DataOptions(classes="3,7", labelled=9)),
            0.9,
            "the classes 3",
        ),
    ):
        with pytest.raises(genlab.UsageError, match=words):
            labelling.label(run, images, threshold)
    sure.model.classifier.set_weights([np.zeros((1, 10)), np.zeros(10)])
    with pytest.raises(genlab.UsageError, match=r"no image a probability of 0\.9; the highest is 0\.100"):
        labelling.label(sure, sure.data(), 0.9)
