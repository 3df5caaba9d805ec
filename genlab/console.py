"""What the commands show: text, tables, log, progress bars and errors, in colour where a terminal shows it."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import json
import logging
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TextIO

import tqdm

from genlab import notebook
from genlab.errors import GenlabError, Interrupted, explain

Colour = Literal["dim", "yellow", "red"]
CODES: dict[Colour, str] = {"dim": "2", "yellow": "33", "red": "31"}
"""Parameters of the control sequence that selects each."""
LABEL = 8
"""Characters of the first word of a log record with the spaces after it: `run     runs/…`."""
NARROWEST = 10
"""Characters that a table's column keeps in a narrow window."""


_quiet = contextvars.ContextVar("quiet", default=False)
"""Whether the command shows neither progress bars nor log records below a warning."""


def printable(text: object) -> str:
    """Return text in which nothing can control a terminal, or be no Unicode: such characters are shown as escapes.

    Names of files and classes may hold anything. Lines and tabs are kept.
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in str(text)
    )


def one_line(text: object) -> str:
    """Return text as one line of what can be printed, for the name of anything: see `printable`."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def say(text: object = "", *, to_stderr: bool = False, colour: Colour | None = None, escaped: bool = False) -> None:
    """Print text for the user. Every command prints through this, or through the log.

    `escaped` text holds nothing from outside, and keeps its colours.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    shown = str(text) if escaped else printable(text)
    known = shown.encode(stream.encoding or "utf-8", "backslashreplace").decode(stream.encoding or "utf-8")
    print(known if colour is None else painted(known, colour, stream), file=stream, flush=True)


def say_json(content: Any) -> None:
    """Print a value as JSON. Numbers that JSON lacks become null."""
    known = json.loads(json.dumps(content), parse_constant=lambda _: None)
    say(json.dumps(known, indent=2, allow_nan=False))


def let_go(stream: TextIO) -> None:
    """Send what is still written to a stream nowhere: its terminal was closed, or the program that read it has ended."""
    with contextlib.suppress(OSError, ValueError), pathlib.Path(os.devnull).open("w") as nowhere:  # it may have no file
        os.dup2(nowhere.fileno(), stream.fileno())


def coloured(stream: TextIO) -> bool:
    """Whether text for a stream may have colours: NO_COLOR and FORCE_COLOR decide, else whether a terminal shows it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def painted(text: str, colour: Colour, stream: TextIO) -> str:
    """Return text in a colour, if the stream shows colours."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if coloured(stream) else text


@contextlib.contextmanager
def reported(program: str) -> Iterator[None]:
    """Run a command's body. Errors print `program: error: …` to stderr, without traceback, and set the exit status.

    Unexpected errors keep their traceback: they are bugs of genlab.
    """
    try:
        with warnings.catch_warnings():
            # Of damaged images. Those that cannot be read are named anyway.
            warnings.filterwarnings("ignore", module="PIL")
            yield
    except Interrupted as error:
        _complain(error, None)
        raise SystemExit(error.status) from None
    except GenlabError as error:
        _complain(f"{program}: error: {error}")
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        _complain(f"{program}: interrupted", None)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        _complain(f"{program}: error: {message}")
        raise SystemExit(1) from None


def _complain(text: object, colour: Colour | None = "red") -> None:
    """Print why the program ends, if there is anybody to read it: the exit status is what counts."""
    try:
        say(text, to_stderr=True, colour=colour)
    except OSError:
        let_go(sys.stderr)


class _Console(logging.Handler):
    """Log handler that prints above a progress bar. It is silent once nobody reads it; log.txt has everything."""

    def __init__(self, *, to_stderr: bool) -> None:
        super().__init__()
        self.to_stderr = to_stderr

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if self.to_stderr else sys.stdout
        try:
            tqdm.tqdm.write(_highlighted(printable(self.format(record)), record.levelno, stream), file=stream)
            stream.flush()
        except OSError:
            let_go(stream)


def _highlighted(line: str, level: int, stream: TextIO) -> str:
    """Return a warning in yellow, an error in red, any other record with its first word dim."""
    if level >= logging.WARNING:
        return painted(line, "red" if level >= logging.ERROR else "yellow", stream)
    word = line.partition(" ")[0]
    if word == "step" or (len(word) < LABEL < len(line) and line[:LABEL].rstrip() == word and line[LABEL] != " "):
        return painted(word, "dim", stream) + line[len(word) :]
    return line


@contextlib.contextmanager
def console_log(*, quiet: bool = False, to_stderr: bool = False) -> Iterator[None]:
    """Print log records, except file-only ones, to stdout or stderr. With `quiet`, only warnings, and no progress bars."""
    handler = _Console(to_stderr=to_stderr)
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
    log = logging.getLogger("genlab")
    log.addHandler(handler)
    before = _quiet.set(quiet)
    try:
        yield
    finally:
        log.removeHandler(handler)
        _quiet.reset(before)


def progress(*, total: int, unit: str, shown: bool = True, **settings: Any) -> tqdm.tqdm:
    """Return a progress bar, `settings` those of tqdm. It shows on a terminal or in a notebook, if `shown`, and if not quiet."""
    in_notebook = notebook.active()
    visible = shown and not _quiet.get() and (in_notebook or sys.stderr.isatty())
    with_widgets = in_notebook and notebook.has_widgets()
    kind = importlib.import_module("tqdm.notebook").tqdm if with_widgets else tqdm.tqdm
    return kind(total=total, unit=unit, disable=not visible, dynamic_ncols=True, **settings)


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return rows of cells, the first of them headers, as text with aligned columns. All rows need the same number of cells.

    A table wider than `width`, by default that of the terminal if stdout is one, gets narrower columns, whose cells end with
    `…`. If they would be narrower than NARROWEST, each row becomes a block of lines, one for each cell.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    if width is not None:
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        while excess > 0 and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
            excess -= 1
        if excess > 0:
            return _blocks(rows)
    return "\n".join(
        "  ".join(_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def in_bytes(size: int) -> str:
    """Format a number of bytes."""
    for unit, each in (("GB", 10**9), ("MB", 10**6)):
        if size >= each:
            return f"{size / each:.1f} {unit}"
    return f"{size / 1000:.0f} kB"


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def _blocks(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of header and rows as a block of lines for each row."""
    headers, *others = rows
    longest = max(map(len, headers[1:]), default=0)
    return "\n\n".join(
        "\n".join(
            [first, *(f"  {name:{longest}}  {cell}" for name, cell in zip(headers[1:], cells, strict=True) if cell)]
        )
        for first, *cells in others
    )
