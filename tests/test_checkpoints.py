"""Checkpoints are whole or passed over, found by their names in the run's own folder, and nothing else is deleted."""

from __future__ import annotations

import logging
import os
import pathlib
import shutil

import numpy as np
import pytest
from conftest import fails, state_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import genlab
from genlab import checkpoints, sample
from genlab import run as runs
from genlab.backend import tf
from genlab.errors import LONGEST_REASON
from genlab.train import __main__ as train

STORED = pathlib.Path(__file__).parent / "stored" / "runs" / "00000-cgan-digits"
VALUES = {"weights": np.arange(60, dtype=np.float32).reshape(12, 5), "count": np.int64(7)}


def small_checkpoint() -> tf.train.Checkpoint:
    return tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in VALUES.items()})


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    """Whole checkpoints of steps 2, 4 and 10."""
    for step in (2, 4, 10):
        checkpoints.write(small_checkpoint(), tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


@pytest.fixture
def stored():
    """A copy of a stored run with checkpoints of steps 1 and 2, alike."""
    path = pathlib.Path(shutil.copytree(STORED, "runs/00000-cgan-digits"))
    for file in (path / "checkpoints").glob("step-2.*"):
        shutil.copy(file, file.with_name(file.name.replace("step-2", "step-1")))
    return path


# -- names and files ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_its_two_files(folder):
    assert checkpoints.steps(folder) == [2, 4, 10]
    checkpoints.remove(folder, {2, 10, 11})
    assert names(folder) == ["step-4.data-00000-of-00001", "step-4.index"]
    assert checkpoints.steps(folder / "nowhere") == []


def test_other_names_are_no_checkpoints_and_are_not_deleted(folder):
    others = [
        "step-2 (copy).index",
        "step-002.index",
        "step-².index",
        "step-9.index.bak",
        "step--1.index",
        "checkpoint",
    ]
    others += [f"step-{'9' * 19}.index", "step-.index", "notes.txt", "step-2_temp"]
    for name in others:
        (folder / name).write_text("of the user's")
    assert checkpoints.steps(folder) == [2, 4, 10]
    checkpoints.remove(folder, {2, 4, 9, 10})
    assert names(folder) == sorted(others)


def test_a_write_that_fails_leaves_the_others(folder, monkeypatch):
    before = names(folder)

    def full(self, path):
        pathlib.Path(f"{path}.data-00000-of-00001").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        checkpoints.write(small_checkpoint(), folder, 12)
    assert names(folder) == before


def test_what_a_killed_process_was_writing_is_replaced(folder):
    (folder / checkpoints.UNFINISHED).mkdir()
    (folder / checkpoints.UNFINISHED / "step-12.data-00000-of-00001").write_bytes(b"half")
    checkpoints.write(small_checkpoint(), folder, 14)
    assert checkpoints.steps(folder) == [2, 4, 10, 14] and not (folder / checkpoints.UNFINISHED).exists()


@pytest.mark.parametrize("name", ["plain", "a[1]", "any*", "q?", "{a,b}", "with space", "日本"])
def test_tensorflow_reads_the_folder_as_it_is_named(name, tmp_path):
    checkpoints.write(small_checkpoint(), tmp_path / name, 3)
    restored = tf.train.Checkpoint(**{name: tf.Variable(tf.zeros_like(value)) for name, value in VALUES.items()})
    assert checkpoints.damage(tmp_path / name / "step-3") is None
    checkpoints.restore(restored, tmp_path / name / "step-3")
    np.testing.assert_array_equal(restored.weights, VALUES["weights"])


def test_a_checkpoint_of_other_objects_is_told_from_a_damaged_one(folder):
    other = tf.train.Checkpoint(weights=tf.Variable(VALUES["weights"]), more=tf.Variable(1.0))
    assert checkpoints.damage(folder / "step-4") is None
    with pytest.raises(ValueError) as refused:
        checkpoints.restore(other, folder / "step-4")
    assert "\n" not in str(refused.value)


# -- damage ------------------------------------------------------------------------------------------------------------


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "data cut": lambda index, data: cut(data),
    "data empty": lambda index, data: data.write_bytes(b""),
    "data zeroed": lambda index, data: data.write_bytes(bytes(data.stat().st_size)),
    "data missing": lambda index, data: data.unlink(),
    "data a folder": lambda index, data: (data.unlink(), data.mkdir()),
    "index cut": lambda index, data: cut(index),
    "index empty": lambda index, data: index.write_bytes(b""),
    "index zeroed": lambda index, data: index.write_bytes(bytes(index.stat().st_size)),
    "index garbage": lambda index, data: index.write_bytes(os.urandom(500)),
    "index a pipe": lambda index, data: (index.unlink(), os.mkfifo(index)),
    "index a dead link": lambda index, data: (index.unlink(), index.symlink_to("nowhere")),
    "of another one": lambda index, data: shutil.copy(data.with_name(data.name.replace("10", "4")), data),
    "a folder of its name": lambda index, data: index.with_suffix("").mkdir(),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_newest_whole_checkpoint_is_found_and_damaged_ones_are_named(kind, folder):
    other = tf.train.Checkpoint(weights=tf.Variable(VALUES["weights"] + 1), count=tf.Variable(VALUES["count"]))
    checkpoints.write(other, folder, 4)
    DAMAGES[kind](folder / "step-10.index", folder / "step-10.data-00000-of-00001")
    told = []
    assert checkpoints.newest_whole(folder, lambda *each: told.append(each)) == folder / "step-4"
    ((path, reason),) = told
    assert path == folder / "step-10" and reason and "\n" not in reason and len(reason) <= LONGEST_REASON


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_byte_goes_unnoticed(folder, data):
    file = folder / data.draw(st.sampled_from(["step-10.index", "step-10.data-00000-of-00001"]))
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= data.draw(st.integers(1, 255))
    try:
        file.write_bytes(flipped)
        reason = checkpoints.damage(folder / "step-10")
        if reason is None:  # padding of the index, which holds nothing
            restored = small_checkpoint()
            restored.weights.assign(tf.zeros_like(restored.weights))
            checkpoints.restore(restored, folder / "step-10")
            np.testing.assert_array_equal(restored.weights, VALUES["weights"])
        else:
            assert "\n" not in reason and len(reason) <= LONGEST_REASON
    finally:
        file.write_bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st.binary(max_size=300), data=st.binary(max_size=300))
