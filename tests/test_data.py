"""Sources and the stream of batches."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

import genlab
from genlab.data import named, spec


def write_idx(path, array, zipped=False):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    random = np.random.default_rng(1)
    write_idx(folder / "train-images-idx3-ubyte.gz", random.integers(0, 256, (30, 9, 11), np.uint8), zipped=True)
    write_idx(folder / "train-labels-idx1-ubyte", random.integers(0, 4, 30).astype(np.uint8))
    write_idx(folder / "t10k-images-idx3-ubyte", random.integers(0, 256, (5, 9, 11), np.uint8))
    return folder


def test_digits_are_the_1797_of_scikit_learn():
    digits = genlab.data.load("digits")
    assert digits.images.shape == (1437, 28, 28, 1) and digits.test_images.shape == (360, 28, 28, 1)
    assert digits.images.dtype == np.uint8 and digits.images.max() == 255
    assert np.bincount(digits.test_labels).min() >= 34  # stratified
    assert genlab.data.load("digits").sha256 == digits.sha256


def test_idx_folder_gzipped_or_not(idx_folder):
    dataset = genlab.data.load(str(idx_folder))
    assert (dataset.name, dataset.spec.shape, dataset.spec.num_classes) == ("mine", (9, 11, 1), 4)
    assert dataset.test_images.shape == (5, 9, 11, 1) and dataset.test_labels is None


@pytest.mark.parametrize("below", ["", "fashion_mnist"])
def test_named_set_from_the_environment(idx_folder, tmp_path, monkeypatch, below):
    root = idx_folder
    if below:
        root = tmp_path / "all"
        root.mkdir()
        idx_folder.rename(root / below)
    monkeypatch.setenv("GENLAB_DATA", str(root))
    dataset = genlab.data.load("fashion_mnist")
    assert dataset.name == "fashion_mnist" and len(dataset.images) == 30


def test_without_a_network_every_way_is_named(monkeypatch):
    def no_network(*_, **__):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(named.keras.utils, "get_file", no_network)
    with pytest.raises(genlab.GenlabError) as error:
        genlab.data.load("kmnist")
    for way in ("--data PATH", "GENLAB_DATA", "~/.keras/datasets"):
        assert way in str(error.value)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_downloads_are_checked(idx_folder, name, monkeypatch):
    asked = []

    def download(file, address, *, cache_subdir, file_hash, hash_algorithm):
        asked.append((address, len(file_hash), hash_algorithm))
        path = idx_folder / file.removeprefix("kmnist-")
        if not path.exists():
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        return path

    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))
    monkeypatch.setattr(named.keras.utils, "get_file", download)
    dataset = genlab.data.load(name)
    assert (len(dataset.images), len(dataset.test_images), len(dataset.class_names)) == (30, 5, 10)
    assert len(asked) == 4 and all(address.startswith("https://") for address, _, _ in asked)
    assert {facts[1:] for facts in asked} == {(64, "sha256")}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
        (struct.pack(">HBBIII", 0, 8, 3, 2, 9, 9) + b"x" * 161, "is damaged"),
        (struct.pack(">HBBIII", 0, 8, 3, 2, 9, 9) + b"x" * 163, "is damaged"),
        (struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 2**32 - 1, 9), "promises"),
        (struct.pack(">HBBIII", 0, 8, 3, 0, 9, 9), "no images"),
        (struct.pack(">HBBIII", 0, 8, 3, 4, 3, 9) + b"x" * 108, "from 8x8"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, content, words):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(genlab.UsageError, match=words):
        genlab.data.load(tmp_path)


def test_a_cut_gzip_is_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(path, np.zeros((20, 28, 28), np.uint8), zipped=True)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(genlab.UsageError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        genlab.data.load(tmp_path)


def test_an_epoch_shows_every_image_once_and_no_batch_is_short(small_images):
    images, _ = small_images
    dataset = genlab.data.from_arrays(images, np.arange(40))
    seen = np.concatenate([labels.numpy() for _, labels in dataset.stream(16, seed=3).take(5)])  # two epochs of 40
    assert len(seen) == 80
    first, second = seen[:40], seen[40:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert not np.array_equal(first, second)
    other = np.concatenate([labels.numpy() for _, labels in dataset.stream(16, seed=4).take(3)])[:40]
    assert not np.array_equal(first, other)


def test_a_stream_pairs_images_with_their_labels(small_images):
    images, labels = small_images
    dataset = genlab.data.from_arrays(images, labels)
    batch, batch_labels = next(iter(dataset.stream(16, seed=0)))
    for image, label in zip(batch.numpy(), batch_labels.numpy(), strict=True):
        index = next(i for i in range(40) if np.array_equal(images[i], image[..., 0]))
        assert labels[index] == label


def test_pixels_survive_the_model_range():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = spec.to_model_range(pixels).numpy()
    assert scaled.min() == -1 and scaled.max() == 1
    np.testing.assert_array_equal(spec.to_pixels(scaled), pixels)


def test_float_arrays_are_taken_in_both_plain_ranges(small_images):
    images, _ = small_images
    for floats in (images / 255.0, images / 127.5 - 1.0):
        np.testing.assert_array_equal(genlab.data.from_arrays(floats).images[..., 0], images)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((4, 9)), None, "shape"),
        (np.zeros((4, 9, 9, 5), np.uint8), None, "C from 1 to 4"),
        (np.zeros((4, 9, 9), np.int64), None, "int64"),
        (np.full((4, 9, 9), 200.0), None, "from 200 to 200"),
        (np.full((4, 9, 9), np.nan), None, "range"),
        (np.zeros((4, 9, 9), np.uint8), [0, 1], "one for each image"),
        (np.zeros((4, 9, 9), np.uint8), [0, 1, 2, -2], "from 0 up"),
        (np.zeros((0, 9, 9), np.uint8), None, "no images"),
        (np.zeros((10**15, 0, 9), np.uint8), None, "shape"),
        (np.full((4, 9, 9), 1j), None, "complex128"),
        (np.full((4, 9, 9), "a"), None, "<U1"),
        (np.zeros((4, 9, 9), np.uint8), [[0], [1, 2]], "labels are not an array"),
    ],
)
def test_arrays_that_do_not_fit(images, labels, words):
    with pytest.raises(genlab.UsageError, match=words):
        genlab.data.load(images, labels)


def test_tf_data_is_read_into_memory(small_images, monkeypatch):
    import tensorflow as tf

    dataset = genlab.data.load(tf.data.Dataset.from_tensor_slices(small_images))
    np.testing.assert_array_equal(dataset.images[..., 0], small_images[0])
    np.testing.assert_array_equal(dataset.labels, small_images[1])
    with pytest.raises(genlab.UsageError, match="endless"):
        genlab.data.load(tf.data.Dataset.from_tensor_slices(small_images).repeat())
    with pytest.raises(genlab.UsageError, match="elements of 3 parts"):
        genlab.data.load(tf.data.Dataset.from_tensor_slices((*small_images, small_images[1])))
    endless = tf.data.Dataset.from_tensor_slices(small_images).repeat().filter(lambda *_: True)  # it does not tell
    monkeypatch.setattr("genlab.files.memory", lambda: 100_000)
    with pytest.raises(genlab.UsageError, match="larger than memory, after 782 images"):
        genlab.data.load(endless)


def test_a_run_notices_that_its_data_changed(idx_folder, capsys):
    run = genlab.fit("dcgan", str(idx_folder), steps=1, batch_size=4, generator_widths=(2,), discriminator_widths=(2,))
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.zeros(30, np.uint8))
    with pytest.raises(genlab.GenlabError, match="its hash is"):
        genlab.load(run.path).data()
