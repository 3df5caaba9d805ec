"""Whether generated images help a classifier, and how that is told."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from conftest import fails

import genlab
from genlab.augment import __main__ as augment
from genlab.augment import study as benefit
from genlab.augment import variations
from genlab.evaluate import classifier, comparison, extractors


def test_accuracy_and_recall_are_counted_by_hand():
    setting = comparison.Setting(1)
    setting.add({"real": np.array([0, 0, 1, 1, 0])}, np.array([0, 0, 0, 1, 1]), 3)
    assert setting.accuracy == {"real": [3 / 5]}
    np.testing.assert_array_equal(setting.recall["real"], [[2 / 3, 1 / 2, np.nan]])


def patterns(count, noise, seed):
    """Images of three classes, a bright third each, in noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.normal(100, noise, (count, 12, 12, 1))
    for row, label in enumerate(labels):
        images[row, 4 * label : 4 * label + 4] += 60
    return np.clip(images, 0, 255).astype(np.uint8), labels


def test_good_images_help_and_mislabelled_ones_harm():
    pair = ("real", "generated")
    real, test = patterns(6, 90, 0), patterns(600, 90, 1)
    good = patterns(600, 90, 2)
    (setting,) = benefit.study(good, real, test, 3, per_class=[2], seeds=1, steps=60, conditions=pair)
    assert setting.accuracy["generated"][0] > setting.accuracy["real"][0] + 0.1
    np.testing.assert_allclose(setting.accuracy["generated"], np.mean(setting.recall["generated"], axis=1), atol=1e-6)
    wrong = good[0], (good[1] + 1) % 3
    (setting,) = benefit.study(wrong, patterns(300, 90, 3), test, 3, seeds=1, steps=60, fraction=0.75, conditions=pair)
    assert setting.accuracy["generated"][0] < setting.accuracy["real"][0] - 0.1
    assert comparison.spread([0.5, 0.7]) == "60.00% ± 14.14%" and comparison.spread([0.5]) == "50.00%"
    with pytest.raises(genlab.UsageError, match="a class has only 2 training images"):
        benefit.study(good, real, test, 3, per_class=[3])


def test_the_selecting_classifier_has_seen_the_settings_labels_alone(monkeypatch):
    real, test = patterns(30, 60, 0), patterns(30, 60, 1)
    trained_on, selections = [], []

    def spied(images, generated, num_classes, **settings):
        network = classifier.untrained(images[0].shape[1:], num_classes)
        trained_on.append((network, len(images[0]), generated))
        return network

    def generated(few, scorer):
        assert scorer() is scorer()  # trained once
        selections.append(scorer())
        return patterns(30, 60, len(selections))

    monkeypatch.setattr(benefit, "trained", spied)
    benefit.study(generated, real, test, 3, per_class=[1, 4], seeds=2, steps=2, conditions=("generated",))
    scorers = {id(scorer) for scorer in selections}
    assert len(scorers) == 4  # one for each number and seed
    assert [(count, made) for network, count, made in trained_on if id(network) in scorers] == [
        (count, None) for count in (3, 3, 12, 12)
    ]


