"""The flow: its solvers, density, guidance and re-noising against closed forms; its labels through every command."""

from __future__ import annotations

import json
import math
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import build, small, small_settings, train_on_gaussian
from scipy import stats

import genlab
from genlab import config, models, sample
from genlab.augment.augmenter import Augmenter
from genlab.data.spec import DataSpec
from genlab.encode import __main__ as encode
from genlab.evaluate import __main__ as evaluate
from genlab.evaluate import evaluation, results
from genlab.export import formats
from genlab.networks import ode, precision, unet

LABELS = {"conditioning": "labels"}


def randomized(*shape, deviation=0.3, **changes):
    """A small flow whose weights are all random: at first the velocity is zero."""
    model = build("flow", shape, **changes)
    random = np.random.default_rng(0)
    for weight in model.averaged_velocity.weights:
        weight.assign(random.normal(0, deviation, weight.shape))
    return model


# -- differential equations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1.0, 4.0])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("adams_bashforth", 2)])
def test_order_of_the_solvers(solver, order, shift):
    """dx/dt = x cos(t) has the solution x(0) exp(sin(t))."""
    x = tf.constant([[1.0, -2.0], [0.5, 3.0]], tf.float64)
    ends = tf.constant([0.5, 1.0], tf.float64)  # each row has times of its own
    velocity = lambda x, t: x * tf.cos(t)[:, None]  # noqa: E731
    exact = x * tf.exp(tf.sin(ends))[:, None]
    errors = [
        float(tf.reduce_max(abs(ode.solve(velocity, x, 0.0 * ends, ends, steps, solver, shift) - exact)))
        for steps in (64, 128)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    back = ode.solve(velocity, exact, ends, 0.0 * ends, 256, "heun")
    np.testing.assert_allclose(back, x, atol=1e-4)


def test_steps_are_shifted_towards_the_noise():
    """Esser et al. 2024, equation 23, where 1 is the noise: s' = a s / (1 + (a - 1) s)."""
    asked = []

    def velocity(x, t):
        asked.append(t.numpy().tolist())
        return tf.ones_like(x)

    x = ode.solve(velocity, tf.zeros([2, 3]), tf.constant([0.0, 0.6]), tf.constant([1.0, 1.0]), 4, "euler", 3.0)
    noise = np.array([1.0, 0.75, 0.5, 0.25])
    np.testing.assert_allclose([each[0] for each in asked], 1 - 3 * noise / (1 + 2 * noise), atol=1e-6)
    # 0.6 is the time of the noise 0.4, that of 2/11 before the shift: the rest of the way is in equal steps before the shift too.
    noise *= 2 / 11
    np.testing.assert_allclose([each[1] for each in asked], 1 - 3 * noise / (1 + 2 * noise), atol=1e-6)
    np.testing.assert_allclose(x, [[1.0] * 3, [0.4] * 3], atol=1e-6)


def test_adams_bashforth_by_hand():
    """dx/dt = 2 t, shifted: steps to t = 1/3 and 1. Euler's first step adds 0, and extrapolation gives the second exactly."""
    x = ode.solve(
        lambda x, t: 2 * t[:, None] * tf.ones_like(x),
        tf.zeros([1, 1]),
        tf.zeros([1]),
        tf.ones([1]),
        2,
        "adams_bashforth",
        2.0,
    )
    np.testing.assert_allclose(x, [[1 - 1 / 9]], atol=1e-6)


def gaussian(mean, covariance):
    """The velocity of straight lines from N(0, I) to N(m, S): m + (t S - (1 - t) I) (t^2 S + (1 - t)^2 I)^-1 (x - t m)."""

    def velocity(x, t):
        t = tf.reshape(t, [-1, 1, 1])
        unit = tf.eye(len(mean))
        inverse = tf.linalg.inv(t**2 * covariance + (1 - t) ** 2 * unit)
        centred = (x - t[:, 0] * mean)[..., None]
        return mean + tf.squeeze((t * covariance - (1 - t) * unit) @ inverse @ centred, -1)

    return velocity


MEAN = np.array([0.5, -1.0, 0.2], np.float32)
COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 0.8, -0.3], [0.0, -0.3, 0.5]], np.float32)
TIMES = np.linspace(1, 0, 65).tolist()


