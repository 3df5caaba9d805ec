"""The animation of a run: of the grids that are there, however many, and made if it is missing."""

from __future__ import annotations

import os
import re

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

import genlab
from genlab import grids
from genlab.train import __main__ as train
from genlab.train import animation


@pytest.fixture
def samples(tmp_path):
    """Grids of steps 0, 10, ..., 90, each of one grey value: its step."""
    for step in range(0, 100, 10):
        grids.save_image(np.full((6, 8, 1), step, np.uint8), tmp_path / "samples" / f"step-{step:06d}.png")
    return tmp_path / "samples"


def values(samples) -> list[int]:
    """The grey values of the animation's frames."""
    return [int(frame.max()) for frame in imageio.imread(samples / "progress.gif", index=None)]


def test_frames_are_the_grids_in_order_up_to_a_step(samples):
    grids.save_image(np.full((6, 8, 1), 200, np.uint8), samples / "step-1000000.png")
    animation.write(samples, 90)
    assert values(samples) == [*range(0, 100, 10)]
    animation.write(samples, 45)
    assert values(samples) == [0, 10, 20, 30, 40]


def test_strays_and_damaged_files_are_left_out_and_named(samples, caplog):
    content = (samples / "step-000030.png").read_bytes()
    (samples / "step-000010.png").write_bytes(content[:-30])
    (samples / "step-000020.png").write_bytes(b"")
    (samples / "step-000040.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n(%pipe%id) (w) file\n")
    grids.save_image(np.zeros((600, 8, 3), np.uint8), samples / "step-000050.png")
    Image.fromarray(np.full((6, 8), 1000, np.uint16)).save(samples / "step-000060.png")
    (samples / "step-000070.png").unlink()
    os.mkfifo(samples / "step-000070.png")
    for name in (
        "step-000002 (copy).png",
        "step-\u00b2.png",
        "step-.png",
        f"step-{'9' * 5000}"[:200] + ".png",
        "step--00001.png",
    ):
        (samples / name).write_bytes(content)
    log = animation.log
    log.addHandler(caplog.handler)
    try:
        animation.write(samples, 90)
    finally:
        log.removeHandler(caplog.handler)
    assert values(samples) == [0, 30, 80, 90]
    assert [re.search(r"step-0000(\d\d)\.png.* It is left out", line)[1] for line in sorted(caplog.messages)] == [
        *("10", "20", "40", "50", "60", "70")
    ]


def test_a_cut_grid_is_passed_over_unless_all_of_its_pixels_are_there(samples):
    content = (samples / "step-000090.png").read_bytes()
    for end in range(0, len(content), 5):
        (samples / "step-000090.png").write_bytes(content[:end])
        animation.write(samples, 90)
        assert values(samples) in ([*range(0, 90, 10)], [*range(0, 100, 10)])
        assert end > len(content) - 24 or 90 not in values(samples)


def test_a_long_run_is_thinned_with_its_first_and_last_grid(samples, monkeypatch):
    monkeypatch.setattr(animation, "FRAMES", 4)
    animation.write(samples, 90)
    assert values(samples) == [0, 30, 60, 90]
    monkeypatch.setattr(animation, "FRAMES", 200)
    monkeypatch.setattr(animation, "MEMORY", 3 * 6 * 8)
    animation.write(samples, 90)
    assert values(samples) == [0, 40, 90]  # the middle, 4.5, is rounded to the even number
    monkeypatch.setattr(animation, "MEMORY", 1)
    animation.write(samples, 90)
    assert values(samples) == [0, 90]


def test_no_grid_makes_no_animation(tmp_path):
    animation.write(tmp_path, 10)
    assert not animation.is_missing(tmp_path, 10) and not list(tmp_path.iterdir())
    (tmp_path / "step-000000.png").write_bytes(b"")
    animation.write(tmp_path, 10)
    assert not animation.path(tmp_path).exists()


def test_resuming_a_finished_run_makes_what_a_kill_left_out(own_run, capsys):
    run = own_run("dcgan")
    made = animation.path(run.samples)
    whole, before = made.read_bytes(), made.stat().st_mtime_ns
    train.main(["--resume", str(run.path)])
    assert made.stat().st_mtime_ns == before  # nothing is missing
    made.unlink()
    (run.samples / "step-000001 (copy).png").write_bytes(b"")
    train.main(["--resume", str(run.path)])
    assert made.read_bytes() == whole and genlab.load(run.path).step == 2
    os.utime(made, (0, 0))  # of a shorter run
    train.main(["--resume", str(run.path)])
    assert made.read_bytes() == whole and made.stat().st_mtime > 0
    assert capsys.readouterr().out.count("all 2 steps are done already") == 3
