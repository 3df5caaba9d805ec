"""Models written from scratch, one file each in tests/models/: every command takes them, or says why it cannot.

Their mathematics is checked against numbers from elsewhere at the end. tests/test_models.py runs its conformance tests on them.
"""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import cut_after, fails, proof_models, state_of, train_on_gaussian

import genlab
from genlab import models, sample
from genlab.augment import __main__ as augment
from genlab.augment.augmenter import Augmenter
from genlab.data.spec import DataSpec
from genlab.encode import __main__ as encode
from genlab.evaluate import __main__ as evaluate
from genlab.evaluate import evaluation, results
from genlab.export import __main__ as export
from genlab.train import __main__ as train
from genlab.transfer import __main__ as transfer

FLAGS = {
    "least_squares_gan": "--conditional --latent-size 8 --generator-widths 4 6 --discriminator-widths 4 6",
    "coupling_flow": "--couplings 3 --widths 4",
    "rectified_flow": "--euler-steps 3 --widths 4 6 --time-units 8",
}
SHAPE = (12, 12, 1)
DATA = ["--size", "12", "--limit", "200"]
STUDY = ["--seeds", "1", "--steps", "2"]


@pytest.fixture(scope="module", autouse=True)
def found():
    with proof_models():
        yield


@pytest.fixture(scope="module", params=FLAGS)
def folder(found, request, tmp_path_factory):
    """The folder of a run of four steps, and of one that was resumed after two of them."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    flags = ["--batch-size", "16", "--log-every", "2", "--checkpoint-every", "2", *DATA, *FLAGS[name].split()]
    train.main([name, "--steps", "4", "--out", str(folder / "whole"), *flags])
    cut_after(genlab.load(out=folder / "whole"), 2, folder / "parts")
    train.main(["--resume", "--out", str(folder / "parts")])
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return genlab.load(out=folder / "whole")


def test_trains_and_resumes_bit_for_bit(folder, run):
    assert all(math.isfinite(value) for line in run.metrics() for value in line.values())
    first, second = state_of(run), state_of(genlab.load(out=folder / "parts"))
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_samples(run):
    sample.main(["--run", str(run.path), "--count", "5", "--array", "five.npz"])
    sample.main(["--run", str(run.path), "--seeds", "3", "--array", "one.npz"])
    five, one = np.load("five.npz"), np.load("one.npz")
    assert five["images"].shape == (5, *SHAPE) and five["latents"].shape == (5, run.model.latent_size)
    np.testing.assert_array_equal(one["images"][0], five["images"][3])
    sample.main(["--run", str(run.path), "--interpolate", "1:2", "--frames", "3"])


def test_evaluates(run, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "LABEL_EPOCHS", 0.02)  # its classifiers take most of an evaluation's time
    images = keras.Input(SHAPE)
    keras.Model(images, keras.layers.Dense(8)(keras.layers.Flatten()(images))).save("extractor.keras")
    evaluate.main([str(run.path), "--samples", "100", "--extractor", "extractor.keras"])
    found = results.read(run)
    assert {"frechet_distance", "memorization"} <= found.metrics.keys()
    assert ("train_on_fake" in found.metrics) == run.model.conditional
    if run.config.model == "coupling_flow":
        assert found.metrics["mse"].value < 1e-9 and found.metrics["ssim"].value > 0.999
        nll, bits = found.metrics["nll"], found.metrics["bits_per_dimension"]
        assert bits.value == pytest.approx(nll.value / (144 * math.log(2))) and 0 < nll.spread < nll.value
        assert found.protocol["likelihood_images"] == 100 and "importance_samples" not in found.protocol
    else:
        assert not {"nll", "mse"} & found.metrics.keys()
    json.loads((run.path / "evaluation.json").read_text(), parse_constant=pytest.fail)


def test_exports_to_every_format(run, capsys):
    export.main([str(run.path), "--formats", "keras", "savedmodel", "litert", "onnx"])
    facts = json.loads((run.path / "export" / "metadata.json").read_text())
    assert facts["latents"] == {"size": run.model.latent_size, "prior": "normal"}
    count = 2 if run.model.encoder is not None else 1
    assert [each["format"] for each in facts["files"]] == [
        *["keras"] * count,
        "savedmodel",
        *["litert"] * count,
        *["onnx"] * count,
    ]
    assert max(each["largest_difference"] for each in facts["files"]) <= 1e-5


def test_augments_or_says_why_not(run, capsys):
    images, labels = run.data().images[:12], run.data().labels[:12]
    replacing, perturbing = (lambda mode=mode: Augmenter.from_run(run, mode=mode) for mode in ("replace", "perturb"))
    if run.model.conditional:
        changed, same = replacing()(images, labels)
        np.testing.assert_array_equal(same, labels)
        assert np.any(changed != images)
        augment.main([str(run.path), "--per-class", "3", *STUDY])
        assert "With 3 per class, generated images" in capsys.readouterr().out
    else:
        status, message = fails(lambda: augment.main([str(run.path), *STUDY]), capsys)
        assert status == 2 and "mode 'replace' needs images by label" in message and message.count("\n") == 1
    if run.model.encoder is None:
        with pytest.raises(genlab.UsageError, match=r"^mode 'perturb' needs a run with an encoder[^\n]*$"):
            perturbing()
        return
    changed = perturbing()(images, training=True)
    assert np.any(changed != images)
    # An Augmenter is saved inside a classifier, its networks with it.
    layer = Augmenter.from_run(run, mode="perturb", value_range=(0, 255))
    model = keras.Sequential([keras.Input(SHAPE), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    model.save("classifier.keras")
    loaded = keras.saving.load_model("classifier.keras")
    floats = images.astype(np.float32)
    np.testing.assert_allclose(loaded(floats, training=True), model(floats, training=True), rtol=1e-4)


def test_encodes_or_says_why_not(run, capsys):
    if run.model.encoder is None:
        status, message = fails(lambda: encode.main([str(run.path)]), capsys)
        assert status == 2 and "has no encoder" in message and message.count("\n") == 1
        return
    encode.main([str(run.path), "--bits", "32"])
    kept = json.loads((run.path / "encode.json").read_text(), parse_constant=pytest.fail)
    assert kept["rows"][0]["bytes_per_image"] == 4 * run.model.latent_size
    encode.main([str(run.path), "--decode", str(run.path / "codes.npz")])
    with np.load(run.path / "images.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], run.data().test_images)


def test_transfers_or_says_why_not(run, capsys):
    arguments = [str(run.path), "--labels", "20", *STUDY]
    if run.model.feature_network is None:
        status, message = fails(lambda: transfer.main(arguments), capsys)
        assert status == 2 and "has no network to transfer" in message and message.count("\n") == 1
        return
    transfer.main(arguments)
    assert "fine-tuned - scratch" in capsys.readouterr().out


# -- the mathematics ---------------------------------------------------------------------------------------------------


def build(name, shape, weights=0.3, **hparams):
    """A model whose weights are all random, of that standard deviation."""
    kind = models.load(name)
    model = kind(kind.Hparams(**hparams), DataSpec(shape))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, weights, weight.shape))
    return model


@pytest.mark.parametrize(
    ("targets", "discriminator_loss", "generator_loss"),
    # Errors 1 and -2 for real images; 0 and 3, or 1 and 4, for generated ones; G's are -1 and 2, or 0 and 3.
    [((0.0, 1.0, 1.0), (1 + 4) / 4 + (0 + 9) / 4, (1 + 4) / 4), ((-1.0, 1.0, 0.0), 5 / 4 + (1 + 16) / 4, 9 / 4)],
)
def test_least_squares_by_hand(targets, discriminator_loss, generator_loss):
    model = build("least_squares_gan", (2,), targets=targets, generator_widths=(2,), discriminator_widths=(2,))
    real, fake = tf.constant([[2.0], [-1.0]]), tf.constant([[0.0], [3.0]])
    assert float(model.discriminator_loss(real, fake)) == pytest.approx(discriminator_loss)
    assert float(model.generator_loss(fake)) == pytest.approx(generator_loss)


@pytest.mark.parametrize("shape", [(3, 2, 2), (5,)], ids=str)
def test_log_determinant_against_the_jacobian(shape):
    model = build("coupling_flow", shape, couplings=3, widths=(4,))
    data = tf.constant(np.random.default_rng(1).uniform(-0.9, 0.9, (3, *shape)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(data)
        codes, log_determinant = model.flow(data, model.couplings)
    jacobian = tf.reshape(tape.batch_jacobian(codes, data), [3, model.latent_size, model.latent_size])
    expected = np.linalg.slogdet(jacobian.numpy())[1]
    if len(shape) == 3:  # a pixel value is 127.5 times as long as the unit of [-1, 1]
        expected -= model.latent_size * math.log(127.5)
    np.testing.assert_allclose(log_determinant, expected, atol=1e-4)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(codes, model.encoder(data), atol=1e-5)
    np.testing.assert_allclose(model.decoder(codes), data, atol=1e-5)


def test_density_of_two_numbers_integrates_to_one():
    model = build("coupling_flow", (2,), couplings=4, widths=(8,))
    side = np.linspace(-12, 12, 801, dtype=np.float32)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(model.log_density(points, model.couplings))
    assert density.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1.0, abs=2e-3)


def test_density_of_two_pixels_integrates_to_one():
    model = build("coupling_flow", (1, 2, 1), 0.1, couplings=2, widths=(4,))
    # The logit takes all of (0, 1), which is 0.05 / 0.9 of the 256 values more at either end.
    cells = 600
    low, size = -256 * 0.05 / 0.9, 256 / 0.9 / cells
    values = low + size * (np.arange(cells) + 0.5)
    pairs = np.stack(np.meshgrid(values, values), axis=-1).reshape(-1, 1, 2, 1)
    density = np.exp(model.log_density((pairs - 0.5).astype(np.float32) / 127.5 - 1, model.couplings))
    assert density.sum() * size**2 == pytest.approx(1.0, abs=5e-3)


def test_density_against_tensorflow_probability():
    model = build("coupling_flow", (2,), couplings=3, widths=(8,))
    tfb, tfd = tfp.bijectors, tfp.distributions

    def coupling(number):
        """Couplings 0 and 2 pass the first number on, coupling 1 the last."""
        kept, changed = number % 2, 1 - number % 2

        def shift_and_log_scale(passed, units):
            log_scale, shift = model.couplings[number](tf.pad(passed, [[0, 0], [kept, changed]]))
            return shift[:, changed, None], log_scale[:, changed, None]

        return tfb.RealNVP(num_masked=1 if kept == 0 else -1, shift_and_log_scale_fn=shift_and_log_scale)

    flow = tfb.Chain([coupling(number) for number in (2, 1, 0)])  # the last is applied first
    expected = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), tfb.Invert(flow))
    points = np.random.default_rng(1).normal(0, 2, (50, 2)).astype(np.float32)
    np.testing.assert_allclose(model.log_density(points, model.couplings), expected.log_prob(points), atol=1e-4)


def test_pixels_are_dequantized_over_their_unit():
    model = build("coupling_flow", (40, 50, 1), couplings=2, widths=(2,))
    values = model.dequantized(tf.fill([4, 40, 50, 1], 1.0), tf.constant([0, 1])).numpy()
    values = (values + 1) * 127.5  # 255 and noise from -1/2 to 1/2
    assert 254.5 <= values.min() < 254.51 and 255.49 < values.max() <= 255.5
    assert values.std() == pytest.approx(12**-0.5, rel=0.02)


def test_velocity_of_a_gaussian_is_the_known_one():
    """Noise N(0, 1) and data N(m, s^2): v(x, t) = m + (t s^2 - (1 - t)) (x - t m) / (t^2 s^2 + (1 - t)^2)."""
    kind = models.load("rectified_flow")
    hparams = kind.Hparams(batch_size=512, widths=(32, 32), time_units=16, learning_rate=5e-3)
    model = kind(hparams, DataSpec((2,)), schedule_steps=400)
    mean, deviation = train_on_gaussian(model, 400)
    random = np.random.default_rng(0)
    t = random.uniform(size=(4000, 1)).astype(np.float32)
    x = (1 - t) * random.normal(size=(4000, 2)) + t * (mean + deviation * random.normal(size=(4000, 2)))
    expected = mean + (t * deviation**2 - (1 - t)) * (x - t * mean) / (t**2 * deviation**2 + (1 - t) ** 2)
    found = model.averaged_velocity([x.astype(np.float32), t[:, 0]]).numpy()
    assert np.square(found - expected).mean() < 0.02 * np.square(expected - expected.mean(axis=0)).mean()
    drawn = model.sample(model.sample_latents(range(4000))).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1)
    # With the known velocity an Euler step at t multiplies the standard deviation by 1 + (t s^2 - (1 - t)) / (...) / N.
    t = np.arange(hparams.euler_steps)[:, None] / hparams.euler_steps
    factors = 1 + (t * deviation**2 - (1 - t)) / (t**2 * deviation**2 + (1 - t) ** 2) / hparams.euler_steps
    np.testing.assert_allclose(drawn.std(axis=0), factors.prod(axis=0), atol=0.05)


def test_decoder_takes_eulers_steps():
    model = build("rectified_flow", (2,), euler_steps=4, widths=(4,), time_units=4)
    x = latents = model.sample_latents(range(5))
    for time in (0.0, 0.25, 0.5, 0.75):
        x = x + model.averaged_velocity([x, tf.fill([5], time)]) / 4
    np.testing.assert_allclose(model.decoder(latents), x, atol=1e-5)
    # A velocity that is the same everywhere and always: every solver ends at z + v.
    for weight in model.averaged_velocity.weights:
        weight.assign(tf.zeros_like(weight))
    velocity = tf.constant([0.5, -2.0])
    model.averaged_velocity.get_layer("v").bias.assign(velocity)
    np.testing.assert_allclose(model.decoder(latents), latents + velocity, atol=1e-6)
