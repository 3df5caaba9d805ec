"""Run folders of any content: settings, metrics, lock, links; what training refuses, and what a read-only run still does."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import pathlib
import shutil
import socket
import stat

import pytest
from conftest import fails
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import genlab
from genlab import config, history, sample
from genlab import run as runs
from genlab.config import Config
from genlab.train import __main__ as train

STORED = pathlib.Path(__file__).parent / "stored" / "runs" / "00000-cgan-digits"
CONTENT = json.loads((STORED / "config.json").read_text())
METRICS = (STORED / "metrics.jsonl").read_bytes()
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder():
    """The settings and metrics of a stored run."""
    path = pathlib.Path("runs/00000-cgan-digits")
    path.mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(STORED / name, path)
    return path


def with_entry(keys: str, value: object) -> dict:
    """The stored settings with another value at `part.name`."""
    content = copy.deepcopy(CONTENT)
    *parts, name = keys.split(".")
    inner = content
    for part in parts:
        inner = inner[part]
    inner[name] = value
    return content


# -- config.json -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ("format", 10, "newer genlab: it has format 10, and this version reads up to 9. Update genlab."),
        ("format", "3", "its format is no version number"),
        ("format", 3.0, "its format is no version number"),
        ("format", None, "its format is no version number"),
        ("model", "cgn", "there is no model 'cgn'; did you mean"),
        ("model", "../models/cgan", "there is no model '../models/cgan'"),
        ("model", "_adversarial", "there is no model '_adversarial'"),
        ("model", ["cgan"], "value of key 'model' of dict is not an instance of str"),
        ("model", None, "value of key 'model'"),
        ("hparams", [], "value of key 'hparams' of dict is not a dict"),
        ("hparams.latent_size", -4, "latent_size is -4; it must be at least 1"),
        ("hparams.latent_size", 4.5, "latent_size is 4.5; it must be a whole number"),
        ("hparams.latent_size", "4", "latent_size is '4'; it must be a whole number"),
        ("hparams.latent_size", True, "latent_size is True; it must be a whole number"),
        ("hparams.latent_size", 10**30, "latent_size is too large"),
        ("hparams.generator_units", -1, "generator_units is -1; it must be at least 0"),
        ("hparams.generator_widths", [2, -3], "generator_widths is (2, -3)"),
        ("hparams.generator_widths", [[2], 3], "generator_widths is ((2,), 3)"),
        ("hparams.generator_widths", {"0": 2}, "generator_widths is {'0': 2}"),
        ("hparams.beta1", float("nan"), "beta1 is nan; it must be finite"),
        ("hparams.conditioning", "maybe", "conditioning is 'maybe'; it must be one of none, concatenate, projection"),
        ("hparams.differentiable_augmentation", ["sepia"], "each one of auto, color, translation, cutout"),
        ("hparams.flux", 1, "entries unknown to this version: flux"),
        ("options", None, "value of key 'options' of dict is not a dict"),
        ("options.steps", None, "must have steps"),
        ("options.schedule_steps", None, "must have steps and schedule_steps"),
        ("options.precision", "auto", "a precision other than auto"),
        ("options.precision", "float8", "precision is 'float8'"),
        ("options.keep", 0, "keep is 0"),
        ("data_options", [], "value of key 'data_options'"),
        ("data_options.augment", ["swirl"], "augment is ('swirl',)"),
        ("dataset", {}, "missing required key(s)"),
        ("dataset.shape", [28, 28.5, 1], "item 1 of value of key 'shape'"),
        ("dataset.shape", [28, -28, 1], "shape must be three numbers"),
        ("dataset.shape", [28, 28], "shape must be three numbers"),
        ("dataset.shape", 28, "value of key 'shape'"),
        ("dataset.num_classes", 9, "num_classes differs"),
        ("dataset.class_names", [*range(10)], "item 0 of value of key 'class_names'"),
        ("dataset.train_images", -1, "train_images must be at least 1"),
        ("dataset.labelled_images", 10**6, "labelled_images must be from 0 to train_images"),
        ("dataset.sha256", None, "value of key 'sha256'"),
        ("environment", [], "value of key 'environment'"),
        ("more", 1, 'unexpected extra key(s): "more"'),
    ],
)
def test_settings_that_no_run_has_are_refused_in_one_line_with_the_file(keys, value, words, folder):
    (folder / "config.json").write_text(json.dumps(with_entry(keys, value)))
    with pytest.raises(genlab.GenlabError) as refused:
        genlab.load(folder)
    message = str(refused.value)
    assert words in message and message.startswith(f"{folder / 'config.json'} cannot be")
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize("key", CONTENT)
def test_a_missing_key_is_named(key, folder):
    (folder / "config.json").write_text(json.dumps({name: value for name, value in CONTENT.items() if name != key}))
    if key == "data_options":  # runs of the first versions have none
        assert genlab.load(folder).config.data_options == config.DataOptions()
        return
    with pytest.raises(genlab.GenlabError, match=f'missing required key.*"{key}"'):
        genlab.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 10_000, b'{"model": ' * 10_000]
)
def test_a_file_of_no_settings_at_all(content, folder, capsys):
    (folder / "config.json").write_bytes(content)
    for call in (lambda: train.main(["--resume", str(folder)]), lambda: sample.main(["--run", str(folder)])):
        status, message = fails(call, capsys)
        assert status == 1 and f"{folder / 'config.json'} cannot be read" in message and message.count("\n") == 1


@quick
@given(st.data())
def test_any_value_anywhere_in_the_settings_is_taken_or_refused(folder, data):
    places = [
        *CONTENT,
        *(f"{part}.{name}" for part in CONTENT if isinstance(CONTENT[part], dict) for name in CONTENT[part]),
    ]
    content = with_entry(data.draw(st.sampled_from(places)), data.draw(anything))
    (folder / "config.json").write_text(json.dumps(content))
    with contextlib.suppress(genlab.GenlabError):
        opened = genlab.load(folder).config
        assert Config.from_json(json.loads(json.dumps(opened.to_json()))) == opened


@quick
@given(st.data())
def test_a_flipped_byte_in_the_settings_is_taken_or_refused(folder, data):
    content = bytearray((STORED / "config.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "config.json").write_bytes(content)
    with contextlib.suppress(genlab.GenlabError):
        assert isinstance(genlab.load(folder).config, Config)


# -- metrics.jsonl -----------------------------------------------------------------------------------------------------

FOREIGN = [b"", b"not JSON", b"\xff\xfe\x00", b"[1, 2]", b"7", b"null", b'{"loss": 1.0}', b'{"step": "3", "loss": 1.0}']
FOREIGN += [
    b'{"step": 2.5}',
    b'{"step": true}',
    b'{"step": 1, "note": "of the user"}',
    b"[" * 50_000,
    b'{"step": ' + b"9" * 5000 + b"}",
]
FOREIGN += [b'{"step": 1, "seco{"step": 2, "seconds": 3.0}']


@pytest.mark.parametrize("line", FOREIGN)
def test_lines_that_genlab_did_not_write_are_passed_over_and_stay(line, folder):
    first, second = METRICS.splitlines()
    (folder / "metrics.jsonl").write_bytes(b"\n".join([line, first, line, second, line, b""]))
    run = genlab.load(folder)
    assert [each["step"] for each in run.metrics()] == [1, 2]
    history.drop_after(run.path, 1)
    assert (folder / "metrics.jsonl").read_bytes() == b"\n".join([line, first, line, line, b""])


@pytest.mark.parametrize("kept", [0, 1, 30, -2, -1])
def test_a_line_that_a_kill_cut_short_is_dropped(kept, folder):
    first, second = METRICS.splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(first + second[:kept])
    run = genlab.load(folder)
    history.drop_after(run.path, 2)
    whole = kept == -1  # only its end is missing
    assert (folder / "metrics.jsonl").read_bytes() == first + (second if whole else b"")
    history.append(run.path, {"step": 3, "loss": float("nan"), "seconds": 1.0})
    assert run.metrics()[-1] == {"step": 3, "seconds": 1.0} and len(run.metrics()) == 2 + whole


@quick
@given(st.data())
def test_any_bytes_in_the_metrics_are_read(folder, data):
    content = bytearray(METRICS)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    (folder / "metrics.jsonl").write_bytes(content)
    run = genlab.load(folder)
    before = run.metrics()
    assert all(type(line["step"]) is int for line in before)
    history.drop_after(run.path, 1)
    assert run.metrics() == [line for line in before if line["step"] <= 1]


def test_metrics_that_are_no_file(folder):
    (folder / "metrics.jsonl").unlink()
    assert genlab.load(folder).metrics() == []
    os.mkfifo(folder / "metrics.jsonl")
    with pytest.raises(genlab.GenlabError, match="not a regular file"):
        genlab.load(folder).metrics()


def test_a_run_resumes_among_foreign_lines(own_run, capsys):
    run = own_run("dcgan")
    lines = (run.path / "metrics.jsonl").read_bytes()
    (run.path / "metrics.jsonl").write_bytes(
        b"\xff\n{}\n" + lines + b'{"step": 3, "quick_frechet_distance": "low", "x": '
    )
    train.main(["--resume", str(run.path), "--steps", "4", "--log-every", "2"])
    assert [line["step"] for line in run.metrics()] == [2, 4]
    assert (run.path / "metrics.jsonl").read_bytes().startswith(b"\xff\n{}\n" + lines)


# -- names, lock, links ------------------------------------------------------------------------------------------------


def stored_config(**options) -> Config:
    return Config.from_json(with_entry("options", CONTENT["options"] | options))


@pytest.mark.parametrize(
    "description", ["a" * 5000, "日" * 500, "𐍈" * 500, "../../up", "a/b", "\x1b[2J", ".", "\udcff"]
)
def test_a_description_makes_a_folder_of_its_own_in_out(description, tmp_path):
    run = runs.create("out", stored_config(description=description))
    assert run.path.parent == pathlib.Path("out") and run.path.is_dir() and len(os.fsencode(run.name)) < 120
    assert run.name.startswith("00000-cgan-digits") and run.name.isprintable()
    assert genlab.load("latest", "out").config.options.description == description


def test_runs_are_numbered_by_digits_of_ascii(folder, capsys):
    for name in ("\u0660\u0660\u0660\u0660\u0667-x", "00007", f"{'9' * 30}-x", "7-x", "x"):
        (folder.parent / name).mkdir()
    assert runs.create("runs", stored_config()).name == "00001-cgan-digits"
    assert genlab.load("0").path == folder and genlab.load("00000").path == folder
    for name in ("\u00b2", "\u0660", "9" * 5000, "a\0b", "", "../nowhere"):
        with pytest.raises(genlab.UsageError) as refused:
            genlab.load(name)
        assert "there is no run" in str(refused.value) or name == ""
        assert len(str(refused.value)) < 500


def test_a_second_process_is_told_who_holds_the_run(folder, capsys):
    run = genlab.load(folder)
    with run.training():
        status, message = fails(lambda: train.main(["--resume", str(folder)]), capsys)
        assert status == 1 and f"another process (process {os.getpid()} on {socket.gethostname()}, since 20" in message
        (folder / ".lock.json").write_bytes(b"\xff")
        with pytest.raises(genlab.GenlabError, match=r"another process\. Wait for it"), run.training():
            pass
        assert run.metrics()  # reading is free
    assert not (folder / ".lock.json").exists()
    (folder / ".lock.json").write_text("of a process that was killed")
    with run.training():
        assert json.loads((folder / ".lock.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    "name", ["log.txt", "metrics.jsonl", ".lock", ".lock.json", "checkpoints", "samples", "samples/step-000000.png"]
)
def test_training_writes_through_no_link(name, folder, tmp_path):
    (tmp_path / "victim").write_text("of the user's")
    path = folder / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "victim")
    run = genlab.load(folder)
    with pytest.raises(genlab.GenlabError, match=r"is a link to .*, and training would write there"), run.training():
        pass
    assert (tmp_path / "victim").read_text() == "of the user's"


def test_a_link_to_a_run_is_a_run(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder.resolve())
    with genlab.load(tmp_path / "link").training():
        assert (folder / "log.txt").exists()


def test_the_log_cannot_control_the_terminal_that_shows_it(folder):
    with genlab.load(folder).training():
        logging.getLogger("genlab").info("a\x1b[2Jb \udcff é")
    assert (folder / "log.txt").read_text(encoding="utf-8").endswith("a\\x1b[2Jb \\udcff é\n")


def test_a_run_that_cannot_be_written_samples_and_evaluates_and_does_not_train(monkeypatch, capsys):
    path = pathlib.Path(shutil.copytree(STORED, "elsewhere/copied"))
    before = {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.rglob("*") if each.is_file()}
    monkeypatch.setattr(os, "access", lambda name, mode: not (pathlib.Path(name) == path and mode == os.W_OK))
    sample.main(["--run", str(path), "--count", "2"])
    from genlab.evaluate import __main__ as evaluate
    from genlab.evaluate import evaluation

    monkeypatch.setattr(evaluation, "_label_metrics", lambda *_: {})  # they train classifiers
    capsys.readouterr()
    evaluate.main([str(path), "--samples", "200"])
    said = capsys.readouterr().out
    assert "frechet distance" in said and f"{path} cannot be written" in said and "has these metrics" not in said
    assert {each: (each.read_bytes(), each.stat().st_mtime_ns) for each in path.rglob("*") if each.is_file()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_is_not_trained(folder):
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with (
        pytest.raises(genlab.GenlabError, match="cannot be written, and training writes to it"),
        genlab.load(folder).training(),
    ):
        pass
