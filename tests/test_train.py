"""The training command: what it leaves, what it prints, how it stops."""

from __future__ import annotations

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf
from conftest import PATIENCE, TINY, TINY_FLAGS, build, fails, small_settings, state_of

import genlab
from genlab import errors
from genlab import run as runs
from genlab.networks import precision
from genlab.train import __main__ as train
from genlab.train.training import Training, sample_steps


def command(*flags, **keywords):
    return subprocess.Popen(
        [sys.executable, "-m", "genlab.train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(genlab.__file__).parents[1])},
        **keywords,
    )


def test_run_folder_is_complete(trained):
    config = json.loads((trained.path / "config.json").read_text())
    assert config["model"] == "dcgan" and config["hparams"]["latent_size"] == 8
    assert config["options"]["steps"] == 6 and config["options"]["precision"] in ("float32", "bfloat16")
    assert config["dataset"]["train_images"] == 1437 and config["dataset"]["sha256"] == trained.data().sha256
    assert {"python", "tensorflow", "keras", "numpy", "cpu_count"} <= config["environment"].keys()
    lines = trained.metrics()
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert lines[-1]["images"] == 96 and lines[-1]["epoch"] == pytest.approx(96 / 1437, abs=1e-4)
    assert {"seconds", "images_per_second", "discriminator_loss", "generator_loss"} <= lines[-1].keys()
    assert "step 6/6" in (trained.path / "log.txt").read_text()
    assert list((trained.path / "tensorboard").glob("events.out.tfevents.*"))
    grids = sorted(path.name for path in trained.samples.glob("*.png"))
    assert grids == ["real.png", "step-000000.png", "step-000006.png"]
    assert len(imageio.imread(trained.samples / "progress.gif", index=None)) == 2


def test_tensorboard_reads_scalars_and_grids(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.path / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"generator_loss", "discriminator_loss", "images_per_second", "samples"} <= tags


@pytest.mark.parametrize("model", ["cgan", "vae", "began"])
def test_histograms_of_weights_and_activations_by_layer(model, small_images):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    widths = {"encoder_widths": (2,), "decoder_widths": (2,)} if model == "vae" else {"generator_widths": (2,)}
    run = genlab.fit(model, *small_images, steps=1, batch_size=4, histograms=True, **widths)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["tensors"]) | set(events.Tags()["histograms"])
    for network in run.model.networks.values():
        for weight in network.weights:
            assert any(name.startswith("weights/") and name.endswith(f"/{weight.path}") for name in names)
    shown = "trained_decoder" if model == "vae" else "generator"
    assert any(name.startswith(f"activations/{shown}/") for name in names)


def test_grids_come_more_often_early():
    assert sorted(sample_steps(500, 1600)) == [0, 16, 32, 63, 125, 250, 500, 1000, 1500, 1600]
    assert sorted(sample_steps(500, 10)) == [0, 10]


def test_only_the_newest_checkpoints_are_kept():
    run = genlab.fit("dcgan", steps=8, checkpoint_every=2, keep=2, **TINY)
    assert sorted(path.stem for path in run.checkpoints.glob("*.index")) == ["step-6", "step-8"]


def test_the_same_seed_gives_the_same_run_and_another_another():
    first, again = (genlab.fit("dcgan", steps=3, seed=1, **TINY) for _ in range(2))
    assert [run.name for run in (first, again)] == ["00000-dcgan-digits", "00001-dcgan-digits"]
    for name, values in state_of(first).items():
        np.testing.assert_array_equal(values, state_of(again)[name])
    one, other = (build("dcgan", seed=seed).decoder.get_weights()[0] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_debug_runs_the_same_step_eagerly():
    compiled = genlab.fit("dcgan", steps=2, precision="float32", **TINY)
    train.main(["dcgan", "--steps", "2", "--precision", "float32", "--debug", *TINY_FLAGS])
    eager = genlab.load("latest")
    for first, second in zip(compiled.model.weights, eager.model.weights, strict=True):
        np.testing.assert_allclose(first, second, atol=2e-4)


def test_a_profile_tells_the_most_expensive_operations(capsys):
    train.main(["dcgan", *TINY_FLAGS, "--steps", "8", "--profile", "4:7"])
    lines = capsys.readouterr().out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("profile steps 4 to 7:"))
    assert "waiting for data" in lines[head]
    told = [
        re.fullmatch(r" +([\d.]+)% +([\d.]+) ms per step +([\d.]+) times +(\w+), most in \S+", line)
        for line in lines[head + 1 : head + 11]
    ]
    shares = [float(each[1]) for each in told]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.5
    # A step has whole numbers of operations, of convolutions more than of most.
    counts = {each[4]: float(each[3]) for each in told}
    assert any("Conv" in kind and count >= 4 for kind, count in counts.items())
    assert len(list(pathlib.Path("runs").glob("*/tensorboard/plugins/profile/*/*.xplane.pb"))) == 1


