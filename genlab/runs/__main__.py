"""Command line: `python -m genlab.runs` lists the runs of a folder, and deletes those that a rule chooses."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from genlab import command_line
from genlab import run as folders
from genlab.console import in_bytes, reported, say, say_json
from genlab.errors import GenlabError, UsageError, reason
from genlab.runs import listing, pruning

PROGRAM = "python -m genlab.runs"


@dataclasses.dataclass(frozen=True)
class Arguments(command_line.JsonOption):
    """List the runs of a folder: settings, steps, best metric, size, age and state.

    The metric is the Fréchet distance as a multiple of its floor if the run was evaluated; else the lowest distance of its
    quick evaluations.
    """

    runs: str = "runs"
    """Folder of the runs."""
    filter: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Only runs for which all of these hold: model=dcgan, data=mnist, state=finished, preset=paper, name=*wide*. States:
    running, finished, interrupted, collapsed, failed, damaged."""
    sort: listing.Column = "name"
    """Column to sort by. Best metric, most steps, largest size and youngest come first."""
    prune: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RULE")] = ()
    """Delete the runs that a rule chooses, after showing them and asking: failed, interrupted, collapsed, older-than 30d,
    worse-than 5 (relative Fréchet distance), or all-but-best 3 (of each data set). Runs in training stay; the last two
    choose only evaluated runs."""
    yes: tyro.conf.FlagCreatePairsOff[bool] = False
    """Delete without asking."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        if arguments.prune and arguments.json:
            raise UsageError("--prune and --json are both given; leave one out.")
        if arguments.yes and not arguments.prune:
            raise UsageError("--yes goes with --prune.")
        found = listing.filtered(listing.rows(pathlib.Path(arguments.runs)), arguments.filter)
        found = listing.ordered(found, arguments.sort)
        if arguments.prune:
            prune(pruning.chosen(found, arguments.prune), confirmed=arguments.yes)
        elif arguments.json:
            say_json([row.to_json() for row in found])
        elif found:
            say(listing.table(found))
        else:
            say(f"{arguments.runs} holds no {'such ' if arguments.filter else ''}run")


def prune(chosen: Sequence[listing.Row], *, confirmed: bool) -> None:
    """Show runs and the space they take, and delete them if that is `confirmed`, or the user agrees.

    Raises UsageError if there is nobody to ask, GenlabError if a run could not be deleted; the others are.
    """
    if not chosen:
        say("no run is chosen by this rule")
        return
    say(listing.table(chosen))
    count = f"{len(chosen):,} run{'s' if len(chosen) > 1 else ''}"
    say(f"\nDeleting {'them' if len(chosen) > 1 else 'it'} frees {in_bytes(sum(row.size for row in chosen))}.")
    if not confirmed:
        if not sys.stdin.isatty():
            raise UsageError("nothing was deleted, for there is no terminal to ask at. Add --yes to delete these runs.")
        say(f"Delete {count}? Type y or N, then Enter:")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing was deleted")
            return
    kept = []
    for row in chosen:
        try:
            folders.open(row.path).delete()
        except (GenlabError, OSError) as error:
            kept.append(f"{row.name} ({reason(error)})")
    if kept:
        raise GenlabError(f"{len(chosen) - len(kept):,} of {count} deleted; not {', '.join(kept)}.")
    say(f"{count} deleted")


if __name__ == "__main__":
    main()
