"""Checkpoints of a folder: written whole or not at all, found by their file names, and checked before they are used.

TensorFlow's own record of them, the file `checkpoint`, plays no part: it may name weights in any folder, which would then be
taken for the run's own, and be deleted to make room for new ones.
"""

from __future__ import annotations

import contextlib
import glob
import math
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator

from genlab.backend import tf
from genlab.errors import reason
from genlab.files import check_regular

FILE = re.compile(r"step-(0|[1-9][0-9]{0,17})\.(index|data-[0-9]{5}-of-[0-9]{5})")
"""Names of the files of a checkpoint: its tensors, and an index with their places and checksums."""
UNFINISHED = ".unfinished"
"""Folder in which a checkpoint is written."""


def steps(folder: pathlib.Path) -> list[int]:
    """Return the training steps of the checkpoints in a folder, whole or damaged, in increasing order."""
    return sorted(step for step, paths in _files(folder).items() if any(path.suffix == ".index" for path in paths))


def at(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Return the path of a checkpoint without the suffixes of its files, as TensorFlow names it."""
    return folder / f"step-{step}"


def newest_whole(folder: pathlib.Path, tell: Callable[[pathlib.Path, str], None]) -> pathlib.Path | None:
    """Return the newest checkpoint that is whole; None if there is none. `tell` is called for each that is passed over."""
    for step in reversed(steps(folder)):
        wrong = damage(at(folder, step))
        if wrong is None:
            return at(folder, step)
        tell(at(folder, step), wrong)
    return None


def damage(path: pathlib.Path) -> str | None:
    """Return in one line what is wrong with a checkpoint; None if every tensor has the checksum in its index."""
    try:
        if path.exists():
            raise ValueError(f"there is also a file or folder {path.name}, which TensorFlow would read instead")
        parts = list(path.parent.glob(f"{glob.escape(path.name)}.data-*"))
        for file in (path.with_name(f"{path.name}.index"), *parts):
            check_regular(file)
        with _literally(path) as readable:
            reader = tf.train.load_checkpoint(readable)
            types = reader.get_variable_to_dtype_map()
            shapes = reader.get_variable_to_shape_map()
            promised = sum(math.prod(shape) * types[name].size for name, shape in shapes.items() if shape)
            if promised > sum(part.stat().st_size for part in parts):
                raise ValueError("its index promises more than its data holds")
            for name in shapes:
                reader.get_tensor(name)  # raises if the checksum differs
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, tf.errors.OpError) as error:
        return reason(error)
    return None


def write(checkpoint: tf.train.Checkpoint, folder: pathlib.Path, step: int) -> None:
    """Write a tf.train.Checkpoint as that of `step`, replacing one of the same step.

    A write that fails or is killed leaves all other checkpoints as they are. The folder has one writer: see `Run.training`.
    """
    checkpoint.save_counter.assign(0)  # TensorFlow's count of saves is part of every checkpoint: restoring expects it
    unfinished = folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    try:
        unfinished.mkdir(parents=True)
        checkpoint.write(str(at(unfinished, step)))
        remove(folder, {step})
        # The index last: a checkpoint without one does not exist.
        for file in sorted(_files(unfinished)[step], key=lambda path: path.suffix == ".index"):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove(folder: pathlib.Path, chosen: set[int]) -> None:
    """Delete the files of the checkpoints of these steps, and nothing else."""
    for step, paths in _files(folder).items():
        if step in chosen:
            for path in sorted(paths, key=lambda path: path.suffix != ".index"):  # the index first: see `write`
                path.unlink(missing_ok=True)


def parts(path: pathlib.Path) -> set[str]:
    """Return the names of the objects in a checkpoint. Raises ValueError with one line if it cannot be read."""
    try:
        with _literally(path) as readable:
            return {key.split("/")[0] for key, _ in tf.train.list_variables(readable)}
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(reason(error)) from error


def restore(checkpoint: tf.train.Checkpoint, path: pathlib.Path) -> None:
    """Restore a tf.train.Checkpoint completely. Raises ValueError with one line if its objects are not those of the file."""
    from google.protobuf.message import DecodeError

    try:
        with _literally(path) as readable:
            checkpoint.restore(readable).assert_consumed()
    except (OSError, ValueError, LookupError, TypeError, AssertionError, DecodeError, tf.errors.OpError) as error:
        raise ValueError(reason(error)) from error


def _files(folder: pathlib.Path) -> dict[int, list[pathlib.Path]]:
    """Return the files of checkpoints in a folder, by step."""
    found: dict[int, list[pathlib.Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else []:
        if named := FILE.fullmatch(path.name):
            found.setdefault(int(named[1]), []).append(path)
    return found


@contextlib.contextmanager
def _literally(path: pathlib.Path) -> Iterator[str]:
    """Yield a path that TensorFlow reads as it is. It takes the names of files for patterns, and `runs[1]` for `runs1`."""
    if glob.escape(str(path)) == str(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder) / "checkpoints"
        link.symlink_to(path.parent.resolve())
        yield str(link / path.name)
