"""What a terminal shows: colours, narrow tables, quiet commands, JSON for scripts, and completion by a real shell."""

from __future__ import annotations

import io
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import TINY_FLAGS, fails

import genlab
from genlab import __main__ as top
from genlab import console
from genlab.augment import __main__ as augment
from genlab.data import __main__ as data
from genlab.evaluate import __main__ as evaluate
from genlab.evaluate import evaluation
from genlab.runs import __main__ as runs
from genlab.train import __main__ as train
from genlab.transfer import __main__ as transfer

STORED = pathlib.Path(__file__).parent / "stored" / "runs"
ESCAPE = "\x1b["


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A function that puts terminals of a width in place of stdout and stderr, and returns them."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def of(columns: int = 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        out, err = Terminal(), Terminal()
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        return out, err

    return of


@pytest.fixture
def stored():
    """The stored runs, in runs/."""
    shutil.copytree(STORED, "runs")


# -- colours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "on_terminal", "on_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "", "TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours_show_where_they_are_wanted(settings, on_terminal, on_pipe, terminal, monkeypatch):
    out, _ = terminal()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert console.coloured(out) == on_terminal and console.coloured(io.StringIO()) == on_pipe


def test_warnings_are_yellow_errors_red_and_first_words_dim(terminal):
    out, err = terminal()
    log = logging.getLogger("genlab")
    with console.console_log():
        for line in ("run     runs/0", "step 3/5  loss 1", "all 500 steps are done", "back to \x1b[31mstep"):
            log.info(line)
        log.warning("warning samples are alike")
    assert out.getvalue().splitlines() == [
        "\x1b[2mrun\x1b[0m     runs/0",
        "\x1b[2mstep\x1b[0m 3/5  loss 1",
        "all 500 steps are done",
        "back to \\x1b[31mstep",
        "\x1b[33mwarning samples are alike\x1b[0m",
    ]
    with pytest.raises(SystemExit):
        runs.main(["--runs", "nowhere"])
    assert err.getvalue().startswith("\x1b[31mpython -m genlab.runs: error: ") and err.getvalue().endswith("\x1b[0m\n")


def test_help_and_usage_errors_follow_the_same_rules(terminal, monkeypatch, capsys):
    for call in (["--help"], ["--sort", "nothing"]):
        with pytest.raises(SystemExit):
            runs.main(call)
        shown = capsys.readouterr()
        assert ESCAPE not in shown.out + shown.err and "sort" in (shown.out if call == ["--help"] else shown.err)
        out, err = terminal()
        with pytest.raises(SystemExit):
            runs.main(call)
        assert ESCAPE in (out if call == ["--help"] else err).getvalue()
        out, err = terminal()
        monkeypatch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit):
            runs.main(call)
        assert ESCAPE not in out.getvalue() + err.getvalue()
        monkeypatch.undo()


# -- narrow windows ----------------------------------------------------------------------------------------------------

ROWS = [["name", "model", "note"], ["00000-dcgan-digits-wide", "dcgan", "2.5"], ["00001-vae-digits", "vae", ""]]


def test_a_table_fits_its_window(terminal):
    assert console.aligned(ROWS).splitlines()[1] == "00000-dcgan-digits-wide  dcgan  2.5"
    assert console.aligned(ROWS, 30).splitlines() == [
        "name               model  note",
        "00000-dcgan-digi…  dcgan  2.5",
        "00001-vae-digits   vae",
    ]
    assert console.aligned(ROWS, 20).splitlines() == [
        "00000-dcgan-digits-wide",
        "  model  dcgan",
        "  note   2.5",
        "",
        "00001-vae-digits",
        "  model  vae",
    ]


@pytest.mark.parametrize("columns", [30, 60, 80])
def test_the_table_of_runs_fits_a_terminal(columns, terminal, stored):
    out, _ = terminal(columns)
    runs.main([])
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= columns and "finished" in out.getvalue() and len(lines) > 2


# -- quiet, and JSON ---------------------------------------------------------------------------------------------------


