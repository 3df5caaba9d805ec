"""Completion of the console script `genlab` in a shell: a script with the words of every command."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import tyro

from genlab import models
from genlab.anomaly.__main__ import Arguments as Anomaly
from genlab.augment.__main__ import Arguments as Augment
from genlab.data.__main__ import Inspect, Label, Shard
from genlab.encode.__main__ import Arguments as Encode
from genlab.errors import UsageError
from genlab.evaluate.__main__ import Arguments as Evaluate
from genlab.explore.__main__ import Arguments as Explore
from genlab.export.__main__ import Arguments as Export
from genlab.report.__main__ import Arguments as Report
from genlab.runs.__main__ import Arguments as Runs
from genlab.sample import Arguments as Sample
from genlab.train.__main__ import arguments_of
from genlab.transfer.__main__ import Arguments as Transfer

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = get_args(Shell)
PLAIN = {
    "sample": Sample,
    "evaluate": Evaluate,
    "report": Report,
    "explore": Explore,
    "augment": Augment,
    "export": Export,
    "transfer": Transfer,
    "encode": Encode,
    "anomaly": Anomaly,
    "runs": Runs,
}
"""Commands without a word of their own after their name."""
OF_RUNS = ("evaluate", "report", "explore", "augment", "export", "transfer", "encode", "anomaly")
"""Commands that take runs without a flag."""
RUN_FLAGS = ("--run", "--resume")
ZSH = """autoload -Uz compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit"""


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a command."""

    name: str
    choices: tuple[str, ...]
    """All values that it takes; empty if it takes others, or none."""
    takes_value: bool


def script(shell: str, commands: Mapping[str, str]) -> str:
    """Return the script that completes `genlab` in a shell. `commands` are summaries by name. Raises UsageError for no shell."""
    if shell not in SHELLS:
        raise UsageError(f"--completion {shell}: it must be one of {', '.join(SHELLS)}.")
    known = {"train": [Flag("--resume", (), True), Flag("--help", (), False)]}
    known |= {f"train {name}": _flags(arguments_of(models.load(name).Hparams)) for name in models.names()}
    known |= {name: _flags(kind) for name, kind in PLAIN.items()}
    known |= {"data inspect": _flags(Inspect), "data shard": _flags(Shard), "data label": _flags(Label)}
    if shell == "fish":
        return _fish(commands, known)
    return "\n".join([*([ZSH] if shell == "zsh" else []), _bash(commands, known)])


def _flags(kind: Any) -> list[Flag]:
    """Return the flags of a command, given the dataclass of its options."""
    parser = tyro.extras.get_parser(kind, config=(tyro.conf.OmitArgPrefixes,))
    found = []
    for action in parser._actions:
        choices = tuple(str(each) for each in action.choices or ())
        for name in (each for each in action.option_strings if each.startswith("--")):
            found.append(Flag(name, choices, action.nargs != 0 and not _is_switch(action)))
    return found


def _is_switch(action: Any) -> bool:
    """Whether a flag stands alone, as `--json` and `--no-jit` do."""
    return action.nargs == 0 or type(action).__name__ == "BooleanOptionalAction"


def _inner(known: Iterable[str], command: str) -> list[str]:
    """Return the words that may follow a command: models, or parts such as `inspect`."""
    return [name.partition(" ")[2] for name in known if name.startswith(f"{command} ")]


def _bash(commands: Mapping[str, str], known: Mapping[str, list[Flag]]) -> str:
    """Return the script for bash, and for zsh with bashcompinit: one `case` for the words of a command, one for a flag's values.

    Names of runs are no words: `compgen -W` would expand what a name holds.
    """
    words, values = [], []
    for name, flags in sorted(known.items(), key=lambda item: " " not in item[0]):  # the first that matches counts
        pattern = f'"{name}"' if " " in name else f'"{name} "*'
        runs = "runs=1; " if name in OF_RUNS else ""
        names = " ".join([*_inner(known, name), *(flag.name for flag in flags)])
        words.append(f'        {pattern}) {runs}words="{names}" ;;')
        for flag in flags:
            case = f'        {pattern}" {flag.name}")'
            if flag.name in RUN_FLAGS:
                values.append(f'{case} runs=1; words="" ;;')
            elif flag.takes_value:
                values.append(f'{case} runs=""; words="{" ".join(flag.choices)}" ;;')
    parts = [name for name in commands if _inner(known, name) and name not in known]
    words += [f'        "{name} "*) words="{" ".join(_inner(known, name))}" ;;' for name in parts]
    return "\n".join(
        [
            "_genlab() {",
            '    local words="" runs="" current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
            '    case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in',
            *words,
            "    esac",
            '    case "${COMP_WORDS[1]} ${COMP_WORDS[2]} $previous" in',
            *values,
            "    esac",
            f'    [ "$COMP_CWORD" -eq 1 ] && words="{" ".join(commands)} --help --completion"',
            f'    [ "$previous" = --completion ] && words="{" ".join(SHELLS)}"',
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '    [ -n "$runs" ] && [ -d runs ] && COMPREPLY+=($(cd runs && compgen -d -- "$current"))',
            "    return 0",
            "}",
            "complete -o default -F _genlab genlab",
        ]
    )


def _fish(commands: Mapping[str, str], known: Mapping[str, list[Flag]]) -> str:
    """Return the script for fish: one line for each word."""
    seen = "__fish_seen_subcommand_from"
    lines = [
        f"complete -c genlab -n __fish_use_subcommand -f -a {name} -d {shlex.quote(summary)}"
        for name, summary in commands.items()
    ]
    lines.append(f"complete -c genlab -n __fish_use_subcommand -f -l completion -x -a '{' '.join(SHELLS)}'")
    for name in commands:
        if words := " ".join(_inner(known, name)):
            lines.append(f"complete -c genlab -n '{seen} {name}; and not {seen} {words}' -f -a '{words}'")
        if name in OF_RUNS:
            lines.append(f"complete -c genlab -n '{seen} {name}' -a '(command ls runs 2>/dev/null)'")
    for name, flags in known.items():
        condition = "; and ".join(f"{seen} {word}" for word in name.split())
        for flag in flags:
            values = f" -x -a '{' '.join(flag.choices)}'" if flag.choices else " -r" if flag.takes_value else ""
            if flag.name in RUN_FLAGS:
                values = " -x -a '(command ls runs 2>/dev/null)'"
            lines.append(f"complete -c genlab -n '{condition}' -l {flag.name.removeprefix('--')}{values}")
    return "\n".join(lines)
