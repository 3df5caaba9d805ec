"""What a command tells a person: its log and tables, and, when something goes wrong, a line or two and an exit status."""

from __future__ import annotations

import contextlib
import difflib
import errno
import logging
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence

import tqdm


class GenlabError(Exception):
    """Something failed that a person can put right. The message says what happened, what was expected and what to do."""

    status = 1


class UsageError(GenlabError):
    """The command or the call asked for something that does not exist or does not fit."""

    status = 2


class Collapsed(GenlabError):
    """Training was stopped because its samples or its losses show that it went wrong."""

    status = 3


class Harmful(GenlabError):
    """A measurement found that what was asked about does harm."""

    status = 4


class Interrupted(GenlabError):
    """A signal stopped the training, after a checkpoint was saved."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number
        self.status = 128 + number


def closest(word: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown word ends: `; did you mean …?` where something known is close, else a full stop."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(matches)}?" if matches else "."


def explain(error: BaseException) -> str | None:
    """One line for a failure of the system that has a plain cause; None where the cause is not known."""
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the disk is full{where}. Free some space, then go on with --resume; earlier checkpoints are kept."
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to write{where}. Choose another folder with --out."
        return f"{error.strerror or error}{where}"
    if type(error).__module__.startswith("tensorflow"):
        text = str(error)
        if "UsageError: " in text:  # raised while the data was read, in TensorFlow's threads
            return text.partition("UsageError: ")[2].splitlines()[0]
        if any(sign in text for sign in ("No space left", "File too large", "Disk quota")):
            return "the disk is full. Free some space, then go on with --resume; earlier checkpoints are kept."
        if type(error).__name__ == "ResourceExhaustedError":
            return "memory ran out. Use a smaller --batch-size or smaller networks."
    if isinstance(error, MemoryError):
        return "memory ran out. Use a smaller --batch-size, smaller networks or fewer images."
    return None


@contextlib.contextmanager
def reported(program: str) -> Iterator[None]:
    """Run a command's body; end with `program: error: …` on standard error and the right exit status, no traceback.

    An error that nobody foresaw keeps its traceback: it is a fault of genlab's, and hiding it would help nobody.
    """
    try:
        yield
    except Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.status) from None
    except GenlabError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"{program}: error: {message}", file=sys.stderr)
        raise SystemExit(1) from None


class _Console(logging.Handler):
    """Prints above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(self.format(record), file=sys.stdout)


@contextlib.contextmanager
def console_log() -> Iterator[None]:
    """Print log records, except file-only ones, to standard output."""
    handler = _Console()
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    log = logging.getLogger("genlab")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text whose columns are aligned; all rows have as many cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
