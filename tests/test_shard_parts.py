"""Images of a run, written as parts by several processes: the same in any number of parts, restartable, and joined when read."""

from __future__ import annotations

import importlib
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PATIENCE, fails

import genlab
from genlab.data import labels as classes
from genlab.data import load, shards

command = importlib.import_module("genlab.data.__main__")
COUNT = ["--count", "95", "--images-per-shard", "10", "--seed", "7"]


def shard(run, out, *more: str) -> None:
    command.main(["shard", f"run:{run.path}", str(out), *COUNT, *more])


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


@pytest.fixture(scope="module")
def run(small_run):
    return small_run("cgan")


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The images in one piece."""
    folder = tmp_path_factory.mktemp("whole") / "more"
    shard(run, folder)
    return folder


@pytest.mark.parametrize("parts", [1, 3])
def test_the_images_are_the_same_in_any_number_of_parts(run, whole, parts, tmp_path, capsys):
    for number in reversed(range(1, parts + 1)):
        shard(run, tmp_path / "more", "--part", f"{number}/{parts}")
    assert f"all {parts} parts are there" in capsys.readouterr().out
    assert contents(tmp_path / "more") == contents(whole)
    joined, one = load(str(tmp_path / "more")), load(str(whole))
    assert len(joined.images) == 95
    np.testing.assert_array_equal(joined.images[:], one.images[:])
    np.testing.assert_array_equal(joined.labels, one.labels)
    np.testing.assert_array_equal(joined.labels, (7 + np.arange(95)) % 10)
    assert shards.damaged(tmp_path / "more") == []


def test_parts_that_are_missing_or_unfinished_are_named(run, tmp_path, capsys):
    for number in (1, 2, 3, 5, 6, 8, 9):
        shard(run, "more", "--part", f"{number}/10")
    assert "still to be written: --part 4/10, --part 7/10, --part 10/10" in capsys.readouterr().out
    with pytest.raises(
        genlab.UsageError, match=r"more: parts 4, 7 and 10 of 10 are missing\. Type .* with --part 4/10"
    ):
        load("more")
    code, message = fails(lambda: command.main(["inspect", "more"]), capsys)
    assert code == 2 and "parts 4, 7 and 10 of 10 are missing" in message
    shard(run, "more", "--part", "4/10")
    shard(run, "more", "--part", "7/10")
    index = pathlib.Path("more/index-00003-of-00010.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"complete": False}))
    with pytest.raises(genlab.UsageError, match="part 10 of 10 is missing, and part 3 of 10 is not complete"):
        load("more")


def test_parts_of_other_images_or_of_another_number_are_refused(run, tmp_path, capsys):
    shard(run, "more", "--part", "1/3")
    for more in (["--part", "2/4"], ["--part", "2/3", "--seed", "8"], ["--part", "2/3", "--count", "90"], []):
        code, message = fails(lambda more=more: shard(run, "more", *more), capsys)
        assert code == 2 and "holds other shards: they differ in" in message
    shard(run, "other", "--part", "2/3", "--label", "3")
    pathlib.Path("other/index-00002-of-00003.json").rename("more/index-00002-of-00003.json")
    shard(run, "third", "--part", "3/3")
    pathlib.Path("third/index-00003-of-00003.json").rename("more/index-00003-of-00003.json")
    with pytest.raises(genlab.UsageError, match="parts 1 and 2 of 3 differ in label"):
        load("more")
    pathlib.Path("third/index-00004-of-00004.json").write_text(
        pathlib.Path("more/index-00003-of-00003.json").read_text()
    )
    pathlib.Path("third/index-00004-of-00004.json").rename("more/index-00004-of-00004.json")
    with pytest.raises(genlab.UsageError, match="holds parts of 3, 4"):
        load("more")


@pytest.mark.parametrize("part", ["17/16", "0/16", "1/0", "3", "3/", "a/b", "-1/3", "1.5/3", "1/100000"])
def test_wrong_part_numbers(run, part, capsys):
    code, message = fails(lambda: shard(run, "more", f"--part={part}"), capsys)
    assert code == 2 and "--part" in message and "3/16" in message
    assert not pathlib.Path("more").exists()


def test_more_parts_than_shards_are_refused(run, capsys):
    code, message = fails(lambda: shard(run, "more", "--part", "3/16"), capsys)
    assert code == 2 and "95 images are 10 shards of 10" in message and "--images-per-shard" in message
    assert not pathlib.Path("more").exists()


def test_a_killed_part_continues_at_the_first_shard_that_is_not_whole(run, tmp_path):
    out = tmp_path / "more"
    arguments = ["shard", f"run:{run.path}", str(out), "--count", "4000", "--images-per-shard", "10", "--part", "2/2"]
    process = subprocess.Popen([sys.executable, "-m", "genlab.data", *arguments], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(list(out.glob("train-*.tfrecord"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = out / "index-00002-of-00002.json"
    listed = [shard["file"] for shard in json.loads(index.read_text())["shards"]]
    assert not json.loads(index.read_text())["complete"] and listed[0] == "train-00200.tfrecord"
    before = {name: (out / name).stat().st_ino for name in listed}
    command.main(arguments)
    assert {name: (out / name).stat().st_ino for name in listed} == before
    assert json.loads(index.read_text())["complete"] and len(list(out.glob("train-*.tfrecord"))) == 200


def test_finished_shards_are_not_made_again(run, tmp_path):
    out, drawn = tmp_path / "more", []
    facts = {"name": "mine", "shape": [8, 8, 1], "class_names": []}

    def images_of(rows, stop=10**6):
        if rows[0] >= stop:
            raise KeyboardInterrupt
        drawn.append(int(rows[0]))
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), 8, 8, 1)), None

    second = shards.Part(2, 2)
    with pytest.raises(KeyboardInterrupt):
        shards.write(out, facts, {"train": (95, lambda rows: images_of(rows, 70))}, images_per_shard=10, part=second)
    before = {path.name: path.stat().st_ino for path in out.glob("*.tfrecord")}
    shards.write(out, facts, {"train": (95, images_of)}, images_per_shard=10, part=second)
    assert drawn == [50, 60, 70, 80, 90]  # none twice
    assert before.items() <= {path.name: path.stat().st_ino for path in out.glob("*.tfrecord")}.items()
    (out / "train-00006.tfrecord").write_bytes(b"cut")
    shards.write(out, facts, {"train": (95, images_of)}, images_per_shard=10, part=second)
    assert drawn[5:] == [60]
    shards.write(out, facts, {"train": (95, images_of)}, images_per_shard=10, part=shards.Part(1, 2))
    np.testing.assert_array_equal(load(out).images[:, 0, 0, 0], np.arange(95))


@pytest.mark.parametrize("shares", [[0.5, 0.0, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1] * 10, [1 / 3] * 3])
def test_classes_have_their_shares_among_any_consecutive_seeds(shares):
    drawn = classes.in_shares(np.arange(2_000_000), shares)
    for start, count in ((0, 2_000_000), (123_456, 1_000_000), (999, 1000), (5, 30)):
        counts = np.bincount(drawn[start : start + count], minlength=len(shares))
        assert np.abs(counts - count * np.array(shares)).max() < 6
        assert counts[np.array(shares) == 0].sum() == 0
    far = 2**62 + np.arange(1000)
    np.testing.assert_array_equal(classes.in_shares(far[500:], shares), classes.in_shares(far, shares)[500:])


def test_labels_in_stated_shares_are_the_same_in_any_number_of_parts(run, tmp_path, capsys):
    shares = ["--shares", "7=0.5", "9=0.3", "0=0.2"]
    for number in (1, 2, 3):
        shard(run, "parts", *shares, "--part", f"{number}/3")
    shard(run, "whole", *shares)
    joined, one = load("parts"), load("whole")
    np.testing.assert_array_equal(joined.images[:], one.images[:])
    np.testing.assert_array_equal(joined.labels, one.labels)
    counts = np.bincount(joined.labels, minlength=10)
    assert set(np.flatnonzero(counts)) == {0, 7, 9} and np.abs(counts[[7, 9, 0]] - [47.5, 28.5, 19]).max() < 3
    # Each image is that of its seed and its class.
    latents = run.model.sample_latents(7 + np.arange(95))
    drawn = genlab.grids.as_pixels(run.model.sample(latents, joined.labels))
    np.testing.assert_array_equal(joined.images[:], drawn)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (["7=0.5"], "they add up to 0.5; they must add up to 1"),
        (["7=0.5", "7"], "the classes of"),
        (["7"], "the classes of"),
        (["7=half"], "a class and its share"),
        (["7=nan", "8=1"], "the share of 7"),
        (["7=1.5", "8=-0.5"], "the share of 7"),
        (["12=1"], "--shares 12: the classes of"),
        (["7=1", "--label", "7"], "leave one out"),
    ],
)
def test_wrong_shares(run, shares, words, capsys):
    code, message = fails(lambda: shard(run, "more", "--shares", *shares), capsys)
    assert code == 2 and words in message
    assert not pathlib.Path("more").exists()


def test_shares_and_labels_are_those_of_a_run(small_run, capsys):
    code, message = fails(lambda: command.main(["shard", "digits", "more", "--shares", "7=1"]), capsys)
    assert code == 2 and "choose what a run generates" in message
    code, message = fails(lambda: shard(small_run("dcgan"), "more", "--shares", "7=1"), capsys)
    assert code == 2 and "draws without labels" in message


def test_a_source_is_written_in_parts_too(tmp_path):
    for number in (2, 1):
        command.main(["shard", "digits", "parts", "--images-per-shard", "300", "--part", f"{number}/2"])
    digits, joined = load("digits"), load("parts")
    np.testing.assert_array_equal(joined.images[:], digits.images)
    np.testing.assert_array_equal(joined.test_images[:], digits.test_images)
    np.testing.assert_array_equal(joined.test_labels, digits.test_labels)
