"""Output in a notebook: pictures that are replaced in place, and HTML in which everything is escaped."""

from __future__ import annotations

import base64
import html
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from typing import Any


def active() -> bool:
    """Whether a notebook shows the output of this process. IPython is looked for, and never imported."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")  # a shell in a terminal has none


def has_widgets() -> bool:
    """Whether the notebook can show tqdm's bar of widgets; else a line of text is its bar."""
    return importlib.util.find_spec("ipywidgets") is not None


class LivePicture:
    """A picture in the output of a notebook's cell. A new one takes its place. Outside notebooks it is not shown."""

    def __init__(self, *, shown: bool = True) -> None:
        self.shown = shown and active()
        self._place: Any = None

    def show(self, png: bytes) -> None:
        """Show the content of a PNG file."""
        if not self.shown:
            return
        shell: Any = importlib.import_module("IPython.display")
        if self._place is None:
            self._place = shell.display(shell.Image(png), display_id=True)
        else:
            self._place.update(shell.Image(png))


def heading(text: object) -> str:
    return f"<h4>{html.escape(str(text))}</h4>"


def paragraph(text: object) -> str:
    return f"<p>{html.escape(str(text))}</p>"


def table(rows: Iterable[Iterable[object]], headers: Iterable[object] = ()) -> str:
    """Return a table of HTML: rows of cells, the first of each row its name."""

    def row(cells: Iterable[object], kind: str) -> str:
        inner = "".join(f'<{kind} style="text-align: left">{html.escape(str(cell))}</{kind}>' for cell in cells)
        return f"<tr>{inner}</tr>"

    head = [*headers]
    lines = [*([row(head, "th")] if head else []), *(row(cells, "td") for cells in rows)]
    return f"<table>{''.join(lines)}</table>"


def details(summary: str, content: str) -> str:
    """Return HTML that shows its content when the reader opens it."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def picture(png: bytes, text: str) -> str:
    """Return HTML with the content of a PNG file in it, and text for who cannot see it."""
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
