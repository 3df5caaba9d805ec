"""Images from files of every kind, and what is said about those that cannot be read."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pathlib
import resource
import sys
import types

import numpy as np
import pytest
from conftest import TINY, fails, state_of, write_records
from PIL import Image

import genlab
from genlab.backend import tf
from genlab.data import DataOptions, Records, load, shards
from genlab.data import __main__ as command
from genlab.data.frame import Frame, flat
from genlab.errors import explain

RAMP = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) * 2
"""A grey image, 12 high and 10 wide, in which no row or column is like another."""


def colours(seed, shape=(12, 10, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_folder(root, images, labels=None, suffix=".png"):
    """Images as files whose names are in their order, in a folder for each class."""
    for index, image in enumerate(images):
        folder = root if labels is None else root / f"class{labels[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04d}{suffix}")
    return root


def fail(error):
    raise error


@pytest.fixture
def pictures():
    """Twenty-four colour images of three classes, sorted by class."""
    return colours(0, (24, 12, 10, 3)), np.repeat([0, 1, 2], 8).astype(np.int32)


# -- folders -----------------------------------------------------------------------------------------------------------


def test_folders_of_classes_give_labels_and_their_names(tmp_path, pictures):
    images, labels = pictures
    dataset = load(write_folder(tmp_path / "mine", images, labels))
    assert dataset.name == "mine" and dataset.class_names == ("class0", "class1", "class2")
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.test_images is None
    flat_folder = load(write_folder(tmp_path / "flat", images))
    assert flat_folder.labels is None and flat_folder.class_names == ()


def test_train_and_test_folders_are_splits(tmp_path, pictures):
    images, labels = pictures
    write_folder(tmp_path / "train", images[::2], labels[::2])
    write_folder(tmp_path / "test", images[1::4], labels[1::4])
    write_folder(tmp_path / "val", images[3::4], labels[3::4])
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.images, images[::2])
    np.testing.assert_array_equal(dataset.test_images, images[1::4])
    np.testing.assert_array_equal(dataset.validation_labels, labels[3::4])


def test_splits_with_other_classes_are_refused(tmp_path, pictures):
    images, labels = pictures
    write_folder(tmp_path / "train", images, labels)
    write_folder(tmp_path / "test", images[:3], [5, 5, 5])
    with pytest.raises(genlab.UsageError, match="has the classes class5"):
        load(tmp_path)


def test_an_image_beside_class_folders_is_named(tmp_path, pictures):
    images, labels = pictures
    write_folder(tmp_path, images, labels)
    Image.fromarray(images[0]).save(tmp_path / "stray.png")
    with pytest.raises(genlab.UsageError, match=r"stray\.png is in no class folder"):
        load(tmp_path)


def test_empty_folders_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(genlab.UsageError, match="no training images"):
        load(tmp_path)
    (tmp_path / "images.rar").write_text("x")
    with pytest.raises(genlab.UsageError, match="a kind that genlab does not read"):
        load(tmp_path / "images.rar")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tiff", ".webp", ".jpg"])
def test_every_format_of_files(tmp_path, suffix):
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(suffix, {})
    Image.fromarray(RAMP).save(tmp_path / f"image{suffix}", **options)
    grey = load(tmp_path, options=DataOptions(channels="1")).images[0, ..., 0]
    assert np.abs(grey.astype(int) - RAMP).max() <= (3 if suffix == ".jpg" else 0)


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load(tmp_path, options=DataOptions(channels="1")).images[0, ..., 0], RAMP)


def test_kinds_of_pixels():
    red = (255, 0, 0)
    picture = Image.fromarray(RAMP)
    assert flat(picture).mode == "L" and flat(picture.convert("1")).mode == "L"
    assert flat(Image.new("P", (10, 12))).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(flat(Image.fromarray(RAMP.astype(np.uint16) * 257))), RAMP)
    np.testing.assert_allclose(np.asarray(flat(Image.fromarray(RAMP.astype(np.float32) / 255))), RAMP)
    with pytest.raises(ValueError, match="floats from 0 to 238"):
        flat(Image.fromarray(RAMP.astype(np.float32)))
    # Pure cyan ink leaves no red.
    assert flat(Image.new("CMYK", (10, 12), (255, 0, 0, 0))).getpixel((0, 0)) == (0, 255, 255)
    # Half of blue over red; all of the background where nothing is drawn.
    half = Image.new("RGBA", (10, 12), (0, 0, 255, 128))
    assert flat(half, red).getpixel((0, 0)) == pytest.approx((127, 0, 128), abs=1)
    assert flat(Image.new("LA", (10, 12), (7, 0))).getpixel((0, 0)) == 255
    assert flat(Image.new("LA", (10, 12), (7, 0)), red).getpixel((0, 0)) == red
    indexed = Image.new("P", (10, 12))
    indexed.info["transparency"] = 0
    assert flat(indexed, red).getpixel((0, 0)) == red


def test_photographs_are_turned_upright(tmp_path):
    picture = Image.fromarray(RAMP)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn right by a quarter
    picture.save(tmp_path / "photograph.png", exif=exif)
    images = load(tmp_path).images
    np.testing.assert_array_equal(images[0, ..., 0], np.rot90(RAMP, -1))


def test_grey_folders_stay_grey_and_channels_can_be_chosen(tmp_path, pictures):
    write_folder(tmp_path / "grey", [RAMP, RAMP.T.copy().T])
    assert load(tmp_path / "grey").spec.shape == (12, 10, 1)
    assert load(tmp_path / "grey", options=DataOptions(channels="3")).spec.shape == (12, 10, 3)
    Image.fromarray(pictures[0][0]).save(tmp_path / "grey" / "colour.png")
    assert load(tmp_path / "grey").spec.shape == (12, 10, 3)
    assert load(tmp_path / "grey", options=DataOptions(channels="1")).spec.shape == (12, 10, 1)


def test_links_to_folders_are_followed_once(tmp_path, pictures):
    images, labels = pictures
    elsewhere = write_folder(tmp_path / "elsewhere", images, labels)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("class0", "class2"):
        (folder / name).symlink_to(elsewhere / name)
    dataset = load(folder)
    assert dataset.class_names == ("class0", "class2") and len(dataset.images) == 16
    (folder / "class2" / "around").symlink_to(folder)
    with pytest.raises(genlab.UsageError, match=r"around and .*folder are the same folder. Remove the link"):
        load(folder)
    (folder / "class2" / "around").unlink()
    (folder / "twice").symlink_to(elsewhere / "class0")
    with pytest.raises(genlab.UsageError, match=r"twice and .*class0 are the same folder"):
        load(folder)


def test_a_class_folder_without_permission_is_named(tmp_path, pictures, monkeypatch):
    folder, scandir = write_folder(tmp_path, *pictures), os.scandir

    def refuse(path):
        if pathlib.Path(path).name == "class1":  # permissions do not stop the superuser
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(genlab.UsageError, match=r"class1 cannot be read: Permission denied"):
        load(folder)


def test_pipes_are_not_waited_for(tmp_path, pictures):
    folder = write_folder(tmp_path / "folder", pictures[0])
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(genlab.UsageError, match=r"pipe\.png: it is not a regular file"):
        load(folder)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(genlab.UsageError, match="neither a folder nor a regular file"):
        load(tmp_path / "pipe.npz")
    (tmp_path / "shards").mkdir()
    os.mkfifo(tmp_path / "shards" / "a.tfrecord")
    with pytest.raises(genlab.UsageError, match="not a regular file"):
        load(tmp_path / "shards")
    with pytest.raises(genlab.GenlabError, match="not a regular file"):
        genlab.grids.load_image(folder / "pipe.png")


def test_names_that_are_no_text(tmp_path, pictures, capsys):
    images, labels = pictures
    folder = write_folder(tmp_path / "folder", images, labels)
    (folder / "class2").rename(folder / os.fsdecode(b"\xff\x1b[31m\n"))
    command.main(["inspect", str(folder), "--preview", ""])
    assert "class0: 8, class1: 8, \\udcff\\x1b[31m : 8" in capsys.readouterr().out
    bad = folder / "class0" / os.fsdecode(b"\xfe.png")
    bad.write_text("no image")
    code, message = fails(lambda: command.main(["inspect", str(folder), "--preview", ""]), capsys)
    assert code == 2 and "1 images cannot be read" in message
    dataset = load(folder, options=DataOptions(skip_bad=True, memory=1e-6))
    assert dataset.facts()["skipped"] == ["class0/\udcfe.png"] and json.dumps(dataset.facts())
    for file in (folder / dataset.images.name(20)).parent.iterdir():
        file.unlink()
    with pytest.raises(tf.errors.OpError) as error:
        list(dataset.stream(8, seed=0).take(3))
    assert "\\udcff" in explain(error.value) and "can no longer be read" in explain(error.value)


def test_a_turned_photograph_has_its_size_in_every_source(tmp_path):
    exif, grey = Image.Exif(), DataOptions(channels="1")
    exif[0x0112] = 6
    for suffix in ("jpg", "webp", "tiff"):
        Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}", exif=exif)
        write_records(tmp_path / "a.tfrecord", [{"image": (tmp_path / f"a.{suffix}").read_bytes()}])
        assert load(tmp_path / "a.tfrecord", options=grey).images.shape == (1, 10, 12, 1)
        (tmp_path / "a.tfrecord").unlink()
        assert load(tmp_path, options=grey).images.shape == (1, 10, 12, 1)
        (tmp_path / f"a.{suffix}").unlink()


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_images_of_many_sizes_need_a_size(tmp_path):
    write_folder(tmp_path, [colours(0), colours(1, (30, 20, 3)), colours(2, (9, 40, 3))])
    with pytest.raises(genlab.UsageError, match=r"of 3 sizes, from 9 to 30 pixels high and 10 to 40 wide.*--size 64"):
        load(tmp_path)
    assert load(tmp_path, options=DataOptions(size="16x24")).images.shape == (3, 16, 24, 3)


def test_crop_pad_and_stretch():
    # Left half black, right half white, twice as wide as high.
    picture = np.zeros((20, 40, 1), np.uint8)
    picture[:, 20:] = 255
    cropped, padded, stretched = (
        Frame(10, 10, 1, way, (128, 128, 128)).of(picture) for way in ("crop", "pad", "stretch")
    )
    assert cropped[5, 0, 0] == 0 and cropped[5, 9, 0] == 255
    assert padded[0, 0, 0] == padded[9, 9, 0] == 128 and padded[5, 0, 0] == 0 and padded[5, 9, 0] == 255
    assert stretched[0, 0, 0] == 0 and stretched[0, 9, 0] == 255
    # Cropping a picture whose outer quarters are grey leaves none of them.
    picture[:, :10] = picture[:, 30:] = 128
    assert set(np.unique(Frame(20, 20, 1).of(picture))) == {0, 255}


def test_too_small_images_and_wrong_sizes(tmp_path):
    with pytest.raises(genlab.UsageError, match="4x4 pixels; from 8x8"):
        load(np.zeros((3, 4, 4), np.uint8))
    assert load(np.zeros((3, 4, 4), np.uint8), options=DataOptions(size="8")).spec.shape == (8, 8, 1)
    for name, value in {
        "size": "x",
        "split": "0.9/0.2",
        "background": "reddish",
        "value_range": "1",
        "limit": 0,
    }.items():
        with pytest.raises(ValueError, match=name):
            DataOptions(**{name: value})
    with pytest.raises(genlab.UsageError, match="--size is for images"):
        load("ring", options=DataOptions(size="16"))


# -- broken files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path, pictures):
    images, labels = pictures
    root = write_folder(tmp_path / "broken", images, labels)
    whole = (root / "class1" / "0010.png").read_bytes()
    (root / "class0" / "0003.png").write_bytes(b"")
    (root / "class1" / "0010.png").write_bytes(whole[: len(whole) // 2])
    (root / "class2" / "0020.png").write_text("<html>404 not found</html>")
    return root


@pytest.mark.parametrize("memory", [2.0, 1e-6])
def test_broken_files_are_named_or_skipped(broken, pictures, memory):
    with pytest.raises(genlab.UsageError) as error:
        load(broken, options=DataOptions(memory=memory))
    message = str(error.value)
    assert "--skip-bad" in message
    # Those whose beginning is broken are found before any image is decoded.
    assert "0003.png: it is not an image" in message and "0020.png: it is not an image" in message
    (broken / "class0" / "0003.png").unlink()
    (broken / "class2" / "0020.png").unlink()
    with pytest.raises(genlab.UsageError, match=r"0010\.png: .*truncated"):
        load(broken, options=DataOptions(memory=memory))
    dataset = load(broken, options=DataOptions(memory=memory, skip_bad=True))
    images, labels = pictures
    good = np.setdiff1d(np.arange(24), [3, 10, 20])
    np.testing.assert_array_equal(dataset.images[:], images[good])
    np.testing.assert_array_equal(dataset.labels, labels[good])
    assert dataset.facts()["skipped"] == ["class1/0010.png"]


def test_no_more_than_ten_broken_files_are_listed(tmp_path):
    for index in range(13):
        (tmp_path / f"{index}.png").write_text("no image")
    with pytest.raises(genlab.UsageError, match="and 3 more"):
        load(tmp_path)
    with pytest.raises(genlab.UsageError, match="13 of the images cannot be read"):
        load(tmp_path, options=DataOptions(skip_bad=True))  # nothing would be left


def test_a_file_that_vanishes_in_training_is_named(tmp_path, pictures):
    folder = write_folder(tmp_path / "folder", pictures[0])
    dataset = load(folder, options=DataOptions(memory=1e-6))
    (folder / "0007.png").unlink()
    with pytest.raises(tf.errors.OpError) as error:
        list(dataset.stream(8, seed=0).take(3))
    assert explain(error.value).startswith("0007.png can no longer be read")


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_npz_with_labels_names_and_held_out_images(tmp_path, pictures):
    images, labels = pictures
    path = tmp_path / "mine.npz"
    np.savez(path, images=images, labels=labels, x_test=images[:5], y_test=labels[:5], class_names=["a", "b", "c"])
    dataset = load(path)
    assert dataset.name == "mine" and dataset.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.test_labels, labels[:5])
    np.save(tmp_path / "plain.npy", images[..., 0])
    assert load(tmp_path / "plain.npy").spec.shape == (12, 10, 1)


@pytest.mark.parametrize(
    ("array", "value_range"),
    [
        (RAMP / 255, ""),
        (RAMP / 127.5 - 1, ""),
        (RAMP.astype(np.float32), "0,255"),
        (RAMP.astype(np.int64) * 257, "0,65535"),
        (RAMP / 255 * 6 - 3, "-3,3"),
    ],
)
def test_ranges_of_numbers(tmp_path, array, value_range):
    np.save(tmp_path / "a.npy", array[np.newaxis])
    np.testing.assert_array_equal(
        load(tmp_path / "a.npy", options=DataOptions(value_range=value_range)).images[0, ..., 0], RAMP
    )


def test_arrays_that_cannot_be_meant(tmp_path):
    np.save(tmp_path / "a.npy", RAMP[np.newaxis].astype(np.float32))
    with pytest.raises(genlab.UsageError, match=r"from 0 to 238.*--value-range"):
        load(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(genlab.UsageError, match="it holds Python objects"):
        load(tmp_path / "b.npy")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(genlab.UsageError, match=r"c\.npz cannot be read"):
        load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", pixels=RAMP)
    with pytest.raises(genlab.UsageError, match="holds pixels; it must hold an array `images`"):
        load(tmp_path / "d.npz")


# -- shards ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["png", "raw"])
def test_shards_hold_what_was_put_into_them(tmp_path, pictures, encoding, capsys):
    images, labels = pictures
    folder = write_folder(tmp_path / "folder", images, labels)
    arguments = ["shard", str(folder), str(tmp_path / "out"), "--split", "0.75/0.25", "--images-per-shard", "5"]
    command.main([*arguments, "--encoding", encoding])
    assert "24 images in 6 shards" in capsys.readouterr().out
    original, dataset = load(folder, options=DataOptions(split="0.75/0.25")), load(tmp_path / "out")
    for split, part in original.parts().items():
        for mine, other in zip(part, dataset.parts()[split], strict=True):
            np.testing.assert_array_equal(mine, other)
    assert dataset.class_names == original.class_names
    assert shards.damaged(tmp_path / "out") == []


def test_sharding_goes_on_where_it_was_cut_off(tmp_path, pictures):
    images, _ = pictures
    asked = []

    def images_of(rows, stop_at=10):
        if rows[0] >= stop_at:
            raise KeyboardInterrupt
        asked.append(int(rows[0]))
        return images[rows], None

    facts = {"name": "mine", "shape": [12, 10, 3], "class_names": []}
    with pytest.raises(KeyboardInterrupt):
        shards.write(tmp_path / "out", facts, {"train": (24, images_of)}, images_per_shard=5)
    with pytest.raises(genlab.UsageError, match="not complete"):
        load(tmp_path / "out")
    with pytest.raises(genlab.UsageError, match="they differ in name"):
        shards.write(tmp_path / "out", facts | {"name": "x"}, {"train": (24, images_of)}, images_per_shard=5)
    whole = {"train": (24, lambda rows: images_of(rows, 100))}
    shards.write(tmp_path / "out", facts, whole, images_per_shard=5)
    assert asked == [0, 5, 10, 15, 20]  # none twice
    np.testing.assert_array_equal(load(tmp_path / "out").images, images)


def test_a_full_disk_and_a_killed_command_are_made_up_for(tmp_path, pictures, monkeypatch, capsys):
    images, _ = pictures
    folder, out = write_folder(tmp_path / "folder", images), tmp_path / "out"
    arguments = ["shard", str(folder), str(out), "--images-per-shard", "10"]
    with monkeypatch.context() as patch:
        patch.setattr("genlab.data.shards._png", lambda image: fail(OSError(errno.ENOSPC, "No space left on device")))
        code, message = fails(lambda: command.main(arguments), capsys)
    assert code == 1 and "type the same command again" in message and "--resume" not in message
    (out / ".0123.tfrecord").write_bytes(b"what a killed process leaves")
    command.main(arguments)
    shard = out / "train-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)  # of the right size, but not what was written
    command.main(arguments)
    np.testing.assert_array_equal(load(out).images, images)


def test_there_may_be_more_shards_than_files_that_can_be_open(tmp_path, pictures):
    images, labels = pictures
    facts = {"name": "many", "shape": [12, 10, 3], "class_names": ["a", "b", "c"]}
    shards.write(
        tmp_path / "many", facts, {"train": (24, lambda rows: (images[rows], labels[rows]))}, images_per_shard=1
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(pathlib.Path("/dev/fd").iterdir())) + 12, hard))
    try:
        dataset = load(tmp_path / "many", options=DataOptions(memory=1e-9))
        assert np.array_equal(dataset.images[:], images) and np.array_equal(dataset.labels, labels)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_damaged_shards_are_named(tmp_path, pictures):
    folder = tmp_path / "out"
    images, labels = pictures
    facts = {"name": "mine", "shape": [12, 10, 3], "class_names": list("abc")}
    parts = {"train": (24, lambda rows: (images[rows], labels[rows]))}
    shards.write(folder, facts, parts, images_per_shard=8)
    file = folder / "train-00001.tfrecord"
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    assert shards.damaged(folder) == ["train-00001.tfrecord"]
    with pytest.raises(genlab.UsageError, match=r"train-00001\.tfrecord, record 0"):
        load(folder)
    file.write_bytes(content[:500])
    with pytest.raises(genlab.UsageError, match=r"train-00001\.tfrecord is 500 bytes, and the index says"):
        load(folder)
    with pytest.raises(genlab.UsageError, match="not empty"):
        shards.write(folder.parent, facts, parts)


def test_tfrecords_of_others(tmp_path, pictures):
    images, labels = pictures
    path = tmp_path / "theirs.tfrecord"
    write_records(path, [{"x": image.tobytes(), "y": int(label)} for image, label in zip(images, labels, strict=True)])
    keys = DataOptions(tfrecord_image="x", tfrecord_label="y", tfrecord_shape="12x10x3")
    dataset = load(path, options=keys)
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert load(path, options=dataclasses.replace(keys, tfrecord_label="z")).labels is None
    with pytest.raises(genlab.UsageError, match="no image under 'image', but x, y; name the key with --tfrecord-image"):
        load(path)
    with pytest.raises(genlab.UsageError, match="360 bytes, and 12x10x1 takes 120"):
        load(path, options=dataclasses.replace(keys, tfrecord_shape="12x10x1"))
    encoded = tf.io.encode_jpeg(images[0], quality=95).numpy()
    write_records(path, [{"image": encoded}])
    assert load(path).images.shape == (1, 12, 10, 3)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(genlab.UsageError, match="cut short"):
        load(path)
    write_records(path, [{"image": encoded}], tf.io.TFRecordOptions(compression_type="GZIP"))
    with pytest.raises(genlab.UsageError, match="compressed as a whole"):
        load(path)


def test_shards_of_generated_images(trained, tmp_path, capsys):
    out = tmp_path / "generated"
    command.main(["shard", f"run:{trained.path}", str(out), "--count", "10", "--images-per-shard", "4", "--seed", "3"])
    drawn = trained.model.sample(trained.model.sample_latents(range(3, 13)))
    np.testing.assert_array_equal(load(out).images, genlab.grids.as_pixels(drawn))
    assert json.loads((out / "index.json").read_text())["run"] == trained.name


# -- one training, whatever the source ---------------------------------------------------------------------------------


def test_folder_npz_and_shards_train_alike_bit_for_bit(tmp_path, pictures):
    images, labels = pictures
    folder = write_folder(tmp_path / "folder", images, labels)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    command.main(["shard", str(folder), str(tmp_path / "out"), "--images-per-shard", "7"])
    sources = [
        (folder, 2.0),
        (tmp_path / "images.npz", 2.0),
        (tmp_path / "out", 1e-6),
    ]
    states = []
    for source, memory in sources:
        run = genlab.fit("dcgan", source, steps=5, memory=memory, out=tmp_path / "runs", **TINY)
        assert isinstance(run.data().images, Records) == (memory < 1e-3 and source != tmp_path / "images.npz")
        states.append(state_of(run))
    for other in states[1:]:
        assert set(other) == set(states[0])
        for name, value in states[0].items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_a_run_reads_its_data_again_as_it_was_prepared(tmp_path, pictures):
    images, labels = pictures
    folder = write_folder(tmp_path / "folder", images, labels)
    run = genlab.fit(
        "dcgan", folder, steps=2, size="16x9", classes="class0,2", split="0.5/0.25/0.25", **TINY | {"batch_size": 4}
    )
    again = genlab.load(run.path)
    assert again.data().spec.shape == (16, 9, 3) and again.config.dataset["class_names"] == ["class0", "class2"]
    assert again.config.dataset["split"]["shares"] == [0.5, 0.25, 0.25]
    (folder / "class0" / "0000.png").unlink()
    with pytest.raises(genlab.GenlabError, match="its hash is"):
        genlab.load(run.path).data()


def test_a_stream_from_disk_resumes_where_it_stood(tmp_path, pictures):
    dataset = load(write_folder(tmp_path / "folder", *pictures), options=DataOptions(memory=1e-6))
    whole = [batch.numpy() for batch, _ in dataset.stream(5, seed=1).take(9)]
    rest = [batch.numpy() for batch, _ in dataset.stream(5, seed=1, start=4).take(5)]
    np.testing.assert_array_equal(np.stack(whole[4:]), np.stack(rest))


# -- which images, and how often ---------------------------------------------------------------------------------------


def test_classes_of_parts_without_labels(small_images):
    images, labels = small_images
    dataset = genlab.data.from_arrays(images, labels, held_out=(images, None))
    with pytest.raises(genlab.UsageError, match="the images for test have no labels"):
        load(dataset, options=DataOptions(classes="1"))
    with pytest.raises(genlab.UsageError, match="the classes of array are 0, 1, 2"):
        load(images, labels, DataOptions(classes="\u00b2"))  # a digit for str.isdigit, but not for int


def test_classes_by_name_or_number():
    dataset = load("digits", options=DataOptions(classes="7,3"))
    assert dataset.class_names == ("3", "7") and set(dataset.labels) == {0, 1}
    whole = load("digits")
    np.testing.assert_array_equal(dataset.images[dataset.labels == 1], whole.images[whole.labels == 7])
    np.testing.assert_array_equal(
        dataset.test_images[dataset.test_labels == 0], whole.test_images[whole.test_labels == 3]
    )
    with pytest.raises(genlab.UsageError, match="the classes of digits are 0, 1"):
        load("digits", options=DataOptions(classes="ten"))


def test_splits_are_stratified_seeded_and_complete():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    images = np.broadcast_to(np.arange(1000)[:, None, None] % 256, (1000, 8, 8)).astype(np.uint8)
    split = load(images, labels, DataOptions(split="0.8/0.1/0.1"))
    assert [len(part[0]) for part in split.parts().values()] == [800, 100, 100]
    for _, of_part in split.parts().values():
        np.testing.assert_allclose(np.bincount(of_part) / len(of_part), [0.6, 0.3, 0.1], atol=0.011)
    values = np.concatenate([part[:, 0, 0, 0] for part, _ in split.parts().values()])
    np.testing.assert_array_equal(np.sort(values), np.sort(images[:, 0, 0]))
    assert load(images, labels, DataOptions(split="0.8/0.1/0.1")).sha256 == split.sha256
    other = load(images, labels, DataOptions(split="0.8/0.1/0.1", split_seed=1))
    assert other.split["indices_sha256"] != split.split["indices_sha256"]
    with pytest.raises(genlab.UsageError, match="held-out images of its own"):
        load("digits", options=DataOptions(split="0.9/0.1"))


def test_a_limit_keeps_the_shares_of_the_classes():
    dataset = load("digits", options=DataOptions(limit=100))
    assert len(dataset.images) == 100 and len(dataset.test_images) == 360
    assert set(np.bincount(dataset.labels)) <= {9, 10, 11}


@pytest.mark.parametrize("balance", ["none", "oversample", "weight"])
def test_balance_of_unequal_classes(balance):
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    images = np.broadcast_to(np.arange(100)[:, None, None], (100, 8, 8)).astype(np.uint8)
    dataset = load(images, labels, DataOptions(balance=balance))
    epochs = 30
    batches = dataset.stream(20, seed=0).take(epochs * dataset.epoch_size // 20)
    seen = np.concatenate([batch[:, 0, 0, 0].numpy() for batch, _ in batches])
    shares = np.bincount(labels[seen]) / len(seen)
    by_image = np.bincount(seen, minlength=100) / epochs
    match balance:
        case "none":
            np.testing.assert_array_equal(by_image, 1)
        case "oversample":
            assert dataset.epoch_size == 180
            np.testing.assert_allclose(shares, 1 / 3)
            np.testing.assert_array_equal(by_image[:60], 1)
            np.testing.assert_array_equal(by_image[60:90], 2)
            np.testing.assert_array_equal(by_image[90:], 6)
        case "weight":
            assert dataset.epoch_size == 100
            np.testing.assert_allclose(shares, 1 / 3, atol=0.04)
            assert by_image.min() > 0


def test_balance_needs_labels(small_images):
    with pytest.raises(genlab.UsageError, match="needs labels"):
        load(small_images[0], options=DataOptions(balance="weight"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", float("nan")),
        ("memory", float("inf")),
        ("memory", "2"),
        ("limit", 2.5),
        ("limit", float("nan")),
        ("value_range", "nan,1"),
        ("value_range", "0,inf"),
        ("value_range", "0,1e-300"),
        ("split", "nan/1"),
        ("split", "\u0660.9/0.1"),
        ("size", "\u0661\u0662"),
        ("size", "1" * 5000),
        ("tfrecord_shape", "0x28x1"),
        ("background", "rgb(999,0,0)"),
        ("background", "hsl(" + "9" * 400 + ",100%,50%)"),
        ("augment", ("shift", "shear")),
        ("augment", "shift"),
        ("resize", "fill"),
        ("flip", "yes"),
        ("split_seed", 1.5),
    ],
)
def test_options_that_mean_nothing(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is .*") as refused:
        DataOptions(**{name: value})
    assert len(str(refused.value)) < 400
    assert DataOptions(augment=["shift"]).augment == ("shift",)


# -- tensorflow-datasets, the command line -----------------------------------------------------------------------------


def test_tensorflow_datasets_where_it_is_installed(monkeypatch, pictures):
    with pytest.raises(genlab.UsageError, match="pip install tensorflow-datasets"):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        load("tfds:mine")
    images, labels = pictures
    rows = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    info = types.SimpleNamespace(features={"image": None, "label": types.SimpleNamespace(names=["a", "b", "c"])})
    module = types.SimpleNamespace(
        load=lambda name, with_info: ({"train": rows[:20], "test": rows[20:]}, info), as_numpy=lambda split: split
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    dataset = load("tfds:mine")
    np.testing.assert_array_equal(dataset.test_images, images[20:])
    assert dataset.class_names == ("a", "b", "c")


def test_inspect_says_what_is_there(tmp_path, pictures, capsys):
    images, labels = pictures
    folder = write_folder(tmp_path / "folder", images[:17], labels[:17])
    command.main(["inspect", str(folder), "--preview", str(tmp_path / "preview.png")])
    text = capsys.readouterr().out
    for words in ("train        17 images, labelled", "12x10 (17)", "RGB (17)", "class0: 8, class1: 8, class2: 1"):
        assert words in text
    assert "--balance" in text and "17 images 12x10x3" in text and (tmp_path / "preview.png").exists()


def test_inspect_refuses_a_preview_without_a_format(tmp_path, pictures, capsys):
    folder = write_folder(tmp_path / "folder", pictures[0])
    for name in ("preview", "preview.xyz"):
        code, message = fails(lambda name=name: command.main(["inspect", str(folder), "--preview", name]), capsys)
        assert code == 2 and f"cannot be written as {name}" in message


def test_inspect_names_broken_files(broken, capsys):
    code, message = fails(lambda: command.main(["inspect", str(broken), "--preview", ""]), capsys)
    assert code == 2 and "3 images cannot be read" in message
    command.main(["inspect", str(broken), "--preview", "", "--skip-bad"])
    text = capsys.readouterr().out
    assert "class0/0003.png: it is not an image" in text and "class1/0010.png: " in text
    assert "21 images 12x10x3" in text
