"""Charts of a report, as plotly figures: curves of training, and the balance of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genlab.report.content import Content

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

POSITIONS = ("step", "epoch", "images", "seconds")
"""Entries of a line of metrics that say where it was taken."""
SPEED = ("images_per_second", "data_waiting")
"""Metrics of the machine, which come last."""
LOSSES, SCORES = "losses", "scores"
"""Titles of the charts of several metrics."""
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def curves(contents: Sequence[Content]) -> dict[str, Figure]:
    """Return charts of all metrics of training by title: losses in one, scores in one, every other metric in its own.

    Runs are told apart by colour, metrics by dash; of a single run, metrics are told apart by colour.
    """
    names = dict.fromkeys(name for each in contents for line in each.metrics for name in line if name not in POSITIONS)
    groups: dict[str, list[str]] = {LOSSES: [], SCORES: []}
    for name in sorted(names, key=lambda name: name in SPEED):
        groups.setdefault(_group(name), []).append(name)
    return {title: _curves(contents, members) for title, members in groups.items() if members}


def _group(name: str) -> str:
    if name == "loss" or name.endswith("_loss"):
        return LOSSES
    return SCORES if name.endswith("_score") else name.replace("_", " ")


def _curves(contents: Sequence[Content], names: Sequence[str]) -> Figure:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for number, content in enumerate(contents):
        for member, name in enumerate(names):
            points = [(line["step"], line[name]) for line in content.metrics if name in line]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            alone = len(contents) == 1
            figure.add_scatter(
                x=steps,
                y=values,
                name=_label(content, name, alone=alone, only=len(names) == 1),
                mode="lines" if len(points) > 1 else "markers",
                line={
                    "color": COLOURS[(member if alone else number) % len(COLOURS)],
                    "dash": "solid" if alone else DASHES[member % len(DASHES)],
                    "width": 2,
                },
            )
    figure.update_layout(xaxis_title="step", **_layout())
    return figure


def _label(content: Content, name: str, *, alone: bool, only: bool) -> str:
    """Return the name of a curve: what is not the same for all curves of its chart."""
    metric = name.replace("_", " ")
    if alone:
        return metric
    return content.run.name if only else f"{content.run.name}: {metric}"


def class_balance(content: Content) -> Figure | None:
    """Return bars of the classes of samples and of real images, as the extractor finds them; None if it finds none."""
    found = content.evaluation and content.evaluation.classes
    if not found:
        return None
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for name, counts, colour in (
        ("samples", found["generated"], COLOURS[0]),
        ("real images", found["real"], COLOURS[7]),
    ):
        total = max(1, sum(counts))
        figure.add_bar(x=found["names"], y=[count / total for count in counts], name=name, marker_color=colour)
    figure.update_layout(xaxis={"type": "category"}, yaxis={"tickformat": ".0%"}, **_layout())
    return figure


def _layout() -> dict[str, Any]:
    return {
        "margin": {"l": 52, "r": 12, "t": 12, "b": 40},
        "height": 300,
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "template": "none",
        "hovermode": "x unified",
    }
