"""A headless Chromium for the tests of pages, driven by Playwright.

The browser is the system's own: none is downloaded, and it looks nothing up by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, Request, Response, WebSocket, sync_playwright

from fer_pipeline_tests.system import require_program

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """A browser, with more switches; the test is skipped, or fails, where the system has none."""
    program = require_program("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(program), args=[*QUIET, *more])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Traffic:
    """All that a page asked for and was sent: addresses, headers, bodies, socket messages."""

    asked: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    _answers: list[Response] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> "Traffic":
        """Record from now on."""
        traffic = cls()
        page.on("request", traffic._request)
        page.on("response", traffic._answer)
        page.on("websocket", traffic._socket)
        return traffic

    def fetch_bodies(self) -> None:
        """Keep what was answered, while the page is still open."""
        for answer in self._answers:
            self.headers += [f"{name}: {value}" for name, value in answer.all_headers().items()]
            if answer.ok:
                self.bodies[answer.url] = answer.body()

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _answer(self, answer: Response) -> None:
        self._answers.append(answer)

    def _socket(self, socket: WebSocket) -> None:
        self.asked.append(socket.url)
        socket.on("framereceived", self._message)

    def _message(self, message: str | bytes) -> None:
        self.messages.append(message if isinstance(message, bytes) else message.encode())