def unit_vectors(size, count):
    """Probes that give the exact trace, [size, count, size]."""
    return tf.repeat(math.sqrt(size) * tf.eye(size)[:, None], count, axis=1)


def test_density_of_a_gaussian_by_its_exact_trace():
    points = np.random.default_rng(0).normal(0, 1, (20, 3)).astype(np.float32)
    found = ode.log_density(gaussian(MEAN, COVARIANCE), tf.constant(points), unit_vectors(3, 20), TIMES)
    np.testing.assert_allclose(found, stats.multivariate_normal(MEAN, COVARIANCE).logpdf(points), rtol=1e-3, atol=2e-3)


def test_hutchinsons_estimate_is_right_in_the_mean():
    random = np.random.default_rng(1)
    points = np.repeat(random.normal(0, 1, (1, 3)), 4000, axis=0).astype(np.float32)
    signs = random.choice([-1.0, 1.0], (1, 4000, 3)).astype(np.float32)
    found = ode.log_density(gaussian(MEAN, COVARIANCE), tf.constant(points), tf.constant(signs), TIMES).numpy()
    exact = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(points[0])
    error = found.std() / math.sqrt(len(found))
    assert found.std() > 0.1 and abs(found.mean() - exact) < 4 * error + 2e-3
    # Random signs give the diagonal of the Jacobian without error: e_i^2 = 1.
    variances = np.diag(COVARIANCE)
    found = ode.log_density(
        gaussian(MEAN, np.diag(variances)), tf.constant(points[:9]), tf.constant(signs[:, :9]), TIMES
    )
    exact = stats.multivariate_normal(MEAN, np.diag(variances)).logpdf(points[:9])
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_bits_of_a_flow_that_does_not_move():
    """At first the velocity is zero: images are N(0, 1) in each pixel, whose values are 127.5 to a unit of [-1, 1]."""
    model = build("flow", (12, 10, 1))
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 10, 1)) / 127.5 - 1
    bits = model.bits_per_dimension(images.astype(np.float32), seed=3)
    expected = (0.5 * np.log(2 * np.pi) + 0.5 * np.square(images).mean(axis=(1, 2, 3)) + np.log(127.5)) / np.log(2)
    np.testing.assert_allclose(bits, expected, atol=3e-3)  # noise of 1 / 255 on each of 120 pixels
    value, error = model.likelihood_metrics(images.astype(np.float32), 1, 3)["bits_per_dimension"]
    assert value == pytest.approx(bits.mean()) and error == pytest.approx(bits.std() / math.sqrt(60))
    assert model.likelihood_metrics(images.astype(np.float32), 1, 3)["bits_per_dimension"] == (value, error)


def test_bits_of_constant_motion():
    """A velocity c that is the same everywhere: the density is N(c, 1), and steps and probes make no difference."""
    model = build("flow", (9, 8, 1))
    model.averaged_velocity.get_layer("output").bias.assign([0.7])
    images = np.zeros((4, 9, 8, 1), np.float32)
    expected = (0.5 * np.log(2 * np.pi) + 0.5 * 0.7**2 + np.log(127.5)) / np.log(2)
    np.testing.assert_allclose(model.bits_per_dimension(images, 0, steps=4), expected, atol=5e-3)
    np.testing.assert_allclose(model.encoder(images), -0.7, atol=1e-6)


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    """A flow of vectors trained on a Gaussian for 500 steps, its mean and its standard deviations."""
    settings = {"batch_size": 512, "widths": (32, 32), "time_units": 32, "learning_rate": 1e-2, "times": "uniform"}
    hparams = small("flow", **settings, ode_steps=8, solver="heun", time_shift=1.0)
    model = models.load("flow")(hparams, DataSpec((2,)), schedule_steps=500)
    mean, deviation = train_on_gaussian(model, 500)
    return model, mean, deviation


