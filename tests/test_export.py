"""Exported models: each format in its own runtime, without genlab, and what is said where it cannot be done."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import TINY, fails

import genlab
from genlab.augment.augmenter import Augmenter
from genlab.export import __main__ as export
from genlab.export import formats

FORMATS = ("keras", "savedmodel", "litert", "litert-float16", "litert-int8", "onnx")
STORED = pathlib.Path(__file__).parent / "stored" / "runs" / "00000-cgan-digits"
WITHOUT_GENLAB = "import sys; sys.modules['genlab'] = None\n"


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (40, 12, 10, 3), np.uint8), random.integers(0, 3, 40)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, data):
    run = genlab.fit("cgan", *data, steps=4, out=tmp_path_factory.mktemp("runs"), **TINY)
    formats.export(run, FORMATS)
    return run


@pytest.fixture(scope="module")
def encoding(tmp_path_factory, data):
    small = {"batch_size": 16, "latent_size": 6, "encoder_widths": (4,), "decoder_widths": (4,), "hidden_units": 8}
    run = genlab.fit("vae", data[0], steps=4, out=tmp_path_factory.mktemp("runs"), components=2, **small)
    formats.export(run, FORMATS)
    return run


def script(folder, code):
    """What a process prints that cannot import genlab."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GENLAB + code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)


def test_keras_file_loads_without_genlab(conditional):
    code = """
import keras, numpy, json
decoder = keras.saving.load_model("decoder.keras")
latents = numpy.linspace(-2, 2, 5 * 8).reshape(5, 8).astype("float32")
print(json.dumps(numpy.asarray(decoder([latents, numpy.array([0, 1, 2, 1, 0])])).tolist()))
"""
    got = script(conditional.path / "export", code)
    latents = np.linspace(-2, 2, 5 * 8).reshape(5, 8).astype(np.float32)
    np.testing.assert_allclose(got, conditional.model.sample(latents, [0, 1, 2, 1, 0]), atol=1e-5)


def test_saved_model_samples_by_seed_and_label_without_genlab(conditional):
    code = """
import tensorflow as tf, json
loaded = tf.saved_model.load("saved_model")
images = loaded.signatures["sample_seeds"](seeds=tf.constant([3, 9], tf.int64), labels=tf.constant([2, 0]))["images"]
print(json.dumps(images.numpy().tolist()))
"""
    model = conditional.model
    expected = model.sample(model.sample_latents([3, 9]), [2, 0])
    np.testing.assert_allclose(script(conditional.path / "export", code), expected, atol=1e-5)


def test_saved_model_encodes_and_reconstructs_without_genlab(encoding, data):
    images = data[0][:2] / 127.5 - 1
    code = f"""
import tensorflow as tf, json
loaded = tf.saved_model.load("saved_model")
images = tf.constant({images.tolist()}, tf.float32)
codes = loaded.signatures["encode"](images=images)["codes"]
assert codes.shape == (2, 6)
rebuilt = loaded.signatures["reconstruct"](images=images)["images"]
assert abs(loaded.signatures["serving_default"](latents=codes)["images"] - rebuilt).numpy().max() < 1e-5
print(json.dumps(rebuilt.numpy().tolist()))
"""
    expected = encoding.model.reconstruct(images.astype(np.float32))
    np.testing.assert_allclose(script(encoding.path / "export", code), expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_litert_and_onnx_take_any_batch(conditional, encoding, count):
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    for run in (conditional, encoding):
        model, folder = run.model, run.path / "export"
        latents = model.sample_latents(range(100, 100 + count)).numpy()
        labels = model.default_labels(range(100, 100 + count))
        feed = {"latents": latents} | ({} if labels is None else {"labels": labels.astype(np.int32)})
        expected = model.sample(latents, labels).numpy()
        runner = Interpreter(str(folder / "decoder.tflite")).get_signature_runner("sample")
        np.testing.assert_allclose(runner(**feed)["images"], expected, atol=1e-5)
        session = onnxruntime.InferenceSession(folder / "decoder.onnx")
        np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=1e-5)
    codes = Interpreter(str(folder / "encoder.tflite")).get_signature_runner("encode")(images=expected)["codes"]
    np.testing.assert_allclose(codes, model.encoder(expected), atol=1e-5)


