"""The documentation site is built without a warning, and nothing on it leads nowhere."""

from __future__ import annotations

import html.parser
import inspect
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

import genlab

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as its command does."""
    for package in ("sphinx", "myst_parser", "furo", "latex2mathml"):
        pytest.importorskip(package, reason='the site needs pip install ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Links(html.parser.HTMLParser):
    """The places that a page links to, and its own anchors."""

    def __init__(self, page: pathlib.Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.anchors |= {named["id"]} if named.get("id") else set()
        self.targets += [named[name] for name in ("href", "src") if tag in ("a", "img") and named.get(name)]


def test_every_page_is_on_the_site(site):
    pages = [
        page.relative_to(DOCS) for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).parts[0].startswith("_")
    ]
    assert len(pages) > 10
    assert not [page for page in pages if not (site / page).with_suffix(".html").is_file()]


def test_every_link_of_the_site_leads_somewhere(site):
    found = {page: Links(page) for page in site.rglob("*.html")}
    broken = []
    for page, links in found.items():
        for link in links.targets:
            address = urllib.parse.urlparse(link)
            if address.scheme or address.netloc:
                continue
            target = (page.parent / urllib.parse.unquote(address.path)).resolve() if address.path else page
            known = target.is_file() and (
                not address.fragment or target not in found or address.fragment in found[target].anchors
            )
            broken += [] if known else [f"{page.relative_to(site)}: {link}"]
    assert not broken


def test_the_landing_page_leads_to_every_page(site):
    """The navigation of every page has all pages of docs/, each once."""
    text = (site / "index.html").read_text()
    tree = text[text.index('class="sidebar-tree"') : text.index("</aside>")]
    named = re.findall(r'href="([^"#]+)"', tree)
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
    pages = {page for page in pages if not page.startswith("_pages/")} - {"genindex.html", "search.html", "index.html"}
    assert len(named) == len(set(named))
    assert pages <= {*named} and {page for page in named if not page.startswith(("_pages/", "#"))} <= pages


def test_results_are_on_the_models_pages(site):
    text = (site / "models" / "vae.html").read_text()
    assert "negative log-likelihood" in text and "active units" in text
    assert "results: vae" not in text


def test_every_public_name_is_in_the_reference(site):
    shown = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    for name in genlab.__all__:
        value = getattr(genlab, name)
        if value is not genlab.sample:  # a command
            anchor = f"module-{value.__name__}" if inspect.ismodule(value) else f"genlab.{name}"
            assert f'id="{anchor}"' in shown, name
