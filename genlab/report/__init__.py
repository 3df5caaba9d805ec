"""Report of runs: one HTML page with curves, pictures and metrics, which needs no server and no network."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.run import Run


def write(runs: Sequence[Run], path: str | os.PathLike[str]) -> pathlib.Path:
    """Write a report of one or several runs as one HTML file. Return its path.

    Raises UsageError for no run, more than eight, or the same run twice.
    """
    from genlab.report import page

    return page.write(runs, path)
