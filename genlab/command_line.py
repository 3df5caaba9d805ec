"""Command lines: parsed into dataclasses, whatever the words hold."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from genlab.errors import UsageError, printable, say

Arguments = TypeVar("Arguments")
MOST_DIGITS = 1000
"""Digits of a number above which a word is not read; Python's own limit, 4,300, shows in several lines."""


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
    if all(printable(word) == word for word in words):
        return tyro.cli(kind, args=words, prog=program, **settings)
    # tyro repeats words as they are, and a name that a shell filled in could control the terminal.
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            return tyro.cli(kind, args=words, prog=program, **settings)
    finally:
        if shown.getvalue():
            say(shown.getvalue().rstrip("\n"), to_stderr=True)
