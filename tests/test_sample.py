"""Samples: seeded, independent of each other, written as asked."""

from __future__ import annotations

import functools
import json
import pathlib
import shutil

import imageio.v3 as imageio
import numpy as np
from conftest import fails

import genlab
from genlab import run as runs
from genlab import sample

STORED = pathlib.Path(__file__).parent / "stored" / "runs" / "00000-cgan-digits"


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
    path = genlab.grids.interpolate(start, end, [0, 0.5, 1], spherical=True)
    np.testing.assert_allclose(path[1], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)
    straight = genlab.grids.interpolate(start, end, [0, 0.5, 1], spherical=False)
    np.testing.assert_allclose(straight[1], [0.5, 0.5, 0], atol=1e-6)


def test_classes_of_any_name_are_drawn_into_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "open", functools.cache(runs.open))  # one model draws all
    run = genlab.load(shutil.copytree(STORED, pathlib.Path("runs") / STORED.name))
    names = ["../../up", "T-shirt/top", "a b", "a-b", "A-B", "..", "", "\x1b[2J", "/etc", "日" * 100]
    settings = json.loads((run.path / "config.json").read_text())
    settings["dataset"]["class_names"] = names
    (run.path / "config.json").write_text(json.dumps(settings))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for number in range(10):
        sample.main(["--label", str(number), "--count", "1", "--out", "drawn"])
    sample.main(["--label", "T-shirt/top", "--seeds", "5", "--individual", "--out", "drawn"])
    assert "\x1b" not in capsys.readouterr().out
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len(written) == 11  # no class overwrites another one
    labels = ["up", "T-shirt-top", "a-b-2", "a-b-3", "A-B-4", "unnamed-5", "unnamed-6", "2J", "etc", "日" * 26]
    expected = {f"drawn/{run.name}-label{label}-seed0.png" for label in labels}
    expected |= {f"drawn/{run.name}-labelT-shirt-top/seed0005.png"}
    assert {str(path.relative_to(tmp_path)) for path in written} == expected


def test_a_full_disk_leaves_the_earlier_array(trained, monkeypatch, capsys):
    draw(trained, "--seeds", "3", "--array", "some.npz")
    before = pathlib.Path("some.npz").read_bytes()

    def full(file, **_):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(np, "savez_compressed", full)
    capsys.readouterr()
    status, message = fails(lambda: draw(trained, "--seeds", "4", "--array", "some.npz"), capsys)
    assert status == 1 and "the disk is full" in message
    assert pathlib.Path("some.npz").read_bytes() == before and [each.name for each in pathlib.Path().iterdir()] == [
        "some.npz"
    ]


def test_seeds_of_64_bits_and_in_parts(trained):
    first, last = 2**63 - 2, 2**63 - 1
    draw(trained, "--seeds", f"{first}-{last},7", "--array", "large")
    with np.load("large.npz") as arrays:
        assert list(arrays["seeds"]) == [first, last, 7]
        image = trained.model.sample(trained.model.sample_latents([last]))
        np.testing.assert_array_equal(arrays["images"][1:2], genlab.grids.as_pixels(image))


def test_no_run_yet(capsys):
    status, message = fails(lambda: sample.main([]), capsys)
    assert status == 2 and "Train one first" in message


def test_a_run_without_a_checkpoint(trained, tmp_path, capsys):
    folder = tmp_path / "00000-dcgan-digits"
    folder.mkdir()
    (folder / "config.json").write_text((trained.path / "config.json").read_text())
    status, message = fails(lambda: sample.main(["--run", str(folder)]), capsys)
    assert status == 1 and "holds no checkpoint" in message
