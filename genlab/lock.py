"""The lock of a run folder: one process trains it, and others can see which."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TypedDict

import filelock

from genlab import files
from genlab.errors import GenlabError

FILE, HOLDER = ".lock", ".lock.json"
"""The lock that a training holds, and the file beside it that describes the process."""
SECONDS = 0.5
"""Seconds that a training waits for a lock: somebody may look at it, for microseconds. See `is_held`."""


class Holder(TypedDict):
    """The process that trains a run, as stored beside the lock."""

    pid: int
    host: str
    since: str
    """Local date and time."""


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[None]:
    """Hold the lock of the run folder `path`. The operating system releases it when the process ends.

    Raises GenlabError if another process holds it, or if the folder cannot be written.
    """
    lock = filelock.FileLock(path / FILE)
    try:
        lock.acquire(timeout=SECONDS)
    except filelock.Timeout:
        raise GenlabError(
            f"{path} is being trained by another process{_described(path / HOLDER)}. Wait for it to end."
        ) from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise GenlabError(
            f"{path} cannot be written, and training writes to it. Copy it to a folder of your own, and resume the copy."
        ) from None
    try:
        now = datetime.datetime.now().isoformat(" ", "seconds")
        me = Holder(pid=os.getpid(), host=socket.gethostname(), since=now)
        files.write_text(path / HOLDER, json.dumps(me) + "\n")
        try:
            yield
        finally:
            (path / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(path: pathlib.Path) -> bool:
    """Whether a training holds the run's lock.

    The lock is tried in shared mode, for microseconds, so that several can look at once; a training that begins waits longer.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return (path / HOLDER).exists()
    try:
        lock = os.open(path / FILE, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # it was never trained here
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(lock)  # releases it
    return False


def _described(path: pathlib.Path) -> str:
    """Describe the process that holds a run's lock."""
    try:
        holder: Holder = files.read_json(path, Holder)
    except (GenlabError, FileNotFoundError):  # it has just begun
        return ""
    return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
