"""The page of a report: one HTML file with its scripts, styles and pictures inside."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from genlab import __version__, files
from genlab.console import one_line
from genlab.errors import UsageError
from genlab.evaluate import results
from genlab.report import charts
from genlab.report.content import Content, Picture, read
from genlab.report.verdict import verdict
from genlab.run import Run

FOLDER = pathlib.Path(__file__).parent
MOST_RUNS = 8
"""Maximum number of runs in a report: more columns cannot be read, and their pictures would be tiny."""
HEADINGS = {
    "reconstructions": "Reconstructions",
    "nearest": "Nearest training images",
    "codes": "Codes",
    "manifold": "Decoded latent space",
}
"""Headings of pictures by kind; other kinds are headed by their name."""
EXPLAINED = {
    "reconstructions": "Rows of held-out images, each followed by a row of their reconstructions.",
    "nearest": "The samples closest to training images, each row followed by those images. Copies look alike.",
    "codes": "The first two dimensions of the codes of held-out images, coloured by class.",
    "manifold": "Images decoded from a grid in the latent space.",
}


def write(runs: Sequence[Run], path: str | os.PathLike[str]) -> pathlib.Path:
    """Write a report of one or several runs as one HTML file. Return its path.

    Raises UsageError for no run, more than MOST_RUNS, or the same run twice.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"a report shows 1 to {MOST_RUNS} runs, and {len(runs)} were given.")
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UsageError("a run was given twice.")
    return files.write_text(path, html([read(run, len(runs)) for run in runs]))


def html(contents: Sequence[Content]) -> str:
    """Return the page. Names and texts from the runs are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["source"] = _source
    environment.filters["line"] = one_line
    names = [content.run.name for content in contents]
    return environment.get_template("page.html.jinja").render(
        title=", ".join(names),
        made=f"genlab {__version__}, {datetime.date.today().isoformat()}",
        contents=contents,
        verdicts=[verdict(content) for content in contents],
        metrics=results.rows([content.evaluation for content in contents]),
        protocols=[_protocol(content) for content in contents],
        differing=_settings(contents, differing=True) if len(contents) > 1 else [],
        settings=_settings(contents, differing=False),
        kinds=[(kind, HEADINGS.get(kind, kind.capitalize()), EXPLAINED.get(kind, "")) for kind in _kinds(contents)],
        charts=_figures(contents),
        balances=[_json(charts.class_balance(content)) for content in contents],
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        script=(FOLDER / "page.js").read_text(encoding="utf-8"),
        plotly=plotly_script(),
    )


def plotly_script() -> str:
    """Return the script that draws the charts, 4.8 MB."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _protocol(content: Content) -> str:
    """Return the protocol of a run's metrics in one line."""
    if content.evaluation is None:
        return "not evaluated"
    shown = {"step": content.evaluation.step} | content.evaluation.protocol
    return ", ".join(f"{name.replace('_', ' ')} {str(value)[:60]}" for name, value in shown.items())


def _settings(contents: Sequence[Content], *, differing: bool) -> list[tuple[str, list[str]]]:
    """Return the settings by name, with the value of each run; with `differing`, only those that are not the same."""
    by_run = [_flat(content) for content in contents]
    rows = []
    for name in dict.fromkeys(name for each in by_run for name in each):
        values = [each.get(name, "–") for each in by_run]
        if not differing or len(set(values)) > 1:
            rows.append((name, values))
    return rows


def _flat(content: Content) -> dict[str, str]:
    config = content.run.config
    facts = config.dataset
    shape = "x".join(str(side) for side in facts["shape"])
    images = f"{facts['train_images']:,} training, {facts['test_images']:,} test, {shape}"
    own: dict[str, Any] = {"model": config.model, "data": facts["name"], "images": images, "preset": config.preset}
    parts = (config.options, config.hparams, config.data_options)
    values = {name: value for part in parts for name, value in dataclasses.asdict(part).items() if name != "data"}
    return {name: str(value) if value not in ("", None, ()) else "–" for name, value in (own | values).items()}


def _kinds(contents: Sequence[Content]) -> list[str]:
    """Return the kinds of pictures that have a section of their own."""
    return [kind for kind in dict.fromkeys(kind for each in contents for kind in each.pictures) if kind != "real"]


def _figures(contents: Sequence[Content]) -> list[tuple[str, str]]:
    return [(title.capitalize(), _json(figure) or "") for title, figure in charts.curves(contents).items()]


def _json(figure: Any) -> str | None:
    """Return a figure as JSON that may stand in a script element."""
    return None if figure is None else figure.to_json().replace("<", "\\u003c")


def _source(picture: Picture) -> str:
    """Return a picture as the source of an image element."""
    return f"data:image/webp;base64,{base64.b64encode(picture.webp).decode()}"
