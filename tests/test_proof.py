"""Models written from scratch, one file each in tests/models/: every command takes them, or says why it cannot."""

from __future__ import annotations

import json
import math
import pathlib

import keras
import numpy as np
import pytest
from conftest import fails, state_of

import genlab
from genlab import models, sample
from genlab.augment import __main__ as augment
from genlab.augment.augmenter import Augmenter
from genlab.encode import __main__ as encode
from genlab.evaluate import __main__ as evaluate
from genlab.evaluate import evaluation
from genlab.export import __main__ as export
from genlab.train import __main__ as train
from genlab.transfer import __main__ as transfer

FLAGS = {
    "least_squares_gan": "--conditional --latent-size 8 --generator-widths 4 6 --discriminator-widths 4 6",
    "coupling_flow": "--couplings 3 --widths 4",
    "rectified_flow": "--euler-steps 3 --widths 4 6 --time-units 8",
}
STUDY = ["--seeds", "1", "--steps", "2"]


@pytest.fixture(scope="module", params=FLAGS)
def name(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(pathlib.Path(__file__).parent / "models")])
        yield request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    """The folder of a run of four steps, and of one of two steps that was resumed for two more."""
    folder = tmp_path_factory.mktemp(name)
    flags = ["--batch-size", "16", "--log-every", "2", "--schedule-steps", "4", *FLAGS[name].split()]
    train.main([name, "--steps", "4", "--out", str(folder / "whole"), *flags])
    train.main([name, "--steps", "2", "--out", str(folder / "parts"), *flags])
    train.main([name, "--resume", "--steps", "4", "--out", str(folder / "parts")])
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return genlab.load(out=folder / "whole")


def test_trains_and_resumes_bit_for_bit(folder, run):
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())
    first, second = state_of(run), state_of(genlab.load(out=folder / "parts"))
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_samples(run):
    sample.main(["--run", str(run.path), "--count", "5", "--array", "five.npz"])
    sample.main(["--run", str(run.path), "--seeds", "3", "--array", "one.npz"])
    five, one = np.load("five.npz"), np.load("one.npz")
    assert five["images"].shape == (5, 28, 28, 1) and five["latents"].shape == (5, run.model.latent_size)
    np.testing.assert_array_equal(one["images"][0], five["images"][3])
    sample.main(["--run", str(run.path), "--interpolate", "1:2", "--frames", "3"])


def test_evaluates(run, capsys):
    evaluate.main([str(run.path), "--samples", "200"])
    found = evaluation.read(run)
    assert {"frechet_distance", "memorization"} <= found.metrics.keys()
    assert ("label_accuracy" in found.metrics) == run.model.conditional
    if run.config.model == "coupling_flow":
        assert found.metrics["mse"].value < 1e-9 and found.metrics["ssim"].value > 0.999
        nll, bits = found.metrics["nll"], found.metrics["bits_per_dimension"]
        assert bits.value == pytest.approx(nll.value / (784 * math.log(2))) and 0 < nll.spread < nll.value
        assert found.protocol["likelihood_images"] == 200 and "importance_samples" not in found.protocol
    else:
        assert not {"nll", "mse"} & found.metrics.keys()
    json.loads((run.path / "evaluation.json").read_text(), parse_constant=pytest.fail)


def test_exports_to_every_format(run, capsys):
    export.main([str(run.path), "--formats", "keras", "savedmodel", "litert", "onnx"])
    facts = json.loads((run.path / "export" / "metadata.json").read_text())
    assert facts["latents"] == {"size": run.model.latent_size, "prior": "normal"}
    count = 2 if run.model.encoder is not None else 1
    assert [each["format"] for each in facts["files"]] == [
        *["keras"] * count,
        "savedmodel",
        *["litert"] * count,
        *["onnx"] * count,
    ]
    assert max(each["largest_difference"] for each in facts["files"]) <= 1e-5


def test_augments_or_says_why_not(run, capsys):
    images, labels = run.data().images[:12], run.data().labels[:12]
    replacing, perturbing = (lambda mode=mode: Augmenter.from_run(run, mode=mode) for mode in ("replace", "perturb"))
    if run.model.conditional:
        changed, same = replacing()(images, labels)
        np.testing.assert_array_equal(same, labels)
        assert np.any(changed != images)
        augment.main([str(run.path), "--per-class", "3", *STUDY])
        assert "With 3 per class, generated images" in capsys.readouterr().out
    else:
        status, message = fails(lambda: augment.main([str(run.path), *STUDY]), capsys)
        assert status == 2 and "mode 'replace' needs images by label" in message and message.count("\n") == 1
    if run.model.encoder is None:
        with pytest.raises(genlab.UsageError, match=r"^mode 'perturb' needs a run with an encoder[^\n]*$"):
            perturbing()
        return
    changed = perturbing()(images, training=True)
    assert np.any(changed != images)
    # An Augmenter is saved inside a classifier, its networks with it.
    layer = Augmenter.from_run(run, mode="perturb", value_range=(0, 255))
    model = keras.Sequential([keras.Input((28, 28, 1)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    model.save("classifier.keras")
    loaded = keras.saving.load_model("classifier.keras")
    floats = images.astype(np.float32)
    np.testing.assert_allclose(loaded(floats, training=True), model(floats, training=True), rtol=1e-4)


def test_encodes_or_says_why_not(run, capsys):
    if run.model.encoder is None:
        status, message = fails(lambda: encode.main([str(run.path)]), capsys)
        assert status == 2 and "has no encoder" in message and message.count("\n") == 1
        return
    encode.main([str(run.path), "--bits", "32"])
    kept = json.loads((run.path / "encode.json").read_text(), parse_constant=pytest.fail)
    assert kept["rows"][0]["bytes_per_image"] == 4 * run.model.latent_size
    encode.main([str(run.path), "--decode", str(run.path / "codes.npz")])
    with np.load(run.path / "images.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], run.data().test_images)


def test_transfers_or_says_why_not(run, capsys):
    arguments = [str(run.path), "--labels", "20", *STUDY]
    network = run.model.feature_network
    if network is None or len(network.inputs) > 1:
        status, message = fails(lambda: transfer.main(arguments), capsys)
        reason = "has no network to transfer" if network is None else "needs inputs other than images"
        assert status == 2 and reason in message and message.count("\n") == 1
        return
    transfer.main(arguments)
    assert "fine-tuned - scratch" in capsys.readouterr().out
