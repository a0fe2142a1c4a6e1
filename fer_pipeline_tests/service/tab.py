"""A tab of the page of recognition in a browser, for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from fer_pipeline_tests.browser import DESKTOP
from fer_pipeline_tests.service.running import Client

SLOW = 20_000
"""Milliseconds that anything on the page may take."""


@dataclass(frozen=True)
class Tab:
    """One tab of the page."""

    page: Page
    name: str

    def part(self, selector: str) -> Any:
        return self.page.locator(f"#{self.name} {selector}")

    def choose(self, file: Path | dict[str, Any]) -> None:
        self.part(".file").set_input_files(file)

    @property
    def problem(self) -> Any:
        return self.part("[role=alert]")

    def shares(self, bars: Any) -> dict[str, float]:
        """The probabilities that bars show, as they are written there."""
        rows = bars.locator("li").all()
        texts = [row.inner_text().split() for row in rows]
        return {label: float(share.rstrip("%")) / 100 for label, share in texts}


@contextmanager
def opened(browser: Browser, client: Client, tab: str, **settings: Any) -> Iterator[Tab]:
    """A tab in a window of its own; the page must find no fault with itself in the end."""
    host = settings.pop("host", "localhost")
    settings = {"viewport": DESKTOP, "permissions": ["camera"]} | settings
    context = browser.new_context(**settings)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"{error}"))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(f"http://{host}:{client.port}/#{tab}")
    page.locator("#which-model").get_by_text("starter").wait_for()
    yield Tab(page, tab)
    context.close()
    # What was refused is told by the browser, too.
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []
