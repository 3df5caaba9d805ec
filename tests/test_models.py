"""Conformance: what every model must do, those of genlab, those in tests/models/ and any new file in either.

A model that does not take some data says so in one line, a UsageError, and is skipped there. What is special to a model is
tested in a file of its name.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import PROOF, batches, build, cut_after, proof_models, resting, small, state_of

import genlab
from genlab import models, sample
from genlab.train import __main__ as train

ALL = [*models.names(), *PROOF]
SHAPES = [(12, 10, 1), (9, 17, 3), (2,)]


@pytest.fixture(scope="module", autouse=True)
def found():
    with proof_models():
        yield


def build_or_skip(name, shape, **settings):
    try:
        return build(name, shape, **settings)
    except genlab.UsageError as error:
        assert "\n" not in str(error)
        pytest.skip(str(error))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_a_step_changes_every_weight_and_samples_fit(name, shape):
    model = build_or_skip(name, shape)
    rest, metrics = resting(model)
    # The bias of an output cancels in a loss that compares outputs with each other.
    last = {f"{network}/{each.trainable_weights[-1].path}" for network, each in model.networks.items()}
    assert set(rest) <= {path for path in last if path.endswith("/bias")}
    for value in metrics.values():
        assert value.shape == () and np.isfinite(value)
    seeds = [3, 1, 2]
    drawn = model.sample(model.sample_latents(seeds), model.default_labels(seeds)).numpy()
    assert drawn.shape == (3, *shape) and drawn.dtype == np.float32
    if model.spec.is_image:
        assert np.abs(drawn).max() <= 1
    alone = model.sample(model.sample_latents([1]), model.default_labels([1])).numpy()
    np.testing.assert_array_equal(alone[0], drawn[1])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("name", ALL)
def test_an_update_lowers_its_own_loss(name, optimizer):
    """Against sign errors: what a learning rate of its own trains is logged as a loss of the same name."""
    # Penalties and what steers the balance are no part of the losses that are logged.
    apart = {
        "r1_penalty": 0.0,
        "auxiliary_classifier": 0.0,
        "gradient_penalty": 0.0,
        "pull_away": 0.0,
        "lambda_k": 1e-12,
        "discriminator_dropout": 0.0,  # other units are left out in each step
        "discriminator_updates": 1,
    }
    known = {field.name for field in dataclasses.fields(models.load(name).Hparams)}
    rates = [field for field in known if field.endswith("learning_rate")]
    assert rates
    for trained in rates:
        chosen = {rate: 1e-4 if rate == trained else 1e-12 for rate in rates}
        chosen |= {key: value for key, value in apart.items() if key in known}
        model = build(name, optimizer=optimizer, beta1=0.0, **chosen)
        loss = trained.replace("learning_rate", "loss")
        first, second = (float(model.train_step(batches(model), tf.constant([0, 7]))[loss]) for _ in range(2))
        assert second < first, trained


@pytest.mark.parametrize("name", ALL)
def test_presets_build(name):
    for preset, settings in models.presets(name).items():
        assert models.load(name).Hparams(**settings), preset


@pytest.mark.parametrize("name", models.names())  # tests/test_proof.py has the others
def test_the_command_line_trains_resumes_and_samples(name):
    hparams = small(name)
    flags = ["--size", "12", "--limit", "100", "--log-every", "2", "--checkpoint-every", "2"]
    for field in dataclasses.fields(hparams):
        value = getattr(hparams, field.name)
        if value != field.default:
            flags += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    train.main([name, "--steps", "4", "--out", "whole", *flags])
    whole = genlab.load(out="whole")
    parts = cut_after(whole, 2, "parts")
    train.main(["--resume", "--out", "parts"])
    first, second = state_of(whole), state_of(parts)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    sample.main(["--runs", "whole", "--count", "4", "--array", "four.npz"])
    assert np.load("four.npz")["images"].shape == (4, 12, 12, 1)
    assert (whole.samples / "progress.gif").exists() and (whole.samples / "step-000004.png").exists()


def test_a_model_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "dropped_in.py").write_text(
        '"""Dropped in."""\n'
        "from genlab.models import base, gan\n\n\n"
        "class DroppedIn(gan.GAN):\n"
        '    """Model dropped in as a file, for images alone."""\n\n'
        "    def __init__(self, hparams, spec, **settings):\n"
        "        if not spec.is_image:\n"
        '            raise base.UsageError("dropped_in draws images, not points.")\n'
        "        super().__init__(hparams, spec, **settings)\n"
    )
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert "dropped_in" in models.names() and models.summary("dropped_in").startswith("Model dropped in")
    assert list(models.presets("dropped_in")) == ["default"]  # a parent's are not inherited
    train.main(["dropped_in", "--steps", "2", "--generator-widths", "8", "--batch-size", "8"])
    sample.main(["--count", "4"])
    assert genlab.load().config.model == "dropped_in"
    with pytest.raises(pytest.skip.Exception, match="draws images, not points"):
        build_or_skip("dropped_in", (2,))
