"""Stored measurements: JSON lists in benchmarks/results/, one entry per measurement, with date and machine."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
from typing import Any

import numpy as np

from genlab import files
from genlab.evaluate import comparison

FOLDER = pathlib.Path(__file__).parent / "results"
CACHE = pathlib.Path(__file__).parent / "cache"
"""Runs and data that scripts can resume from; not part of the repository."""
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""Instructions for matrix products by their flag in /proc/cpuinfo, the fastest first. Older measurements do not name them."""


def entries(name: str) -> list[dict[str, Any]]:
    """Return the stored entries of that name, oldest first."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def is_known(name: str, asked: dict[str, Any]) -> bool:
    """Return whether an entry of that name has all these values, so that it need not be measured again."""
    return any(asked.items() <= entry.items() for entry in entries(name))


def add(name: str, entry: dict[str, Any]) -> None:
    """Store an entry at once, with date and machine."""
    entry |= {"date": datetime.date.today().isoformat(), "machine": machine()}
    print(json.dumps(entry), flush=True)
    FOLDER.mkdir(exist_ok=True)
    files.write_text(FOLDER / f"{name}.json", json.dumps([*entries(name), entry], indent=1) + "\n")


def of_predictions(
    predictions: dict[str, np.ndarray], labels: np.ndarray, num_classes: int, compared: np.ndarray | slice = slice(None)
) -> dict[str, Any]:
    """Return what an entry keeps of predicted classes [N] by condition; `compared` selects the test images for the p-value."""
    whole, part = comparison.Setting(None), comparison.Setting(None)
    whole.add(predictions, labels, num_classes)
    part.add({condition: found[compared] for condition, found in predictions.items()}, labels[compared], num_classes)
    first = {
        name: {condition: values[0] for condition, values in found.items()}
        for name, found in (("accuracy", whole.accuracy), ("recall", whole.recall), ("right", part.right))
    }
    return first | {"tested": part.tested}


def machine() -> str:
    """Return the name of the CPU, its fastest instructions and its cores, and how many of them this process may use, if not all."""
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    cpu, flags = facts.get("model name", platform.processor()), facts.get("flags", "").split()
    cpu += next((f" with {name}" for flag, name in INSTRUCTIONS.items() if flag in flags), "")
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return f"{cpu}, {f'{usable} of {total}' if usable < total else total} cores"


def test(chosen: list[dict[str, Any]]) -> str:
    """Describe the significance test of entries, for the head of a table."""
    text = "The test is a paired t-test over seeds, whose standard error includes the sampling noise of the test images"
    bounded = "; correct predictions were not stored per image, so this noise, and with it p, is an upper bound"
    return text + (bounded if any("right" not in entry for entry in chosen) else "") + "."


def setting(chosen: list[dict[str, Any]], metrics: list[dict[str, float]]) -> comparison.Setting:
    """Combine entries of one seed each to a Setting; `metrics` are the values to compare, by condition, for each entry.

    Entries from before 2026-11-25 lack `right`; the noise of their test images is bounded by the accuracies.
    """
    by_condition = {name: [each[name] for each in metrics] for name in metrics[0]}
    right = {}
    if all("right" in entry for entry in chosen):
        right = {name: [entry["right"][name] for entry in chosen] for name in by_condition}
    return comparison.Setting(None, by_condition, tested=chosen[0]["tested"], right=right)


def machines(chosen: list[dict[str, Any]]) -> str:
    """Describe the machines and dates of entries."""
    dates = sorted({entry["date"] for entry in chosen})
    return f"{' and '.join(sorted({entry['machine'] for entry in chosen}))}; {' to '.join(dates[:1] + dates[1:][-1:])}"
