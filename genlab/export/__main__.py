"""Command line: `python -m genlab.export RUN` writes a trained model as files for other programs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from genlab import command_line
from genlab.console import aligned, in_bytes, reported, say
from genlab.run import RunOptions

if TYPE_CHECKING:
    from genlab.metadata import Exported

PROGRAM = "python -m genlab.export"


@dataclasses.dataclass(frozen=True)
class Arguments(RunOptions):
    """Write a run's decoder, and its encoder and its classifier if it has them, as files that do not need genlab.

    Each file is executed and compared with the run. A difference above 1e-5 is an error; for quantized files it is only
    reported. metadata.json describes value ranges, layout and prior; MODEL_CARD.md is for readers.
    """

    formats: tuple[str, ...] = ("keras", "savedmodel")
    """Any of keras, savedmodel, litert, litert-float16, litert-int8 (extra genlab[litert]), onnx (extra genlab[onnx])."""
    out: str = ""
    """Output folder; by default export in the run's folder. The files of an earlier export there are replaced, others stay."""


def main(argv: list[str] | None = None) -> None:
    with reported(PROGRAM):
        arguments = command_line.parse(Arguments, argv, PROGRAM)
        from genlab.export import formats

        run = arguments.open()
        folder, written = formats.export(run, arguments.formats, arguments.out or None)
        rows = [(each["file"], in_bytes(each["bytes"]), each["runtime"], _difference(each)) for each in written]
        say(aligned(rows))
        say(f"{folder} has these files, metadata.json and MODEL_CARD.md")


def _difference(exported: Exported) -> str:
    from genlab.export.formats import is_exact

    text = f"differs by at most {exported['largest_difference']:.1e}"
    return text if is_exact(exported["format"]) else f"{text}, on average {exported['mean_difference']:.1e} (quantized)"


if __name__ == "__main__":
    main()
