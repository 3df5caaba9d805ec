"""Numbers as users type and pass them: what is read, and what is refused in one line."""

from __future__ import annotations

import fractions
import math

import numpy as np
import pytest

from genlab import bounds
from genlab.errors import UsageError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_are_pythons_and_numpys(value):
    assert bounds.whole("count", value, 0, 3) == 3


@pytest.mark.parametrize(
    "value",
    [3.0, "3", True, None, np.float32(3), np.array([3]), [3], math.nan, 2, 5, -(10**5000)],
    ids=bounds.shown,
)
def test_other_integers_are_refused(value):
    with pytest.raises(UsageError, match=r"^count must be .*at least 3 and at most 4, and is ") as refused:
        bounds.whole("count", value, 3, 4)
    assert len(str(refused.value)) < 200
    with pytest.raises(UsageError, match=r"^--count .*: it must be "):
        bounds.whole("--count", value, 3, 4)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int8(1), fractions.Fraction(1, 2)])
def test_numbers_are_finite_and_within_bounds(value):
    assert bounds.real("share", value, 0, 1) == float(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -0.1, 1.1, "0.5", None, True, 10**5000, np.array([0.5, 1])],
    ids=bounds.shown,
)
def test_other_numbers_are_refused(value):
    with pytest.raises(UsageError, match=r"^share must be .*from 0 to 1, and is "):
        bounds.real("share", value, 0, 1)


def test_a_bound_may_be_left_out():
    assert bounds.real("share", 0.0, 0, 1) == 0
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        bounds.real("share", 0.0, 0, 1, above=True)


def test_lists_of_counts():
    assert bounds.counts("--labels", "100, 1000,all") == [100, 1000, None]
    for text in ("", "0", "-1", "1,,2", "1.5", "x", "²", "٣", "1_0", "+1", "9" * 12, "1,all,every"):
        with pytest.raises(UsageError, match=r"--labels .*it must be numbers or all"):
            bounds.counts("--labels", text)


def test_spans_of_seeds():
    assert bounds.spans("--seeds", "0-15, 40,7-7") == [range(16), range(40, 41), range(7, 8)]
    assert bounds.spans("--seeds", f"0-{2**63 - 1}") == [range(2**63)]
    for text in ("", "5-2", "-3", "1-", "1--2", "1-2-3", "1,,2", "²", "٣-4", "1e3", str(2**63), "9" * 5000):
        with pytest.raises(UsageError, match=r"--seeds .*it must be numbers and increasing ranges") as refused:
            bounds.spans("--seeds", text)
        assert len(str(refused.value)) < 300


def test_pairs():
    assert bounds.pair("--grid", "8x5", "x", 10, "like 8x8") == (8, 5)
    for text in ("8", "x", "8x", "8x8x8", "8x11", "-8x8", "٣x3"):
        with pytest.raises(UsageError, match=r"--grid .*like 8x8"):
            bounds.pair("--grid", text, "x", 10, "like 8x8")
