"""Matplotlib figures, written to files without a display."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from genlab import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextlib.contextmanager
def axes(path: str | os.PathLike[str], width: float, height: float) -> Iterator[Axes]:
    """Yield the axes of a figure, sized in inches, which is written to `path` (.png) at the end.

    Texts are drawn as they are: a dollar sign, as a name may have, begins no formula.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False}):
        figure, drawn = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            yield drawn
            files.replace(path, lambda temporary: figure.savefig(temporary, dpi=120))
        finally:
            pyplot.close(figure)
