"""Settings that a user typed or a file holds: values of their declared types, and finite."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from genlab import files
from genlab.bounds import LARGEST

PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def check(kind: type, values: Mapping[str, object]) -> None:
    """Check values by the type hints of the fields of a dataclass; other names are passed over.

    Raises ValueError with one line about the first that is not of its type, not finite, or larger than LARGEST.
    """
    for name, hint in _hints(kind).items():
        if name not in values:
            continue
        value = values[name]
        parts = value if isinstance(value, tuple) else (value,)
        for number in parts:
            if isinstance(number, int) and not -LARGEST <= number <= LARGEST:
                raise ValueError(f"{name} is too large; it must be at most {LARGEST:,}")
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name} is {number}; it must be finite")
            if isinstance(number, str) and "\0" in number:
                raise ValueError(f"{name} holds a zero byte, which no name may hold")
        try:
            files.checked(value, hint)
            # To Python, True is a whole number.
            fits = bool in (hint, *typing.get_args(hint)) or not any(isinstance(part, bool) for part in parts)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{name} is {reprlib.repr(value)}; it must be {_expected(hint)}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _expected(hint: Any) -> str:
    """Describe the values of a type hint in words."""
    parts = typing.get_args(hint)
    match typing.get_origin(hint):
        case None:
            return PLAIN.get(hint, "of another type")
        case literal if literal is Literal:
            return f"one of {', '.join(map(str, parts))}"
        case union if union in (types.UnionType, typing.Union):
            return " or ".join("nothing" if part is type(None) else _expected(part) for part in parts)
    if Ellipsis not in parts:
        return f"{len(parts)} values: {', '.join(map(_expected, parts))}"
    return f"several values, each {_expected(parts[0])}"
