"""The pages in docs/ do what they say: every block is run, in order, with the least of training."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess

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


SETTINGS = {"WORKERS": "3", "JOB_COMPLETION_INDEX": "1", "SLURM_PROCID": "1", "SLURM_JOB_NODELIST": "node[1-3]"}


@pytest.mark.parametrize("system", ["Kubernetes", "Slurm"])
def test_clusters_are_described_as_tf_config_wants_them(system, tmp_path):
    page = (DOCS / "many-machines.md").read_text().partition(f"## {system}")[2]
    text = re.search(r"hosts=.*?(?=\n *exec)", page, re.DOTALL)[0]
    nodes = tmp_path / "scontrol"
    nodes.write_text("#!/bin/sh\nprintf 'node1\\nnode2\\nnode3\\n'\n")
    nodes.chmod(0o755)
    environment = os.environ | SETTINGS | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(
        ["bash", "-c", f"{text}\necho $TF_CONFIG"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    workers = (
        [f"genlab-{i}.genlab:2222" for i in range(3)]
        if system == "Kubernetes"
        else [f"node{i}:2222" for i in (1, 2, 3)]
    )
    assert json.loads(shown) == {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 1}}
