"""The eye on training: quick evaluations, the best checkpoint, warnings of collapse, recovery from what is not finite."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TINY, TINY_FLAGS, fails, state_of

import genlab
from genlab import models, sample
from genlab.backend import tf
from genlab.data.spec import DataSpec
from genlab.evaluate import evaluation
from genlab.train import __main__ as train
from genlab.train import collapse as watch


def quick_lines(run):
    return [line for line in run.metrics() if "quick_frechet_distance" in line]


def test_quick_evaluations_are_logged_and_the_best_checkpoint_is_kept(monkeypatch, capsys):
    distances = iter([5.0, 3.0, 4.0])
    monkeypatch.setattr(evaluation.QuickEvaluation, "__call__", lambda *_: {"frechet_distance": next(distances)})
    run = genlab.fit("dcgan", steps=6, evaluate_every=2, evaluate_samples=200, **TINY)
    assert [(line["step"], line["quick_frechet_distance"]) for line in quick_lines(run)] == [
        (2, 5.0),
        (4, 3.0),
        (6, 4.0),
    ]
    assert "generator_loss" in run.metrics()[-1]
    best, latest = (genlab.load(run.path, checkpoint=name) for name in ("best", "latest"))
    assert (best.step, latest.step) == (4, 6)
    latents = best.model.sample_latents([0])
    assert not np.array_equal(best.model.sample(latents), latest.model.sample(latents))
    sample.main(["--run", str(run.path), "--checkpoint", "best", "--count", "4"])
    status, message = fails(lambda: sample.main(["--run", str(run.path), "--checkpoint", "5"]), capsys)
    assert status == 2 and "steps 0, 6" in message


def test_a_quick_evaluation_is_the_full_ones_kind(trained, monkeypatch):
    quick = evaluation.QuickEvaluation(trained.data(), 300, 0)
    metrics = quick(trained.model)
    assert quick.real_classes == 10 and 1 <= metrics["classes"] <= 10
    monkeypatch.setattr(evaluation, "LABEL_EPOCHS", 0.02)  # what is compared here needs no classifier
    full = evaluation.evaluate(trained, samples=300).metrics
    assert metrics["frechet_distance"] == pytest.approx(full["frechet_distance"].value, rel=1e-6)
    assert quick.floor == pytest.approx(full["frechet_distance"].floor, rel=1e-6)


def test_evaluating_does_not_touch_training():
    plain, evaluated = (
        genlab.fit("dcgan", steps=4, evaluate_every=every, evaluate_samples=200, **TINY) for every in (0, 2)
    )
    for name, value in state_of(plain).items():
        np.testing.assert_array_equal(value, state_of(evaluated)[name], err_msg=name)


# -- collapse ----------------------------------------------------------------------------------------------------------


def small_model(name="dcgan", **settings):
    kind = models.load(name)
    return kind(kind.Hparams(**settings), DataSpec((12, 10, 1)))


def test_what_is_seen_three_times_in_a_row_is_said_once():
    eye = watch.Watch(small_model(), np.random.default_rng(0).normal(size=(20, 12, 10, 1)))
    alike = np.ones((20, 12, 10, 1)) + np.random.default_rng(1).normal(size=(20, 12, 10, 1)) * 0.1
    said = [len(eye.samples(alike)) for _ in range(5)]
    assert said == [0, 0, 1, 0, 0]
    assert eye.samples(np.random.default_rng(2).normal(size=(20, 12, 10, 1))) == []
    assert [len(eye.samples(alike)) for _ in range(3)] == [0, 0, 1]
    assert [len(eye.classes(4, 10)) for _ in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("count", [1, 20])
def test_identical_images_have_no_diversity_to_lose(count):
    eye = watch.Watch(small_model(), np.zeros((count, 12, 10, 1)))
    assert [eye.samples(np.zeros((count, 12, 10, 1))) for _ in range(4)] == [[], [], [], []]


@pytest.mark.parametrize(
    ("name", "healthy", "ill", "word"),
    [
        ("dcgan", {"discriminator_loss": 1.3, "generator_loss": 0.8}, {"discriminator_loss": 0.01, "generator_loss": 6.0}, "no signal"),
        ("gan", {"discriminator_loss": 1.3, "generator_loss": 0.8}, {"discriminator_loss": 3.0, "generator_loss": 0.01}, "weakness"),
        ("wgan", {"discriminator_loss": -3.0, "generator_loss": -9.0}, None, ""),
        ("began", {"k": 0.1}, {"k": 0.0}, "k is 0"),
        ("vae", {"active_units": 20.0}, {"active_units": 0.0}, "posterior"),
        ("autoencoder", {"loss": 0.1}, None, ""),
    ],
)  # fmt: skip
def test_losses_that_say_that_the_game_is_over(name, healthy, ill, word):
    model = small_model(name)
    assert model.warnings(healthy) == {}
    if ill is not None:
        assert word in " ".join(model.warnings(ill).values())


def test_a_model_names_its_warnings_as_it_likes(monkeypatch, capsys):
    metrics = iter(
        [{"one": "first"}, {"one": "first", "two": "second"}, {"one": "first", "two": "second"}, {"two": "second"}]
    )
    model = small_model()
    monkeypatch.setattr(type(model), "warnings", lambda self, _: next(metrics))
    eye = watch.Watch(model, np.random.default_rng(0).normal(size=(20, 12, 10, 1)))
    assert [eye.metrics({}) for _ in range(4)] == [[], [], ["first"], ["second"]]
    monkeypatch.setattr(type(model), "warnings", lambda self, _: {"of its own": "something of its own"})
    train.main(["dcgan", *TINY_FLAGS, "--steps", "12", "--log-every", "1"])
    assert capsys.readouterr().out.count("warning something of its own") == 1


def test_a_collapse_is_warned_of_or_stops_the_run(monkeypatch, capsys):
    kind = models.load("dcgan")
    sample_of = kind.sample
    # A generator that hardly looks at its latents draws one image.
    monkeypatch.setattr(kind, "sample", lambda self, latents, labels=None: sample_of(self, 0.01 * latents, labels))
    flags = [*TINY_FLAGS, "--steps", "12", "--sample-every", "2"]
    train.main(["dcgan", *flags])
    assert capsys.readouterr().out.count("samples differ from each other 0.0") == 1
    status, message = fails(lambda: train.main(["dcgan", *flags, "--on-collapse", "stop"]), capsys)
    assert status == 3 and "a checkpoint is saved" in message
    assert 2 <= genlab.load().step < 12


# -- what is not finite ------------------------------------------------------------------------------------------------


def failing(monkeypatch, steps):
    """dcgan with a loss that is not a number at those steps, unless the rates were halved."""
    kind = models.load("dcgan")
    step_of = kind.train_step

    def train_step(self, batches, seed):
        metrics = step_of(self, batches, seed)
        ill = tf.reduce_any(tf.equal(self.generator_optimizer.iterations, steps)) & (self.rate_factor > 0.3)
        return metrics | {"generator_loss": tf.where(ill, float("nan"), metrics["generator_loss"])}

    monkeypatch.setattr(kind, "train_step", train_step)


def test_rollback_goes_back_with_halved_rates_and_ends_the_run(monkeypatch, capsys):
    failing(monkeypatch, [7])
    train.main(
        ["dcgan", *TINY_FLAGS, "--steps", "8", "--checkpoint-every", "5", "--log-every", "1", "--on-nan", "rollback"]
    )
    said = capsys.readouterr().out
    assert said.count("back to step 5") == 2 and "2 of 3 times" in said
    run = genlab.load()
    assert run.step == 8 and [line["step"] for line in run.metrics()] == list(range(1, 9))
    assert float(run.model.rate_factor.numpy()) == 0.25
    assert all(np.isfinite(line["generator_loss"]) for line in run.metrics())
    json.dumps(run.metrics(), allow_nan=False)


def test_three_rollbacks_are_enough(monkeypatch, capsys):
    kind = models.load("dcgan")
    step_of = kind.train_step
    monkeypatch.setattr(
        kind, "train_step", lambda self, *given: step_of(self, *given) | {"generator_loss": tf.constant(float("inf"))}
    )
    status, message = fails(lambda: train.main(["dcgan", *TINY_FLAGS, "--steps", "3", "--on-nan", "rollback"]), capsys)
    assert status == 1 and "generator_loss is inf at step 1" in message and "step-0" in message
