"""How a run ended, the table of a folder's runs, and which of them are deleted."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from conftest import fails

import genlab
from genlab import errors, files, history, outcome
from genlab import run as folders
from genlab.runs import __main__ as command

STORED = pathlib.Path(__file__).parent / "stored" / "runs"
DAY = 86400


def stored(number: int, name: str = "00000-cgan-digits", out: str = "runs") -> folders.Run:
    """A copy of a stored run, which was written without outcome.json, under another number."""
    path = pathlib.Path(out) / f"{number:05d}-{name.partition('-')[2]}"
    return genlab.load(shutil.copytree(STORED / name, path))


def ended(run: folders.Run, error: BaseException) -> None:
    """A training of the run that ends with an error."""
    with pytest.raises(type(error)), run.training():
        raise error


def evaluated(run: folders.Run, distance: float | str, floor: float | None = 2.0) -> None:
    """The run with an evaluation."""
    metrics = {"frechet_distance": {"value": distance, "floor": floor}}
    content = {"run": run.name, "model": "cgan", "step": 2, "protocol": {}, "metrics": metrics, "facts": {}}
    files.write_json(run.path / "evaluation.json", content)


def listed(capsys, *arguments: str) -> list[dict]:
    """What `--json` prints."""
    capsys.readouterr()
    command.main(["--json", *arguments])
    return json.loads(capsys.readouterr().out)


def left() -> list[int]:
    """The numbers of the runs that are there."""
    return [int(path.name.partition("-")[0]) for path in folders.all_runs(pathlib.Path("runs"))]


# -- how a run ended ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (errors.Collapsed("samples are alike\nStopped at step 2."), "collapsed", "samples are alike"),
        (errors.Interrupted("SIGINT came after the last step; …"), "finished", "all 2 steps are done"),
        (errors.GenlabError("loss is nan at step 2: training stopped."), "failed", "loss is nan at step 2"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(3), "interrupted", "3"),
        (ZeroDivisionError("a bug"), "failed", "a bug"),
    ],
)
def test_how_a_training_ended_is_recorded_until_it_begins_again(error, state, why):
    run = stored(0)
    assert run.state == "finished"  # by its last checkpoint
    ended(run, error)
    found = json.loads((run.path / "outcome.json").read_text())
    assert run.state == found["state"] == state and found["step"] == 2 and found["reason"].startswith(why)
    with run.training():
        assert not (run.path / "outcome.json").exists() and run.state == "running"
    assert run.state == "finished" and json.loads((run.path / "outcome.json").read_text())["step"] == 2


def test_a_signal_before_the_last_step_interrupts_a_run():
    run = stored(0)
    error = errors.Interrupted("Stopped by SIGTERM at step 2; a checkpoint is saved.")
    with pytest.raises(errors.Interrupted), outcome.recorded(run.path, lambda: (2, 3)):
        raise error
    assert run.state == "interrupted"
    assert json.loads((run.path / "outcome.json").read_text())["reason"].startswith("Stopped by SIGTERM")


def test_a_training_records_that_it_finished(small_run):
    run = small_run("dcgan")
    found = json.loads((run.path / "outcome.json").read_text())
    assert found == {"state": "finished", "step": 2, "reason": "all 2 steps are done"}
    assert run.state == "finished"


def test_without_a_record_the_last_checkpoint_says_it():
    run = stored(0)
    for content in (None, b"", b"{", b'{"state": "lost", "step": 2, "reason": ""}', b"[" * 10_000):
        if content is not None:
            (run.path / "outcome.json").write_bytes(content)
        assert run.state == "finished"
    for file in (run.path / "checkpoints").glob("step-2.*"):
        file.rename(file.with_name(file.name.replace("step-2", "step-1")))
    assert run.state == "interrupted"


def test_a_deleted_folder_is_not_made_again():
    run = stored(0)
    with run.training():
        shutil.rmtree(run.path)
    assert not run.path.exists()


def test_looking_at_a_run_does_not_keep_others_from_training_it():
    run = stored(0)
    look = f"import genlab\nrun = genlab.load({str(run.path)!r})\nprint(flush=True)\nwhile True: run.state"
    with subprocess.Popen([sys.executable, "-c", look], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            for _ in range(20):
                assert run.state == "finished"  # two may look at once
                with run.training():
                    assert run.state == "running"
        finally:
            process.kill()


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_has_what_is_known_of_each_run(capsys):
    evaluated(stored(0), 5.0)
    quick = stored(1, "00001-vae-digits")
    history.append(quick.path, {"step": 1, "quick_frechet_distance": 12.5})
    history.append(quick.path, {"step": 2, "quick_frechet_distance": 80.0})
    ended(quick, errors.GenlabError("out of luck"))
    (stored(2).path / "config.json").write_text("{")
    (pathlib.Path("runs") / "00003-of-the-user").mkdir()
    with stored(4).training():
        history.append(genlab.load(4).path, {"step": 7})
        command.main([])
        shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == ["name", "model", "data", "steps", "metric", "size", "age", "state"]
    assert shown[1][:7] == ["00000-cgan-digits", "cgan", "digits", "2/2", "2.5", "x", "floor"]
    assert shown[1][-1] == "finished"
    assert shown[2][:6] == ["00001-vae-digits", "vae", "digits", "2/2", "12.5", "quick"] and shown[2][-1] == "failed"
    assert shown[3][0] == "00002-cgan-digits" and shown[3][-1] == "damaged"
    assert shown[4][3] == "7/2" and shown[4][-1] == "running"
    assert " ".join(shown[6]).startswith("00002-cgan-digits: runs/00002-cgan-digits/config.json cannot be read")
    assert len(shown) == 7


@pytest.mark.parametrize(("value", "floor"), [("NaN", 2.0), (1.0, 0.0), (1.0, None), ("Infinity", 1.0)])
def test_a_distance_without_a_ratio_is_none(value, floor, capsys):
    evaluated(stored(0), value, floor)
    (row,) = listed(capsys)
    assert row["relative_frechet_distance"] is None and row["state"] == "finished"


def test_runs_are_filtered_and_sorted(capsys):
    for number, name, distance in ((0, "00000-cgan-digits", 8.0), (1, "00001-vae-digits", 3.0)):
        evaluated(stored(number, name), distance)
    old = stored(2)
    for file in old.path.glob("*.json*"):
        os.utime(file, (time.time() - 3 * DAY,) * 2)
    (stored(10).path / "samples").mkdir()
    (genlab.load(10).path / "samples" / "big.png").write_bytes(bytes(200_000))
    ended(genlab.load(10), errors.Collapsed("x"))

    def numbers(*arguments):
        return [int(row["name"][:5]) for row in listed(capsys, *arguments)]

    assert numbers() == [0, 1, 2, 10]
    assert numbers("--sort", "metric") == [1, 0, 2, 10]
    assert numbers("--sort", "size")[0] == 10 and numbers("--sort", "age")[-1] == 2
    assert numbers("--sort", "state")[0] == 10 and numbers("--sort", "model")[-1] == 1
    assert numbers("--filter", "model=cgan", "state=finished") == [0, 2]
    assert numbers("--filter", "name=*vae*") == [1] and numbers("--filter", "data=mnist") == []
    command.main(["--filter", "data=mnist"])
    assert capsys.readouterr().out == "runs holds no such run\n"


def test_listing_imports_no_tensorflow():
    stored(0)
    code = "import sys\nfrom genlab.runs.__main__ import main\nmain(['--json'])\nassert 'tensorflow' not in sys.modules, 'it does'"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- deleting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def seven():
    """Runs: two evaluated, an old one, a failed, an interrupted and a collapsed one, a damaged one, and what is no run."""
    evaluated(stored(0), 20.0)
    evaluated(stored(1), 4.0)
    for file in stored(2).path.glob("*.json*"):
        os.utime(file, (time.time() - 40 * DAY,) * 2)
    ended(stored(3), errors.GenlabError("x"))
    ended(stored(4), KeyboardInterrupt())
    ended(stored(5), errors.Collapsed("x"))
    (stored(6).path / "config.json").write_text("{")
    (pathlib.Path("runs") / "00007-of-the-user").mkdir()
    (pathlib.Path("runs") / "notes").mkdir()


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ("failed", [3]),
        ("interrupted", [4]),
        ("collapsed", [5]),
        ("older-than 30d", [2]),
        ("older-than 100d", []),
        ("older-than 0min", [0, 1, 2, 3, 4, 5]),
        ("worse-than 5", [0]),
        ("worse-than 1.5", [0, 1]),
        ("all-but-best 1", [0]),
        ("all-but-best 2", []),
        ("older-than 0min --filter state=finished name=0000[12]*", [1, 2]),
    ],
)
def test_a_rule_deletes_what_it_chooses_and_nothing_else(rule, gone, seven, capsys):
    command.main(["--yes", "--prune", *rule.split()])
    assert left() == [number for number in range(7) if number not in gone]
    assert pathlib.Path("runs/00007-of-the-user").is_dir() and pathlib.Path("runs/notes").is_dir()
    shown = capsys.readouterr().out
    assert all(f"{number:05d}-cgan-digits" in shown for number in gone)
    assert f"{len(gone)} run{'s' if len(gone) > 1 else ''} deleted" in shown if gone else "no run is chosen" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "deleted"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_it_asks_before_it_deletes(answer, deleted, seven, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    command.main(["--prune", "failed"])
    assert (3 not in left()) == deleted
    shown = capsys.readouterr().out
    assert "00003-cgan-digits" in shown and "Deleting it frees" in shown
    assert ("1 run deleted" if deleted else "nothing was deleted") in shown


def test_nothing_is_deleted_where_nobody_can_be_asked(seven, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    status, message = fails(lambda: command.main(["--prune", "failed"]), capsys)
    assert status == 2 and "Add --yes" in message and left() == [*range(7)]


def test_a_run_in_training_and_a_link_stay(tmp_path, capsys):
    elsewhere = stored(0, out=str(tmp_path / "elsewhere"))
    run = stored(1)
    stored(2)
    pathlib.Path("runs/00003-cgan-digits").symlink_to(elsewhere.path)
    with run.training():
        with pytest.raises(genlab.GenlabError, match="is being trained"):
            genlab.load(1).delete()
        status, message = fails(lambda: command.main(["--yes", "--prune", "older-than", "0min"]), capsys)
    assert status == 1 and "1 of 2 runs deleted; not 00003-cgan-digits" in message and "is a link" in message
    assert left() == [1, 3] and elsewhere.step == 2 and run.step == 2
