"""Kept measurements: JSON lists in benchmarks/results/, an entry a measurement, each with its date and machine."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
from typing import Any

from genlab import files
from genlab.evaluate import comparison

FOLDER = pathlib.Path(__file__).parent / "results"
CACHE = pathlib.Path(__file__).parent / "cache"
"""Runs and data that a script can go on with; not kept in the repository."""


def entries(name: str) -> list[dict[str, Any]]:
    """What has been measured under that name, oldest first."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def add(name: str, entry: dict[str, Any]) -> None:
    """Keep an entry, with date and machine, before anything else is measured."""
    entry |= {"date": datetime.date.today().isoformat(), "machine": machine()}
    print(json.dumps(entry), flush=True)
    FOLDER.mkdir(exist_ok=True)
    files.write_text(FOLDER / f"{name}.json", json.dumps([*entries(name), entry], indent=1) + "\n")


def machine() -> str:
    """Name of the CPU and number of its cores."""
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{cpu}, {os.cpu_count()} cores"


def test(chosen: list[dict[str, Any]]) -> str:
    """How the p-values of entries are found, for the head of a table."""
    told = "The test is a paired t-test over seeds whose standard error includes the noise of the test images"
    bounded = "; which images were right was not kept, so that noise is an upper bound, and p too"
    return told + (bounded if any("right" not in entry for entry in chosen) else "") + "."


def setting(chosen: list[dict[str, Any]], figures: list[dict[str, float]]) -> comparison.Setting:
    """Entries of one seed each as a Setting; `figures` are what is compared, by condition, for each entry.

    Entries from before 2026-11-25 lack `right`; the noise of their test images is bounded by the accuracies.
    """
    by_condition = {name: [each[name] for each in figures] for name in figures[0]}
    right = {}
    if all("right" in entry for entry in chosen):
        right = {name: [entry["right"][name] for entry in chosen] for name in by_condition}
    return comparison.Setting(None, by_condition, tested=chosen[0]["tested"], right=right)


def machines(chosen: list[dict[str, Any]]) -> str:
    """The machines that entries were measured on, and from when to when."""
    dates = sorted({entry["date"] for entry in chosen})
    return f"{', '.join(sorted({entry['machine'] for entry in chosen}))}; {dates[0]} to {dates[-1]}"
