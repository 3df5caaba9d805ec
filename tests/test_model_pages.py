"""The pages in docs/models/ say what the code and the measurements say."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import json
import pathlib
import re

import numpy as np
import pytest
from conftest import build

from genlab import models

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ROOT / "docs" / "models"
by_model = pytest.mark.parametrize("name", models.names())


@pytest.fixture
def tables(monkeypatch):
    """The script that writes the tables."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("tables")


def section(name: str, title: str) -> str:
    """A section of a model's page."""
    text = (PAGES / f"{name}.md").read_text()
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def rows(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_tables_of_options_and_presets_are_those_of_the_code(page, tables):
    """`python docs/tables.py` writes them again."""
    assert tables.filled(page.read_text()) == page.read_text()


@by_model
def test_every_option_is_described_with_its_default(name, tables):
    """On the model's page, or else with the same default among the shared options."""
    shown = {}
    shared = (PAGES / "options.md").read_text()
    for part in (part for part, kind in tables.GROUPS.items() if issubclass(models.load(name).Hparams, kind)):
        shown |= as_typed(re.search(rf"<!-- table: shared {part} -->(.*?)<!-- end", shared, re.DOTALL)[1])
    shown |= as_typed(section(name, "Options"))
    for field in dataclasses.fields(models.load(name).Hparams):
        default = shown[f"--{field.name.replace('_', '-')}"]
        match field.default:
            case bool():
                assert default == ("on" if field.default else "off")
            case tuple():
                assert default == " ".join(map(str, field.default)) or (default, field.default) == ("none", ())
            case str():
                assert default == (field.default or "none")
            case number:
                assert float(default) == number


def as_typed(table: str) -> dict[str, str]:
    """Defaults by flag."""
    return {re.match(r"`(--[a-z0-9-]+)", flag)[1]: default for flag, _, default in rows(table)}


@by_model
def test_every_preset_is_shown_whole(name):
    changed = {key for preset in models.presets(name).values() for key in preset}
    flags = [re.match(r"`(--[a-z0-9-]+)", row[0])[1] for row in rows(section(name, "Presets"))]
    assert sorted(flags) == sorted([*(f"--{key.replace('_', '-')}" for key in changed), "--steps"])
    assert all(f"`{preset}`" in section(name, "Presets") for preset in models.presets(name))


@by_model
def test_every_warning_is_on_the_page_with_its_advice(name):
    text = section(name, "Warnings")
    # Zero is the value of every metric at which something is wrong.
    found = build(name).warnings(collections.defaultdict(float))
    assert found or "no warnings of its own" in text
    for message in found.values():
        assert message.partition(":")[0].partition(",")[0] in text
        for flag in re.findall(r"--[a-z0-9-]+", message):
            assert f"`{flag}" in text, flag


@by_model
def test_results_are_those_that_were_measured(name, tables):
    page = (PAGES / f"{name}.md").read_text()
    assert f"<!-- results: {name} -->" in page and "quality-mnist-20.md" in section(name, "Results")
    entries = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text())
    chosen = [
        each
        for each in entries
        if (each["model"], each["data"], each["epochs"], each["flags"]) == (name, "mnist", 20, "")
    ]
    if not chosen:
        assert "Not measured yet" in tables.with_results(page)
        return
    table = tables.with_results(page)
    (titles,) = (line.split("|") for line in table.splitlines() if line.startswith("| MNIST |"))
    (column,) = (number for number, title in enumerate(titles[1:-1]) if title.startswith(" 20 epochs"))
    shown = {row[0]: row[column] for row in rows(table) if row[0] in ("precision", "recall")}
    for metric, cell in shown.items():
        mean, _, deviation = cell.partition(" ± ")
        values = [each["figures"][metric] for each in chosen]
        assert float(mean) == pytest.approx(np.mean(values), abs=1e-3)
        if len(values) > 1:
            assert float(deviation) == pytest.approx(np.std(values, ddof=1), rel=0.1)
    assert len(shown) == 2


def test_new_measurements_need_no_edit(tables, monkeypatch, tmp_path):
    entries = json.loads((tables.RESULTS / "quality.json").read_text())
    for each in entries:
        if (each["model"], each["epochs"], each["flags"]) == ("cgan", 20, ""):
            each["figures"]["recall"] = 0.5
    (tmp_path / "quality.json").write_text(json.dumps(entries))
    (tmp_path / "modes_on_points.json").write_text("[]")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert "| recall | 0.5 |" in tables.results("cgan")
