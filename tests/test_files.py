"""Files are read with care, names become file names, and text reaches a terminal without controlling it."""

from __future__ import annotations

import io
import json
import math
import os
import typing

import numpy as np
import pytest

from genlab import console, errors, files, npy


class Index(typing.TypedDict):
    """A file as genlab might write one."""

    name: str
    shards: list[int]
    label: typing.NotRequired[int | None]


def test_a_json_file_is_what_its_type_says(tmp_path):
    path = files.write_text(tmp_path / "index.json", json.dumps({"name": "é", "shards": [1, 2]}))
    assert files.read_json(path, Index) == {"name": "é", "shards": [1, 2]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\xff", "can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "list is not a dict"),
        (b"null", "None is not a dict"),
        (b"9" * 5000, "integer string conversion"),
        (b'{"name": "a"}', 'missing required key(s): "shards"'),
        (b'{"name": null, "shards": []}', "value of key 'name' of dict is not an instance of str"),
        (b'{"name": "a", "shards": [1, 2.5]}', "item 1 of value of key 'shards' of dict is not an instance of int"),
        (b'{"name": "a", "shards": [], "more": 1}', 'unexpected extra key(s): "more"'),
        (b'{"name": "a", "shards": [], "label": "x"}', "value of key 'label' of dict did not match"),
    ],
)
def test_any_other_content_is_refused_in_one_line(content, words, tmp_path):
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(errors.GenlabError) as refused:
        files.read_json(tmp_path / "index.json", Index)
    assert words in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_pipe_and_a_folder_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(errors.GenlabError, match="not a regular file"):
            files.read_json(tmp_path / name, Index)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "nowhere", Index)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("T-shirt/top", "T-shirt-top"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("\x1b[31mred\x07", "31mred"),
        ("日本 é", "日本-é"),
        ("a" * 300, "a" * 80),
        ("C:\\nul", "C-nul"),
        ("\udcff.png", "png"),
    ],
)
def test_any_text_becomes_a_file_name(text, name, tmp_path):
    assert files.file_name(text) == name
    (tmp_path / files.file_name(text)).touch()
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]


def test_names_become_different_file_names():
    names = ["a/b", "a-b", "A b", "", "..", "a-b-0", "one"]
    found = files.file_names(names)
    assert found == ["a-b-0-0", "a-b-1", "A-b-2", "unnamed-3", "unnamed-4", "a-b-0", "one"]
    assert len({name.casefold() for name in found}) == len(names)
    assert len(files.file_name("日" * 300).encode()) <= files.LONGEST_NAME


def test_arrays_are_read_without_objects_and_written_to_files(tmp_path):
    path = files.write_arrays(tmp_path / "some.thing", {"a": np.arange(3)})
    assert path.name == "some.thing.npz"
    np.testing.assert_array_equal(npy.read(path)["a"], [0, 1, 2])
    for name in (tmp_path, tmp_path / "..", "."):
        with pytest.raises(errors.UsageError, match="is a folder; name a file"):
            files.write_arrays(name, {"a": np.arange(3)})
    np.savez(path, a=np.array([{}], object))
    whole = path.read_bytes()
    for content in (whole, whole[:100], b"", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(errors.GenlabError, match="cannot be read as arrays") as refused:
            npy.read(path)
        assert "\n" not in str(refused.value)


def test_json_is_written_without_numbers_that_it_lacks(tmp_path):
    content = {"a": [1, 2.5, math.inf], "b": {"c": (math.nan, -math.inf)}, "d": None, "e": True}
    written = json.loads(files.write_json(tmp_path / "some.json", content).read_text())
    assert written == {"a": [1, 2.5, "Infinity"], "b": {"c": ["NaN", "-Infinity"]}, "d": None, "e": True}


def test_text_cannot_control_the_terminal(monkeypatch):
    assert console.printable("a\x1b[2Jb\r\u202e\udcff\tc\nd é 日") == "a\\x1b[2Jb\\r\\u202e\\udcff\tc\nd é 日"
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    console.say("é\x1b")
    narrow.flush()
    assert narrow.buffer.getvalue() == b"\\xe9\\x1b\n"


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = files.write_text(tmp_path / "kept", "before")

    def failing(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        files.replace(path, failing)
    assert path.read_text() == "before" and [each.name for each in tmp_path.iterdir()] == ["kept"]
