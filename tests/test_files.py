"""Files are read with care, names become file names, and text reaches a terminal without controlling it."""

from __future__ import annotations

import io
import json
import os
import typing

import pytest

from genlab import errors, files


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


def test_text_cannot_control_the_terminal(monkeypatch):
    assert errors.printable("a\x1b[2Jb\r\u202e\udcff\tc\nd é 日") == "a\\x1b[2Jb\\r\\u202e\\udcff\tc\nd é 日"
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    errors.say("é\x1b")
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
