"""Settings are of their declared types, finite, and in numbers that TensorFlow can count to."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pytest

from genlab import config, models
from genlab.config import Options
from genlab.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Settings:
    """A field of each kind that settings have."""

    size: int = 1
    rate: float = 0.5
    name: str = ""
    on: bool = False
    limit: int | None = None
    mode: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1,)
    targets: tuple[float, float] = (0.0, 1.0)
    parts: tuple[Literal["x", "y"], ...] = ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": "3"}, "size is '3'; it must be a whole number"),
        ({"size": 2.5}, "size is 2.5; it must be a whole number"),
        ({"size": True}, "size is True; it must be a whole number"),
        ({"size": None}, "size is None; it must be a whole number"),
        ({"size": 10**5000}, "size is too large; it must be at most 2,147,483,647"),
        ({"rate": "fast"}, "rate is 'fast'; it must be a number"),
        ({"rate": float("nan")}, "rate is nan; it must be finite"),
        ({"rate": -float("inf")}, "rate is -inf; it must be finite"),
        ({"rate": True}, "rate is True; it must be a number"),
        ({"name": 3}, "name is 3; it must be text"),
        ({"name": "a\0b"}, "name holds a zero byte"),
        ({"on": 1}, "on is 1; it must be true or false"),
        ({"limit": 1.5}, "limit is 1.5; it must be a whole number or nothing"),
        ({"mode": "c"}, "mode is 'c'; it must be one of a, b"),
        ({"mode": []}, "mode is (); it must be one of a, b"),
        ({"widths": 3}, "widths is 3; it must be several values, each a whole number"),
        ({"widths": [1, 2.5]}, "widths is (1, 2.5); it must be several values, each a whole number"),
        ({"widths": [True, 2]}, "widths is (True, 2); it must be several values, each a whole number"),
        ({"widths": {"a": 1}}, "widths is {'a': 1}; it must be several values"),
        ({"targets": (1.0,)}, "targets is (1.0,); it must be 2 values: a number, a number"),
        ({"targets": (1.0, float("inf"))}, "targets is inf; it must be finite"),
        ({"parts": ("x", "z")}, "parts is ('x', 'z'); it must be several values, each one of x, y"),
        ({"size": "a" * 10_000}, "it must be a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_one_short_line(given, words):
    with pytest.raises(UsageError) as refused:
        config.make(Settings, given)
    assert words in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 150


def test_lists_and_numbers_of_numpy_are_taken():
    made = config.make(Settings, {"size": np.int64(3), "widths": [np.int32(2), 4], "rate": 1, "name": "a" * 10_000})
    assert made == Settings(3, 1, "a" * 10_000, widths=(2, 4)) and type(made.size) is int


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [Options, *(models.load(name).Hparams for name in models.names())])
def test_no_setting_of_training_may_be_infinite_or_no_number(kind, number):
    hints = {field.name: field.type for field in dataclasses.fields(kind) if "float" in str(field.type)}
    assert hints
    for name in hints:
        with pytest.raises(ValueError, match=f"{name} is {number}; it must be finite"):
            kind(**{name: number})


def test_unknown_augmentations_are_refused():
    with pytest.raises(
        UsageError,
        match=r"differentiable_augmentation is \('sepia',\); it must be several values, each one of auto, color",
    ):
        config.make(models.load("dcgan").Hparams, {"differentiable_augmentation": ["sepia"]})


@pytest.mark.parametrize("span", ["1:\uff12", "1" * 5000 + ":2", "²:³", "1:2\n", "2:1"])
def test_the_span_of_a_profile_is_two_numbers(span):
    with pytest.raises(ValueError, match="two increasing steps like 100:120"):
        config.profiled_steps(span)
