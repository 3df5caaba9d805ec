"""A headless Chromium for tests of pages: what the page says on its console and asks of the network is recorded."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Browser:
    """Opens pages, and collects their complaints."""

    def __init__(self, chromium, refused: type[Exception]) -> None:
        self.chromium = chromium
        self.refused = refused
        self.complaints: list[str] = []
        """Errors and warnings on the console, and exceptions."""
        self.requests: list[str] = []
        """Addresses that pages asked for, but for data within the page."""

    def open(self, address: str, width: int = 1280, height: int = 900, reach: float = 30, **context):
        """Open a page; `reach` are the seconds until its server answers."""
        page = self.chromium.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(60_000)
        page.on(
            "console", lambda each: self.complaints.append(each.text) if each.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "request", lambda each: None if each.url.startswith(("data:", "blob:")) else self.requests.append(each.url)
        )
        for _ in range(int(reach)):
            with contextlib.suppress(self.refused):
                page.goto(address)
                return page
            page.wait_for_timeout(1000)
        raise AssertionError(f"{address} does not answer")


def wait_until(page, condition: str) -> None:
    """Wait until an expression holds. Playwright's own `wait_for_function` needs eval, which a strict page forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{condition} does not hold")


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Yield a browser; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="tests of pages need playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("tests of pages need Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield Browser(chromium, playwright.Error)
        finally:
            chromium.close()
