"""Tables of the pages in docs/models/: options and presets from the code, results from benchmarks/results/.

    python docs/tables.py    # write the tables of options and presets into the pages again

A page marks their places with comments, which name the kind of table and a model or a group of models. Options and presets stand
in the page, where a test compares them with the code. Results are filled in when the site is built, so a measurement needs no
change of a page.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import pathlib
import re
import sys
import textwrap
import types
import typing
from typing import Any, Literal

from genlab import files, models
from genlab.models import _encoder_decoder, _gan_hparams, base

PAGES = pathlib.Path(__file__).parent / "models"
BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
TABLE = re.compile(r"(<!-- table: (\w+) (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
MEASURED = re.compile(r"<!-- results: (\w+) -->")
GROUPS = {"all": base.Hparams, "gans": _gan_hparams.Hparams, "autoencoders": _encoder_decoder.Hparams}
"""Hyper-parameters that several models share."""


def main() -> None:
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text()
        if filled(text) != text:
            files.write_text(page, filled(text))


def filled(text: str) -> str:
    """Return a page with its tables of options and presets as the code has them."""
    kinds = {"options": options, "presets": presets, "shared": shared}
    return TABLE.sub(lambda found: f"{found[1]}\n{kinds[found[2]](found[3])}\n\n{found[4]}", text)


def with_results(text: str) -> str:
    """Return a page with the tables of results in place of their comments."""
    return MEASURED.sub(lambda found: results(found[1]), text)


# -- options -----------------------------------------------------------------------------------------------------------


def options(name: str) -> str:
    """Return the table of a model's options that its group lacks, or has with another default or meaning."""
    kind = models.load(name).Hparams
    group = _group(kind)
    shared = {field.name: (field.default, descriptions(group)[field.name]) for field in dataclasses.fields(group)}
    fields = dataclasses.fields(kind)
    own = [each for each in fields if shared.get(each.name) != (each.default, descriptions(kind)[each.name])]
    return _options(kind, own)


def shared(group: str) -> str:
    """Return the table of the options that a group of models shares."""
    kind = GROUPS[group]
    known = {} if kind is base.Hparams else _defaults(base.Hparams)
    return _options(kind, [field for field in dataclasses.fields(kind) if field.default != known.get(field.name, ...)])


def _options(kind: type[base.Hparams], fields: list[dataclasses.Field[Any]]) -> str:
    said = descriptions(kind)
    hints = typing.get_type_hints(kind)
    rows = [(_flag(field.name, hints[field.name]), said[field.name], _value(field.default)) for field in fields]
    return _table(["option", "what it does", "default"], rows)


def presets(name: str) -> str:
    """Return the table of the options that presets of a model change."""
    kind, named = models.load(name).Hparams, models.presets(name)
    values = {preset: _defaults(kind) | changed for preset, changed in named.items()}
    rows = []
    for field in dataclasses.fields(kind):
        if any(field.name in changed for changed in named.values()):
            rows.append((_flag(field.name, bool), *(_value(each[field.name]) for each in values.values())))
    rows.append(("`--steps`", *(f"{models.steps(name, preset):,}" for preset in named)))
    return _table(["option", *(f"`{preset}`" for preset in named)], rows)


@functools.cache
def descriptions(kind: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass's fields say, in Markdown: of the class nearest to it that says something."""
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body
        for field, after in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                said[field.target.id] = _markdown(str(after.value.value))
    return said


def _markdown(text: str) -> str:
    """Return a docstring on one line, with its flags as code."""
    return re.sub(r"(?<![`\w-])(--[a-z][a-z0-9-]*)", r"`\1`", " ".join(text.split()))


def _group(kind: type[base.Hparams]) -> type[base.Hparams]:
    return next(each for each in reversed(GROUPS.values()) if issubclass(kind, each))


def _defaults(kind: type[base.Hparams]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def _flag(name: str, hint: Any) -> str:
    """Return a flag as it is typed, with its choices."""
    several = typing.get_origin(hint) is tuple
    each = typing.get_args(hint)[0] if several else hint
    words = [f"--{name.replace('_', '-')}", _values(each), "..." if several else ""]
    return f"`{' '.join(filter(None, words))}`"


def _values(hint: Any) -> str:
    """Return what may be typed for a type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return "|".join(_values(each) for each in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return "|".join(typing.get_args(hint))
    return {int: "N", float: "X", str: "NAME", bool: ""}[hint]


def _value(value: Any) -> str:
    """Return a value as it is typed."""
    match value:
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(map(str, value)) or "none"
        case float():
            return f"{value:g}"
    return str(value) or "none"


def _table(head: list[str], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in [tuple(head), *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


# -- results -----------------------------------------------------------------------------------------------------------


def results(name: str) -> str:
    """Return the table of a model's metrics on MNIST, by epochs of default settings, and one of its modes of points."""
    quality = _benchmark("quality")
    every = [entry for entry in _entries("quality") if (entry["data"], entry["flags"]) == ("mnist", "")]
    columns = {
        epochs: [entry for entry in every if (entry["model"], entry["epochs"]) == (name, epochs)]
        for epochs in sorted({entry["epochs"] for entry in every if entry["model"] == name})
    }
    if not columns:
        return "Not measured yet on MNIST."
    titles = [f"{epochs} epochs, {_count(len(chosen), 'seed')}" for epochs, chosen in columns.items()]
    rows = []
    for key, title in quality.ROWS.items():
        cells = [quality.cell(quality.values(key, chosen)) for chosen in columns.values()]
        floors = [entry["floors"][key] for entry in every if entry["model"] == name and key in entry["floors"]]
        rows += [(title, *cells, quality.cell(floors[:1]))] if any(cells) else []
    parts = [
        _table(["MNIST", *titles, "real images"], rows),
        "Mean ± standard deviation over seeds, default settings in float32.",
    ]
    parts += ["\n".join(f"- {epochs} epochs: {_protocol(chosen)}" for epochs, chosen in columns.items())]
    points = [entry for entry in _entries("modes_on_points") if entry["model"] == name]
    if points:
        parts.append(_modes(points, quality.cell))
    return "\n\n".join(parts)


def _protocol(chosen: list[dict[str, Any]]) -> str:
    machines = ", ".join(sorted({entry["machine"] for entry in chosen}))
    dates = sorted({entry["date"] for entry in chosen})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{_benchmark('quality').protocol(chosen)} {machines}; {days}."


def _modes(points: list[dict[str, Any]], cell: Any) -> str:
    rows = []
    for data in sorted({entry["data"] for entry in points}):
        chosen = [entry for entry in points if entry["data"] == data]
        cells = (cell([entry[key] for entry in chosen]) for key in ("modes", "high_quality"))
        rows.append((f"`--data {data}`, {_count(len(chosen), 'seed')}", *cells))
    return _table(["points in the plane", "modes", "share of high-quality points"], rows)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _entries(name: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _benchmark(name: str) -> types.ModuleType:
    """Import a script of benchmarks/, which import each other by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


if __name__ == "__main__":
    main()
