"""Strange images: scores against closed forms, thresholds against quantiles by hand, and the command on small runs."""

from __future__ import annotations

import csv
import importlib
import json
import math
import pathlib

import numpy as np
import pytest
from conftest import build, fails, small_settings
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

import genlab
from genlab import models
from genlab.anomaly import Detector, Threshold, report
from genlab.anomaly.complexity import code_length
from genlab.networks import priors

command = importlib.import_module("genlab.anomaly.__main__")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
WHITE = np.full((3, 28, 28, 1), 255, np.uint8)
"""Nothing like digits, also to a network that has hardly been trained."""


# -- thresholds --------------------------------------------------------------------------------------------------------


def test_the_threshold_is_a_quantile_with_one_more():
    threshold = Threshold.of(np.arange(99, 0, -1), 0.05)  # 5 of 100 places are above the 95th of 99
    assert threshold.above == 5 and threshold.value == 95
    assert threshold.p_values(np.array([99.5, 99, 95.5, 95, 0])).tolist() == [0.01, 0.02, 0.05, 0.06, 1.0]
    flagged = np.array([99.5, 99, 95.5, 95, 0]) > threshold.value
    np.testing.assert_array_equal(flagged, threshold.p_values(np.array([99.5, 99, 95.5, 95, 0])) <= 0.05)


def test_a_rate_needs_enough_held_out_images():
    assert Threshold.of(np.arange(19), 0.05).value == 18
    with pytest.raises(
        genlab.UsageError, match=r"needs at least 19 held-out images, and there are 18\. .* smallest is 0.053"
    ):
        Threshold.of(np.arange(18), 0.05)
    with pytest.raises(genlab.UsageError, match="needs at least 9,999 held-out images"):
        Threshold.of(np.arange(1000), 0.0001)
    for rate in (0.0, -0.1, 0.6, math.nan):
        with pytest.raises(genlab.UsageError, match="false_alarms"):
            Threshold.of(np.arange(1000), rate)
    with pytest.raises(genlab.UsageError, match="not finite"):
        Threshold.of(np.array([1.0, math.nan, 2.0]), 0.3)


def test_false_alarms_come_at_the_stated_rate():
    random = np.random.default_rng(0)
    rates = np.array([stats.norm.sf(Threshold.of(random.normal(size=199), 0.05).value) for _ in range(2000)])
    assert abs(rates.mean() - 0.05) < 0.001
    low, high = Threshold.of(np.arange(199), 0.05).interval(0.9)
    assert abs((rates < low).mean() - 0.05) < 0.02 and abs((rates > high).mean() - 0.05) < 0.02


def test_ties_raise_no_more_alarms():
    threshold = Threshold.of(np.zeros(99), 0.05)
    assert threshold.value == 0 and threshold.p_values(np.zeros(2)).tolist() == [1, 1]


def test_auroc_is_that_of_scikit_learn_and_of_two_gaussians():
    random = np.random.default_rng(0)
    normal, strange = random.normal(size=20_000), random.normal(1.5, 1, 5000)
    found = report.auroc(normal, strange)
    assert found == roc_auc_score(np.repeat([0, 1], [20_000, 5000]), np.concatenate([normal, strange]))
    assert abs(found - stats.norm.cdf(1.5 / math.sqrt(2))) < 0.01
    assert report.auroc(normal, np.zeros(0)) is None and report.auroc(np.zeros(0), strange) is None


# -- densities ---------------------------------------------------------------------------------------------------------


def test_log_densities_of_priors():
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    of = stats.multivariate_normal
    np.testing.assert_allclose(priors.Normal(3).log_density(points), of(np.zeros(3)).logpdf(points), rtol=1e-5)
    uniform = np.asarray(priors.Uniform(3).log_density(points))
    inside = (np.abs(points) <= 1).all(axis=1)
    assert inside.any() and np.allclose(uniform[inside], math.log(1 / 8)) and np.isneginf(uniform[~inside]).all()
    weights, means = np.array([0.3, 0.7, 0.0]), np.array([[0, 0, 0], [1, 2, 3], [0, 0, 0.0]])
    scales = np.stack([np.eye(3), np.array([[1, 0, 0], [0.5, 2, 0], [0.1, -0.3, 0.4]]), np.zeros((3, 3))])
    mixture = priors.Mixture(*(part.astype(np.float32) for part in (weights, means, scales)))
    by_hand = np.log(sum(w * of(m, s @ s.T).pdf(points) for w, m, s in zip(weights[:2], means, scales, strict=False)))
    np.testing.assert_allclose(mixture.log_density(points), by_hand, rtol=1e-4)


