"""Command lines: parsed into dataclasses, whatever the words hold."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO, TypeVar

import tyro

from genlab.console import coloured, printable, say
from genlab.errors import UsageError

Arguments = TypeVar("Arguments")
MOST_DIGITS = 1000
"""Digits of a number above which a word is not read; Python's own limit, 4,300, shows in several lines."""


class _Shown(io.StringIO):
    """What the parser shows for a stream, in colours if the stream may have them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.coloured, self.of_stream = coloured(stream), stream.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the parser draws frames where there are characters for them
        return self.of_stream

    def isatty(self) -> bool:
        return self.coloured


@dataclasses.dataclass(frozen=True)
class JsonOption:
    """Option of commands with a result that a script may want."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the result as one JSON document, and nothing else to stdout."""


def parse(kind: type[Arguments], argv: Sequence[str] | None, program: str, **settings: Any) -> Arguments:
    """Parse a command line (None: that of this process) into a dataclass; `settings` are those of `tyro.cli`.

    A command line that does not fit prints what is wrong, and ends the program with status 2.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for word in words:
        if digits := re.search(rf"\d{{{MOST_DIGITS + 1},}}", word):
            raise UsageError(
                f"{word[:40]}… has a number of {len(digits[0]):,} digits; at most {MOST_DIGITS:,} are read."
            )
    out, err = _Shown(sys.stdout), _Shown(sys.stderr)
    # tyro repeats words as they are, and a name that a shell filled in could control the terminal.
    harmless = all(printable(word) == word for word in words)
    if not harmless:
        out.coloured = err.coloured = False
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return tyro.cli(kind, args=words, prog=program, **settings)
    finally:
        for shown, to_stderr in ((out.getvalue(), False), (err.getvalue(), True)):
            if shown:
                say(shown.rstrip("\n"), to_stderr=to_stderr, escaped=harmless)
