"""Runs, evaluations and grids show themselves in a notebook, and a training there shows its bar and its newest grid."""

from __future__ import annotations

import base64
import html
import json
import os
import pathlib
import shutil
import subprocess
import sys

import imageio.v3 as imageio
import nbformat
import numpy as np
import pytest
from conftest import small_settings
from nbclient import NotebookClient

import genlab
from genlab import grids, notebook
from genlab.evaluate.results import Evaluation, Metric

STORED = pathlib.Path(__file__).parent / "stored" / "runs"
HOSTILE = "<script>alert('x')</script>"


def executed(folder: pathlib.Path, *cells: str) -> list[list[dict]]:
    """The outputs of a notebook's cells, run by a real kernel in a folder."""
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with pytest.MonkeyPatch.context() as patch:
        root = str(pathlib.Path(genlab.__file__).parent.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
        NotebookClient(
            document, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return [cell.outputs for cell in document.cells]


def pictures(outputs: list[dict]) -> list[np.ndarray]:
    return [
        imageio.imread(base64.b64decode(output["data"]["image/png"]))
        for output in outputs
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.parametrize("widgets", [True, False])
def test_a_training_shows_its_bar_and_its_newest_grid(widgets, tmp_path):
    if widgets:
        pytest.importorskip("ipywidgets")
    settings = small_settings("dcgan") | {"steps": 4, "sample_every": 2, "log_every": 2}
    _, trained, run, grid = executed(
        tmp_path,
        "import sys, genlab" + ("" if widgets else "\nsys.modules['ipywidgets'] = None  # as if it were not installed"),
        f"run = genlab.fit('dcgan', **{settings!r})",
        "run",
        "genlab.grids.show(run.model.sample(run.model.sample_latents([0, 1])), columns=2)",
    )
    (live,) = pictures(trained)  # five grids were drawn, each in place of the one before
    last = imageio.imread(tmp_path / "runs/00000-dcgan-digits/samples/step-000004.png")
    np.testing.assert_array_equal(live, last)
    if widgets:
        assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in trained)
    else:
        assert "4/4" in "".join(output.get("text", "") for output in trained)
    assert "finished" in run[0]["data"]["text/html"] and "image/png;base64" in run[0]["data"]["text/html"]
    assert pictures(grid)[0].shape == (60, 118)


def test_a_plain_program_shows_no_notebook(monkeypatch):
    code = "import sys, genlab.run\nfrom genlab import notebook\nassert not notebook.active() and 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    live = notebook.LivePicture()
    live.show(b"")
    assert not live.shown


def test_a_run_shows_settings_state_grid_and_metrics(small_run):
    run = small_run("vae")
    shown = run._repr_html_()
    assert run.name in shown and "finished" in shown and "2 of 2" in shown and "all settings" in shown
    assert f'<td style="text-align: left">{run.metrics()[-1]["loss"]:.6g}</td>' in shown
    newest = imageio.imread(run.samples / "step-000002.png")
    np.testing.assert_array_equal(imageio.imread(run.grid()._repr_png_()), newest)
    assert base64.b64encode(run.grid().png).decode() in shown


def test_a_run_without_grids_or_with_damaged_ones_shows_the_rest():
    path = pathlib.Path(shutil.copytree(STORED / "00000-cgan-digits", "runs/00000-cgan-digits"))
    run = genlab.load(path)
    assert run.grid() is None and "<img" not in run._repr_html_()
    (path / "samples").mkdir()
    (path / "samples" / "step-000002.png").write_text(HOSTILE)
    assert "step-000002.png cannot be read" in run._repr_html_() and "<script" not in run._repr_html_()
    with pytest.raises(genlab.GenlabError, match="cannot be read"):
        run.grid()


def test_everything_shown_is_escaped():
    path = pathlib.Path(shutil.copytree(STORED / "00000-cgan-digits", "runs/00000-cgan-digits"))
    content = json.loads((path / "config.json").read_text())
    content["options"]["description"] = content["dataset"]["name"] = HOSTILE
    (path / "config.json").write_text(json.dumps(content))
    (path / "metrics.jsonl").write_text(json.dumps({"step": 2, HOSTILE: 1.0}) + "\n")
    evaluation = Evaluation(HOSTILE, HOSTILE, 2, {HOSTILE: HOSTILE}, {HOSTILE: Metric(1.0)}, {"date": HOSTILE})
    for shown in (genlab.load(path)._repr_html_(), evaluation._repr_html_()):
        assert "<script" not in shown and html.escape(HOSTILE) in shown


def test_an_evaluation_shows_metrics_with_floors():
    metrics = {"frechet_distance": Metric(12.345678, 3.0, 0.25), "mse": Metric(0.5)}
    shown = Evaluation("00000-vae-digits", "vae", 2, {"real": 360}, metrics, {})._repr_html_()
    for cell in ("frechet distance", "12.35 ± 0.25", "3", "mse", "0.5", "–", "real images", "360"):
        assert f">{cell}</t" in shown


def test_a_grid_as_a_picture():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    picture = grids.show(images, columns=3, scale=1)
    np.testing.assert_array_equal(imageio.imread(picture._repr_png_()), grids.to_grid(images, 3, 1)[..., 0])
    assert repr(picture) == f"Picture of {len(picture.png):,} bytes"
    with pytest.raises(genlab.UsageError, match="NaN"):
        grids.show(np.full((1, 8, 8, 1), np.nan))
