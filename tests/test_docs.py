"""The README and the pages in docs/ are true: code and commands run or parse, flags, links, paths and names exist."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import tomllib
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_FLAGS
from PIL import Image

import genlab
from genlab import models
from genlab import run as runs
from genlab.data.spec import DataSpec
from genlab.errors import Harmful
from genlab.models import base

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
# Folders with an underscore hold what the site's build makes of the pages.
OF_DOCS = [page for page in sorted(DOCS.rglob("*.md")) if not page.relative_to(DOCS).parts[0].startswith("_")]
PAGES = [README, ROOT / "CONTRIBUTING.md", *OF_DOCS]
COMMANDS = [
    "train",
    "sample",
    "evaluate",
    "report",
    "explore",
    "augment",
    "export",
    "transfer",
    "encode",
    "anomaly",
    "runs",
    "data",
]
LEAST = {
    "train": ["--steps", "2"],
    "evaluate": ["--samples", "100"],
    "augment": ["--steps", "2", "--seeds", "1", "--per-class", "10"],
    "transfer": ["--steps", "2", "--seeds", "1", "--labels", "100"],
    "data label": ["--threshold", "0"],  # after two steps, a classifier is sure of nothing
}
SMALL = {
    "cgan": TINY_FLAGS,
    "semi_gan": TINY_FLAGS,
    "gan": ["--batch-size", "16", "--generator-widths", "8", "--discriminator-widths", "8"],
    "vae": ["--encoder-widths", "4", "8", "--decoder-widths", "4", "--hidden-units", "8", "--components", "2"],
    "wae": ["--batch-size", "16", "--latent-size", "4", "--widths", "4", "8"],
    "--resume": ["--steps", "4"],
}
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """Kind (sh or python) and text of every block of a page."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def block(page: str, kind: str) -> str:
    """The only block of that kind on a page of docs/."""
    (text,) = re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return text


def prose(page: pathlib.Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def main_of(name: str):
    """The `main` of a command: of a package's __main__, or of the one file."""
    package = ROOT / "genlab" / name
    return importlib.import_module(f"genlab.{name}.__main__" if package.is_dir() else f"genlab.{name}").main


# -- pages whose blocks run --------------------------------------------------------------------------------------------


def call(line: str) -> None:
    """A command line of a page, in this process, with the least of training."""
    words = shlex.split(line, comments=True)
    assert words[:2] == ["python", "-m"], line
    name = words[2].removeprefix("genlab.")
    command = f"data {words[3]}" if name == "data" else name
    arguments = words[3:] + LEAST.get(command, []) + (SMALL[words[3]] if name == "train" else [])
    try:
        main_of(name)(arguments)
    except SystemExit as end:  # two steps give no digits: that they harm a classifier is found rightly
        assert (name, end.code) == ("augment", Harmful.status), line


def run_blocks(found: list[tuple[str, str]], page: str) -> None:
    names: dict[str, object] = {}
    for kind, text in found:
        if kind == "python":
            exec(compile(text, page, "exec"), names)
        else:
            for line in text.splitlines():
                call(line)


def test_every_block_of_the_worked_example_runs():
    run_blocks(blocks(DOCS / "put-to-work.md"), "put-to-work.md")


def test_the_how_to_with_few_labels_runs(capsys):
    run_blocks(blocks(DOCS / "how-to" / "few-labels.md"), "few-labels.md")
    assert genlab.load(model="cgan").config.dataset["train_images"] == 1437  # all of them have a label now


def test_the_how_to_with_few_images_runs(capsys):
    found = [(kind, text) for kind, text in blocks(DOCS / "how-to" / "small-data.md") if "path/to" not in text]
    found = [each for each in found if "--checkpoint best" not in each[1]]  # of the user's own images
    run_blocks(found, "small-data.md")
    (start,) = genlab.load().config.lineage
    assert start["run"].startswith("00000-cgan-digits") and genlab.load().config.dataset["train_images"] == 100


def test_the_example_model_trains_samples_and_resumes(tmp_path, monkeypatch, capsys):
    (_, model), *others = blocks(DOCS / "adding-a-model.md")
    assert 60 <= model.count("\n") <= 90
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "wae.py").write_text(model)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path / "models")])
    run_blocks(others, "adding-a-model.md")
    assert genlab.load().step == 4 and list(pathlib.Path("samples").glob("00000-wae-*.png"))


