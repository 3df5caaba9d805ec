"""The pages in docs/ do what they say: every block is run, in order, with the least of training."""

from __future__ import annotations

import importlib
import pathlib
import re
import shlex

import pytest
from conftest import TINY_FLAGS

from genlab.errors import Harmful

DOCS = pathlib.Path(__file__).parent.parent / "docs"
LEAST = {
    "train": ["--steps", "2"],
    "augment": ["--steps", "2", "--seeds", "1"],
    "transfer": ["--steps", "2", "--seeds", "1"],
}
SMALL = {
    "cgan": TINY_FLAGS,
    "vae": ["--encoder-widths", "4", "8", "--decoder-widths", "4", "--hidden-units", "8", "--components", "2"],
}


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """Kind (sh or python) and text of every block of a page."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def call(line: str) -> None:
    """A command line of a page, in this process, with the least of training."""
    words = shlex.split(line)
    assert words[:2] == ["python", "-m"], line
    name = words[2].removeprefix("genlab.")
    arguments = words[3:] + LEAST.get(name, []) + (SMALL[words[3]] if name == "train" else [])
    module = importlib.import_module("genlab.data.__main__" if name == "data" else words[2])
    try:
        module.main(arguments)
    except SystemExit as end:  # two steps give no digits: that they harm a classifier is found rightly
        assert (name, end.code) == ("augment", Harmful.status), line


@pytest.mark.parametrize("page", ["put-to-work.md"])
def test_every_block_runs(page):
    names: dict[str, object] = {}
    for kind, text in blocks(DOCS / page):
        if kind == "python":
            exec(compile(text, page, "exec"), names)
        else:
            for line in text.splitlines():
                call(line)
