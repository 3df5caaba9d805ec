"""Keras files from strangers: nothing in them is executed or imported, and damage is told in one line."""

from __future__ import annotations

import base64
import io
import json
import marshal
import pathlib
import sys
import zipfile

import h5py
import numpy as np
import pytest

import genlab
from genlab.augment.augmenter import Augmenter
from genlab.backend import keras
from genlab.networks import keras_files

STORED = pathlib.Path(__file__).parent / "stored"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The members of a small .keras file."""
    images = keras.Input((4, 4, 1))
    features = keras.layers.Dense(2, "relu")(keras.layers.Flatten()(images))
    path = tmp_path_factory.mktemp("keras") / "whole.keras"
    keras.Model(images, features).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> pathlib.Path:
    with zipfile.ZipFile("changed.keras", "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pathlib.Path("changed.keras")


def refused(path) -> str:
    """The one line about a file that is not loaded."""
    with pytest.raises(genlab.GenlabError) as error:
        keras_files.load(path)
    message = str(error.value)
    assert message.startswith(f"cannot read {path} as a Keras model: ") and "\n" not in message and len(message) < 400
    return message


def with_layer(members: dict[str, bytes], layer: dict) -> dict[str, bytes]:
    """The members with another last layer."""
    config = json.loads(members["config.json"])
    config["config"]["layers"][-1] |= layer
    return members | {"config.json": json.dumps(config).encode()}


def test_files_of_stock_layers_and_of_genlabs_load(whole):
    model = keras_files.load(written(whole))
    assert model.output_shape == (None, 2)
    stored = keras_files.load(STORED / "classifier.keras")
    assert any(isinstance(layer, Augmenter) for layer in stored.layers)
    layers = keras.layers
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="gelu", kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(2))(
        images
    )
    for layer in (
        layers.RandomFlip(),
        layers.Rescaling(0.5),
        layers.Normalization(mean=0.0, variance=1.0),
        layers.SpectralNormalization(layers.Conv2D(4, 3)),
        layers.LeakyReLU(),
        layers.Activation(keras.activations.swish),
    ):
        x = layer(x)
    x = layers.MultiHeadAttention(2, 2)(x, x)
    rich = keras.Model(images, layers.GlobalAveragePooling2D()(keras.ops.sqrt(x / 2 + 1)))
    # What was defined for training alone, such as a loss of the author's own, is not loaded.
    rich.compile("adam", loss=lambda true, predicted: predicted)
    rich.save("rich.keras")
    loaded = keras_files.load("rich.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], rich.get_weights()[0])
    half = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="bfloat16")])
    half.save("half.keras")
    assert keras_files.load("half.keras").count_params() == 10


def code() -> str:
    """A function, as Keras stores lambdas, that leaves a file behind."""

    def leave(x):
        __import__("pathlib").Path("executed").touch()
        return x

    return base64.b64encode(marshal.dumps(leave.__code__)).decode()


LAMBDA = {"class_name": "__lambda__", "config": {"code": code(), "defaults": None, "closure": None}}
OWN = {"module": "builtins", "registered_name": "function"}


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "keras.layers", "class_name": "Lambda", "config": {"function": LAMBDA}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {"function": {"value": code()}}},
        {"module": "keras.src.layers.core.lambda_layer", "class_name": "Lambda", "config": {"function": LAMBDA}},
        {"module": "keras", "class_name": "Lambda", "config": {"function": LAMBDA}},
        {"config": {"units": 2, "activation": LAMBDA}},
        {"config": {"units": 2, "activation": {"class_name": "function", "module": "os", "config": "system"}}},
        {"config": {"units": 2, "activation": {"class_name": "function", "config": "get_file", **OWN}}},
        {"config": {"units": 2, "kernel_initializer": {"module": "foreign", "class_name": "Dense", "config": {}}}},
        {"module": "foreign", "class_name": "Dense", "registered_name": "Dense"},
        {"module": "foreign", "class_name": "Dense", "registered_name": None},
        {"module": None, "class_name": "Dense"},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": "mine>Layer"},
        {"module": "genlab", "class_name": "Anything", "registered_name": "genlab>Anything"},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "saved_model"}},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
        {"module": "keras.layers", "class_name": "JaxLayer", "config": {}},
        {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "keras.layers", "class_name": "TextVectorization", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        {"module": "keras.saving", "class_name": "function", "config": "load_model"},
        {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
        {"module": "keras.src.utils.file_utils", "class_name": "function", "config": "get_file"},
        {"module": "keras.layers.foreign", "class_name": "Dense"},
        {"module": "keras.models", "class_name": "clone_model"},
        {"module": "keras.src.layers.core.dense", "class_name": "keras"},
        {"module": ["keras.layers"], "class_name": "Dense"},
        {"module": "keras.layers", "class_name": {"name": "Dense"}},
        {"module": "keras.layers", "class_name": "__class__"},
        {"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "tensorflow", "config": []},
    ],
    ids=lambda layer: str(layer)[:70],
)
def test_nothing_that_a_file_names_is_executed(layer, whole, tmp_path, monkeypatch):
    class Layer(keras.layers.Dense):
        def __init__(self, *arguments, **settings):
            pathlib.Path("executed").touch()
            super().__init__(*arguments, **settings)

    (tmp_path / "foreign.py").write_text("import pathlib\npathlib.Path('executed').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(keras.saving.get_custom_objects(), "mine>Layer", Layer)
    monkeypatch.setitem(keras.saving.get_custom_objects(), "genlab>Anything", Layer)
    path = written(with_layer(whole, layer))
    modules = set(sys.modules)
    message = refused(path)
    assert "it names" in message, message
    assert not pathlib.Path("executed").exists()
    assert not {name for name in set(sys.modules) - modules if not name.startswith("keras")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"../outside.txt": b"x"}, "it holds '../outside.txt'"),
        ({"/etc/outside": b"x"}, "it holds '/etc/outside'"),
        ({"assets/layer/vocabulary.txt": b"x"}, "it holds 'assets/layer/vocabulary.txt'"),
        ({"model.weights.npz": b"x"}, "it holds 'model.weights.npz'"),
        ({"weights.pkl": b"x"}, "it holds 'weights.pkl'"),
        ({"config.json": b"{"}, "Expecting property name"),
        ({"config.json": b"[]"}, "list is not a dict"),
        ({"config.json": b'{"a":' * 5000 + b"1" + b"}" * 5000}, "nested too deeply"),
        ({"config.json": b"{}"}, "Keras model"),
        ({"model.weights.h5": b"no HDF5"}, "cannot read"),
        ({"config.json": None}, "it lacks config.json"),
        ({"model.weights.h5": None}, "it lacks model.weights.h5"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_other_members_are_refused(change, words, whole):
    members = {name: content for name, content in (whole | change).items() if content is not None}
    assert words in refused(written(members))


def test_compressed_doubled_and_missing_files_are_refused(whole, tmp_path):
    assert "is compressed" in refused(written(whole, zipfile.ZIP_DEFLATED))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(written(whole), "a") as archive:
        archive.writestr("config.json", b"{}")
    assert "it holds 'config.json'" in refused("changed.keras")
    assert "No such file" in refused("nowhere.keras")
    (tmp_path / "folder.keras").mkdir()
    assert "not a regular file" in refused("folder.keras")
    pathlib.Path("changed.keras").rename("changed.h5")
    assert "must end in .keras" in refused("changed.h5")


def weights_of(change) -> bytes:
    """The weights of the small network, with one thing changed in their file."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group("layers/dense/vars")
        group["0"], group["1"] = np.zeros((16, 2), np.float32), np.zeros(2, np.float32)
        change(file, group)
    return content.getvalue()