def test_every_block_about_strange_images_runs(capsys):
    found = [(kind, text) for kind, text in blocks(DOCS / "how-to" / "anomalies.md") if "path/to" not in text]
    found += [
        ("sh", line)
        for kind, text in blocks(DOCS / "how-to" / "anomalies.md")
        for line in text.splitlines()
        if "--correct" in line
    ]
    assert [kind for kind, _ in found] == ["sh", "sh", "python", "sh"]
    run_blocks(found, "anomalies.md")
    shown = capsys.readouterr().out
    assert (
        shown.count("held-out images, for false alarms") == 2
        and shown.count("36 strange images against 324 normal ones") == 2
    )
    assert len(list(pathlib.Path("anomalies").iterdir())) == 2


def test_the_parts_of_the_example_open_as_one_data_set():
    shutil.copytree(ROOT / "tests" / "stored" / "runs" / "00000-cgan-digits", "runs/00003-cgan-digits")
    lines = [
        line for _, text in blocks(DOCS / "many-machines.md") for line in text.splitlines() if "data shard" in line
    ]
    first, second = (shlex.split(line, comments=True)[3:] for line in lines)
    small = ["--count", "64", "--images-per-shard", "8"]
    assert first[-1] == "1/16" and second[-1] == "2/16"
    main_of("data")([*first[:-1], "1/2", *small])
    with pytest.raises(genlab.UsageError, match="part 2 of 2 is missing"):
        genlab.data.load("more")
    main_of("data")([*second[:-1], "2/2", *small])
    joined, run = genlab.data.load("more"), genlab.load("3")
    seeds = np.arange(64)
    images = run.model.sample(run.model.sample_latents(seeds), seeds % 10)
    np.testing.assert_array_equal(joined.images[:], genlab.grids.as_pixels(images))


def test_the_server_of_the_how_to_answers():
    shutil.copytree(ROOT / "tests" / "stored" / "runs" / "00000-cgan-digits", "runs/00000-cgan-digits")
    (_, export), (_, program) = blocks(DOCS / "how-to" / "export-and-serve.md")
    call(export.strip())
    names: dict[str, object] = {}
    exec(compile(program.replace("8000", "0"), "export-and-serve.md", "exec"), names)
    server = names["server"]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        images = [Image.open(urllib.request.urlopen(f"{address}/7/{seed}")) for seed in (1, 1, 2)]
        for wrong in ("/seven/1", "/7", "/99/1"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + wrong)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    first, again, other = (np.asarray(image) for image in images)
    assert first.shape == (28, 28)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_every_part_of_the_interface_is_described():
    spec = DataSpec((8, 8, 1), 2)
    # Attributes that the constructor sets are part of it, those that a subclass adds are not.
    kind = type("Plain", (base.GenerativeModel,), {"train_step": None})
    parts = {
        *vars(base.GenerativeModel),
        *inspect.get_annotations(base.GenerativeModel),
        *vars(kind(base.Hparams(), spec)),
    }
    page = (DOCS / "adding-a-model.md").read_text()
    missing = [
        name for name in sorted(parts) if not name.startswith("_") and not re.search(rf"`(\w+\.)?{name}\b", page)
    ]
    assert not missing


# -- the README --------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 10_000


def test_the_readmes_code_runs(monkeypatch, capsys):
    stored = ROOT / "tests" / "stored" / "runs"
    shutil.copytree(stored / "00000-cgan-digits", "runs/00003-cgan-mnist")
    shutil.copytree(stored / "00001-vae-digits", "runs/00000-dcgan-digits")  # any model without labels will do
    monkeypatch.setattr(genlab, "fit", lambda model, data, steps: genlab.load())
    images, labels = np.zeros((8, 28, 28, 1), np.uint8), np.arange(8)
    names = {"dataset": tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)}
    for kind, text in blocks(README):
        if kind == "python":
            exec(compile(text, "README.md", "exec"), names)
    assert names["run"].name == "00000-dcgan-digits" and pathlib.Path("three.png").exists()
    assert next(iter(names["dataset"]))[0].shape == (4, 28, 28, 1)


def test_the_landing_pages_code_runs(monkeypatch):
    shutil.copytree(ROOT / "tests" / "stored" / "runs" / "00001-vae-digits", "runs/00000-dcgan-digits")
    monkeypatch.setattr(genlab, "fit", lambda model, data, steps: genlab.load())
    exec(compile(block("index.md", "python"), "index.md", "exec"), {})
    assert pathlib.Path("three.png").exists()


# -- commands, flags, links, names -------------------------------------------------------------------------------------


class ParsedError(Exception):
    """Raised in place of the work of a command, after its arguments were parsed."""