def test_no_other_content_is_a_checkpoint(folder, index, data):
    (folder / "step-20.index").write_bytes(index)
    (folder / "step-20.data-00000-of-00001").write_bytes(data)
    assert checkpoints.damage(folder / "step-20") is not None


# -- runs --------------------------------------------------------------------------------------------------------------


def test_tensorflows_own_record_is_not_believed(stored, tmp_path):
    """It may name any folder: what lies there is neither used nor deleted."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(STORED / "checkpoints", elsewhere)
    paths = [str(elsewhere / "step-2"), str(tmp_path / "nowhere")]
    tf.compat.v1.train.update_checkpoint_state(str(stored / "checkpoints"), paths[0], paths)
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    assert genlab.load(stored).find_checkpoint() == stored / "checkpoints" / "step-2"
    train.main(["--resume", str(stored), "--steps", "4", "--keep", "1", "--checkpoint-every", "1"])
    assert checkpoints.steps(stored / "checkpoints") == [4]
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before
    for content in (b"", b"\xff\x00garbage"):
        (stored / "checkpoints" / "checkpoint").write_bytes(content)
        assert genlab.load(stored).step == 4


def test_a_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_as_it_would_have(own_run, capsys, caplog):
    run = own_run("dcgan")
    whole, lines = state_of(run), run.metrics()
    cut(run.checkpoints / "step-2.data-00000-of-00001")
    log = logging.getLogger("genlab")
    log.addHandler(caplog.handler)
    try:
        assert genlab.load(run.path).step == 0
        sample.main(["--run", str(run.path), "--count", "1"])
        assert len([line for line in caplog.messages if "step-2 is damaged and passed over" in line]) == 2
    finally:
        log.removeHandler(caplog.handler)
    train.main(["--resume", str(run.path)])
    said = capsys.readouterr().out
    assert said.count("step-2 is damaged") == 1
    assert all(np.array_equal(whole[name], value) for name, value in state_of(run).items())
    assert [line["generator_loss"] for line in run.metrics()] == [line["generator_loss"] for line in lines]


def test_if_none_is_whole_the_run_is_left_as_it_is(stored, capsys):
    for file in (stored / "checkpoints").glob("*.index"):
        file.write_bytes(b"")
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    status, message = fails(lambda: train.main(["--resume", str(stored)]), capsys)
    assert status == 1 and "is damaged: step-1, step-2" in message
    assert {path: path.read_bytes() for path in before} == before
    assert runs.newest_checkpoint(stored) is None


def test_a_chosen_checkpoint_that_is_damaged_is_an_error(stored):
    cut(stored / "checkpoints" / "step-1.index")
    shutil.copytree(stored / "checkpoints", stored / "checkpoints" / "best")
    (stored / "checkpoints" / "best" / "step-2.index").write_bytes(b"")
    for chosen, words in (("1", "step-1 is damaged"), ("best", "use --checkpoint latest")):
        with pytest.raises(genlab.GenlabError, match=words):
            genlab.load(stored, checkpoint=chosen).find_checkpoint()
    for chosen in ("²", "\uff12", "9" * 5000, "-1", "../1", "3"):
        with pytest.raises(genlab.UsageError, match="the steps 1, 2") as refused:
            genlab.load(stored, checkpoint=chosen).find_checkpoint()
        assert len(str(refused.value)) < 300
