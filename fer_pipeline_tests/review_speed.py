"""How long the page takes to the next picture: `python -m fer_pipeline_tests.review_speed`.

Server time is from the message with an answer, as it leaves the browser, to the message with the
next picture's address, both on this machine: storing, reading and Streamlit's own work. Seen time
is from the key that is pressed to the picture that is shown, with what the browser does.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, WebSocket

from fer_pipeline_tests.browser import DESKTOP, chromium
from fer_pipeline_tests.drawn_study import publish_drawn
from fer_pipeline_tests.review_page import Annotator, serving


@dataclass(frozen=True)
class Times:
    """Seconds of each answer."""

    server: list[float]
    seen: list[float]


def main() -> int:
    """Answer a drawn study and print medians and 95th percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200)
    count = parser.parse_args().answers
    with tempfile.TemporaryDirectory(prefix="fer-review-") as folder, chromium() as browser:
        study = publish_drawn(Path(folder), per_class=max(3, count // 5 + 1))
        with serving(Path(folder)) as server:
            page = browser.new_page(viewport=DESKTOP)
            person = Annotator(page, server, study, "Ann")
            listener = Listener(page)
            person.open()
            times = answer_many(person, listener, count)
            page.close()
    for name, seconds in (("server", times.server), ("seen", times.seen)):
        middle, high = np.quantile(seconds, (0.5, 0.95))
        sys.stdout.write(
            f"{name}: median {1000 * middle:.0f} ms, 95% within {1000 * high:.0f} ms "
            f"({len(seconds)} answers)\n"
        )
    return 0


class Listener:
    """When the last message left the page, and when the next panel came; made before it opens."""

    def __init__(self, page: Page) -> None:
        self.sent: list[float] = []
        self.heard: list[float] = []
        page.on("websocket", self._socket)

    def clear(self) -> None:
        """Forget what was heard."""
        self.sent.clear()
        self.heard.clear()

    def _socket(self, socket: WebSocket) -> None:
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, _message: str | bytes) -> None:
        self.sent.append(time.perf_counter())

    def _received(self, message: str | bytes) -> None:
        if isinstance(message, bytes) and b'"token"' in message:
            self.heard.append(time.perf_counter())


def answer_many(person: Annotator, listener: Listener, count: int) -> Times:
    """Answer the first `count` pictures of a study that has more."""
    times = Times([], [])
    person.sees(1)
    for place in range(1, count + 1):
        listener.clear()
        began = time.perf_counter()
        person.page.keyboard.press("n")
        person.sees(place + 1)
        times.seen.append(time.perf_counter() - began)
        times.server.append(listener.heard[0] - listener.sent[0])
    return times


if __name__ == "__main__":
    sys.exit(main())
