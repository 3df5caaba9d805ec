"""Matplotlib figures, written to files without a display."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from genlab import files


@contextlib.contextmanager
def axes(path: str | os.PathLike, width: float, height: float) -> Iterator[Any]:
    """Yield the axes of a figure, sized in inches, which is written to `path` (.png) at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, drawn = pyplot.subplots(figsize=(width, height), layout="constrained")
    try:
        yield drawn
        files.replace(path, lambda temporary: figure.savefig(temporary, dpi=120))
    finally:
        pyplot.close(figure)
