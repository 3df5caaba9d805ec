"""A run that was stopped and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import TINY, cut_after, fails, state_of

import genlab
from genlab.train import __main__ as train


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        # tests/test_models.py has the defaults of every model. Here is every source of randomness and of state: dropout in
        # both networks, batch statistics, a lazy penalty, adaptive augmentation, several
        # updates a step, momentum.
        {
            "generator_dropout": 0.2,
            "latent_clusters": 2,
            "differentiable_augmentation": ("translation",),
            "discriminator_dropout": 0.2,
            "discriminator_normalization": "batch",
            "r1_interval": 3,
            "discriminator_updates": 2,
            "generator_updates": 2,
            "optimizer": "rmsprop",
            "beta1": 0.5,
        },
        {"spectral_normalization": True, "precision": "bfloat16"},
    ],
    ids=["everything", "spectral-bfloat16"],
)
def test_resumed_equals_uninterrupted(settings):
    settings = TINY | settings | {"checkpoint_every": 4, "log_every": 3}
    whole = genlab.fit("dcgan", steps=10, out="whole", **settings)
    parts = cut_after(whole, 4, "parts")
    train.main(["--resume", "--out", "parts"])
    same(state_of(whole), state_of(parts))
    latents = whole.model.sample_latents([0, 1, 2])
    np.testing.assert_array_equal(whole.model.sample(latents), parts.model.sample(latents))
    assert [line["step"] for line in parts.metrics()] == [3, 6, 9, 10]


def test_data_order_resumes_across_epochs(small_images):
    dataset = genlab.data.from_arrays(*small_images)
    straight = [labels.numpy() for _, labels in dataset.stream(16, seed=5).take(9)]
    for start in (1, 2, 3, 7):
        resumed = next(iter(dataset.stream(16, seed=5, start=start)))[1].numpy()
        np.testing.assert_array_equal(resumed, straight[start])


def test_other_settings_are_refused_and_shown(trained, capsys):
    status, message = fails(lambda: train.main(["--resume", str(trained.path), "--latent-size", "9"]), capsys)
    assert status == 2
    assert "--latent-size: the run has 8, asked for 9" in message
    status, message = fails(lambda: train.main(["vae-like", "--resume", str(trained.path)]), capsys)
    assert status == 2
    status, message = fails(lambda: train.main(["--resume", str(trained.path), "--steps", "3"]), capsys)
    assert status == 2 and "a run can only grow" in message


def test_lines_after_the_checkpoint_are_written_again(own_run, capsys):
    """As after a kill: metrics beyond the last checkpoint, the last line cut short."""
    run = own_run("dcgan")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "seconds": 1.0}) + '\n{"step": 5, "sec')
    train.main(["--resume", "--steps", "6", "--log-every", "2"])
    assert [line["step"] for line in run.metrics()] == [2, 4, 6]


def test_rates_beyond_their_schedule_are_warned_of_and_can_be_laid_out_again(own_run, capsys):
    run = own_run("vae")
    assert "learning rates stay" not in capsys.readouterr().out
    train.main(["--resume", "--steps", "4"])
    said = capsys.readouterr().out
    assert "learning rates stay at 1.00% from step 2 on" in said and "--schedule-steps 4" in said
    assert genlab.load(run.path).config.options.schedule_steps == 2
    train.main(["--resume", "--steps", "6", "--schedule-steps", "6"])
    said = capsys.readouterr().out
    assert "schedule of 6 steps; it was 2" in said and "learning rates stay" not in said
    run = genlab.load(run.path)
    assert run.config.options.schedule_steps == 6
    # The cosine from 1 at the start of the schedule to 0.01 at its end.
    assert float(run.build().optimizer.learning_rate) == pytest.approx(run.config.hparams.learning_rate)
    run.model.step.assign(6)
    assert float(run.model.optimizer.learning_rate) == pytest.approx(0.01 * run.config.hparams.learning_rate)


def test_constant_rates_have_no_schedule_to_end(own_run, capsys):
    own_run("dcgan")
    train.main(["--resume", "--steps", "3"])
    assert "learning rates" not in capsys.readouterr().out


def test_a_run_that_is_being_trained_is_not_resumed(own_run, capsys):
    with own_run("dcgan").training():
        status, message = fails(lambda: train.main(["--resume", "--steps", "4"]), capsys)
    assert status == 1 and "another process" in message


def test_a_finished_run_says_so(own_run, capsys):
    own_run("dcgan")
    train.main(["--resume"])
    assert "all 2 steps are done already" in capsys.readouterr().out


def test_resume_accepts_epochs_and_dry_run(own_run, capsys):
    own_run("dcgan")
    train.main(["dcgan", "--resume", "--epochs", "0.04", "--dry-run"])
    assert genlab.load("latest").config.steps == 2
    train.main(["dcgan", "--resume", "--epochs", "0.04", "--batch-size", "8"])
    assert genlab.load("latest").config.steps == 8  # 0.04 * 1,437 / 8, rounded up