@by_page
def test_every_command_parses(page, monkeypatch, capsys):
    shutil.copytree(ROOT / "tests" / "stored" / "runs" / "00000-cgan-digits", "runs/00003-cgan-digits")
    text = "\n".join(line for kind, part in blocks(page) if kind == "sh" for line in part.splitlines())
    text += "\n" + "\n".join(re.findall(r"`(python -m genlab\.[^`]*)`", prose(page)))
    lines = [line for line in text.splitlines() if line.startswith("python -m genlab.")]
    opened = runs.open

    def parsed(*_, **__):
        raise ParsedError

    monkeypatch.setattr("genlab.data.load", parsed)
    monkeypatch.setattr("genlab.data.find", parsed)
    monkeypatch.setattr("genlab.train.distribution.prepare", lambda options: None)
    for line in lines:
        words = shlex.split(line.replace("/shared/runs", "runs"), comments=True)
        name, arguments = words[2].removeprefix("genlab."), words[3:]
        if name == "train" and arguments[:1] and (arguments[0].isupper() or arguments[0] == "wae"):
            arguments[0] = "dcgan"  # a placeholder, and the model of an example
        # Resuming parses the rest against a stored run; the other commands open a run once they have parsed.
        resumed = "--resume" in arguments
        monkeypatch.setattr(runs, "open", opened if resumed else parsed)
        try:
            main_of(name)([*arguments, "--dry-run"] if resumed else arguments)
        except ParsedError:
            continue
        except SystemExit as end:
            assert end.code == 0 and "--help" in arguments, f"{line}\n{capsys.readouterr().err}"
        assert resumed or not arguments or "--help" in arguments, f"{line}: its arguments were not parsed"


@pytest.fixture(scope="module")
def flags():
    """Every flag of every command."""
    calls = [("train", [model, "--help"]) for model in models.names()]
    calls += [("data", [part, "--help"]) for part in ("inspect", "shard", "label")]
    calls += [(name, ["--help"]) for name in COMMANDS if name not in ("train", "data")]
    shown = io.StringIO()
    for name, arguments in calls:
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            main_of(name)(arguments)
    return {"--completion", *re.findall(r"--[a-z][a-z0-9-]*", shown.getvalue())}


@by_page
def test_every_flag_exists(page, flags):
    quoted = " ".join(re.findall(r"`([^`]+)`", prose(page)))
    quoted = re.sub(r"(pip|ruff|pytest|pre-commit) [^`]*|--signal=\S+", "", quoted)
    named = set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", quoted))
    assert named <= flags | {"--help"}


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@by_page
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    assert links
    for link in links:
        path, _, part = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert target.is_relative_to(ROOT), link
        if part:
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert part in map(anchor, headings), link


def defined(path: pathlib.Path) -> set[str]:
    """The names that a Python file defines: `function`, `Class`, `Class.method`, `CONSTANT`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


@by_page
def test_every_path_and_name_exists(page):
    text = prose(page)
    examples = {"genlab/models/wae.py", "genlab/data/NAME.py", "tests/test_NAME.py"}
    for path in re.findall(r"`((?:genlab|tests|benchmarks|docs|samples)/[\w/.-]*)`", text):
        assert path in examples or (ROOT / path).exists() or path == "samples/", path
    for name, path in re.findall(r"`([\w.]+)` (?:in|of) `(genlab/[\w/]+\.py)`", text):
        assert name in defined(ROOT / path), f"{name} in {path}"


def test_every_promise_names_its_tests():
    sentences = re.findall(r"^- (.*?)(?=^- |^#|^$)", (DOCS / "promises.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(sentences) > 20
    for sentence in sentences:
        named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", sentence)
        assert named, sentence
        for path, test in named:
            assert not test or test in defined(ROOT / path), f"{test} in {path}"


# -- the architecture --------------------------------------------------------------------------------------------------


def files_of(tree: str) -> dict[str, str]:
    """The paths that an indented tree names, with what it says of them."""
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, words = line.strip().partition(" ")
        folders[depth:] = [name]
        if not name.endswith("/"):
            found["".join(folders)] = words.strip()
    return found


def test_the_tree_is_that_of_the_files():
    told = files_of(block("architecture.md", "tree"))
    paths = (ROOT / "genlab").rglob("*")
    there = {path.relative_to(ROOT).as_posix() for path in paths if path.suffix in (".py", ".css", ".js", ".jinja")}
    assert set(told) == there
    assert not [path for path, words in told.items() if not words]


def test_the_import_rules_are_those_that_ci_checks():
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert block("architecture.md", "imports").splitlines() == rules[0]["layers"]


def test_pre_commit_runs_the_linters_of_ci():
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    of_ci = re.findall(r"^\.venv-test/bin/(.*)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert hooks == [command for command in of_ci if not command.startswith("pip ")]


# -- clusters ----------------------------------------------------------------------------------------------------------

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
