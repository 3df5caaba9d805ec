"""The documentation site: `sphinx-build -W -b html docs docs/_build`, with the packages of the extra `docs`.

The pages are written to be read on GitHub too, so their links lead anywhere in the repository. Sphinx only knows the files in
docs/. Markdown pages that are linked from there, such as the tables in benchmarks/results/, are therefore copied to
docs/_pages/, and links to them are turned to the copies. Pictures and data files need no copy.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys

import latex2mathml.converter
from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
COPIES = DOCS / "_pages"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)")
"""The path in a Markdown link or picture, without its anchor; no web address."""

sys.path[:0] = [str(ROOT), str(DOCS)]

import tables  # noqa: E402

import genlab  # noqa: E402

project = "genlab"
author = copyright = "The genlab developers"
version = release = genlab.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.githubpages"]
root_doc = "index"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Tensor", "Variable", "Network", "Layer", "Optimizer", "Shape")}
autodoc_type_aliases["npt.ArrayLike"] = "ArrayLike"
smartquotes = False  # they would turn --flags into dashes

html_domain_indices = False
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "genlab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}


def linked(page: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that a page of the repository links to."""
    return [(page.parent / path).resolve() for path in LINK.findall(page.read_text())]


def copy_pages(app: Sphinx) -> None:
    """Copy Markdown pages that are outside docs/ and linked from it, directly or by another copy."""
    waiting = [page for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).parts[0].startswith("_")]
    copied: set[pathlib.Path] = set()
    while waiting:
        for target in linked(waiting.pop()):
            if target.suffix == ".md" and target.is_file() and not target.is_relative_to(DOCS) and target not in copied:
                copied.add(target)
                waiting.append(target)
    for page in copied:
        copy = COPIES / page.relative_to(ROOT)
        text = f"---\norphan: true\n---\n\n{page.read_text()}"
        if not copy.exists() or copy.read_text() != text:  # an unchanged file is not built again
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    for copy in COPIES.rglob("*.md"):
        if ROOT / copy.relative_to(COPIES) not in copied:
            copy.unlink()


def turn_links(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn the links of a page, or of a copy, to where their targets are on the site."""
    page = DOCS / f"{name}.md"
    original = ROOT / page.relative_to(COPIES) if page.is_relative_to(COPIES) else page

    def turned(found: re.Match[str]) -> str:
        target = (original.parent / found[1]).resolve()
        if not target.is_file():
            return found[1]
        if target.suffix == ".md" and not target.is_relative_to(DOCS):
            target = COPIES / target.relative_to(ROOT)
        return os.path.relpath(target, page.parent)

    source[0] = LINK.sub(turned, source[0])


def fill_results(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the measured results into a page of a model; see tables.py."""
    filled = tables.with_results(source[0])
    if filled != source[0]:
        source[0] = filled
        for path in tables.RESULTS.glob("*.json"):
            app.env.note_dependency(str(path))


def visit_math(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write an equation as MathML, which browsers show without a script from elsewhere."""
    is_block = isinstance(node, nodes.math_block)
    equation = latex2mathml.converter.convert(node.astext(), display="block" if is_block else "inline")
    writer.body.append(f'<div class="math">{equation}</div>' if is_block else equation)
    raise nodes.SkipNode


def as_restructured_text(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Turn a docstring of genlab, which is plain text with `code` and indented equations, into reStructuredText."""
    parts = re.split(r"(`[^`]+`)", "\n".join(lines))
    parts[::2] = [re.sub(r"([*|\\])|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [
        f"`{part}`\\ " if re.match(r"\w", after) else f"`{part}`"
        for part, after in zip(parts[1::2], parts[2::2], strict=True)
    ]
    text = "".join(parts)
    equations = re.compile(r"(?<=\n\n)(?= {4}\S)(.*?)(?=\n\n(?! )|\n*\Z)", re.DOTALL)
    lines[:] = equations.sub(lambda found: f".. code-block:: text\n\n{_unescaped(found[1])}", text).split("\n")


def _unescaped(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", text.replace("\\", ""))


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    # Blocks with names of their own, which tests/test_docs.py reads.
    app.add_lexer("tree", TextLexer)
    app.add_lexer("imports", TextLexer)
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", turn_links)
    app.connect("source-read", fill_results)
