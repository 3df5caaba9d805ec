"""Command line: `python -m genlab.report RUN ...` writes an HTML page about runs."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated

import tyro

from genlab import command_line
from genlab.console import reported, say
from genlab.errors import UsageError
from genlab.run import FolderOptions

PROGRAM = "python -m genlab.report"


@dataclasses.dataclass(frozen=True)
class Arguments(FolderOptions):
    """Write one HTML page about a run, or several side by side: verdict, metrics, curves, samples through training.

    The page holds its scripts and pictures, and opens without a server and without a network. Metrics come from
    python -m genlab.evaluate; evaluate the runs first.
    """

    run: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Runs (folders or numbers), by default the newest."""
    out: str = ""
    """File to write; by default report.html in the run's folder, or report.html in the folder of the runs for several."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        from genlab.report import page

        runs = [arguments.opened(each) for each in arguments.run or ("latest",)]
        folder = runs[0].path if len(runs) == 1 else runs[0].path.parent
        path = pathlib.Path(arguments.out) if arguments.out else folder / "report.html"
        if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {path}: it must be a file that ends in .html.")
        say(page.write(runs, path))


if __name__ == "__main__":
    main()
