"""A trained decoder among real images: their labels, range, type and size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from conftest import TINY

import genlab
from genlab.augment.augmenter import Augmenter
from genlab.augment.decoders import TrainedDecoder
from genlab.backend import tf
from genlab.networks import priors

SHAPE = (12, 10, 1)


def painter(levels, latent_size=4):
    """A conditional decoder whose images of a class are all of one grey, so that a label can be read from an image."""
    codes, labels = keras.Input((latent_size,)), keras.Input((), dtype="int32")
    grey = keras.layers.Embedding(len(levels), 1, weights=[np.array(levels, np.float32)[:, None]])(labels)
    faint = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e-4))(codes)
    grey = keras.layers.Add()([grey, faint])
    images = keras.layers.Reshape(SHAPE)(keras.layers.RepeatVector(int(np.prod(SHAPE)))(grey))
    return keras.Model([codes, labels], images)


LEVELS = (-0.8, -0.2, 0.4)


def augmenter(**settings):
    return Augmenter([TrainedDecoder(painter(LEVELS), priors.Normal(4), num_classes=3)], **settings)


def read(images, value_range):
    """The classes that generated images show; -1 where an image is none of the decoder's."""
    low, high = value_range
    grey = (np.asarray(images, np.float32) - low) / (high - low) * 2 - 1
    grey = grey.reshape(len(grey), -1)
    nearest = np.abs(grey.mean(1)[:, None] - np.array(LEVELS)).argmin(1)
    flat = np.ptp(grey, axis=1) < 0.02
    return np.where(flat & (np.abs(grey.mean(1) - np.array(LEVELS)[nearest]) < 0.02), nearest, -1)


