"""What a system error is said to be, and output that nobody reads."""

from __future__ import annotations

import errno
import io
import logging
import os
import pathlib

import pytest
from conftest import fails

from genlab import console, errors
from genlab.backend import tf


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "the disk is full: a.png"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full."),
        (OSError(errno.ENOENT, "No such file or directory", "a.png"), "No such file or directory: a.png"),
        (MemoryError(), "memory ran out"),
        (ZeroDivisionError("x"), None),
    ],
)
def test_a_system_error_is_one_line(error, words):
    text = errors.explain(error)
    assert text is None if words is None else text.startswith(words)
    assert "--resume" not in (text or "")  # not every command has it


def test_errors_of_tensorflow_are_told_apart():
    full, memory, closed = (
        kind(None, None, text)
        for kind, text in (
            (tf.errors.ResourceExhaustedError, "runs/0/x.index; No space left on device"),
            (tf.errors.ResourceExhaustedError, "OOM when allocating tensor"),
            (tf.errors.PermissionDeniedError, "runs/0/x.index; Permission denied"),
        )
    )
    assert errors.explain(full).startswith("the disk is full") and errors.disk_is_full(full)
    assert errors.explain(memory).startswith("memory ran out") and not errors.disk_is_full(memory)
    assert errors.explain(closed).startswith("no permission to write: runs/0/x.index")
    huge = tf.errors.InvalidArgumentError(None, None, "Shape [9,9] would have more than 2**63 - 1 elements")
    assert errors.explain(huge).startswith("memory ran out")
    assert errors.explain(tf.errors.InvalidArgumentError(None, None, "a bug")) is None


def test_what_cannot_be_read_is_not_called_unwritable(monkeypatch, tmp_path):
    (tmp_path / "photo.png").touch()
    denied = set()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: pathlib.Path(path) not in denied and access(path, mode))

    def text(name):
        return errors.explain(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name)))

    assert text("photo.png").startswith("no permission to write") and "--out" in text("photo.png")
    assert text("new/photo.png").startswith("no permission to write")
    denied.add(tmp_path / "photo.png")
    assert text("photo.png") == f"no permission to read {tmp_path / 'photo.png'}."
    denied.add(tmp_path)
    assert text("photo.png").startswith(f"no permission to open the folder {tmp_path}")
    assert errors.explain(PermissionError(errno.EACCES, "Permission denied")).startswith("no permission to write")


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_output_that_nobody_reads_ends_nothing(number, monkeypatch, capsys):
    log = logging.getLogger("genlab")
    with console.console_log():
        monkeypatch.setattr("sys.stdout", Gone(number))
        log.info("step 1")
        log.info("step 2")
    monkeypatch.setattr("sys.stderr", Gone(number))
    for error, status in ((errors.GenlabError("x"), 1), (errors.Interrupted("x", 1), 129), (KeyboardInterrupt(), 130)):
        with pytest.raises(SystemExit) as end, console.reported("genlab"):
            raise error
        assert end.value.code == status


def test_a_closed_stream_goes_nowhere(tmp_path):
    with (tmp_path / "file").open("w") as stream:
        console.let_go(stream)
        stream.write("text")
    assert (tmp_path / "file").read_text() == ""
    console.let_go(io.StringIO())


def test_a_command_says_so_in_one_line(capsys):
    def call():
        with console.reported("genlab"):
            raise PermissionError(errno.EROFS, "Read-only file system", "/mnt/x")

    status, message = fails(call, capsys)
    assert (
        status == 1 and message == "genlab: error: no permission to write: /mnt/x. Choose another folder with --out.\n"
    )
