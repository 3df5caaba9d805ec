"""What is not finite, in data, losses, gradients or weights, is caught within a logging interval and named."""

from __future__ import annotations

import math

import pytest
from conftest import fails, small

import genlab
from genlab import models
from genlab import run as runs
from genlab.backend import tf
from genlab.config import Options
from genlab.data import DataOptions
from genlab.train import __main__ as train
from genlab.train import fit
from genlab.train.training import Training


@pytest.fixture
def poison(monkeypatch):
    """What is added to the images, the generator's loss and the generator's gradients: variables of a compiled step."""
    added = {name: tf.Variable(0.0) for name in ("data", "loss", "gradient")}
    kind = models.load("gan")
    step_of, loss_of, build = kind.train_step, kind.generator_loss, kind.__init__

    def train_step(self, batches, seed):
        return step_of(self, [(images + added["data"], labels) for images, labels in batches], seed)

    def poisoned(self, *arguments, **keywords):
        build(self, *arguments, **keywords)
        apply = self.generator_optimizer.apply
        # One number of the first gradient: the others still train.
        self.generator_optimizer.apply = lambda gradients, variables: apply(
            [
                tf.tensor_scatter_nd_add(gradients[0], [[0] * len(gradients[0].shape)], [added["gradient"]]),
                *gradients[1:],
            ],
            variables,
        )

    monkeypatch.setattr(kind, "train_step", train_step)
    monkeypatch.setattr(kind, "generator_loss", lambda self, logits: loss_of(self, logits) + added["loss"])
    monkeypatch.setattr(kind, "__init__", poisoned)
    return added


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_one_number_that_is_not_finite_is_caught_and_named(precision, poison):
    dataset = genlab.data.load("digits")
    options = Options(steps=8, precision=precision)
    run = runs.create("runs", fit.resolve("gan", "default", small("gan"), options, dataset, DataOptions()))
    training = Training(run, dataset, resume=False, debug=False)
    training.save()
    steps = training.steps()
    generator, discriminator = training.model.generator, training.model.discriminator

    def found() -> str | None:
        """What a logging interval finds."""
        return training.not_finite(steps(4), weights=True)

    assert found() is None
    for value in (math.nan, math.inf, -math.inf):
        for name, words in (("data", "_loss is "), ("loss", "generator_loss is "), ("gradient", "")):
            training.restore()
            poison[name].assign(value)
            said = found()
            poison[name].assign(0.0)
            if (name, precision) == ("gradient", "float16"):
                # The loss scale takes it for an overflow of its own: the step is left out, and no harm done.
                assert said is None and found() is None
                continue
            assert said and words in said and "step" in said, (name, value, said)
            assert " at step 1" in said or " at step 2" in said or " after step 4" in said
        for network, weight in ((generator, -1), (discriminator, 0), (training.model.decoder, 0)):
            training.restore()
            variable = network.trainable_weights[weight]
            ill = variable.numpy()
            ill.flat[0] = value
            variable.assign(ill)
            said = found()
            assert said and ("_loss is " in said or f"{variable.path} is not finite after step 4" in said), said
    training.restore()
    slot = training.model.generator_optimizer.variables[-1]
    slot.assign(tf.fill(slot.shape, math.nan))
    assert found()
    training.close()


def test_weights_are_looked_at_when_metrics_are_logged(monkeypatch, capsys):
    """An infinite bias in front of tanh leaves every image and loss finite."""
    kind = models.load("gan")
    step_of = kind.train_step

    def train_step(self, batches, seed):
        metrics = step_of(self, batches, seed)
        bias = self.generator.trainable_weights[-1]
        bias.assign(tf.where(tf.equal(self.step, 4), tf.fill(bias.shape, math.inf), bias))
        return metrics

    monkeypatch.setattr(kind, "train_step", train_step)
    flags = ["--batch-size", "8", "--generator-widths", "4", "--discriminator-widths", "4"]
    flags += ["--steps", "100", "--log-every", "4", "--checkpoint-every", "50"]
    status, message = fails(lambda: train.main(["gan", *flags]), capsys)
    run = genlab.load()
    assert status == 1 and "is not finite after step 8: training stopped" in message
    assert "bias is not finite" in message and str(run.checkpoints / "step-0") in message
    assert [line["step"] for line in run.metrics()] == [4]


def test_rollback_turns_a_rate_that_is_far_too_high_into_a_trained_model():
    """Gradient descent with this rate diverges at once, and with half of it."""
    settings = {"network": "mlp", "encoder_widths": (16,), "decoder_widths": (16,), "latent_size": 4, "hidden_units": 0}
    settings |= {"activation": "leaky_relu", "output": "linear", "normalization": "none", "components": 1}
    settings |= {"optimizer": "sgd", "beta1": 0.0, "schedule": "constant", "precision": "float32", "batch_size": 32}
    run = genlab.fit("autoencoder", steps=120, log_every=20, learning_rate=4.0, on_nan="rollback", **settings)
    assert float(run.model.rate_factor.numpy()) in (0.25, 0.125)
    first, *_, last = [line["loss"] for line in run.metrics()]
    assert last < 0.5 * first