def test_the_velocity_of_a_gaussian_is_learned(learned):
    model, mean, deviation = learned
    random = np.random.default_rng(0)
    t = random.uniform(size=(4000, 1)).astype(np.float32)
    x = (1 - t) * random.normal(size=(4000, 2)) + t * (mean + deviation * random.normal(size=(4000, 2)))
    expected = gaussian(mean, np.diag(deviation**2))(tf.constant(x, tf.float32), tf.constant(t[:, 0])).numpy()
    found = model.averaged_velocity([x.astype(np.float32), t[:, 0]]).numpy()
    assert np.square(found - expected).mean() < 0.03 * np.square(expected - expected.mean(axis=0)).mean()
    drawn = model.sample(model.sample_latents(range(4000))).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(drawn.std(axis=0), deviation, atol=0.1)
    points = (mean + deviation * random.normal(size=(500, 2))).astype(np.float32)
    density = ode.log_density(model.velocity(), tf.constant(points), unit_vectors(2, 500), TIMES)
    exact = stats.norm(mean, deviation).logpdf(points).sum(axis=1)
    assert np.mean(density) == pytest.approx(exact.mean(), abs=0.1)


@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
def test_times_are_spread_evenly_over_their_distribution(times):
    model = build("flow", times=times)
    drawn = np.concatenate([model.draw_times(64, [0, seed]).numpy() for seed in range(20)])
    shares = drawn if times == "uniform" else stats.norm.cdf(np.log(drawn / (1 - drawn)))
    for batch in shares.reshape(20, 64):
        np.testing.assert_allclose(np.diff(np.sort(batch)), 1 / 64, atol=1e-4)
    assert len(np.unique(np.round(shares, 5))) > 1000  # batches differ


def test_labels_are_withheld_as_often_as_asked():
    model = build("flow", label_dropout=0.25, **LABELS)
    seen = []
    network = model.trained_velocity
    model.trained_velocity = lambda inputs, training: seen.append(inputs[2].numpy()) or network(inputs)
    images, labels = tf.zeros([2000, 12, 10, 1]), tf.ones([2000], tf.int32)
    model.train_step([(images, labels)], tf.constant([0, 1]))
    assert set(seen[0]) == {1, 3} and (seen[0] == 3).mean() == pytest.approx(0.25, abs=0.04)


def test_dequantized_pixels_keep_their_value():
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 10, 1)).astype(np.float32)
    noisy = build("flow").dequantized(images / 127.5 - 1, tf.constant([0, 1])).numpy()
    offsets = (noisy + 1) * 127.5 - images
    assert np.abs(offsets).max() <= 0.501 and offsets.std() == pytest.approx(12**-0.5, rel=0.03)


# -- sampling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_decoder_takes_its_steps(solver):
    model = randomized(2, solver=solver, ode_steps=2, time_shift=1.0)
    x = latents = model.sample_latents(range(5))
    velocity = model.velocity()
    for time in (0.0, 0.5):
        first = velocity(x, tf.fill([5], time))
        second = velocity(x + 0.5 * first, tf.fill([5], time + 0.5))
        x = x + 0.5 * (first if solver == "euler" else 0.5 * (first + second))
    np.testing.assert_allclose(model.decoder(latents), x, atol=1e-4)
    longer = model.with_decoder(ode_steps=3)
    assert not np.allclose(longer.sample(latents), x, atol=1e-4)
    np.testing.assert_allclose(model.sample(latents), x, atol=1e-4)


