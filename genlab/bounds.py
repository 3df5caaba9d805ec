"""Numbers that users type or pass: checked, with one line about what is wrong. Ranges and lists of them."""

from __future__ import annotations

import math
import numbers
import operator
import re
import reprlib

from genlab.errors import UsageError

LARGEST = 2**31 - 1
"""Largest count, and largest seed of everything but samples."""
LARGEST_SEED = 2**63 - 1
"""Largest seed of a sample."""


def whole(name: str, value: object, low: int = 0, high: int = LARGEST) -> int:
    """Return an integer from `low` to `high`: Python's or NumPy's, no float and no bool.

    `name` is an option like `--seed`, or an argument in Python. Raises UsageError for anything else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise _wrong(name, value, f"an integer, {_range(low, high)}")
    if not low <= number <= high:
        raise _wrong(name, value, _range(low, high))
    return number


def real(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """Return a finite number from `low` to `high` as a float; with `above`, `low` itself is not allowed.

    Raises UsageError for anything else.
    """
    wanted = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong(name, value, f"a number, {wanted}")
    number = math.inf if isinstance(value, int) and value.bit_length() > 1000 else float(value)
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        raise _wrong(name, value, wanted)
    return number


def parsed(text: str, high: int = LARGEST) -> int | None:
    """Return the number that a text of digits 0 to 9 shows; None for any other text, and above `high`."""
    # Python's int() and isdigit() know the digits of all scripts, signs, spaces and underscores.
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > high:
        return None
    return int(text)


def counts(name: str, text: str) -> list[int | None]:
    """Read numbers from 1 up, or `all`, which becomes None: `100,1000,all`. Raises UsageError for any other text."""
    found = []
    for word in (word.strip() for word in text.split(",")):
        number = parsed(word)
        if word != "all" and not number:
            raise UsageError(
                f"{name} {shown(text)}: it must be numbers or all, like 20,100,all, each at least 1 and at most {LARGEST:,}."
            )
        found.append(number)
    return found


def spans(name: str, text: str, high: int = LARGEST_SEED) -> list[range]:
    """Read numbers and increasing spans, like `0-15,40`. Raises UsageError for any other text."""
    found = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        start, stop = parsed(first, high), parsed(last or first, high)
        if start is None or stop is None or stop < start or part.strip().endswith("-"):
            raise UsageError(
                f"{name} {shown(text)}: it must be numbers and increasing ranges, like 0-15,40, of at most {high:,}."
            )
        found.append(range(start, stop + 1))
    return found


def pair(name: str, text: str, separator: str, high: int, example: str) -> tuple[int, int]:
    """Read two numbers with a separator between them, like `8x8`. Raises UsageError for any other text."""
    first, _, second = text.partition(separator)
    left, right = parsed(first, high), parsed(second, high)
    if left is None or right is None:
        raise UsageError(f"{name} {shown(text)}: it must be {example}, with numbers up to {high:,}.")
    return left, right


def shown(value: object) -> str:
    """Return a value for a message: texts as they are, anything long shortened."""
    if isinstance(value, str):
        return value if len(value) <= 60 else f"{value[:40]}… ({len(value):,} characters)"
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return "a huge number"


def _range(low: int, high: int) -> str:
    return f"at least {low:,} and at most {high:,}"


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    """Return the error about an option (`--seed`) or an argument in Python."""
    if name.startswith("-"):
        return UsageError(f"{name} {shown(value)}: it must be {wanted}.")
    return UsageError(f"{name} must be {wanted}, and is {shown(value)}.")