def test_quantized_files_are_smaller_and_near(conditional):
    facts = json.loads((conditional.path / "export" / "metadata.json").read_text())
    by_format = {each["format"]: each for each in facts["files"]}
    assert by_format["litert-float16"]["largest_difference"] < 5e-3
    assert by_format["litert-int8"]["largest_difference"] < 0.2
    for each in ("keras", "savedmodel", "litert", "onnx"):
        assert by_format[each]["largest_difference"] <= 1e-5
    assert set(by_format) == set(FORMATS)


def test_metadata_and_card(conditional, encoding):
    facts = json.loads((conditional.path / "export" / "metadata.json").read_text())
    assert facts["images"] == {"shape": [12, 10, 3], "layout": "NHWC", "dtype": "float32", "range": [-1, 1]}
    assert facts["classes"] == ["0", "1", "2"] and facts["latents"] == {"size": 8, "prior": "normal"}
    card = (conditional.path / "export" / "MODEL_CARD.md").read_text()
    assert conditional.config.dataset["sha256"] in card and "Not measured" in card and "decoder.onnx" in card
    assert (conditional.path / "export" / "grid.png").exists()
    with np.load(encoding.path / "export" / "prior.npz") as prior:
        np.testing.assert_array_equal(prior["means"], encoding.model.prior.means)


def test_augmenter_from_an_export_draws_what_the_run_draws(conditional, encoding):
    exported = Augmenter.from_export(conditional.path / "export", seed=1)
    images, labels = exported.generate(6, labels=[2, 0])
    expected, same = Augmenter.from_run(conditional, seed=1).generate(6, labels=[2, 0])
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(images, expected)
    real = np.random.default_rng(0).integers(0, 256, (8, 12, 10, 3), np.uint8)
    perturb = {"mode": "perturb", "amount": 0.5, "seed": 1}
    perturbed = Augmenter.from_export(encoding.path / "export", **perturb).augment(real)
    assert np.any(perturbed != real)
    np.testing.assert_array_equal(perturbed, Augmenter.from_run(encoding, **perturb).augment(real))


def test_augmenter_from_an_export_needs_no_training_code(conditional):
    code = f"""
import sys
from genlab import Augmenter
images, labels = Augmenter.from_export({str(conditional.path / "export")!r}).generate(4, labels=1)
assert images.shape == (4, 12, 10, 3) and set(labels) == {{1}}
assert not {{"genlab.train", "genlab.models", "genlab.run", "genlab.config"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_command_replaces_an_earlier_export(conditional, tmp_path, capsys):
    for _ in range(2):
        export.main([str(conditional.path), "--formats", "keras", "--out", str(tmp_path / "model")])
        assert "decoder.keras" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["MODEL_CARD.md", "decoder.keras", "grid.png", "metadata.json"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def exported():
    """A run, and a folder with an export of it and files of the user's."""
    run, folder = genlab.load(STORED), pathlib.Path("model")
    formats.export(run, ["keras"], folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "saved_models").mkdir()
    (folder / "saved_models" / "other.keras").write_bytes(b"mine")
    return run, folder