@pytest.mark.parametrize("model", ["autoencoder", "dcgan"])
def test_steps_compiled_by_xla_train_alike(model, small_images):
    widths = {"encoder_widths": (2,), "decoder_widths": (2,)} if model == "autoencoder" else TINY
    settings = {"steps": 2, "log_every": 1, "batch_size": 16, "precision": "float32"} | widths
    plain, compiled = (genlab.fit(model, *small_images, jit=jit, **settings).metrics() for jit in (False, True))
    # An autoencoder's step draws nothing, and a discriminator has seen no noise before its first answer on real images.
    name = "loss" if model == "autoencoder" else "real_score"
    count = 2 if model == "autoencoder" else 1
    assert [line[name] for line in compiled[:count]] == pytest.approx([line[name] for line in plain[:count]], rel=1e-4)
    assert all(np.isfinite(list(line.values())).all() for line in compiled)


def test_models_are_listed_with_a_line_each(capsys):
    train.main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip().startswith("dcgan  ") and len(line) < 130 for line in lines)


def test_dry_run_prints_the_configuration_and_makes_nothing(capsys):
    train.main(["dcgan", "--dry-run", "--epochs", "2", "--seed", "7"])
    config = json.loads(capsys.readouterr().out)
    assert config["options"]["steps"] == 45 and config["options"]["seed"] == 7  # 2 * 1,437 / 64, rounded up
    assert not pathlib.Path("runs").exists()


def test_a_preset_is_where_single_options_start(capsys):
    train.main(["dcgan", "--preset", "paper", "--batch-size", "32", "--dry-run"])
    hparams = json.loads(capsys.readouterr().out)["hparams"]
    assert (hparams["beta1"], hparams["generator_learning_rate"], hparams["batch_size"]) == (0.5, 2e-4, 32)


def test_help_and_import_leave_tensorflow_alone():
    code = "import sys, genlab, genlab.models\ngenlab.models.load('dcgan')\n"
    code += "from genlab.train import __main__ as train\n"
    code += "try: train.main(['dcgan', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
    code += "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for flag in ("--data", "--steps", "--latent-size", "--generator-widths", "--resume", "--precision"):
        assert flag in shown


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["dcgn"], 2, "did you mean dcgan or"),
        (["dcgan", "--batch-sise", "3"], 2, "--batch-size"),
        (["dcgan", "--preset", "papers"], 2, "it has default, paper"),
        (["dcgan", "--data", "digitz"], 2, "did you mean digits?"),
        (["dcgan", "--data", "nowhere"], 2, "no such data set or path. Data sets:"),
        (["dcgan", "--batch-size", "2000"], 2, "larger than the data: 1,437"),
        (["dcgan", "--batch-size", "0"], 2, "at least 1"),
        (["dcgan", "--steps", "0"], 2, "steps is 0"),
        (["dcgan", "--steps", "-5"], 2, "steps is -5"),
        (["dcgan", "--steps", "5", "--epochs", "1"], 2, "both given"),
        (["dcgan", "--keep", "0"], 2, "keep is 0"),
        (["dcgan", "--generator-learning-rate", "-1"], 2, "above 0"),
        (["dcgan", "--precision", "float8"], 2, "float8"),
        (["dcgan", "--profile", "20:10"], 2, "two increasing steps like 100:120"),
        (["dcgan", "--profile", "1990:2010"], 2, "runs from step 0 to 2,000"),
        (["dcgan", "--jit", "--strategy", "mirrored"], 2, "one device only"),
        (["--resume", "runs/00012-dcgan-digits"], 2, "no run"),
        (["--resume"], 2, "Train one first"),
        (["--steps", "3"], 2, "no model was given"),
    ],
)
def test_wrong_input(capsys, flags, status, words):
    code, message = fails(lambda: train.main(flags), capsys)
    assert code == status
    assert words in " ".join(message.split())
    assert not pathlib.Path("runs").exists()