def test_guidance_extrapolates_from_no_class_to_the_class():
    model = randomized(2, ode_steps=1, solver="euler", **LABELS)
    latents, labels, start = model.sample_latents(range(4)), tf.constant([0, 1, 2, 1]), tf.zeros([4])
    of_class = model.averaged_velocity([latents, start, labels])
    of_none = model.averaged_velocity([latents, start, tf.fill([4], 3)])
    assert not np.allclose(of_class, of_none, atol=0.01)
    for guidance in (0.0, 1.0, 2.5):
        found = model.with_decoder(guidance=guidance).decode(latents, labels)
        np.testing.assert_allclose(found, latents + of_none + guidance * (of_class - of_none), atol=1e-4)
    np.testing.assert_allclose(model.velocity()(latents, start), of_none, atol=1e-5)


def test_renoising_from_nothing_to_a_fresh_sample():
    model = randomized(12, 10, 1, deviation=0.1)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 12, 10, 1)).astype(np.float32)
    np.testing.assert_array_equal(model.renoise(images, 0.0), images)
    fresh = model.sample(model.sample_latents([7, 8, 9]))
    np.testing.assert_allclose(model.renoise(images, 1.0, seed=7), fresh, atol=1e-5)
    assert not np.allclose(model.renoise(images, 1.0, seed=8), fresh, atol=1e-2)
    # A velocity of zero leaves (1 - s) x + s z.
    still = build("flow", (12, 10, 1))
    noise = np.reshape(still.sample_latents([7, 8, 9]), images.shape)
    expected = np.clip(0.75 * images + 0.25 * noise, -1, 1)
    np.testing.assert_allclose(still.renoise(images, 0.25, seed=7), expected, atol=1e-6)


def test_wrong_renoising_is_explained():
    images = np.zeros((2, 12, 10, 1), np.float32)
    with pytest.raises(genlab.UsageError, match=r"strength must be from 0 to 1, and is 1\.5"):
        build("flow").renoise(images, 1.5)
    with pytest.raises(genlab.UsageError, match=r"labels were given\. Leave them out"):
        build("flow").renoise(images, 0.5, labels=[0, 1])
    with pytest.raises(genlab.UsageError, match="needs labels from 0 to 2"):
        build("flow", **LABELS).renoise(images, 0.5)
    with pytest.raises(genlab.UsageError, match="one integer for each of the 2 images"):
        build("flow", **LABELS).renoise(images, 0.5, labels=[1])
    with pytest.raises(genlab.UsageError, match=r"images have the shape \[2, 12, 10\]; it must be \[N, 12, 10, 1\]"):
        build("flow").renoise(images[..., 0], 0.5)
    with pytest.raises(genlab.UsageError, match="cannot re-noise"):
        build("gan").renoise(images, 0.5)


def test_a_run_from_before_the_shift_has_equal_steps():
    stored = {"model": "flow", "hparams": {"solver": "euler"}, "format": 5}
    assert config.upgraded(stored)["hparams"] == {"solver": "euler", "time_shift": 1.0}
    assert config.upgraded(stored | {"format": 6})["hparams"] == {"solver": "euler"}