def contents(folder):
    """The files in a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exporting_again_leaves_what_lies_beside(exported):
    run, folder = exported
    formats.export(run, ["savedmodel"], folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"saved_model", "metadata.json", "MODEL_CARD.md", "grid.png", "notes.txt", "saved_models"}
    assert (folder / "notes.txt").read_text() == "mine"
    formats.export(run, ["keras"], folder)  # the SavedModel is a folder that genlab wrote
    names = {path.name for path in folder.iterdir()}
    assert names == {"decoder.keras", "metadata.json", "MODEL_CARD.md", "grid.png", "notes.txt", "saved_models"}
    assert (folder / "saved_models" / "other.keras").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["decoder.keras", "MODEL_CARD.md", "grid.png", "decoder.onnx", "saved_model"])
def test_a_file_that_genlab_did_not_write_is_not_replaced(exported, name):
    run, folder = exported
    if name == "saved_model":
        (folder / name).mkdir()
        (folder / name / "mine.txt").write_text("mine")
    else:
        with (folder / name).open("ab") as file:
            file.write(b"mine")
    before = contents(folder)
    with pytest.raises(genlab.UsageError, match=rf"has {name}, .*Move them away, or choose another folder"):
        formats.export(run, ["keras", "onnx", "savedmodel"], folder)
    assert contents(folder) == before


def test_a_file_added_to_a_saved_model_is_not_removed():
    folder, _ = formats.export(genlab.load(STORED), ["savedmodel"], "model")
    (folder / "saved_model" / "empty.txt").touch()  # changes no hash
    with pytest.raises(genlab.UsageError, match="has saved_model, changed since"):
        formats.export(genlab.load(STORED), ["keras"], folder)
    assert (folder / "saved_model" / "empty.txt").exists()


@pytest.mark.parametrize("at", range(0, 8, 2))
def test_a_failed_export_leaves_the_earlier_one_whole(exported, at, monkeypatch):
    run, folder = exported
    before, renamed, calls = contents(folder), pathlib.Path.rename, iter(range(100))

    def rename(self, target):
        if next(calls) == at:
            raise OSError(28, "No space left on device")
        return renamed(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", rename)
    with pytest.raises(OSError):
        formats.export(run, ["keras"], folder)
    assert contents(folder) == before and [path for path in folder.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(OSError):
        monkeypatch.setattr(formats.model_card, "text", lambda *_: exec("raise OSError(28, 'full')"))
        formats.export(run, ["keras"], "new/model")
    assert not pathlib.Path("new/model").exists()


def test_points_are_exported(own_run):
    folder, written = formats.export(own_run("gan", "ring"))
    assert [each["largest_difference"] for each in written] == [0, 0]
    assert "vectors [N, size]" in (folder / "MODEL_CARD.md").read_text()


def test_what_differs_is_not_exported(conditional, tmp_path, monkeypatch):
    loaded = formats.keras.saving.load_model
    shifted = lambda *a, **k: lambda *inputs, **more: loaded(*a, **k)(*inputs, **more) + 0.1  # noqa: E731
    monkeypatch.setattr(formats.keras.saving, "load_model", shifted)
    with pytest.raises(genlab.GenlabError, match=r"differ by .* at most 1e-05 was expected"):
        formats.export(conditional, ["keras"], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_errors(conditional, tmp_path, capsys, monkeypatch, data):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    path = str(conditional.path)
    assert fails(lambda: export.main([path, "--formats", "onxx"]), capsys)[1].endswith(
        "did you mean onnx? Known: keras, savedmodel, litert, litert-float16, litert-int8, onnx.\n"
    )
    assert "something other than an export" in fails(lambda: export.main([path, "--out", str(kept)]), capsys)[1]
    assert (kept / "mine.txt").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, message = fails(lambda: export.main([path, "--formats", "onnx"]), capsys)
    assert status == 2 and 'pip install "genlab[onnx]"' in message
    with pytest.raises(genlab.UsageError, match=r"no metadata.json and decoder.keras"):
        Augmenter.from_export(kept)
    dropping = genlab.fit(
        "dcgan", data[0], steps=1, out=tmp_path / "runs", generator_dropout=0.2, dropout_in_sampling=True, **TINY
    )
    with pytest.raises(genlab.UsageError, match="SamplingDropout"):
        formats.export(dropping, ["keras"])
    assert formats.export(dropping, ["savedmodel"])[1][0]["largest_difference"] == 0
    within = dropping.model.decoder
    dropping.model.decoder = keras.Model(within.inputs[0], within(within.inputs[0]))
    with pytest.raises(genlab.UsageError, match="SamplingDropout"):
        formats.export(dropping, ["keras"])
