"""A trained backbone in a classifier: what is taken, what is trained, and what the command says."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from conftest import TINY, fails

import genlab
from genlab import transfer
from genlab.evaluate import classifier
from genlab.transfer import study as few_labels
from genlab.transfer.__main__ import main

SMALL = {"batch_size": 16, "latent_size": 6, "encoder_widths": (4, 8), "decoder_widths": (4,), "hidden_units": 8}


@pytest.fixture(scope="module")
def encoding(tmp_path_factory):
    return genlab.fit("autoencoder", steps=3, out=tmp_path_factory.mktemp("runs"), components=2, **SMALL)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    return genlab.fit("cgan", steps=2, out=tmp_path_factory.mktemp("runs"), **TINY)


def test_the_backbone_has_the_runs_weights_and_the_run_keeps_its_own(encoding):
    before = encoding.model.encoder.get_weights()
    model = transfer.classifier(encoding)
    assert isinstance(model, keras.Model) and model.output_shape == (None, 10)
    np.testing.assert_array_equal(
        model.get_layer("down2_conv").get_weights()[0],
        encoding.model.averaged_encoder.get_layer("down2_conv").get_weights()[0],
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).uniform(-1, 1, (8, 28, 28, 1)).astype(np.float32)
    model.fit(images, np.arange(8), verbose=0)
    assert np.abs(model.get_layer("down2_conv").get_weights()[0] - before[2]).max() > 0
    for weight, kept in zip(encoding.model.encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_layers_are_chosen_by_name_and_frozen_by_name(encoding):
    model = transfer.classifier(encoding, 3, layers="down1*", trainable="")
    assert [layer.name for layer in model.layers][-3:] == ["down1_act", "trunk_features", "class_logits"]
    head = 14 * 14 * 4 * 3 + 3
    assert transfer.weights_trained(model) == head
    # 4x4 kernels from 1 channel to 4, with a bias each
    assert transfer.unfreeze(model, "down1_conv") == head + 4 * 4 * 4 + 4
    assert transfer.freeze(model, "class_*, nothing*") == 4 * 4 * 4 + 4
    with pytest.raises(genlab.UsageError, match=r"no layer is named 'down9\*'; did you mean .*down1_conv"):
        transfer.classifier(encoding, layers="down9*")
    with pytest.raises(genlab.UsageError, match="no layer is named"):
        transfer.freeze(model, "up*")


def test_from_scratch_is_the_same_network_with_other_weights(encoding):
    taken = transfer.classifier(encoding, seed=1)
    first, second = (transfer.classifier(encoding, pretrained=False, seed=seed) for seed in (1, 2))
    assert [layer.name for layer in taken.layers] == [layer.name for layer in first.layers]
    weights = [model.get_layer("down1_conv").get_weights()[0] for model in (taken, first, second)]
    assert len({each.tobytes() for each in weights}) == 3
    np.testing.assert_array_equal(*(model.get_layer("class_logits").get_weights()[0] for model in (taken, first)))


def test_a_discriminator_is_cut_before_batch_and_label(conditional):
    model = transfer.classifier(conditional)
    assert model.layers[-3].name == "down2_act"
    images = np.random.default_rng(0).uniform(-1, 1, (8, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(model(images)[:1], model(images[:1]), atol=1e-5)
    with pytest.raises(
        genlab.UsageError, match=r"layer projection of .* needs inputs other than images; cut before it"
    ):
        transfer.classifier(conditional, layers="projection")


def test_a_good_backbone_helps_and_conditions_are_paired(encoding):
    """Each condition sees the same few images; accuracies are shares of the test images."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = random.integers(0, 50, (60, 28, 28, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[9 * label : 9 * label + 9] += 150
    (few, every) = few_labels.study(
        encoding, (images, labels), (images, labels), 3, counts=[6, None], seeds=1, steps=40
    )
    assert (few.images, every.images) == (6, None)
    for condition in few_labels.CONDITIONS:
        assert len(few.accuracy[condition]) == 1 and np.shape(few.recall[condition]) == (1, 3)
    assert np.mean(every.accuracy["scratch"]) > 0.9 and np.mean(every.accuracy["probe"]) > 0.9
    with pytest.raises(genlab.UsageError, match="from 3 to 60 can be drawn"):
        few_labels.study(encoding, (images, labels), (images, labels), 3, counts=[61])


def test_the_command_writes_metrics_and_plot(encoding, capsys):
    main([str(encoding.path), "--labels", "20", "--seeds", "2", "--steps", "4", "--augment", "shift"])
    text = capsys.readouterr().out
    assert "up to down3_act" in text and "trained    1,290 weights with the backbone frozen" in text
    assert "fine-tuned - scratch" in text and "No verdict from 2 seeds: 3 are needed" in text
    kept = json.loads((encoding.path / "transfer.json").read_text())
    assert [each["images"] for each in kept["settings"]] == [20] and kept["tested_on"] == 360
    assert kept["arguments"]["augment"] == ["shift"]
    assert kept["trained_weights"]["frozen"] == 4 * 4 * 8 * 10 + 10
    assert (encoding.path / "transfer.png").stat().st_size > 5000


def test_every_network_but_the_probe_learns_from_changed_images(encoding, monkeypatch):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (30, 28, 28, 1), np.uint8), np.arange(30) % 3
    seen = []

    def noted(model, stream, *rest):
        seen.append([batch.numpy() for batch, _ in stream.take(2)])

    monkeypatch.setattr(classifier, "fit", noted)
    settings = {"counts": [None], "seeds": 1, "steps": 2}
    few_labels.study(encoding, (images, labels), (images, labels), 3, **settings)
    few_labels.study(encoding, (images, labels), (images, labels), 3, views=("brightness",), **settings)
    plain, changed = seen[:4], seen[4:]
    assert len(changed) == 4  # from scratch, the head, the head for longer, and everything
    for before, after in zip(np.array(plain), np.array(changed), strict=True):
        brighter = np.unique(np.round((after - before)[np.abs(after) < 1], 4))
        assert 10 < len(brighter) <= before.shape[0] * before.shape[1] and np.abs(brighter).max() <= 0.2


def test_points_have_no_backbone(small_run, capsys):
    run = small_run("gan", "ring")
    assert "not images" in fails(lambda: main([str(run.path)]), capsys)[1]


def test_a_model_without_a_feature_network_says_so(trained, monkeypatch, capsys):
    monkeypatch.setattr(type(trained.model), "feature_network", None)
    with pytest.raises(genlab.UsageError, match="dcgan has no network to transfer"):
        transfer.classifier(trained)
    status, message = fails(lambda: main([str(trained.path)]), capsys)
    assert status == 2 and "no network to transfer" in message
