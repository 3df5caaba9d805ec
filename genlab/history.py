"""metrics.jsonl of a run: lines of numbers by name, each with its step. Lines that genlab did not write are kept and passed over."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping

from genlab import files
from genlab.errors import GenlabError

FILE = "metrics.jsonl"


def read(path: pathlib.Path, name: str = "") -> list[dict[str, float]]:
    """Return the lines of a run's metrics, ordered by step; with `name`, only those that hold this metric."""
    found = [line for _, line in _lines(path / FILE, f'"{name}"' if name else "") if line is not None]
    return [line for line in found if name in line] if name else found


def append(path: pathlib.Path, line: Mapping[str, float]) -> None:
    """Add a line. Values that are not finite are left out: JSON has no such numbers."""
    finite = {name: value for name, value in line.items() if math.isfinite(value)}
    with (path / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite) + "\n")


def drop_after(path: pathlib.Path, step: int) -> None:
    """Drop the lines that a killed run wrote after its last checkpoint; resuming writes them again.

    So is a last line that a kill cut short. Other lines that genlab did not write stay where they are.
    """
    lines = _lines(path / FILE)
    if lines:
        kept = b"".join(raw + b"\n" for raw, line in lines if line is None or line["step"] <= step)
        files.replace(path / FILE, lambda temporary: temporary.write_bytes(kept))


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round metrics to six significant digits, for JSON."""
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def _lines(path: pathlib.Path, word: str = "") -> list[tuple[bytes, dict[str, float] | None]]:
    """Return every line of metrics.jsonl with what it holds: numbers by name, among them a step; None if it holds no such.

    A last line without its end is left out if it holds no such: a kill cut it short. With `word`, only lines in which it
    occurs are returned, which takes much less time.
    """
    try:
        files.check_regular(path)
        raw = [line for line in path.read_bytes().split(b"\n") if word.encode() in line]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise GenlabError(f"{path} cannot be read: {error}.") from error
    lines = [(each, _numbers(each)) for each in raw]
    return lines if not lines or lines[-1][1] is not None else lines[:-1]


def _numbers(line: bytes) -> dict[str, float] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or type(content.get("step")) is not int:  # to Python, True is a whole number
        return None
    return content if all(isinstance(value, int | float) for value in content.values()) else None
