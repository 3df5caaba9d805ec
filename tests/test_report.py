"""Reports: what they say of a run, that they are one file, and that they work in a browser."""

from __future__ import annotations

import browser
import numpy as np
import pytest

import genlab
from genlab import files, grids
from genlab.evaluate import results
from genlab.evaluate.results import Evaluation, Metric
from genlab.report import __main__ as command
from genlab.report import content, page
from genlab.report.verdict import verdict

PERFECT = {
    "frechet_distance": Metric(3.0, 2.9),
    "precision": Metric(0.85, 0.86),
    "recall": Metric(0.84, 0.86),
    "label_accuracy": Metric(0.995, 0.996),
    "train_on_fake": Metric(0.975, 0.978),
    "memorization": Metric(0.012, 0.01),
    "smallest_class": Metric(0.93, 0.97),
}


def evaluated(run, **changes):
    """Store metrics of a run: those of a perfect one, with some changed."""
    metrics = PERFECT | {name: Metric(value, PERFECT[name].floor) for name, value in changes.items()}
    counts = {"names": ["0", "1<b>"], "generated": [60, 40], "real": [50, 50]}
    protocol = {"data": "digits", "real": 360, "generated": 360, "seed": 0}
    found = Evaluation(run.name, run.config.model, run.step, protocol, metrics, {"date": "2026-01-01"}, counts)
    files.write_json(run.path / "evaluation.json", found.to_json())
    return run


def sentences(run) -> str:
    return "\n".join(f"{each.kind}: {each.text} [{each.source}]" for each in verdict(content.read(run, 1)))


def test_a_good_run_gets_one_sentence(own_run):
    assert sentences(evaluated(own_run("cgan"))) == (
        "good: As a set, the samples can hardly be told from real images: 1.0 times the distance of real images. "
        "[Fréchet distance 3, real images 2.9]"
    )


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("frechet_distance", 7.25, "good: The samples are close to real images: 2.5 times"),
        ("frechet_distance", 14.5, "fair: The samples resemble real images, with visible differences: 5.0 times"),
        ("frechet_distance", 145.0, "bad: The samples are far from real images: 50 times their distance."),
        ("recall", 0.74, "fair: Recall is 0.12 below real images: modes are missing. Try --minibatch-discrimination"),
        ("recall", 0.5, "bad: Recall is 0.36 below real images"),
        ("precision", 0.5, "bad: Precision is 0.36 below real images: some samples look like no real image."),
        ("label_accuracy", 0.9, "bad: The classifier finds the requested class in 90.0% of the samples, and in 99.6%"),
        ("train_on_fake", 0.95, "fair: A classifier trained on the samples reaches 95.0% on real images, and 97.8%"),
        ("memorization", 0.5, "bad: 50% of the samples are closer to a training image than 99% of real images are"),
        ("smallest_class", 0.1, "fair: One class is drawn 0.10 times as often as it occurs."),
    ],
)
def test_each_shortfall_is_told_with_its_metric(own_run, metric, value, said):
    found = sentences(evaluated(own_run("cgan"), **{metric: value}))
    (line,) = [line for line in found.splitlines() if line.startswith(said)]
    shown = "Fréchet distance" if metric == "frechet_distance" else metric.replace("_", " ")
    assert f"[{shown} {value:.4g}, real images {PERFECT[metric].floor:.4g}]" in line


def test_advice_fits_the_model(own_run):
    said = sentences(evaluated(own_run("vae"), recall=0.5))
    assert "wider networks" in said and "minibatch" not in said


def test_what_is_missing_is_told(own_run):
    run = own_run("dcgan")
    assert f"type: python -m genlab.evaluate {run.path}" in sentences(run)
    log = (run.path / "log.txt").read_text()
    (run.path / "log.txt").write_text(log + 2 * "2026-01-01 00:00:00  warning samples are alike: mode collapse.\n")
    assert sentences(run).count("fair: During training: samples are alike: mode collapse.") == 1
    ended = {"state": "failed", "step": 1, "reason": "generator_loss is nan at step 2"}
    files.write_json(run.path / "outcome.json", ended)
    assert "bad: Training failed at step 2 of 2: generator_loss is nan at step 2. [outcome.json]" in sentences(run)
    evaluated(run)
    stored = (run.path / "evaluation.json").read_text()
    (run.path / "evaluation.json").write_text(stored.replace('"step": 2', '"step": 1'))
    assert "from step 1, and the run is at step 2. To update:" in sentences(run)
    (run.path / "evaluation.json").write_text("{")
    assert "has not been evaluated" in sentences(run)


