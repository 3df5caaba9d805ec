"""Every parser of data meets damaged and hostile files: it returns valid data, or refuses them in a short message.

No other error, no wait, and no memory for what a header only promises.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pathlib
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator

import hypothesis
import numpy as np
import pytest
from conftest import write_records
from hypothesis import strategies
from PIL import Image

import genlab
from genlab import npy
from genlab.data import DataOptions, Dataset, image_files, load, shards
from genlab.data.labels import MOST_CLASSES, UNLABELLED, classes_of
from genlab.errors import GenlabError

ROUNDS = 40
"""Damaged copies of each file."""
LONGEST_MESSAGE = 1000
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 9, 8), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])

settings = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same examples in every run
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@contextlib.contextmanager
def little_memory(most: int = 50_000_000) -> Iterator[None]:
    """Fail if the body allocates more than this, in bytes; numpy's arrays count with all they reserve."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def valid_or_refused(call: Callable[[], Dataset]) -> str:
    """Call, and return the message of a refusal; check what is returned otherwise."""
    try:
        dataset = call()
    except GenlabError as error:
        assert 0 < len(str(error)) < LONGEST_MESSAGE
        return str(error)
    for images, labels in dataset.parts().values():
        assert images[:].dtype == np.uint8 and images.ndim == 4
        if labels is not None:
            assert len(labels) == len(images) and 0 <= labels.min() <= labels.max() < len(dataset.class_names)
    return ""


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """A copy in which bytes or bits are changed, a range is blank, or the end is missing."""
    changed = bytearray(content)
    match random.integers(4):
        case 0:
            for place in random.integers(len(changed), size=random.integers(1, 9)):
                changed[place] = random.integers(256)
        case 1:
            for place in random.integers(len(changed), size=random.integers(1, 4)):
                changed[place] ^= 1 << int(random.integers(8))
        case 2:
            del changed[int(random.integers(len(changed))) :]
        case 3:
            start = int(random.integers(len(changed)))
            end = min(len(changed), start + int(random.integers(1, 30)))
            changed[start:end] = bytes([255 * int(random.integers(2))]) * (end - start)
    return bytes(changed)


