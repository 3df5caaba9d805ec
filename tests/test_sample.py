"""Samples: seeded, independent of each other, written as asked."""

from __future__ import annotations

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import fails

import genlab
from genlab import sample


def draw(trained, *flags):
    sample.main(["--run", str(trained.path), *flags])


def test_a_sample_depends_on_its_seed_alone(trained):
    model = trained.model
    together = model.sample(model.sample_latents(range(130))).numpy()
    for seeds in ([0], [129, 3, 64], list(range(100, 130))):
        np.testing.assert_array_equal(model.sample(model.sample_latents(seeds)), together[seeds])
    assert len(np.unique(together.reshape(130, -1), axis=0)) == 130


def test_samples_are_in_range_and_of_the_datas_shape(trained):
    images = trained.model.sample(trained.model.sample_latents([7])).numpy()
    assert images.shape == (1, 28, 28, 1) and images.dtype == np.float32
    assert images.min() >= -1 and images.max() <= 1


def test_prior_has_the_moments_it_names(trained):
    normal = trained.model.sample_latents(range(4000)).numpy()
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    uniform = genlab.fit("dcgan", steps=1, prior="uniform", batch_size=8, generator_widths=(2,)).model
    values = uniform.sample_latents(range(2000)).numpy()
    assert values.min() >= -1 and values.max() < 1
    assert abs(values.std() - 1 / np.sqrt(3)) < 0.01


def test_default_is_a_grid_of_the_newest_run(trained, capsys):
    sample.main(["--runs", str(trained.path.parent)])
    path = capsys.readouterr().out.strip()
    assert path == f"samples/{trained.name}-seed0.png"
    assert imageio.imread(path).shape == (8 * 58 + 2, 8 * 58 + 2)


def test_individual_images_match_the_array(trained, capsys):
    draw(trained, "--seeds", "0-2,40", "--individual", "--out", "single")
    draw(trained, "--seeds", "40,1", "--array", "some.npz")
    stored = np.load("some.npz")
    assert stored["images"].shape == (2, 28, 28, 1) and stored["images"].dtype == np.uint8
    for index, seed in enumerate(stored["seeds"]):
        single = imageio.imread(f"single/{trained.name}/seed{seed:04d}.png")
        np.testing.assert_array_equal(single, stored["images"][index, ..., 0])


def test_interpolation_begins_and_ends_at_its_seeds(trained, capsys):
    draw(trained, "--interpolate", "3:5", "--frames", "4")
    draw(trained, "--interpolate", "3:5", "--frames", "4", "--format", "mp4")
    frames = imageio.imread(f"samples/{trained.name}-seeds3to5.gif", index=None)
    assert len(frames) == 4
    model = trained.model
    end = genlab.grids.to_grid(model.sample(model.sample_latents([5])))[..., 0]
    last = frames[-1] if frames[-1].ndim == 2 else frames[-1][..., 0]
    assert np.abs(last.astype(int) - end).max() <= 2  # the palette of a GIF may round
    animation = imageio.imread(f"samples/{trained.name}-seeds3to5.mp4", plugin="FFMPEG")
    assert animation.shape[:3] == (4, 60, 60)


def test_spherical_interpolation_keeps_the_norm():
    start, end = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    path = genlab.grids.interpolate(start, end, 3, spherical=True)
    np.testing.assert_allclose(path[1], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)
    straight = genlab.grids.interpolate(start, end, 3, spherical=False)
    np.testing.assert_allclose(straight[1], [0.5, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--count", "0"], "--count 0"),
        (["--count", "-3"], "--count -3"),
        (["--seed", "-1"], "--seed -1"),
        (["--seeds", "5-2"], "--seeds 5-2"),
        (["--grid", "8by8"], "--grid 8by8"),
        (["--grid", "2x2", "--count", "5"], "holds 4 images, and 5"),
        (["--interpolate", "3"], "two seeds A:B"),
        (["--interpolate", "3:4", "--frames", "1"], "--frames 1"),
        (["--label", "7"], "without labels"),
        (["--run", "no-such-run"], "no run 'no-such-run'"),
        (["--frmes", "3"], "--frames"),
    ],
)
def test_wrong_input(trained, capsys, flags, words):
    status, message = fails(lambda: draw(trained, *flags), capsys)
    assert status == 2
    assert words in " ".join(message.split())


def test_no_run_yet(capsys):
    status, message = fails(lambda: sample.main([]), capsys)
    assert status == 2 and "Train one first" in message


def test_a_run_without_a_checkpoint(trained, tmp_path, capsys):
    folder = tmp_path / "00000-dcgan-digits"
    folder.mkdir()
    (folder / "config.json").write_text((trained.path / "config.json").read_text())
    status, message = fails(lambda: sample.main(["--run", str(folder)]), capsys)
    assert status == 1 and "holds no checkpoint" in message


def test_a_damaged_checkpoint_is_named(tmp_path, trained, capsys):
    import shutil

    folder = tmp_path / trained.name
    shutil.copytree(trained.path, folder)
    damaged = next(folder.glob("checkpoints/step-6.data*"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    status, message = fails(lambda: sample.main(["--run", str(folder)]), capsys)
    assert status == 1 and "step-6" in message