def test_several_runs_are_compared(own_run):
    runs = [evaluated(own_run("cgan"), recall=0.5), evaluated(own_run("dcgan"), frechet_distance=30.0)]
    contents = [content.read(run, 2) for run in runs]
    rows = {row.name: row for row in results.rows([each.evaluation for each in contents])}
    assert [(cell.text, cell.best) for cell in rows["frechet distance"].cells] == [("3", True), ("30", False)]
    assert [(cell.text, cell.best) for cell in rows["recall"].cells] == [("0.5", False), ("0.84", True)]
    assert rows["frechet distance"].real == "2.9"
    shown = page.write(runs, "report.html").read_text()
    assert "conditioning" in shown.partition("All settings")[0].rpartition("Different")[2]
    assert shown.count('class="player"') == 2


def test_a_page_is_one_file_and_nothing_of_a_run_is_taken_for_html(own_run):
    run = evaluated(own_run("cgan"))
    hostile = run.path.with_name("00007-cgan-<img src=x onerror=alert(1)>")
    run.path.rename(hostile)
    run = genlab.load(hostile)
    with (hostile / "log.txt").open("a") as file:
        file.write("2026-01-01 00:00:00  warning </script><script>alert(2)</script>\n")
    path = page.write([run], "out/report.html")
    text = path.read_text().replace(page.plotly_script(), "")
    assert "<img src=x" not in text and "<script>alert" not in text
    assert "http://" not in text and "https://" not in text
    assert path.stat().st_size < 8_000_000


def test_pictures_fit_into_the_page(own_run):
    run = own_run("dcgan")
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    for step in range(190, 200):
        grids.save_image(noise, run.samples / f"step-{step:06d}.png")
    (run.samples / "step-000195.png").write_bytes(b"damaged")
    found = content.read(run, 1)
    assert (found.frames[-1].title, found.frames[-1].width) == ("step 199", 960)
    total = sum(len(each.webp) for each in [*found.frames, *found.pictures.values()])
    assert total <= 1.1 * content.PICTURE_BYTES
    assert page.write([run], "report.html").stat().st_size < 8_000_000


def test_evenly_spaced_frames_keep_the_last():
    assert content.evenly(10, 1) == [9]
    assert content.evenly(3, 5) == [0, 1, 2]
    assert content.evenly(101, 3) == [0, 50, 100]


def test_the_command_writes_where_it_says(own_run, capsys):
    run, other = own_run("cgan"), own_run("dcgan")
    command.main([])
    command.main([run.name, other.name])
    command.main([run.name, "--out", "here/page.html"])
    newest = genlab.load().path / "report.html"
    assert capsys.readouterr().out.split() == [str(newest), "runs/report.html", "here/page.html"]


def test_a_report_in_a_browser(own_run):
    runs = [evaluated(own_run("cgan")), own_run("vae")]
    path = page.write(runs, "report.html").resolve()
    with browser.started() as chromium:
        shown = chromium.open(path.as_uri(), width=390, height=844, color_scheme="dark")
        shown.wait_for_selector("body[data-drawn=yes]")
        player = shown.locator(".player").first
        last = player.locator("img:visible").get_attribute("data-title")
        player.locator("input").press("Home")
        assert (last, player.locator("img:visible").get_attribute("data-title")) == ("step 2", "step 0")
        player.locator("button").click()
        browser.wait_until(shown, "document.querySelector('.player output').textContent == 'step 2'")
        # Smoothing changes the curves, and nothing at all where it is 0.
        curve = "Array.from(document.getElementById('curve-0').data[0].y)"
        before = shown.evaluate(curve)
        shown.locator("#smoothing").press("End")
        browser.wait_until(shown, "document.getElementById('smoothed').textContent == '0.98'")
        shown.locator("#smoothing").press("Home")
        assert shown.evaluate(curve) == before
        # The page fits a phone, and its charts follow the dark mode.
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        assert shown.evaluate("document.getElementById('curve-0').layout.font.color") == "#e6e8eb"
        shown.emulate_media(color_scheme="light")
        browser.wait_until(shown, "document.getElementById('curve-0').layout.font.color == '#1c1e21'")
    assert chromium.complaints == [] and chromium.requests == [path.as_uri()]
