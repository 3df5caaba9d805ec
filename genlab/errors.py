"""Errors with their exit statuses, and the wording of messages."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import pathlib
import signal
from collections.abc import Iterable, Iterator

LONGEST_NAME = 80
"""Characters of a name that a list in a message shows."""
LONGEST_REASON = 300
"""Characters of an error's text that a message quotes."""


class GenlabError(Exception):
    """An error that the user can fix. The message says what happened, what was expected and what to type."""

    status = 1


class UsageError(GenlabError):
    """A command or call with an unknown or invalid setting."""

    status = 2


class Collapsed(GenlabError):
    """Training was stopped because of mode collapse, or because the losses show that it failed."""

    status = 3


class Harmful(GenlabError):
    """A measurement found that generated images hurt."""

    status = 4


class Interrupted(GenlabError):
    """A signal stopped training, after a checkpoint was saved, or came after the last step: then the run is finished."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number
        self.status = 128 + number


def closest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: `; did you mean …?` if a known word is close, else a full stop."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(matches)}?" if matches else "."


def listed(names: Iterable[object], most: int = 20) -> str:
    """Return names separated by commas: at most the first `most` of them, shortened, and how many there are besides."""
    shown = [str(name) for name in names]
    words = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in shown[:most]]
    return ", ".join(words) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def reason(error: BaseException) -> str:
    """Return what an error says, as part of a sentence: its first line without full stop, at most LONGEST_REASON characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:LONGEST_REASON].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever decoders raise on damaged bytes into ValueError, with one line that says why.

    Decoders of images, archives and messages meet damage with struct.error, KeyError, SyntaxError, zlib.error and more, and
    no list of these is complete. Errors of genlab pass.
    """
    try:
        yield
    except GenlabError:
        raise
    except MemoryError as error:
        raise ValueError("it takes more memory than there is") from error
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(reason(error)) from error
    except Exception as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {reason(error)})") from error


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed because there is no more room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    signs = ("No space left", "File too large", "Disk quota")
    return type(error).__module__.startswith("tensorflow") and any(sign in str(error) for sign in signs)


def explain(error: BaseException) -> str | None:
    """Return one line about a system error with a known cause; None if the cause is unknown."""
    name = error.filename if isinstance(error, OSError) else None
    where = f": {str(name)[:300]}" if name else ""
    if disk_is_full(error):
        return f"the disk is full{where}. Free some space and try again; what was stored before is kept."
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _forbidden(name)
        return f"{error.strerror or error}{where}"
    if type(error).__module__.startswith("tensorflow"):
        text = str(error)
        if "UsageError: " in text:  # raised in TensorFlow's threads, while reading data
            return text.partition("UsageError: ")[2].splitlines()[0]
        if type(error).__name__ == "PermissionDeniedError":
            return _forbidden(text.partition(";")[0])
        if type(error).__name__ == "ResourceExhaustedError" or "more than 2**63 - 1 elements" in text:
            return "memory ran out. Use a smaller --batch-size or smaller networks."
    if isinstance(error, MemoryError):
        return "memory ran out. Use a smaller --batch-size, smaller networks or fewer images."
    return None


def _forbidden(name: str | bytes | int | None) -> str:
    """Describe what permission is missing for a file: an error does not tell reading from writing."""
    if not isinstance(name, str):
        return "no permission to write. Choose another folder with --out."
    path = pathlib.Path(name).absolute()
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK) and os.path.lexists(folder):
            return f"no permission to open the folder {folder}, for {name}."
    if path.exists() and not os.access(path, os.R_OK):
        return f"no permission to read {name}."
    return f"no permission to write: {name}. Choose another folder with --out."
