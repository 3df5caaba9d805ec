"""What TensorBoard shows of runs: settings of all runs, histograms, and the projector, read back from the files."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from conftest import small_settings
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import projector as plugin
from tensorboard.plugins.hparams import plugin_data_pb2

import genlab
from genlab import grids, projector
from genlab.backend import tf
from genlab.evaluate import evaluation
from genlab.train import __main__ as train

SETTINGS = "_hparams_/session_start_info"


def board(run) -> EventAccumulator:
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return events


def fitted(name: str, images: np.ndarray, labels: np.ndarray | None, **settings):
    return genlab.fit(name, images, labels, **small_settings(name) | {"steps": 2, "projector": True} | settings)


def embedding(run) -> tuple[plugin.EmbeddingInfo, np.ndarray]:
    """The only entry of the projector, and its vectors."""
    folder = run.path / "tensorboard"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), plugin.ProjectorConfig())
    (found,) = config.embeddings
    return found, np.loadtxt(folder / found.tensor_path, delimiter="\t", ndmin=2)


# -- the HParams tab ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["dcgan", "vae"])
def test_the_settings_of_a_run_are_written_once(model, own_run):
    run = own_run(model)
    content = board(run).SummaryMetadata(SETTINGS).plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.group_name == run.name
    written = start.hparams
    assert written["model"].string_value == model and written["data"].string_value == "digits"
    assert written["steps"].number_value == 2 and written["batch_size"].number_value == 8
    widths = "encoder_widths" if model == "vae" else "generator_widths"
    assert written[widths].string_value == "4"
    train.main(["--resume", str(run.path), "--steps", "3", "--schedule-steps", "2"])
    assert len(board(run).Tensors(SETTINGS)) <= 1


def test_an_evaluation_joins_the_metrics_of_its_run(own_run, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "_label_metrics", lambda *_: {})  # they train classifiers
    run = own_run("dcgan")
    found = evaluation.evaluate(run, samples=200)
    (event,) = board(run).Tensors("evaluation/frechet_distance")
    assert event.step == 2
    assert float(tf.make_ndarray(event.tensor_proto)) == pytest.approx(
        found.metrics["frechet_distance"].value, rel=1e-6
    )
    # Through a link out of the folder nothing is written.
    (run.path / "tensorboard").rename(tmp_path / "elsewhere")
    (run.path / "tensorboard").symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").iterdir())
    evaluation.evaluate(run, samples=200)
    assert sorted((tmp_path / "elsewhere").iterdir()) == before


# -- histograms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["dcgan", "vae"])
def test_histograms_of_latents_and_codes(model, small_images):
    run = fitted(model, *small_images, projector=False, histograms=True)
    tags = set(board(run).Tags()["tensors"])
    assert "latents" in tags and ("codes" in tags) == (model == "vae")


# -- the projector -----------------------------------------------------------------------------------------------------


def test_the_codes_of_an_encoder(small_images):
    images, labels = small_images
    run = fitted("vae", images, labels, split="0.75/0.25")
    found, vectors = embedding(run)
    held_out, classes = run.data().held_out(1000)
    assert found.tensor_name == "codes" and vectors.shape == (10, 4)
    codes = run.model.encoder(held_out.astype(np.float32) / 127.5 - 1, training=False).numpy()
    np.testing.assert_allclose(vectors, codes, rtol=1e-3, atol=1e-4)
    folder = run.path / "tensorboard"
    assert (folder / found.metadata_path).read_text().split() == [str(label) for label in classes]
    assert [*found.sprite.single_image_dim] == [10, 12]
    sprite = grids.load_image(folder / found.sprite.image_path)
    np.testing.assert_array_equal(sprite[:12, 10:20], held_out[1])
    np.testing.assert_array_equal(sprite[12:24, :10], held_out[4])


@pytest.mark.parametrize("model", ["dcgan", "cgan", "began", "wgan", "gan", "minibatch_gan"])
def test_the_features_of_a_discriminator(model, small_images):
    run = fitted(model, *small_images)
    found, vectors = embedding(run)
    assert found.tensor_name == "features" and len(vectors) == 40 and vectors.shape[1] >= 4
    assert np.isfinite(vectors).all() and vectors.std() > 0


def test_images_without_classes_and_points(small_images):
    run = fitted("vae", small_images[0], None)
    assert embedding(run)[0].metadata_path == "" and not (run.path / "tensorboard" / "labels.tsv").exists()
    points = genlab.fit("gan", "ring", steps=1, projector=True, generator_units=8, discriminator_units=8, batch_size=8)
    assert not (points.path / "tensorboard" / "projector_config.pbtxt").exists()


def test_a_sprite_that_is_too_large_is_left_out():
    images = np.zeros((17 * 17, 512, 8, 1), np.uint8)
    projector.write(pathlib.Path("board"), "codes", np.zeros((len(images), 2)), images, None, ())
    assert not pathlib.Path("board/images.png").exists() and pathlib.Path("board/codes.tsv").exists()