def test_codes_give_their_images_again():
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 12, 10, 1)).astype(np.float32)
    errors = []
    for steps in (2, 8, 32):
        model = randomized(12, 10, 1, solver="heun", time_shift=1.0, ode_steps=steps)
        assert model.encoder(images).shape == (4, 120)
        errors.append(float(np.abs(model.reconstruct(images) - images).max()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3
    assert build("flow", **LABELS).encoder is None


# -- the network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 17, 3), (28, 28, 1), (33, 20, 4), (5,)], ids=str)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_the_network_takes_any_shape(shape, patch):
    style = unet.Style((4, 6), patch_size=patch, time_units=8)
    network = unet.build(shape, style)
    fused = unet.build(shape, unet.Style((4, 6), patch_size=patch, time_units=8, fused=True))
    random = np.random.default_rng(0)
    data, times = random.normal(size=(3, *shape)).astype(np.float32), np.array([0, 0.5, 1], np.float32)
    np.testing.assert_array_equal(network([data, times]), np.zeros_like(data))
    weights = [random.normal(0, 0.3, weight.shape) for weight in network.weights]
    network.set_weights(weights)
    fused.set_weights(weights)
    found = network([data, times]).numpy()
    assert found.shape == data.shape and found.dtype == np.float32
    np.testing.assert_allclose(fused([data, times]), found, atol=1e-3)
    # Whatever else is in the batch.
    np.testing.assert_allclose(network([data[1:2], times[1:2]])[0], found[1], atol=1e-4)
    assert not np.allclose(network([data, times[::-1]]), found, atol=1e-2)


def test_bfloat16_is_close_to_float32():
    styles = {"widths": (8, 8), "time_units": 16}
    with precision.scope("bfloat16"):
        low = unet.build((12, 12, 1), unet.Style(**styles))
    full = unet.build((12, 12, 1), unet.Style(**styles))
    random = np.random.default_rng(0)
    for one, other in zip(low.weights, full.weights, strict=True):
        other.assign(one.numpy() if "output" not in one.path else random.normal(0, 0.2, one.shape))
        one.assign(other.numpy())
    data, times = random.normal(size=(8, 12, 12, 1)).astype(np.float32), np.linspace(0, 1, 8, dtype=np.float32)
    exact, rough = full([data, times]).numpy(), low([data, times]).numpy()
    assert rough.dtype == np.float32
    assert np.square(rough - exact).mean() < 1e-3 * np.square(exact).mean()


# -- labels, through the commands --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A run on three classes of small images, drawn with guidance."""
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (60, 12, 10), np.uint8), random.integers(0, 3, 60)
    settings = small_settings("flow") | LABELS | {"guidance": 2.0}
    return genlab.fit("flow", *data, steps=3, out=tmp_path_factory.mktemp("conditional"), **settings)


def test_samples_by_label_and_exports(conditional):
    sample.main(["--run", str(conditional.path), "--label", "2", "--count", "4", "--array", "four.npz"])
    with np.load("four.npz") as arrays:
        assert arrays["images"].shape == (4, 12, 10, 1) and set(arrays["labels"]) == {2}
    folder, written = formats.export(conditional, ["keras", "savedmodel", "litert", "onnx"], "exported")
    assert [each["file"] for each in written] == ["decoder.keras", "saved_model", "decoder.tflite", "decoder.onnx"]
    exported = Augmenter.from_export(folder, seed=1).generate(6)[0]
    np.testing.assert_array_equal(exported, Augmenter.from_run(conditional, seed=1).generate(6)[0])
    with pytest.raises(genlab.UsageError, match="mode 'renoise' needs a run whose model can re-noise images"):
        Augmenter.from_export(folder, mode="renoise")


def test_labels_are_needed_where_there_are_none(capsys):
    images = np.zeros((20, 12, 10), np.uint8)
    with pytest.raises(genlab.UsageError, match="a conditional model needs labels"):
        genlab.fit("flow", images, steps=1, **small_settings("flow") | LABELS)


def test_the_augmenter_renoises_with_labels(conditional):
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (16, 12, 10, 1), np.uint8), random.integers(0, 3, 16)
    still, same = Augmenter.from_run(conditional, mode="renoise", fraction=1.0, amount=0.0)(images, labels)
    np.testing.assert_array_equal(still, images)
    np.testing.assert_array_equal(same, labels)
    half, _ = Augmenter.from_run(conditional, mode="renoise", fraction=0.5, amount=0.4)(images, labels)
    assert (np.asarray(half) == images).all(axis=(1, 2, 3)).sum() == 8
    # Each image with its own label: at strength 1 nothing else is left of it.
    augment = Augmenter.from_run(conditional, mode="renoise", fraction=1.0, amount=1.0)
    one, other = (augment(images, np.full(16, label))[0] for label in (0, 1))
    assert not np.array_equal(one, other)
    with pytest.raises(genlab.UsageError, match="a label cannot be drawn"):
        augment(images, labels + 1)
    rare = Augmenter.from_run(conditional, mode="renoise", fraction=1.0, amount=0.4, only_labels=[int(labels[0])])
    varied, _ = rare(images, labels)
    others = labels != labels[0]
    np.testing.assert_array_equal((np.asarray(varied) == images).all(axis=(1, 2, 3)), others)
    np.testing.assert_array_equal(rare(images[others], labels[others])[0], images[others])
    with pytest.raises(genlab.UsageError, match="mode 'renoise' needs labels"):
        augment.augment(images)
    with pytest.raises(genlab.UsageError, match="amount must be from 0 to 1, and is 3"):
        Augmenter.from_run(conditional, mode="renoise", amount=3)