class Shifted:
    """In the place of an Augmenter: adds 1, 2, ... to the images of its first, second, ... batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, images, labels):
        self.batches.append(len(images))
        return images + np.uint8(len(self.batches)), labels


def test_variations_are_of_each_image_alike_and_keep_its_label():
    images = np.repeat(np.arange(0, 200, 50, np.uint8), 75)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    labels = np.repeat(np.arange(4), 75)
    augment = Shifted()
    varied, classes = variations.vary(augment, images, labels, 700)
    assert augment.batches == [256, 44] * 3 and len(varied) == 900  # whole rounds
    np.testing.assert_array_equal(varied[:, 0, 0, 0] // 50, classes)
    assert np.bincount(classes).tolist() == [225] * 4 and sorted(set(varied[:, 0, 0, 0] % 50)) == [1, 2, 3, 4, 5, 6]


def test_images_of_classes_that_are_not_varied_stay_as_they_are():
    images = np.repeat(np.array([0, 50, 100], np.uint8), [60, 60, 4])[:, None, None, None]
    labels = np.repeat(np.arange(3), [60, 60, 4])
    augment = Shifted()
    varied, classes = variations.vary(augment, images, labels, 248, classes=[2])
    assert augment.batches == [4, 4] and np.bincount(classes).tolist() == [120, 120, 8]
    assert (
        sorted(set(varied[classes < 2].ravel())) == [0, 50]
        and sorted(varied[classes == 2].ravel()) == [101] * 4 + [102] * 4
    )


def test_variations_that_a_classifier_doubts_are_left_out(caplog):
    images = np.array([[0], [255], [0], [255]], np.uint8)[..., None, None]  # the classifier is sure of white: class 1
    labels = np.array([0, 1, 1, 0])
    inputs = keras.Input((1, 1, 1))
    flat = keras.layers.Flatten()(inputs)
    scorer = keras.Model(inputs, keras.layers.Concatenate()([-3 * flat, 3 * flat]))
    same = lambda images, labels: (images, labels)  # noqa: E731
    sure = {"classifier": scorer, "confidence": 0.9}
    varied, classes = variations.vary(same, images, labels, 4, **sure)
    assert sorted(zip(varied.ravel().tolist(), classes.tolist(), strict=True)) == [(0, 0)] * 2 + [(255, 1)] * 2
    # It is sure of 1 of 4 black and of 3 of 3 white images: classes keep their proportions.
    images = np.array([0, 255, 255, 255, 255, 255, 255], np.uint8)[:, None, None, None]
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    varied, classes = variations.vary(same, images, labels, 7, **sure)
    assert sorted(zip(varied.ravel().tolist(), classes.tolist(), strict=True)) == [(0, 0)] * 4 + [(255, 1)] * 3
    # Images that are not varied are not for it to doubt.
    varied, classes = variations.vary(same, images, labels, 7, classes=[1], **sure)
    assert (
        sorted(zip(varied.ravel().tolist(), classes.tolist(), strict=True))
        == [(0, 0)] + [(255, 0)] * 3 + [(255, 1)] * 3
    )
    with pytest.raises(genlab.UsageError, match="no variation is kept"):
        variations.vary(same, images[1:3], labels[:2], 2, **sure)
    with pytest.raises(genlab.UsageError, match="confidence is that of a classifier"):
        variations.vary(same, images, labels, 7, confidence=0.9)
    with pytest.raises(genlab.UsageError, match="count"):
        variations.vary(same, images, labels, 0)
    with pytest.raises(genlab.UsageError, match="this one adds some"):
        variations.vary(lambda images, labels: (np.tile(images, (2, 1, 1, 1)), labels), images, labels, 7)
    with pytest.raises(genlab.UsageError, match=r"classes \[7\]: there is no image"):
        variations.vary(same, images, labels, 7, classes=[7])


def test_smaller_classes_are_repeated_in_every_condition(monkeypatch):
    labels = np.array([2, 0, 2, 2, 2, 2, 0])
    assert comparison.oversampled_rows(labels).tolist() == [1, 6, 1, 6, 1, 0, 2, 3, 4, 5]
    given = []
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    monkeypatch.setattr(benefit, "trained", lambda real, generated, **settings: given.append(real) or network)
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    settings = {"seeds": 1, "conditions": ["real", "classical", "both"], "oversample": True}
    benefit.study((images, labels), (images, labels), (images, labels), 3, **settings)
    for few, classes in given:
        assert np.bincount(classes).tolist() == [5, 0, 5]
        times = np.bincount(few[:, 0, 0, 0])
        assert sorted(times[[1, 6]]) == [2, 3] and set(times[[0, 2, 3, 4, 5]]) == {1}
    assert len(given) == 3


def test_the_command_compares_variations_with_the_usual_changes(own_run, capsys, monkeypatch):
    run = own_run("vae")
    untrained = lambda real, *_, **settings: classifier.untrained(real[0].shape[1:], 10)  # noqa: E731  as good as two steps'
    monkeypatch.setattr(benefit, "trained", untrained)
    asked, study = {}, benefit.study
    monkeypatch.setattr(benefit, "study", lambda *given, **options: asked.update(options) or study(*given, **options))
    varied, vary = [], variations.vary
    spied = lambda *given, classes, **more: varied.append(classes) or vary(*given, classes=classes, **more)  # noqa: E731
    monkeypatch.setattr(variations, "vary", spied)
    settings = ["--per-class", "2", "--seeds", "1", "--steps", "1", "--balance", "oversample", "--vary-classes", "7,3"]
    augment.main([str(run.path), "--vary", "perturb", *settings])
    assert asked["oversample"] and asked["per_class"] == [2] and varied == [[3, 7]]
    assert "With 2 per class, variations on top of classical augmentation" in capsys.readouterr().out
    kept = json.loads((run.path / "augment.json").read_text())
    assert kept["arguments"]["vary"] == "perturb" and kept["arguments"]["amount"] == 0.3


def test_the_command_writes_metrics_plot_and_verdict(own_run, capsys, monkeypatch):
    own_run("cgan")
    untrained = lambda real, *_, **settings: classifier.untrained(real[0].shape[1:], 10)  # noqa: E731  as good as two steps'
    monkeypatch.setattr(benefit, "trained", untrained)
    arguments = ["--per-class", "5", "--seeds", "2", "--steps", "12"]
    augment.main(arguments)  # two seeds: however bad, no verdict
    text = capsys.readouterr().out
    assert "No verdict from 2 seeds: 3 are needed. Type --seeds 3" in text
    assert "real images per class" in text and "With 5 per class, generated images" in text
    assert "more than these classifiers" in text
    folder = genlab.load().path
    kept = json.loads((folder / "augment.json").read_text())
    assert [setting["images"] for setting in kept["settings"]] == [5]
    assert len(kept["settings"][0]["accuracy"]["both"]) == 2 and kept["tested_on"] == 360
    assert kept["settings"][0]["verdict"] == comparison.UNDECIDED and kept["settings"][0]["p"] is None
    assert (folder / "augment.png").stat().st_size > 5000
    monkeypatch.setattr(extractors, "load", None)  # a classifier of all labels
    selecting = ["--candidates", "2", "--select", "classifier", "--seeds", "1", "--steps", "2", "--per-class", "5"]
    augment.main(selecting)
    assert "With 5 per class, generated images" in capsys.readouterr().out


@pytest.mark.parametrize(("settings", "status"), [(1, 4), (3, None)])
def test_exit_status_4_is_of_the_corrected_p_value(settings, status, own_run, monkeypatch, capsys):
    run = own_run("cgan")
    accuracy = {"real": [0.85, 0.84, 0.86, 0.83, 0.85], "generated": [0.82, 0.835, 0.833, 0.82, 0.84]}
    found = [comparison.Setting(20, accuracy, tested=10**6)] * settings  # p = 0.03 each
    monkeypatch.setattr(benefit, "study", lambda *arguments, **options: found)
    if status is None:
        augment.main([str(run.path), "--steps", "1"])
        assert comparison.NO_DIFFERENCE in capsys.readouterr().out
    else:
        code, message = fails(lambda: augment.main([str(run.path), "--steps", "1"]), capsys)
        assert code == status and "make the classifier worse" in message