def external_data(_, group):
    del group["0"]
    group.create_dataset("0", (16, 2), "float32", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(_, group):
    del group["0"]
    layout = h5py.VirtualLayout((16, 2), "float32")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "secret", (16, 2))
    group.create_virtual_dataset("0", layout)


def bomb(_, group):
    del group["0"]
    group.create_dataset("0", (10**6, 10**6), "float32", chunks=(10, 10), compression="gzip")


def texts(_, group):
    del group["0"]
    group["0"] = ["text"] * 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file, _: file.__setitem__("more", h5py.ExternalLink("/etc/passwd", "/")), "link to elsewhere"),
        (lambda file, _: file.__setitem__("more", h5py.SoftLink("/layers")), "link to elsewhere"),
        (external_data, "no numbers within the file"),
        (virtual, "no numbers within the file"),
        (texts, "no numbers within the file"),
        (bomb, "promise 4,000,000,000"),
        (lambda _, group: group["1"].write_direct(np.full(2, np.nan, np.float32)), "not finite"),
        (lambda _, group: group.__delitem__("1"), "could not be loaded"),
    ],
    ids=["external link", "soft link", "external data", "virtual", "texts", "bomb", "nan", "missing"],
)
def test_weights_are_numbers_within_the_file(change, words, whole):
    assert words in refused(written(whole | {"model.weights.h5": weights_of(change)}))


def test_damaged_files_are_told(whole):
    """Bytes flipped and ends cut: what still loads has the weights that were stored, by their checksum."""
    content = written(whole).read_bytes()
    expected = keras_files.load("changed.keras").get_weights()
    random = np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 3:
            for place in random.integers(0, len(damaged), 1 + trial % 4):
                damaged[place] ^= int(random.integers(1, 256))
        else:
            del damaged[int(random.integers(0, len(damaged))) :]
        pathlib.Path("changed.keras").write_bytes(damaged)
        try:
            found = keras_files.load("changed.keras").get_weights()
        except genlab.GenlabError as error:
            assert "\n" not in str(error)
        else:
            for weight, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(weight, right)
