"""genlab from Python."""

from __future__ import annotations

import gc
import pathlib
import threading
import weakref

import numpy as np
import pytest
from conftest import TINY, fails, small_settings

import genlab
from genlab import models
from genlab.backend import tf
from genlab.evaluate import classifier
from genlab.train import loop


def test_the_models_and_their_presets():
    expected = {
        "autoencoder": "default book paper",
        "began": "default paper",
        "cgan": "default book paper points",
        "dcgan": "default paper points",
        "flow": "default paper points",
        "gan": "default book paper points",
        "minibatch_gan": "default paper book points",
        "vae": "default book paper",
        "wgan": "default paper gradient-penalty-paper",
    }
    assert expected.items() <= {name: " ".join(models.presets(name)) for name in models.names()}.items()


def test_fit_load_and_sample(trained):
    again = genlab.load(trained.path)
    assert again.config == trained.config
    assert again.decoder.output_shape == (None, 28, 28, 1)
    latents = again.model.sample_latents([1, 2])
    np.testing.assert_array_equal(again.model.sample(latents), trained.model.sample(latents))
    assert len(again.data().images) == 1437
    path = genlab.grids.save_grid(again.model.sample(latents), "grid.png")
    assert path.stat().st_size > 100


def test_fit_takes_arrays_and_names(small_images):
    images, labels = small_images
    run = genlab.fit("dcgan", images, labels, steps=2, **TINY)
    assert run.name == "00000-dcgan-array" and run.config.dataset["num_classes"] == 3
    assert run.model.sample(run.model.sample_latents([0])).shape == (1, 12, 10, 1)
    with pytest.raises(genlab.GenlabError, match="arrays that a program passed"):
        genlab.load(run.path).data()


def graphs() -> int:
    """The number of TensorFlow's graphs in this process."""
    gc.collect()
    return sum(issubclass(type(each), tf.Graph) for each in gc.get_objects())


def threads() -> int:
    tasks = pathlib.Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dcgan", {}),  # convolutions of few channels define gradients of their own
        ("vae", {"likelihood": "discretized_logistic", "optimizer": "rmsprop"}),
    ],
)
def test_nothing_of_a_run_outlives_it(name, settings, small_images, monkeypatch):
    parts, made = [], loop.Training

    def noted(*arguments, **keywords):
        training = made(*arguments, **keywords)
        model = training.model
        parts.extend(map(weakref.ref, (training, training.run, model, model.prior, *model.networks.values())))
        return training

    monkeypatch.setattr(loop, "Training", noted)
    counts = []
    for seed in range(3):
        genlab.fit(name, small_images[0], steps=2, seed=seed, **small_settings(name) | settings)
        counts.append((graphs(), threads()))
    assert counts[2] == counts[1]  # the first starts threads and traces functions that all runs share
    assert len(parts) >= 18 and not [part() for part in parts if part() is not None]


def test_nothing_of_a_classifier_outlives_it(small_images):
    images, labels = small_images
    counts = []
    for seed in range(2):
        network = classifier.train(images[..., np.newaxis], labels, 3, epochs=0.02, seed=seed)
        parts = [weakref.ref(part) for part in (network, *network.weights)]
        del network
        counts.append(graphs())
        assert not [part() for part in parts if part() is not None]
    assert counts[1] == counts[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latent_sise": 3}, "did you mean latent_size"),
        ({"loss": "hinges"}, "it must be one of non_saturating, minimax, hinge"),
        ({"batch_size": 0}, "at least 1"),
        ({"preset": "nothing"}, "no preset"),
        ({"generator_widths": ()}, "generator_widths"),
        ({"prior": "cauchy"}, "normal, uniform"),
    ],
)
def test_settings_that_do_not_exist(settings, words):
    with pytest.raises(genlab.UsageError, match=words):
        genlab.fit("dcgan", steps=1, **settings)


def test_a_grid_can_be_read_back():
    images = np.arange(5 * 9 * 8 * 3, dtype=np.uint32).reshape(5, 9, 8, 3).astype(np.uint8)
    grid = genlab.grids.to_grid(images, columns=2, scale=1)
    assert grid.shape == (3 * (9 + 2) + 2, 2 * (8 + 2) + 2, 3)
    np.testing.assert_array_equal(grid[2:11, 2:10], images[0])
    np.testing.assert_array_equal(grid[13:22, 12:20], images[3])


def test_a_missing_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = genlab.fitt


def test_one_entry_point_lists_the_commands_and_hands_on(capsys):
    from genlab.__main__ import COMMANDS, main

    main([])
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    main(["train", "dcgan", "--steps", "2", "--batch-size", "8", "--dry-run"])
    assert '"model": "dcgan"' in capsys.readouterr().out
    status, message = fails(lambda: main(["trian"]), capsys)
    assert status == 2 and "did you mean train" in message


def test_functions_are_applied_in_parts():
    from genlab.backend import in_parts

    seen = []
    doubled, summed = in_parts(lambda a, b: [seen.append(len(a)) or 2 * a, a + b], np.arange(5), np.ones(5), size=2)
    np.testing.assert_array_equal(doubled, [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(summed, [1, 2, 3, 4, 5])
    assert seen == [2, 2, 1]
