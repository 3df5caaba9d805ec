"""Codes of so many bits: packed and read back, compared, drawn; and what is said where it cannot be done."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import genlab
from genlab.encode import __main__ as encode
from genlab.encode import codec

SMALL = {"batch_size": 16, "encoder_widths": (4,), "decoder_widths": (4,), "hidden_units": 8, "components": 1}


@pytest.fixture(scope="module")
def encoding(tmp_path_factory):
    return genlab.fit("autoencoder", steps=3, out=tmp_path_factory.mktemp("runs"), latent_size=6, **SMALL)


def test_levels_are_packed_without_a_gap():
    # From 0 to 7 in 3 bits a level is the number itself: 5, 0, 7 and 2, 7, 0 are 101 000 111 010 111 000.
    values = np.array([[5, 0, 7], [2, 7, 0], [0, 0, 0], [7, 7, 7]], np.float32)
    codes = codec.quantize(values, 3)
    assert list(codes.packed[:2]) == [0b10100011, 0b10101110] and len(codes.packed) == 5  # 36 bits
    np.testing.assert_array_equal(codes.values(), values)
    assert codes.bytes_per_image == (5 + 2 * 3 * 4) / 4


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 11, 16])
def test_error_is_at_most_half_a_level(bits, tmp_path):
    values = np.random.default_rng(0).normal(3, 2, (50, 7)).astype(np.float32)
    values[:, 3] = 1.5  # a number that never changes
    codec.quantize(values, bits).save(tmp_path / "codes.npz", labels=np.arange(50))
    codes, more = codec.load(tmp_path / "codes.npz")
    half = np.ptp(values, axis=0) / (2**bits - 1) / 2
    assert (np.abs(codes.values() - values) <= half + 1e-5).all()
    np.testing.assert_array_equal(more["labels"], np.arange(50))
    assert codes.packed.nbytes == -(-50 * 7 * bits // 8)


def test_32_bits_are_the_codes_themselves():
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    codes = codec.quantize(values, 32)
    np.testing.assert_array_equal(codes.values(), values)
    assert codes.bytes_per_image == 16


@pytest.mark.parametrize("shape", [(16, 16, 1), (13, 10, 3)])
def test_jpeg_takes_the_bytes_it_may_and_gives_the_images_back(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = np.stack([np.broadcast_to((8 * x + phase * y)[..., None] % 256, shape) for phase in range(7)])
    images = images.astype(np.uint8)
    quality, size, decoded = codec.jpeg(images, 1e6)
    assert quality == 95 and decoded.shape == images.shape
    assert np.abs(decoded.astype(float) - images)[:, :8, :8].mean() < 4
    smaller, less, worse = codec.jpeg(images, 0.6 * size)
    assert smaller < 95 and less <= 0.6 * size
    assert np.square(worse.astype(float) - images).mean() > np.square(decoded.astype(float) - images).mean()
    assert codec.jpeg(images, 1)[0] == 1


def test_jpeg_of_one_image_is_pillows_file():
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 1), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=95, optimize=True)
    _, size, decoded = codec.jpeg(image[None], 1e6)
    assert size == len(file.getvalue())
    np.testing.assert_array_equal(decoded[0, ..., 0], np.asarray(Image.open(file)))


def test_the_command_encodes_draws_and_decodes(encoding, capsys):
    encode.main([str(encoding.path), "--bits", "16", "--plot", "--projector"])
    text = capsys.readouterr().out
    assert "JPEG, quality" in text and "PCA of 6" in text and "codes of 360 test images" in text
    kept = json.loads((encoding.path / "encode.json").read_text())
    # 6 numbers of 16 bits, and 48 bytes of bounds over 360 images
    assert kept["rows"][0]["bytes_per_image"] == pytest.approx(12 + 48 / 360)
    assert (encoding.path / "codes.png").stat().st_size > 5000
    names = sorted(path.name for path in (encoding.path / "projector").iterdir())
    assert names == ["codes.tsv", "images.png", "labels.tsv", "projector_config.pbtxt"]
    assert len((encoding.path / "projector" / "labels.tsv").read_text().splitlines()) == 360
    encode.main([str(encoding.path), "--decode", str(encoding.path / "codes.npz")])
    with np.load(encoding.path / "images.npz") as arrays:
        images = encoding.data().test_images
        expected = encoding.model.reconstruct((images / 127.5 - 1).astype(np.float32)).numpy()
        assert np.abs(arrays["images"] - (expected + 1) * 127.5).max() < 2
        np.testing.assert_array_equal(arrays["labels"], encoding.data().test_labels)


@pytest.mark.parametrize("latent_size, projection", [(1, "pca"), (2, "pca"), (4, "tsne")])
def test_plots_of_every_size_of_codes(latent_size, projection, tmp_path):
    codes = np.random.default_rng(0).normal(size=(60, latent_size))
    encode.plot(codes, np.arange(60) % 3, ("a", "b", "c"), projection, tmp_path / "codes.png")
    assert (tmp_path / "codes.png").stat().st_size > 5000