def batch(count=40, kind="uint8", shape=SHAPE):
    """Noise, which no generated image is like, and labels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *shape), np.uint8)
    labels = random.integers(0, 3, count)
    match kind:
        case "uint8":
            return pixels, labels, (0, 255)
        case "unit":
            return (pixels / 255).astype(np.float32), labels, (0, 1)
    return (pixels / 127.5 - 1).astype(np.float32), labels, (-1, 1)


@pytest.mark.parametrize("kind", ["uint8", "unit", "symmetric"])
def test_replace_keeps_labels_range_and_type(kind):
    images, labels, value_range = batch(kind=kind)
    augment = augmenter(fraction=0.25, value_range=value_range if kind == "symmetric" else None)
    new, same = augment(images, labels)
    np.testing.assert_array_equal(same, labels)
    assert new.dtype == images.dtype and new.shape == images.shape
    shown = read(new, value_range)
    assert (shown >= 0).sum() == 10
    np.testing.assert_array_equal(shown[shown >= 0], labels[shown >= 0])
    np.testing.assert_array_equal(new[shown < 0], images[shown < 0])  # the others to the last bit


@pytest.mark.parametrize("form", ["integers", "column", "one-hot"])
def test_forms_of_labels_come_back_as_they_came(form):
    images, labels, value_range = batch()
    given = {"integers": labels, "column": labels[:, None], "one-hot": np.eye(3, dtype=np.float32)[labels]}[form]
    new, of_new = augmenter(mode="append", fraction=0.5)(images, given)
    assert of_new.dtype == given.dtype and of_new.shape == (60, *given.shape[1:])
    np.testing.assert_array_equal(of_new[:40], given)
    flat = np.asarray(of_new).argmax(axis=1) if form == "one-hot" else np.asarray(of_new).reshape(60)
    np.testing.assert_array_equal(read(new[40:], value_range), flat[40:])


def test_balance_makes_classes_equal():
    images, _, value_range = batch(20)
    labels = np.array([0] * 12 + [1] * 7 + [2])
    new, of_new = augmenter(mode="balance")(images, labels)
    np.testing.assert_array_equal(np.bincount(of_new), [12, 12, 12])
    np.testing.assert_array_equal(read(new[20:], value_range), of_new[20:])


@pytest.mark.parametrize("shape", [(24, 20, 1), (9, 16, 3), (12, 10)])
def test_generated_images_take_the_batch_s_size_and_channels(shape):
    images, labels, value_range = batch(shape=shape)
    new, _ = augmenter(fraction=1.0)(images, labels)
    assert new.shape == images.shape
    np.testing.assert_array_equal(read(new, value_range), labels)


def test_randomness_is_of_the_seed_and_the_batch():
    images, labels, _ = batch()
    first, again, other = (augmenter(seed=seed)(images, labels)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    moved = np.roll(images, 1, axis=0)
    shown = [read(augmenter(seed=1)(each, labels)[0], (0, 255)) >= 0 for each in (images, moved)]
    assert not np.array_equal(*shown)  # another batch, other rows


def test_in_a_pipeline_with_parallel_calls():
    images, labels, value_range = batch(200)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(20)
    mapped = dataset.map(augmenter(), num_parallel_calls=4)
    first, again = (list(mapped.as_numpy_iterator()) for _ in range(2))
    for (new, of_new), (same, _), (_, real) in zip(first, again, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(new, same)
        np.testing.assert_array_equal(of_new, real)
        shown = read(new, value_range)
        assert (shown >= 0).sum() == 10
        np.testing.assert_array_equal(shown[shown >= 0], of_new[shown >= 0])


def test_arrays_for_any_framework():
    images, labels = augmenter().generate(7, labels=[2, 0])
    assert images.dtype == np.uint8 and images.shape == (7, *SHAPE)
    np.testing.assert_array_equal(labels, [2, 0, 2, 0, 2, 0, 2])
    np.testing.assert_array_equal(read(images, (0, 255)), labels)
    floats, labels = augmenter(value_range=(-1, 1)).generate(300)
    np.testing.assert_array_equal(read(floats, (-1, 1)), labels)
    assert set(labels) == {0, 1, 2} and floats.dtype == np.float32
    with pytest.raises(genlab.UsageError, match=r"labels \[5\] cannot be drawn"):
        augmenter().generate(3, labels=5)


@pytest.mark.parametrize("form", ["integers", "one-hot"])
def test_images_of_other_labels_stay_as_they_are(form):
    images, numbers, value_range = batch()
    labels = numbers if form == "integers" else np.eye(3, dtype=np.float32)[numbers]
    changed, same = augmenter(only_labels=[2, 0], fraction=1.0)(images, labels)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(read(changed, value_range), np.where(numbers == 1, -1, numbers))
    np.testing.assert_array_equal(np.asarray(changed)[numbers == 1], images[numbers == 1])
    half, _ = augmenter(only_labels=[1], fraction=0.5)(images, labels)
    assert abs(2 * (read(half, value_range) == 1).sum() - (numbers == 1).sum()) <= 1


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_may_have_one_or_none_of_the_labels_to_change(count):
    dataset = tf.data.Dataset.from_tensor_slices(batch(40)[0]).batch(1 + count)
    labelled = dataset.map(lambda images: (images, tf.concat([tf.ones(1, tf.int64), tf.zeros(count, tf.int64)], 0)))
    found = list(labelled.map(augmenter(only_labels=[0], fraction=0.5)))
    changed = np.concatenate([read(images, (0, 255)) for images, _ in found])
    assert (changed == -1).all() if not count else 4 <= (changed == 0).sum() <= 16  # of 20, each with probability 0.5


def test_labels_to_change_are_checked(trained_vae):
    for wrong, message in (
        ([], "one or several"),
        ("2", "one or several"),
        ([1.5], "one or several"),
        (True, "one or several"),
        ([-1], r"only_labels \[-1\] cannot be drawn"),
        ([3], r"only_labels \[3\] cannot be drawn"),
    ):
        with pytest.raises(genlab.UsageError, match=message):
            augmenter(only_labels=wrong)
    with pytest.raises(genlab.UsageError, match="mode 'balance' adds some"):
        augmenter(only_labels=[2], mode="balance")
    images = batch()[0]
    with pytest.raises(genlab.UsageError, match="integers from 0 up"):
        Augmenter.from_run(trained_vae, mode="perturb", only_labels=[-7])
    augment = Augmenter.from_run(trained_vae, mode="perturb", only_labels=7)
    assert Augmenter.from_config(augment.get_config()).only_labels == (7,)
    with pytest.raises(genlab.UsageError, match="only_labels needs labels; use dataset"):
        augment.augment(images)
    with pytest.raises(
        genlab.UsageError, match=r"receives only images\. Use it in the pipeline, dataset\.map\(augment\)\."
    ):
        augment(images, training=True)


def test_one_run_for_each_class(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 10), np.uint8)
    run = {label: genlab.fit("dcgan", images, steps=1, seed=label, out=tmp_path, **TINY) for label in (7, 9)}
    augment = Augmenter.from_runs(run, fraction=1.0, value_range=(-1, 1))
    drawn, labels = augment.generate(200)
    np.testing.assert_array_equal(labels, [7, 9] * 100)
    for label in (7, 9):  # each label from its own run: the mean image tells them apart
        model = run[label].model
        own = model.sample(model.sample_latents(range(200))).numpy().mean(axis=0)
        np.testing.assert_allclose(drawn[labels == label].mean(axis=0), own, atol=0.4)  # 5 standard errors; 1.3 apart
    with pytest.raises(genlab.UsageError, match=r"a label cannot be drawn; it must be one of \[7, 9\]"):
        augment(np.zeros((4, 12, 10, 1), np.float32), np.array([7, 7, 9, 8]))
    with pytest.raises(genlab.UsageError, match="draws without"):
        Augmenter.from_run(run[7])
    # A run for a rare class alone: nothing is drawn of the others.
    rare = Augmenter.from_runs({9: run[9]}, fraction=1.0, only_labels=[9], value_range=(-1, 1))
    found, _ = rare(np.full((4, 12, 10, 1), 0.5, np.float32), np.array([7, 7, 9, 8]))
    assert (np.asarray(found) == 0.5).all(axis=(1, 2, 3)).tolist() == [True, True, False, True]


@pytest.fixture(scope="module")
def trained_vae(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 10), np.uint8)
    widths = {"encoder_widths": (4,), "decoder_widths": (4,), "hidden_units": 8, "latent_size": 4, "batch_size": 16}
    return genlab.fit("vae", images, steps=20, out=tmp_path_factory.mktemp("vae"), **widths)


@pytest.mark.parametrize("mode", ["perturb", "interpolate"])
def test_images_are_moved_in_latent_space_and_keep_their_labels(trained_vae, mode):
    images, labels, _ = batch()
    still, same = Augmenter.from_run(trained_vae, mode=mode, fraction=1.0, amount=0.0)(images, labels)
    np.testing.assert_array_equal(same, labels)
    scaled = images / np.float32(127.5) - 1
    rebuilt = trained_vae.model.decoder(trained_vae.model.encoder(scaled))
    np.testing.assert_allclose(np.asarray(still, np.float32), (np.asarray(rebuilt) + 1) * 127.5, atol=1)
    moved, _ = Augmenter.from_run(trained_vae, mode=mode, fraction=1.0, amount=0.9)(images, labels)
    assert not np.array_equal(moved, still)
    some, _ = Augmenter.from_run(trained_vae, mode=mode, fraction=0.5, amount=0.9)(images, labels)
    assert (np.asarray(some) == images).all(axis=(1, 2, 3)).sum() == 20


def test_interpolate_takes_partners_of_the_same_class():
    numbers = tf.constant([0, 1, 0, 2, 1, 0])
    seen = [np.asarray(Augmenter.partners(numbers, tf.range(6), tf.constant([0, index]))) for index in range(50)]
    assert {int(each[1]) for each in seen} == {4} and {int(each[3]) for each in seen} == {3}
    assert {int(each[0]) for each in seen} == {2, 5}


def test_in_a_sequential_model_saved_and_loaded(trained_vae, tmp_path):
    images, labels, _ = batch(kind="unit")
    augment = Augmenter.from_run(trained_vae, mode="perturb", fraction=1.0)
    model = keras.Sequential([keras.Input(SHAPE), augment, keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.copy() for weight in augment.get_weights()]
    model.fit(images, labels, epochs=1, verbose=0)
    for weight, old in zip(augment.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)  # the decoder is not trained
    np.testing.assert_array_equal(augment(images), images)  # off outside of training
    changed = augment(images, training=True)
    assert not np.allclose(changed, images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)
    np.testing.assert_allclose(loaded.layers[0](images, training=True), changed, atol=1e-5)


def test_a_model_hands_no_labels_over():
    augment = augmenter()
    with pytest.raises(genlab.UsageError, match="receives only images"):
        augment(np.zeros((4, *SHAPE), np.float32), training=True)


@pytest.mark.parametrize("select", ["discriminator", "classifier"])
def test_the_best_of_the_candidates_is_taken(select):
    codes = keras.Input((1,))
    labels = keras.Input((), dtype="int32")
    value = keras.layers.Activation("tanh")(codes)
    shifted = keras.layers.Add()([value, keras.layers.Embedding(2, 1, embeddings_initializer="zeros")(labels)])
    decoder = keras.Model([codes, labels], keras.layers.Reshape((8, 8, 1))(keras.layers.RepeatVector(64)(shifted)))
    images = keras.Input((8, 8, 1))
    mean = keras.layers.GlobalAveragePooling2D()(images)
    bright = mean if select == "discriminator" else keras.layers.Concatenate()([-5.0 * mean, 5.0 * mean])
    source = TrainedDecoder(
        decoder, priors.Normal(decoder.inputs[0].shape[-1]), num_classes=2, scorer=keras.Model(images, bright)
    )
    plain, labels = Augmenter([source], value_range=(-1, 1)).generate(400)
    chosen, _ = Augmenter([source], value_range=(-1, 1), candidates=8, select=select).generate(400)
    greys = [chosen[labels == label].mean() - plain[labels == label].mean() for label in (0, 1)]
    assert greys[1] > 0.4  # bright is the most real, and the most like class 1
    assert greys[0] > 0.4 if select == "discriminator" else greys[0] < -0.4


def test_wrong_batches_are_explained(small_run):
    images, labels, _ = batch()
    with pytest.raises(genlab.UsageError, match="tell the Augmenter their value_range"):
        augmenter()(images.astype(np.float32), labels)
    with pytest.raises(genlab.UsageError, match="labels have the shape"):
        augmenter()(images, labels[:, None, None])
    with pytest.raises(genlab.UsageError, match="only grey and colour"):
        augmenter()(np.zeros((4, 12, 10, 2), np.uint8), np.zeros(4, int))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a label cannot be drawn"):
        dataset = tf.data.Dataset.from_tensors((images, labels + 3))
        list(dataset.map(augmenter()))
    with pytest.raises(genlab.UsageError, match="draws points"):
        Augmenter.from_run(small_run("gan", "ring"))


# -- independent streams -----------------------------------------------------------------------------------------------


def latents_drawn(decoders, **settings):
    """An Augmenter whose images are the latents themselves: U(-1, 1), 8x8 of them; one label for each decoder."""
    codes = keras.Input((64,))
    network = keras.Model(codes, keras.layers.Reshape((8, 8, 1))(codes))
    sources = [TrainedDecoder(network, priors.Uniform(64), num_classes=1) for _ in range(decoders)]
    classes = {number: (number, 0) for number in range(decoders)}
    return Augmenter(sources, classes=classes, value_range=(-1, 1), **settings)


def distinct(images):
    """How many of the images [N, H, W, C] differ from all others."""
    return len({image.tobytes() for image in np.asarray(images)})


def test_decoders_draw_latents_of_their_own():
    drawn, _ = latents_drawn(3).generate(900)  # 300 of each decoder, in four chunks
    assert distinct(drawn) == 900
    flat = drawn.reshape(900, -1)
    among = np.corrcoef(flat)[np.triu_indices(900, 1)]  # of 64 numbers: 0 ± 0.125
    assert abs(among.mean()) < 0.001 and np.abs(among).max() < 0.75
    # Kolmogorov-Smirnov, 57,600 numbers: 1.63 / sqrt(57,600) at 1%.
    assert np.abs(np.sort(flat.ravel()) - np.linspace(-1, 1, flat.size)).max() / 2 < 1.63 / np.sqrt(flat.size)


def test_seeds_batches_and_calls_draw_latents_of_their_own():
    drawn = [latents_drawn(2, seed=seed).generate(60)[0] for seed in (0, 1, 2)]
    drawn.append(latents_drawn(2).generate(60, seed=3)[0])
    for value in (0.0, 1e-3, 0.5):
        batch, labels = np.full((60, 8, 8, 1), value, np.float32), np.arange(60) % 2
        drawn.append(latents_drawn(2, fraction=1.0)(batch, labels)[0])
    assert distinct(np.concatenate(drawn)) == 60 * len(drawn)


def test_candidates_are_latents_of_their_own():
    """A candidate that is passed over here is none that another seed draws."""
    source = latents_drawn(2).decoders[0]
    labels = tf.zeros([20], tf.int32)
    seeds = [tf.constant([5, number]) for number in range(3)]
    every = np.concatenate([source.draw(tf.repeat(labels, 4), seed) for seed in seeds])
    assert distinct(every) == 3 * 80
