"""The first hour runs as a page and as a notebook, which say the same."""

from __future__ import annotations

import importlib
import re

import pytest
from test_docs import DOCS, ROOT

PAGE = DOCS / "first-hour.md"
BEFORE = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import test_docs
from genlab.augment import study
from genlab.evaluate import evaluation
# Classifiers that other tests train.
evaluation._label_metrics = lambda *_: {{}}
study.trained = lambda real, *_, **__: study.classifier.untrained(real[0].shape[1:], 10)
"""
"""Runs in the notebook's kernel before its cells."""
SMALLER = {"SEEDS = 5": "SEEDS = 1", "EPOCHS = 60": "EPOCHS = 1"}


@pytest.fixture
def notebook(monkeypatch):
    """The script that makes the notebook."""
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package, reason='the notebook needs pip install ".[docs]"')
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("notebook")


def smaller(text: str) -> str:
    for constant, least in SMALLER.items():
        assert text.count(constant) < 2
        text = text.replace(constant, least)
    return text


def test_the_notebook_runs(notebook, tmp_path):
    """It has every block of the page."""
    assert all(constant in PAGE.read_text() for constant in SMALLER)
    made = notebook.converted(PAGE.read_text())
    for cell in made.cells:
        if cell.cell_type == "code" and cell.source.startswith("!"):
            # In the kernel's own process, where TensorFlow is imported once.
            cell.source = "\n".join(f"test_docs.call({line[1:]!r})" for line in cell.source.splitlines())
        elif cell.cell_type == "code":
            cell.source = smaller(cell.source)
    made.cells.insert(0, notebook.v4.new_code_cell(BEFORE))
    notebook.run(made, tmp_path)
    shown = "\n".join(output.get("text", "") for cell in made.cells for output in cell.get("outputs", []))
    assert "real and generated images:" in shown
    # In the kernel's own process, a training shows its grids too.
    own = [cell for cell in made.cells if "test_docs.call" not in cell.source]
    pictures = [output for cell in own for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(pictures) == 6
    assert (tmp_path / "exported" / "decoder.keras").is_file()


def test_the_stored_notebook_is_that_of_the_page(notebook):
    """`python docs/notebook.py` takes over what changed."""
    stored = notebook.nbformat.read(notebook.NOTEBOOK, as_version=4)
    made = notebook.converted(PAGE.read_text())
    assert [(cell.cell_type, cell.source) for cell in stored.cells] == [
        (cell.cell_type, cell.source) for cell in made.cells
    ]


def test_the_stored_notebook_was_run_and_is_small(notebook):
    stored = notebook.nbformat.read(notebook.NOTEBOOK, as_version=4)
    notebook.nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    text = notebook.NOTEBOOK.read_text()
    assert 10_000 < len(text) < 500_000
    assert not re.search(r"/tmp/|/home/|/root/", text)


def test_output_on_the_page_is_that_of_the_notebook(notebook):
    stored = notebook.nbformat.read(notebook.NOTEBOOK, as_version=4)
    printed = [output.get("text", "") for cell in stored.cells for output in cell.get("outputs", [])]
    shown = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shown
    for text in shown:
        assert any(text in output for output in printed), text


def test_pictures_on_the_page_are_those_of_the_notebook(notebook):
    stored = notebook.nbformat.read(notebook.NOTEBOOK, as_version=4)
    for name in notebook.PICTURES:
        assert f"]({name})" in PAGE.read_text()
        assert (DOCS / name).read_bytes() == notebook.picture(stored, name)
