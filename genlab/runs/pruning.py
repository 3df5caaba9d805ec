"""Which runs go by a rule: failed ones, old ones, bad ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from genlab import bounds
from genlab.errors import UsageError, closest
from genlab.runs.listing import DAMAGED, UNITS, Row, ordered

RULES = {
    "failed": "runs that an error ended",
    "interrupted": "runs that were stopped or killed",
    "collapsed": "runs that --on-collapse ended",
    "older-than TIME": "runs that no training wrote to for a time, such as 30d or 12h",
    "worse-than X": "runs whose relative Fréchet distance is above X",
    "all-but-best N": "runs of a data set besides the N with the lowest relative Fréchet distance",
}
"""The rules of `chosen`, with what they choose."""


def chosen(found: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """Return the rows that a rule chooses: one of RULES, as words. Raises UsageError for any other words.

    A run that is trained or damaged is never chosen. Rules about the distance choose only runs that were evaluated.
    """
    found = [row for row in found if row.state not in ("running", DAMAGED)]
    match list(words):
        case ["failed" | "interrupted" | "collapsed" as state]:
            return [row for row in found if row.state == state]
        case ["older-than", time]:
            seconds = _seconds(time)
            return [row for row in found if row.age > seconds]
        case ["worse-than", distance]:
            most = _distance(distance)
            return [row for row in found if row.relative is not None and row.relative > most]
        case ["all-but-best", count]:
            return _all_but_best(found, _count(count))
    known = [rule.partition(" ")[0] for rule in RULES]
    first = words[0] if words else ""
    hint = "." if first in known else closest(first, known)
    raise UsageError(f"--prune {bounds.shown(' '.join(words))}: there is no such rule{hint} Rules: {', '.join(RULES)}.")


def _all_but_best(found: Sequence[Row], count: int) -> list[Row]:
    measured = [row for row in ordered(found, "metric") if row.relative is not None]
    worse = {
        row.path for data in {row.data for row in found} for row in [r for r in measured if r.data == data][count:]
    }
    return [row for row in found if row.path in worse]


def _seconds(text: str) -> float:
    parts = re.fullmatch(r"([0-9]{1,6})(min|h|d)", text)
    if parts is None:
        raise UsageError(f"--prune older-than {bounds.shown(text)}: it must be a time, like 30d, 12h or 90min.")
    return int(parts[1]) * UNITS[parts[2]]


def _distance(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise UsageError(f"--prune worse-than {bounds.shown(text)}: it must be a number, like 5 or 2.5.")
    return float(text)


def _count(text: str) -> int:
    number = bounds.parsed(text)
    if not number:
        raise UsageError(f"--prune all-but-best {bounds.shown(text)}: it must be a number, at least 1.")
    return number
