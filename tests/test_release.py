"""The source distribution and the wheel hold the package and nothing else, and work without the repository."""

from __future__ import annotations

import email
import email.message
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import genlab

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "genlab").rglob("*")
    if path.suffix in (".py", ".keras", ".css", ".js", ".jinja") and "__pycache__" not in path.parts
}
BESIDES = {"README.md", "CHANGELOG.md", "CITATION.cff", "MANIFEST.in", "pyproject.toml", "setup.cfg", "PKG-INFO"}
"""What else the source distribution holds, apart from genlab.egg-info."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The source distribution, and the wheel that is built from it, of a folder that was worked in."""
    if importlib.util.find_spec("build") is None or int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip('needs the packages build and setuptools 77 or newer: pip install ".[test]"')
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    for name in ("genlab", "tests", "docs", "benchmarks", "samples"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "_build", "_pages")
        )
    for path in ROOT.glob("*.*"):
        if path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    for left in ("runs/00000-gan/config.json", "samples/grid.png", "docs/_build/index.html", "docs/_pages/README.md"):
        (source / left).parent.mkdir(parents=True, exist_ok=True)
        (source / left).write_text("left from work")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return sdist, wheel


def test_the_source_distribution_holds_the_package_and_nothing_else(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {name for name in names if not name.startswith("genlab.egg-info/")} == PACKAGE | BESIDES
    assert distributions[0].stat().st_size < 5e6


def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = set(archive.namelist())
    assert {name for name in names if not re.match(r"genlab-[\d.]+\.dist-info/", name)} == PACKAGE
    assert distributions[1].name == f"genlab-{genlab.__version__}-py3-none-any.whl"
    assert distributions[1].stat().st_size < 5e6


def metadata(wheel: pathlib.Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_metadata_says_what_the_project_says(distributions):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = metadata(distributions[1])
    assert (found["Name"], found["Version"]) == ("genlab", genlab.__version__)
    assert found["Summary"] == project["description"] and found["Description-Content-Type"] == "text/markdown"
    assert {*found["Requires-Python"].split(",")} == {*project["requires-python"].split(",")}
    assert {*found.get_all("Provides-Extra")} == {*project["optional-dependencies"]}
    assert found.get_payload().startswith("# genlab")
    if importlib.util.find_spec("twine"):
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)], check=True)


def test_the_wheel_trains_and_samples_without_the_repository(distributions, tmp_path):
    with zipfile.ZipFile(distributions[1]) as archive:
        archive.extractall(tmp_path / "installed")
    program = (
        "import genlab, pathlib\n"
        "from genlab.evaluate import extractors\n"
        "assert pathlib.Path(genlab.__file__).is_relative_to(pathlib.Path('installed').resolve()), genlab.__file__\n"
        "run = genlab.fit('gan', steps=2, batch_size=8, generator_widths=(8,), discriminator_widths=(8,))\n"
        "assert run.model.sample(run.model.sample_latents([0, 1])).shape == (2, 28, 28, 1)\n"
        "assert list(pathlib.Path(extractors.__file__).parent.glob('*.keras'))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(genlab.__version__)}$", text, re.MULTILINE)
    for key in ("cff-version: 1.2.0", "message:", "title: genlab", "authors:"):
        assert re.search(rf"^{key}", text, re.MULTILINE)


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[?{re.escape(genlab.__version__)}\]?", text, re.MULTILINE) or (
        "## Unreleased" in text and genlab.__version__ in text
    )