def zeroed(name: str, shape=(8, 6, 1), **changes):
    """A model whose networks return zeros."""
    model = build(name, shape, **changes)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(np.zeros(weight.shape))
    return model


def images(shape=(8, 6, 1), count=5) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, *shape)).astype(np.float32)


def test_the_likelihood_of_a_vae_that_ignores_its_code():
    # A decoder of zeros gives each binarized pixel the probability 1/2, and an encoder of zeros the prior: one bit a pixel.
    score = zeroed("vae").anomaly_scores(7)["likelihood"]
    np.testing.assert_allclose(score.of(images()), 48, rtol=1e-5)
    assert set(np.unique(score.described(images()))) == {-1, 1}
    # A Gaussian of standard deviation 0.2 around 0, as a density of pixel values 0 to 255.
    score = zeroed("vae", likelihood="gaussian", scale=0.2).anomaly_scores(7)["likelihood"]
    density = stats.norm(0, 0.2 * 127.5).logpdf(127.5 * images()).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(score.of(images()), -density / math.log(2), rtol=1e-4)
    # A logistic distribution around 127.5, over the unit interval around each pixel value.
    model = zeroed("vae", shape=(8, 6, 3))
    whole = np.rint((images((8, 6, 3)) + 1) * 127.5)
    logistic = stats.logistic(127.5, 127.5 * np.exp(model.log_scale.numpy()[0]))
    upper, lower = logistic.cdf(whole + 0.5), logistic.cdf(whole - 0.5)
    mass = np.where(whole == 255, 1, upper) - np.where(whole == 0, 0, lower)
    found = model.anomaly_scores(7)["likelihood"].of((whole / 127.5 - 1).astype(np.float32))
    np.testing.assert_allclose(found, -np.log2(mass).sum(axis=(1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("conditioning", ["none", "labels"])
def test_the_scores_of_a_flow_that_does_not_move(conditioning):
    scores = zeroed("flow", conditioning=conditioning).anomaly_scores()
    # Noise that stays where it is has the density N(0, 1) of values in [-1, 1], 127.5 times as dense as pixel values.
    density = stats.norm(0, 127.5).logpdf(127.5 * images()).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(scores["likelihood"].of(images()), -density / math.log(2), rtol=2e-3)
    # From (1 - t) noise + t image it finds just that, so (1 - t)^2 of the squared distance to the noise is left: x^2 + 1 on average.
    expected = 0.25 * np.mean([(1 - t) ** 2 for t in (0.3, 0.5, 0.7, 0.8, 0.9)])
    found = scores["denoising"].of(images(count=1)[[0] * 3])
    assert found[0] == found[1] == found[2]
    assert abs(found[0] / (expected * (np.square(images(count=1)).mean() + 1)) - 1) < 0.5


def test_the_codes_and_errors_of_an_autoencoder():
    scores = zeroed("autoencoder").anomaly_scores()
    # All codes are 0, and the mixture that was not fitted is N(0, I) of 4 dimensions. Reconstructions are 0.
    np.testing.assert_allclose(scores["codes"].of(images()), 2 * math.log(2 * math.pi), rtol=1e-5)
    np.testing.assert_allclose(
        scores["reconstruction"].of(images()), np.square(images() / 2).mean(axis=(1, 2, 3)), rtol=1e-5
    )


def test_a_discriminator_doubts():
    model = build("gan", (8, 6, 1), minibatch_standard_deviation=False)
    logits = model.discriminator(images(), training=False).numpy()[:, 0]
    np.testing.assert_allclose(model.anomaly_scores()["discriminator"].of(images()), -logits, rtol=1e-4, atol=1e-6)
    model = build("cgan", (8, 6, 1), minibatch_standard_deviation=False)
    by_class = [model.discriminator([images(), np.full(5, label)], training=False) for label in range(3)]
    expected = -np.max(by_class, axis=0)[:, 0]
    np.testing.assert_allclose(model.anomaly_scores()["discriminator"].of(images()), expected, rtol=1e-4, atol=1e-6)


def test_code_lengths_are_those_of_png():
    plain, noise = np.zeros((28, 28, 1), np.uint8), PIXELS[0]
    short, long = code_length(np.stack([plain, noise]))
    assert short == 8 * len(genlab.grids.png_of(plain)) and long == 8 * len(genlab.grids.png_of(noise))
    assert short < 1000 and long > 8 * 784  # noise cannot be compressed
    for channels in (2, 3, 4):
        assert code_length(np.zeros((2, 8, 8, channels), np.uint8)).shape == (2,)


# -- detectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names())
def test_every_score_of_every_model_depends_on_nothing_but_the_image(name, small_run):
    run = small_run(name)
    offered = run.model.anomaly_scores(5)
    assert offered
    for score in offered:
        detector = Detector(run, score, importance_samples=5)
        found = detector.score(PIXELS)
        assert found.shape == (6,) and np.isfinite(found).all() and detector.sentence
        np.testing.assert_allclose(detector.score(PIXELS[::-1])[::-1], found, rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(detector.score(PIXELS[2:3]), found[2:3], rtol=2e-3, atol=1e-5)
    assert Detector(run, importance_samples=5).name == next(iter(offered))


def test_neighbours_are_scikit_learns_local_outlier_factors_of_codes_and_of_whitened_codes(small_run):
    run = small_run("autoencoder")
    known, codes = (
        np.asarray(run.model.encoder(pixels / 127.5 - 1), np.float64) for pixels in (run.data().images, PIXELS)
    )
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(known.T))).T
    factors = [
        -LocalOutlierFactor(10, novelty=True).fit(known @ change).score_samples(codes @ change)
        for change in (np.eye(known.shape[1]), whitening)
    ]
    assert not np.allclose(*factors, rtol=1e-2)
    np.testing.assert_allclose(Detector(run, "neighbours").score(PIXELS), np.sqrt(factors[0] * factors[1]), rtol=1e-3)


def test_a_detector_flags_by_its_threshold(small_run):
    run = small_run("autoencoder")
    detector = genlab.anomaly.Detector.from_run(run.path, "reconstruction", false_alarms=0.05)
    held_out = run.data().test_images
    assert len(detector.threshold.held_out) == len(held_out) == 360
    np.testing.assert_allclose(detector.threshold.held_out, np.sort(detector.score(held_out)), rtol=1e-5)
    findings = detector(np.concatenate([held_out, WHITE]))
    assert findings.strange[-3:].all() and findings.strange[:-3].sum() <= 18  # 5% of 361
    above = [(detector.threshold.held_out >= score).sum() for score in findings.scores[-3:]]
    np.testing.assert_allclose(findings.p_values[-3:], (np.array(above) + 1) / 361)
    assert detector(held_out[:0]).scores.shape == (0,)


def test_corrected_likelihoods(small_run):
    vae, flow = small_run("vae"), small_run("flow")
    bits = Detector(vae, "likelihood", importance_samples=5).score(PIXELS)
    corrected = Detector(vae, "likelihood", correct="complexity", importance_samples=5).score(PIXELS)
    described = vae.model.anomaly_scores(5)["likelihood"].described(PIXELS / np.float32(127.5) - 1)
    np.testing.assert_allclose(bits - corrected, code_length(((described + 1) * 127.5).astype(np.uint8)))
    flow_bits = Detector(flow, "likelihood").score(PIXELS[:2])
    corrected = Detector(flow, "likelihood", correct="complexity").score(PIXELS[:2])
    np.testing.assert_allclose(flow_bits - corrected, code_length(PIXELS[:2]))
    against = Detector(vae, "likelihood", against=flow, importance_samples=5).score(PIXELS[:2])
    np.testing.assert_allclose(against, bits[:2] - flow_bits, rtol=1e-4)


def test_plain_images_are_likely_and_the_correction_sees_them(tmp_path):
    # Nalisnick et al. 2019: a likelihood prefers plain images to those that the model was trained on. Here: noise, and grey.
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (300, 12, 12, 1), np.uint8)
    settings = small_settings("vae") | {"likelihood": "discretized_logistic", "normalization": "none"}
    run = genlab.fit("vae", noise[:200], steps=100, out=tmp_path, **settings)
    grey = random.integers(120, 136, (100, 1, 1, 1), np.uint8).repeat(12, axis=1).repeat(12, axis=2)
    aurocs = {}
    for correct in ("none", "complexity"):
        detector = Detector(run, "likelihood", correct=correct, importance_samples=3)
        aurocs[correct] = report.auroc(detector.score(noise[200:]), detector.score(grey))
    assert aurocs == {"none": 0.0, "complexity": 1.0}


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_what_a_detector_refuses(small_run, tmp_path):
    autoencoder, vae = small_run("autoencoder"), small_run("vae")
    for call, words in (
        (
            lambda: Detector(autoencoder, "likelihood"),
            "autoencoder has no score likelihood.*It has neighbours, codes, reconstruction",
        ),
        (lambda: Detector(autoencoder, "reconstrction"), "did you mean reconstruction"),
        (lambda: Detector(autoencoder, "codes", correct="complexity"), "is no likelihood"),
        (lambda: Detector(vae, "likelihood", correct="jpeg"), "must be none or complexity"),
        (lambda: Detector(vae, "likelihood", correct="complexity", against=vae), "leave one out"),
        (lambda: Detector(vae, "likelihood", against=autoencoder), "autoencoder has no likelihood"),
        (lambda: Detector(vae, "likelihood", importance_samples=0), "importance_samples must be at least 1"),
        (lambda: Detector(vae, "codes")(PIXELS), "has no threshold"),
        (lambda: Detector(vae, "codes").score(PIXELS[:, :20]), r"must be uint8 \[N, 28, 28, 1\]"),
        (lambda: Detector(vae, "codes").score(PIXELS / 255), "images are float64"),
        (lambda: Detector(vae, "codes").score([[1], [2, 3]]), "not an array"),
        (
            lambda: Detector.from_run(vae, "codes", false_alarms=0.001),
            "needs at least 999 held-out images, and there are 360",
        ),
        (lambda: Detector.from_run(vae, "codes", false_alarms=0), "false_alarms"),
        (lambda: Detector(small_run("gan", "ring")), "trained on points"),
    ):
        with pytest.raises(genlab.UsageError, match=words):
            call()
    arrays = genlab.fit(
        "autoencoder", PIXELS.repeat(3, axis=0), steps=1, out=tmp_path, batch_size=4, latent_size=2, components=1, encoder_widths=(4,),
        decoder_widths=(4,), hidden_units=4,
    )  # fmt: skip
    with pytest.raises(genlab.UsageError, match="nothing of array was held out"):
        Detector.from_run(arrays, "codes")
    detector = Detector(arrays, "reconstruction")
    detector.calibrate(PIXELS, 0.2)  # from images of one's own
    assert detector(PIXELS).strange.sum() <= 1


def test_a_model_without_scores_is_refused(small_run, monkeypatch):
    run = small_run("vae")
    monkeypatch.setattr(type(run.model), "anomaly_scores", lambda self, samples=1: {})
    with pytest.raises(genlab.UsageError, match="vae has no score of strange images"):
        Detector(run)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A folder of ten digits, and two white images, in two classes."""
    digits = genlab.data.load("digits").test_images[:10]
    for name, chosen in (("digit", digits), ("white", WHITE[:2])):
        for number, image in enumerate(chosen):
            genlab.grids.save_image(image, tmp_path / "folder" / name / f"{number}.png")
    return tmp_path / "folder"


def call(*arguments: str) -> None:
    command.main([str(argument) for argument in arguments])


def test_the_command_scores_a_folder(folder, small_run, capsys):
    run = small_run("autoencoder")
    call(run.path, "--data", folder, "--score", "reconstruction", "--strange", "white", "--false-alarms", "0.02")
    shown = capsys.readouterr().out
    assert "reconstruction, mean squared error" in shown and "360 held-out images, for false alarms in 0.02" in shown
    assert "AUROC 1.000: 2 strange images against 10 normal ones" in shown
    (table,) = pathlib.Path("anomalies").glob("*.csv")
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 12 and {rows[0]["image"], rows[1]["image"]} == {"white/0.png", "white/1.png"}
    assert [row["flagged"] for row in rows[:2]] == ["1", "1"] and rows[0]["class"] == "white"
    assert float(rows[0]["score"]) >= float(rows[1]["score"]) and 1 / 362 < float(rows[0]["p_value"]) < 0.02
    height, width, channels = genlab.grids.image_size(table.with_suffix(".png"))
    assert channels == 3 and height > 64 and width > 8 * 56


def test_the_command_as_json(folder, small_run, capsys):
    run = small_run("vae")
    call(
        run.path, "--data", folder, "--score", "likelihood", "--importance-samples", "3", "--normal", "digit", "--json"
    )
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == "likelihood" and found["held_out"] == 360 and found["data"] == "folder"
    assert found["groups"]["strange"]["images"] == 2 and found["groups"]["normal"]["images"] == 10
    assert len(found["images"]) == 12 and len(found["files"]) == 2
    # The run trained on grey images; these ten are among those that the threshold comes from.
    assert any("10 of these images are among the held-out ones" in remark for remark in found["remarks"])


def test_all_images_count_as_strange_unless_classes_are_named(folder, small_run, capsys):
    call(small_run("dcgan").path, "--data", folder, "--score", "discriminator", "--limit", "7", "--shown", "3")
    assert (
        "AUROC" in (shown := capsys.readouterr().out)
        and "all 7 images of folder against the 360 held-out ones" in shown
    )


def test_a_class_that_was_left_out_is_scored(small_run, tmp_path, capsys):
    run = genlab.fit("autoencoder", steps=2, out=tmp_path, classes="0,1,2", **small_settings("autoencoder"))
    call(run.path, "--data", "digits", "--strange", "3,4", "--normal", "0,1,2", "--false-alarms", "0.05", "--json")
    found = json.loads(capsys.readouterr().out)
    test_labels = genlab.data.load("digits").test_labels
    assert found["groups"]["strange"]["images"] == np.isin(test_labels, [3, 4]).sum()
    assert found["groups"]["normal"]["images"] == found["held_out"] == np.isin(test_labels, [0, 1, 2]).sum()
    assert len(found["images"]) == len(test_labels)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--data small", "small has images of shape [20, 20, 1]; 00000-autoencoder-digits was trained on [28, 28, 1]"),
        ("--data digits --split validation", "has no validation images. Use --split train or test, or all"),
        ("--data digits --strange 12", "--strange 12: the classes of digits are"),
        ("--data digits --normal seven", "--normal seven: the classes of digits are"),
        ("--data digits --normal 1,2 --strange 2", "2 is in both --normal and --strange"),
        ("--data small --strange 1", "small"),
        ("--data digits --score likelihood", "has no score likelihood"),
        ("--data digits --false-alarms 0.0001", "needs at least 9,999 held-out images, and there are 360"),
        ("--data digits --held-out 50", "needs at least 99 held-out images, and there are 50"),
    ],
)
def test_wrong_calls(line, words, small_run, capsys):
    for number in range(3):
        genlab.grids.save_image(np.full((20, 20, 1), number, np.uint8), f"small/{number}.png")
    code, message = fails(lambda: call(small_run("autoencoder").path, *line.split()), capsys)
    assert code == 2 and words in message
    assert not pathlib.Path("anomalies").exists()


def test_plain_images_are_pointed_out(small_run, capsys):
    # The likelihood of a network that has hardly been trained is highest for images in the middle of all values.
    run = small_run("vae", "digits")
    np.savez("plain.npz", images=np.full((20, 28, 28, 1), 127, np.uint8))
    call(run.path, "--data", "plain.npz", "--score", "likelihood", "--importance-samples", "3")
    likely = Detector(run, "likelihood", importance_samples=3)
    below = likely.score(np.load("plain.npz")["images"]) < np.quantile(likely.score(run.data().test_images), 0.05)
    assert ("add --correct complexity" in capsys.readouterr().out) == (below.mean() > 0.25)