def test_a_quiet_training_prints_its_path(capsys):
    train.main(["dcgan", *TINY_FLAGS, "--steps", "2", "--quiet"])
    assert capsys.readouterr().out == f"{pathlib.Path('runs/00000-dcgan-digits')}\n"
    assert "step 2/2" in pathlib.Path("runs/00000-dcgan-digits/log.txt").read_text()
    train.main(["--resume", "0", "--steps", "3", "--schedule-steps", "2", "--quiet"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "runs/00000-dcgan-digits" and "step 3/3" not in "".join(shown)
    status, message = fails(lambda: train.main(["--resume", "0", "--steps", "1", "--quiet"]), capsys)
    assert status == 2 and "a run can only grow" in message


def document(call, capsys):
    """The one JSON document that a command prints."""
    capsys.readouterr()
    call()
    return json.loads(capsys.readouterr().out)


def test_results_as_json(stored, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "_label_metrics", lambda *_: {})  # they train classifiers
    found = document(lambda: evaluate.main(["0", "--json", "--samples", "200"]), capsys)
    assert [each["run"] for each in found] == ["00000-cgan-digits"]
    assert found[0]["metrics"]["frechet_distance"].keys() == {"value", "floor", "spread"}
    assert [row["name"] for row in document(lambda: runs.main(["--json"]), capsys)] == sorted(
        path.name for path in STORED.iterdir()
    )
    found = document(lambda: data.main(["inspect", "digits", "--json", "--preview", ""]), capsys)
    assert found["splits"] == {"train": 1437, "test": 360} and found["sizes"] == {"28x28": 1797}
    assert found["training"]["train_images"] == 1437 and found["preview"] is None


def test_studies_as_json(stored, capsys):
    small = ["0", "--json", "--seeds", "1", "--steps", "2"]
    found = document(lambda: augment.main([*small, "--per-class", "10"]), capsys)
    assert found["settings"][0]["images"] == 10 and "json" not in found["arguments"]
    assert found == json.loads(pathlib.Path("runs/00000-cgan-digits/augment.json").read_text())
    found = document(lambda: transfer.main([*small, "--labels", "100"]), capsys)
    assert found["settings"][0]["images"] == 100 and found["run"] == "00000-cgan-digits"


def test_unreadable_images_as_json(small_images, capsys):
    folder = pathlib.Path("photos")
    folder.mkdir()
    for number, image in enumerate(small_images[0][:4]):
        genlab.grids.save_image(image[..., None], folder / f"{number}.png")
    (folder / "4.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        data.main(["inspect", str(folder), "--json"])
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert end.value.code == 2 and "--skip-bad" in shown.err
    assert [pathlib.Path(name).name for name in found["unreadable"]] == ["4.png"] and found["training"] is None


# -- the console script and completion ---------------------------------------------------------------------------------


def test_genlab_alone_lists_the_commands(capsys):
    top.main([])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in top.COMMANDS) and shown.startswith("usage: genlab COMMAND")
    configuration = (pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'genlab = "genlab.__main__:main"' in configuration


@pytest.fixture(scope="module")
def scripts():
    """The completion scripts by shell."""
    run = [sys.executable, "-m", "genlab", "--completion"]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(genlab.__file__).parent.parent)}
    return {
        shell: subprocess.run([*run, shell], capture_output=True, text=True, check=True, env=environment).stdout
        for shell in ("bash", "zsh", "fish")
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("genlab ev", ["evaluate"]),
        ("genlab train dcg", ["dcgan"]),
        ("genlab train dcgan --prec", ["--precision"]),
        ("genlab train dcgan --precision ", ["auto", "float32", "bfloat16", "float16"]),
        ("genlab train dcgan --data ", []),
        ("genlab train vae --likel", ["--likelihood"]),
        ("genlab evaluate 0000", ["00000-cgan-digits", "00001-vae-digits"]),
        ("genlab sample --run 00001", ["00001-vae-digits"]),
        ("genlab report 00001", ["00001-vae-digits"]),
        ("genlab explore --po", ["--port"]),
        ("genlab data ", ["inspect", "label", "shard"]),
        ("genlab data inspect --js", ["--json"]),
        ("genlab runs --sort s", ["steps", "size", "state"]),
        ("genlab --completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes(line, words, scripts, stored):
    pathlib.Path("runs/$(touch pwned)").mkdir()  # a name is no command
    typed = line.split(" ")
    code = f'{scripts["bash"]}\nCOMP_WORDS=("$@"); COMP_CWORD={len(typed) - 1}; _genlab; printf "%s\\n" "${{COMPREPLY[@]}}"'
    shown = subprocess.run(["bash", "-c", code, "bash", *typed], capture_output=True, text=True, check=True)
    assert sorted(shown.stdout.split()) == sorted(words) and not pathlib.Path("pwned").exists()


def test_scripts_of_other_shells_know_every_command(scripts):
    for name in top.COMMANDS:
        assert f"-a {name} " in scripts["fish"] and name in scripts["zsh"]
        assert f'"{name} ' in scripts["bash"]  # its flags
    assert "bashcompinit" in scripts["zsh"]
    for shell in ("zsh", "fish"):
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=scripts[shell], text=True, check=True, capture_output=True)