def test_the_augmenter_renoises_within_a_model(small_run):
    run = small_run("flow")
    augment = Augmenter.from_run(run, mode="renoise", amount=0.5, fraction=1.0, value_range=(0, 1))
    model = keras.Sequential([keras.Input((28, 28, 1)), augment, keras.layers.Flatten(), keras.layers.Dense(2)])
    images = np.random.default_rng(0).uniform(0, 1, (6, 28, 28, 1)).astype(np.float32)
    changed = augment(images, training=True)
    assert not np.allclose(changed, images, atol=0.1)
    np.testing.assert_array_equal(augment(images), images)  # off outside of training
    model.save("classifier.keras")
    loaded = keras.saving.load_model("classifier.keras")
    np.testing.assert_allclose(loaded.layers[0](images, training=True), changed, atol=1e-5)
    generating = Augmenter.from_run(run, mode="perturb", amount=0.5, fraction=1.0, value_range=(0, 1))
    assert not np.allclose(generating(images, training=True), images, atol=0.1)


def test_evaluates_with_its_likelihood(small_run, own_run, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "LABEL_EPOCHS", 0.02)
    monkeypatch.setattr(evaluation, "NLL_IMAGES", 20)
    run = own_run("flow")
    evaluate.main([str(run.path), "--samples", "100"])
    found = results.read(run)
    # After two steps the velocity is almost zero: codes are the images, and a pixel has log2(127.5) bits and those of N(0, 1).
    assert 7 < found.metrics["bits_per_dimension"].value < 9.5
    assert found.metrics["bits_per_dimension"].spread > 0 and found.metrics["mse"].value < 1e-3
    assert found.protocol["likelihood_images"] == 20 and found.protocol["likelihood_steps"] == 32
    assert "importance_samples" not in found.protocol
    encode.main([str(run.path), "--bits", "32"])
    kept = json.loads((run.path / "encode.json").read_text(), parse_constant=pytest.fail)
    assert kept["rows"][0]["bytes_per_image"] == 4 * 784


def test_training_draws_renoised_images(small_run):
    assert list(small_run("flow").samples.glob("renoised-step-*.png"))


def test_the_example_on_its_page_runs(own_run):
    own_run("flow")
    page = pathlib.Path(__file__).parent.parent / "docs" / "models" / "flow.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "flow.md", "exec"), names)
    assert names["varied"].shape == (8, 28, 28, 1)
    assert np.any(names["augment"].augment(names["run"].data().images[:8]) != names["run"].data().images[:8])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance": 2.0}, "needs --conditioning labels"),
        ({"guidance": 2.0, "label_dropout": 0.0, **LABELS}, "and a --label-dropout above 0"),
        ({"guidance": -1.0, **LABELS}, "guidance is -1.0"),
        ({"ode_steps": 0}, "ode_steps is 0"),
        ({"patch_size": 0}, "patch_size is 0"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        small("flow", **changes)