def picture_file(kind: str) -> bytes:
    """An image file of a format, with EXIF data where the format has any."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    colour = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8))
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (24, 20), np.uint16))
    indexed = colour.quantize(8)
    file = io.BytesIO()
    match kind:
        case "deep.png":
            deep.save(file, "PNG")
        case "indexed.png":
            indexed.save(file, "PNG", transparency=b"\0\x10\x20")
        case "image.bmp" | "image.gif":
            colour.save(file, kind[-3:])
        case "image.tiff":
            colour.save(file, "TIFF", exif=exif.tobytes())
        case _:
            colour.save(file, kind.partition(".")[2], exif=exif)
    return file.getvalue()


PICTURES = ("image.png", "image.jpeg", "image.webp", "image.bmp", "image.gif", "image.tiff", "deep.png", "indexed.png")


def npz_file(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def written(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("shards") / "shards"
    facts = {"name": "mine", "shape": [9, 8, 1], "class_names": ["a", "b", "c"]}
    shards.write(folder, facts, {"train": (6, lambda rows: (IMAGES[rows][..., np.newaxis], LABELS[rows]))})
    return folder


# -- damaged bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_image_files(kind: str, tmp_path: pathlib.Path) -> None:
    random, content = np.random.default_rng(0), picture_file(kind)
    assert valid_or_refused(lambda: load(written(tmp_path / "images" / kind, content).parent)) == ""
    for _ in range(ROUNDS):
        path = written(tmp_path / "images" / kind, damaged(content, random))
        valid_or_refused(lambda path=path: load(path.parent))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy_file(IMAGES)),
        ("a.npz", npz_file(images=IMAGES, labels=LABELS, class_names=["a", "b", "c"])),
        ("b.npz", npz_file(images=IMAGES / 255, labels=np.array(list("xyzxyz")), x_test=IMAGES[:2] / 255)),
        ("idx/train-images-idx3-ubyte", idx_file(IMAGES)),
        ("idx/train-images-idx3-ubyte.gz", gzip.compress(idx_file(IMAGES))),
    ],
)
def test_damaged_arrays(name: str, content: bytes, tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(0)
    path = written(tmp_path / name, content)
    source = path.parent if name.startswith("idx") else path
    assert valid_or_refused(lambda: load(source)) == ""
    with little_memory():
        for _ in range(ROUNDS):
            path.write_bytes(damaged(content, random))
            valid_or_refused(lambda: load(source))


def test_damaged_labels_of_idx_files(tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(0)
    written(tmp_path / "idx" / "train-images-idx3-ubyte", idx_file(IMAGES))
    for _ in range(ROUNDS):
        written(tmp_path / "idx" / "train-labels-idx1-ubyte", damaged(idx_file(LABELS), random))
        valid_or_refused(lambda: load(tmp_path / "idx"))


@pytest.mark.parametrize("name", ["index.json", "train-00000.tfrecord"])
def test_damaged_shards(name: str, shard_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(0)
    folder = pathlib.Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    content = (folder / name).read_bytes()
    assert valid_or_refused(lambda: load(folder)) == ""
    for _ in range(ROUNDS):
        (folder / name).write_bytes(damaged(content, random))
        valid_or_refused(lambda: load(folder))


def test_damaged_records_of_others(shard_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    random, content = np.random.default_rng(0), (shard_folder / "train-00000.tfrecord").read_bytes()
    path = tmp_path / "theirs.tfrecord"
    for _ in range(ROUNDS):
        path.write_bytes(damaged(content, random))
        valid_or_refused(lambda: load(path))


# -- any bytes ---------------------------------------------------------------------------------------------------------

BEGINNINGS = {
    "a.npy": (b"\x93NUMPY\1\0\x10\0", b"\x93NUMPY\2\0\xff\xff\xff\xff", b""),
    "a.npz": (b"PK\3\4", b"PK\5\6", b""),
    "a.tfrecord": (b"\x08\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b""),
    "idx/train-images-idx3-ubyte": (b"\0\0\x08\3", b"\0\0\x08\1", b""),
    "idx/train-images-idx3-ubyte.gz": (b"\x1f\x8b\x08\0", b""),
    "images/a.png": (b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\1\0\0WEBP", b"II*\0", b"\xff\xd8\xff\xe1", b""),
    "shards/index.json": (b"{", b"[", b'{"format": "genlab-shards-1", ', b""),
}


@pytest.mark.parametrize("name", BEGINNINGS)
@settings
@hypothesis.given(data=strategies.data())
def test_any_bytes(name: str, data: strategies.DataObject, tmp_path: pathlib.Path) -> None:
    beginning = data.draw(strategies.sampled_from(BEGINNINGS[name]))
    path = written(tmp_path / name, beginning + data.draw(strategies.binary(max_size=200)))
    valid_or_refused(lambda: load(path.parent if "/" in name else path))


@settings
@hypothesis.given(
    shape=strategies.lists(strategies.integers(-1, 10**13), max_size=5),
    dtype=strategies.sampled_from(
        ["|u1", "<f4", "<i8", "|O", "<U0", "<U99999999", "|V8", "<M8[s]", "[('a', '<f4')]", "?", "|S7"]
    ),
    by_columns=strategies.booleans(),
)
def test_a_header_that_promises_anything(
    shape: list[int], dtype: str, by_columns: bool, tmp_path: pathlib.Path
) -> None:
    described = dtype if dtype.startswith("[") else repr(dtype)
    header = f"{{'descr': {described}, 'fortran_order': {by_columns}, 'shape': {tuple(shape)}}}\n".encode()
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(648)
    path = written(tmp_path / "a.npy", content)
    packed = tmp_path / "a.npz"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content)
    with little_memory():
        valid_or_refused(lambda: load(path))
        valid_or_refused(lambda: load(packed))


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings
@hypothesis.given(data=strategies.data())
def test_an_index_in_which_anything_stands(
    data: strategies.DataObject, shard_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    index = json.loads((shard_folder / "index.json").read_text())
    entry = index["shards"][0]
    where = data.draw(strategies.sampled_from([index, entry]))
    where[data.draw(strategies.sampled_from(sorted(where)))] = data.draw(JSON)
    folder = tmp_path / "shards"
    if not folder.exists():  # by an earlier example
        shutil.copytree(shard_folder, folder)
    (folder / "index.json").write_text(json.dumps(index))
    valid_or_refused(lambda: load(folder))


# -- options and labels ------------------------------------------------------------------------------------------------


NUMERIC = strategies.text("0123456789.,/x+-eE \u0663\uff11nainfty_", max_size=12)


@settings
@hypothesis.given(
    text=NUMERIC | strategies.sampled_from(["1" * 5000, "0.5/0." + "5" * 5000, "\u0661\u0662", "1e999,1"])
)
def test_numbers_in_options_are_plain_or_refused(text: str) -> None:
    for name, meaning in {
        "size": "height_and_width",
        "split": "shares",
        "value_range": "low_and_high",
        "tfrecord_shape": "raw_shape",
        "background": "background_colour",
    }.items():
        try:
            options = DataOptions(**{name: text})
        except ValueError as error:
            assert name in str(error) and len(str(error)) < LONGEST_MESSAGE
            continue
        assert text.isascii() and "_" not in text
        numbers = getattr(options, meaning) or ()
        assert all(0 <= number < 1e31 for number in numbers) or name == "value_range"
        if name == "split" and text:
            assert sum(numbers) == pytest.approx(1)
        if name == "value_range" and text:
            assert -1e31 < numbers[0] < numbers[1] < 1e31


@settings
@hypothesis.given(
    count=strategies.integers(1, 40),
    shares=strategies.lists(strategies.integers(0, 10), min_size=2, max_size=3).filter(lambda parts: sum(parts) > 0),
    seed=strategies.integers(0, 2**31 - 1),
)
def test_a_split_holds_every_image_once(count: int, shares: list[int], seed: int) -> None:
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, np.newaxis, np.newaxis], (count, 8, 8))
    split = "/".join(f"{share / sum(shares):.9f}" for share in shares)
    try:
        dataset = load(images, np.arange(count) % 3, DataOptions(split=split, split_seed=seed))
    except ValueError:
        assert 0 in (shares[0], shares[-1])  # nothing to train on, or to test
    except GenlabError as error:
        assert "too few" in str(error)
    else:
        rows = np.concatenate([part[:, 0, 0, 0] for part, _ in dataset.parts().values()])
        assert sorted(rows) == list(range(count))


NUMBERS = strategies.integers(0, 12) | strategies.integers(0, 2**63 - 1)


@settings
@hypothesis.given(
    labels=strategies.lists(NUMBERS, min_size=1) | strategies.lists(strategies.text(max_size=3), min_size=1)
)
def test_the_name_of_a_class_is_its_label(labels: list[int] | list[str]) -> None:
    held_out = labels[:1]
    (classes, others), names = classes_of([labels, held_out])
    assert ["" if number == UNLABELLED else names[number] for number in classes] == [
        str(label).rstrip("\0") for label in labels
    ]  # numpy drops the zeros
    assert others[0] == classes[0]
    assert len(names) <= max(MOST_CLASSES, 2 * len(labels)) and classes.dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "names", "classes", "class_names"),
    [
        ([0, 1, 2], (), [0, 1, 2], "012"),
        ([0, 1, 3], (), [0, 1, 3], "0123"),  # three of four occur: numbers keep their meaning
        ([3, 7, 3], (), [0, 1, 0], "37"),
        ([2_000_000_000, 5, 2_000_000_000], (), [1, 0, 1], ["5", "2000000000"]),
        (np.array([2**64 - 1, 0], np.uint64), (), [1, 0], ["0", "18446744073709551615"]),
        ([3, 1], "abcde", [3, 1], "abcde"),
        ([1, 2, 3], "abc", [0, 1, 2], "abc"),  # numbered from 1
        (["dog", "cat"], (), [1, 0], ["cat", "dog"]),
        ([b"dog", b"\xff"], (), [1, 0], ["\\xff", "dog"]),
        ([4, -1, 4, 2, 0], (), [4, -1, 4, 2, 0], "01234"),  # -1 and empty text: no label
        (["dog", "", "cat"], (), [1, -1, 0], ["cat", "dog"]),
        (["dog", "cat"], ["dog", "cat", "cow"], [0, 1], ["dog", "cat", "cow"]),
    ],
)
def test_labels_become_classes(labels: object, names: object, classes: list[int], class_names: object) -> None:
    (found,), found_names = classes_of([labels], tuple(names))
    assert found.tolist() == classes and found_names == tuple(class_names)


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0.0, 1.5], (), "type float64; they must be whole numbers from 0 up, or names"),
        ([0.0, np.nan], (), "type float64"),
        ([1, -2], (), "one is -2; they must be whole numbers from 0 up"),
        ([[1], [2]], (), "shape [2, 1]"),
        ([True, False], (), "type bool"),
        ([2**70], (), "type object"),
        (np.arange(10_001) * 7, (), "they would be 10,001 classes, and there can be 10,000"),
        ([0, 9], "abc", "class_names has 3 names, and the labels have 2 values up to 9"),
        (["cat", "dog"], ["cat"], "class_names lacks dog"),
        ([0], ["a"] * 10_001, "10,001 classes"),
    ],
)
def test_labels_that_cannot_be_classes(labels: object, names: object, words: str) -> None:
    with pytest.raises(genlab.UsageError) as refused:
        classes_of([labels], tuple(names))
    assert words in str(refused.value)


def test_classes_are_the_same_in_every_split() -> None:
    path = written(
        pathlib.Path("a.npz"), npz_file(images=IMAGES, y_train=LABELS * 500, x_test=IMAGES[:2], y_test=[500, 77])
    )
    dataset = load(path)
    assert dataset.class_names == ("0", "77", "500", "1000")
    assert dataset.labels.tolist() == [0, 2, 3, 0, 2, 3] and dataset.test_labels.tolist() == [2, 1]
    with pytest.raises(genlab.UsageError, match="some are numbers and some are text"):
        classes_of([[1, 2], ["a"]])


# -- what is not read --------------------------------------------------------------------------------------------------


def test_only_the_arrays_that_are_needed_are_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_file(IMAGES))
        archive.writestr("notes.txt", "not an array")
        with archive.open("unused.npy", "w") as member:
            for _ in range(100):
                member.write(bytes(1_000_000))
    with little_memory():
        np.testing.assert_array_equal(load(path).images[..., 0], IMAGES)


def test_archives_that_numpy_does_not_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", npy_file(IMAGES))
    with pytest.raises(genlab.UsageError, match="images is compressed by another method than numpy uses"):
        load(path)
    content = bytearray(npz_file(images=IMAGES))
    for start in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        content[start] |= 1
    path.write_bytes(content)
    with pytest.raises(genlab.UsageError, match="images is encrypted"):
        load(path)


def test_memory_is_taken_for_bytes_not_for_promises(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000)}\n"
    lie = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(100)
    with little_memory():
        with pytest.raises(genlab.UsageError, match="promises 1,000,000,000,000 bytes, and 100 bytes are there"):
            load(written(tmp_path / "a.npy", lie))
        gzipped = written(
            tmp_path / "idx" / "train-images-idx3-ubyte.gz", gzip.compress(idx_file(IMAGES)[:4] + b"\xff" * 12)
        )
        with pytest.raises(genlab.UsageError, match="compressed bytes are there"):
            load(gzipped.parent)
        # A bomb that does hold what it promises, on a machine that cannot.
        monkeypatch.setattr("genlab.files.memory", lambda: 1_000_000)
        zeros = struct.pack(">HBBIII", 0, 8, 3, 2000, 100, 100) + bytes(20_000_000)
        gzipped.write_bytes(gzip.compress(zeros))
        with pytest.raises(genlab.UsageError, match="20,000,000 bytes, and this machine has 1,000,000 bytes of memory"):
            load(gzipped.parent)


def test_a_header_of_npy_that_is_too_long_is_not_read(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path / "a.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 10_000_000) + bytes(10_000_000))
    with little_memory(5_000_000), pytest.raises(ValueError, match="header has 10,000,000 bytes"), npy.opened(path):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "not an image in the format PNG, JPEG, WebP, BMP, GIF or TIFF",
        ),
        (b"P5 9 9 255\n" + bytes(81), "not an image in the format"),  # Pillow knows it, genlab does not promise it
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBBI", 13_000, 13_000, 16, 0, 0, 0, 0, 0x1D9D2F8A),
            "13,000x13,000 pixels, and at most 80,000,000 are read",
        ),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBBI", 10**6, 10**6, 16, 0, 0, 0, 0, 0),
            "",
        ),
    ],
)
def test_pictures_that_are_not_decoded(content: bytes, words: str, tmp_path: pathlib.Path) -> None:
    if content.startswith(b"\x89PNG"):
        content = (
            content[:-4]
            + struct.pack(">I", zlib.crc32(content[12:-4]))
            + b"\0\0\0\0IDAT"
            + struct.pack(">I", zlib.crc32(b"IDAT"))
        )
    with little_memory(), pytest.raises(ValueError, match=words or "pixels"), image_files.opened(content):
        pass
    written(tmp_path / "images" / "x.png", content)
    with pytest.raises(genlab.UsageError, match=words or "pixels"):
        load(tmp_path / "images")


def test_records_whose_lengths_lie_or_that_are_no_examples(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tfrecord"
    for length, words in ((2**63, "its record 0 is incomplete"), (3, "record 0 is no tf.train.Example")):
        path.write_bytes(struct.pack("<QI", length, 0) + b"\xff\xff\xff" + bytes(4))
        with pytest.raises(genlab.UsageError, match=words):
            load(path)
    image = picture_file("image.png")
    for label, words in ((b"cat", "must be one integer, at least 0"), (-1, "must be one integer")):
        write_records(path, [{"image": image, "label": label}])
        with pytest.raises(genlab.UsageError, match=rf"a\.tfrecord, record 0: its label 'label' {words}"):
            load(path)
    write_records(path, [{"image": image, "label": 7}, {"image": image, "label": 2_000_000_000}])
    dataset = load(path)
    assert dataset.labels.tolist() == [0, 1] and dataset.class_names == ("7", "2000000000")


@pytest.mark.parametrize("name", ["../other.tfrecord", "/etc/passwd", "below/train.tfrecord", "..", ""])
def test_shards_are_files_of_their_folder(name: str, shard_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["file"] = name
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(GenlabError, match="is no file of its folder"):
        load(folder)
    with pytest.raises(GenlabError, match="is no file of its folder"):
        shards.damaged(folder)