def test_unreadable_and_empty_data(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    code, message = fails(lambda: train.main(["dcgan", "--data", "empty"]), capsys)
    assert code == 2 and "no training images" in message
    (tmp_path / "empty" / "train-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x05" * 3 + b"123")
    code, message = fails(lambda: train.main(["dcgan", "--data", "empty"]), capsys)
    assert code == 2 and "is damaged" in message


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    code, message = fails(lambda: train.main(["dcgan", "--out", "taken", "--steps", "2", *TINY_FLAGS]), capsys)
    assert code == 1 and "taken" in message


def test_a_full_disk_keeps_the_earlier_checkpoint(own_run):
    """A limit on the size of files makes every write fail as on a full disk, once the run has begun."""
    run = own_run("dcgan")
    before = state_of(run)
    largest = max(path.stat().st_size for path in run.checkpoints.iterdir())

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))

    process = command("--resume", "--steps", "4", preexec_fn=limited)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert "the disk is full" in errors and "Traceback" not in errors
    after = state_of(run)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path):
    process = command("dcgan", "--steps", "100000", "--log-every", "2", *TINY_FLAGS)
    metrics = tmp_path / "runs/00000-dcgan-digits/metrics.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, errors
    assert "--resume" in errors and "Traceback" not in errors
    run = genlab.load("latest")
    step = int(runs.newest_checkpoint(run.path).rpartition("-")[2])
    assert step > 0 and f"at step {step:,}" in errors
    assert (run.samples / "progress.gif").exists()


def test_a_signal_after_the_last_step_waits_for_the_prior_and_ends_the_script(monkeypatch):
    fit_prior = Training.fit_prior

    sent = []

    def signalled(training):
        if training.step == training.total and not sent:  # a second one acts at once
            sent.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        fit_prior(training)

    monkeypatch.setattr(Training, "fit_prior", signalled)
    with pytest.raises(errors.Interrupted, match=r"SIGINT came after the last step; .* is finished"):
        genlab.fit("autoencoder", steps=1, out="runs", **small_settings("autoencoder"))
    run = genlab.load("latest")
    assert run.state == "finished" and run.samples.exists()


def test_two_that_start_at_once_get_two_folders():
    processes = [command("dcgan", "--steps", "1", *TINY_FLAGS) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert errors == ""  # no noise of TensorFlow's
    assert [path.name for path in runs.all_runs(pathlib.Path("runs"))] == ["00000-dcgan-digits", "00001-dcgan-digits"]


def test_a_loss_that_is_not_finite_stops_the_run(capsys):
    flags = ["--steps", "500", "--checkpoint-every", "2", "--generator-learning-rate", "1e30", "--optimizer", "sgd"]
    flags += ["--generator-normalization", "none", "--schedule", "constant"]
    code, message = fails(lambda: train.main(["dcgan", *flags, *TINY_FLAGS]), capsys)
    assert code == 1
    assert "finite" in message or " is nan at step" in message or " is inf at step" in message
    run = genlab.load("latest")
    assert str(runs.newest_checkpoint(run.path)) in message
    assert all(np.isfinite(weight).all() for weight in run.model.weights)


def test_settings_of_another_version_are_named(trained, tmp_path):
    folder = tmp_path / "00000-dcgan-digits"
    folder.mkdir()
    config = json.loads((trained.path / "config.json").read_text())
    config["hparams"]["flux"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(genlab.GenlabError, match="flux"):
        genlab.load(folder)


@pytest.mark.parametrize(
    ("flags", "expected"), [("fma avx2", "float32"), ("avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16")]
)
def test_auto_is_bfloat16_where_the_cpu_has_it(monkeypatch, tmp_path, flags, expected):
    information = tmp_path / "cpuinfo"
    information.write_text(f"processor : 0\nflags\t\t: {flags} sse2\n")
    monkeypatch.setattr(precision, "CPU_INFORMATION", information)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert precision.resolve("auto", (28, 28, 1)) == expected
    assert precision.resolve("auto", (2,)) == "float32"
    assert precision.resolve("float16", (2,)) == "float16"
