"""A real browser without a window."""

from __future__ import annotations

import json
import os
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import until

playwright = pytest.importorskip("playwright.sync_api")
Browser, Page = playwright.Browser, playwright.Page
expect = playwright.expect

#: Screenshots of what the tests have seen, for people.
OUTPUT = Path(__file__).parents[1] / "output"

#: Milliseconds; far more than anything takes, for a machine that has other things to do.
PATIENCE_MS = 60_000

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = [
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser, or skip the test where there is none and none is required."""
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        message = f"no browser on PATH: looked for {', '.join(_NAMES)}"
        if "chromium" in os.environ.get("LIMOSA_TEST_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=binary, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of the dashboard, and what went wrong on it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.url = url
        self.faults: list[str] = []
        self.requested: list[str] = []
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requested.append(request.url))

    def _note(self, message: Any) -> None:
        # A refusal or a server that is gone is reported by the browser itself.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def open(self, link: str = "live") -> Page:
        """Go to the page and return it once it is connected."""
        self.page.goto(self.url)
        self.is_linked(link)
        return self.page

    def is_linked(self, link: str) -> None:
        """Wait until the page says that its connection is *link*."""
        self.page.wait_for_selector(f"#link[data-state={link}]")

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element has exactly this text."""
        expect(self.page.locator(selector)).to_have_text(text, timeout=PATIENCE_MS)

    def text(self, selector: str) -> str:
        """Return the text of an element as it is now."""
        return self.page.locator(selector).inner_text().strip()

    def photograph(self, name: str, *, whole: bool = False) -> None:
        """Keep what is seen."""
        OUTPUT.mkdir(exist_ok=True)
        if whole:  # or what stays at the top of the window would be in the middle of the picture
            self.page.evaluate("window.scrollTo(0, 0)")
        self.page.screenshot(path=OUTPUT / f"dashboard-{name}.png", full_page=whole)

    def close(self) -> None:
        """Close it; nothing must have gone wrong on it."""
        self.context.close()
        assert self.faults == [], self.faults


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """Lend a tab that is closed in the end, and must have been without faults."""
    found = Tab(browser, url, **options)
    try:
        yield found
    except BaseException:
        found.context.close()
        raise
    found.close()


def ask(url: str, path: str, *, method: str = "GET", token: str = "") -> Any:
    """Return the JSON that the server answers, as any program would get it."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url + path, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def await_server(url: str) -> None:
    """Return once the server answers."""

    def look() -> bool:
        try:
            return ask(url, "/healthz") == {"status": "ok"}
        except OSError:
            return False

    until(look, f"answer of {url}")
