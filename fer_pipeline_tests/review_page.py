"""The labelling page as its tests use it: its server, and what an annotator does in a browser."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psutil
from playwright.sync_api import Locator, Page

from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.answers_database import sqlite_address
from fer_pipeline.core.study import Study
from fer_pipeline_tests import graph
from fer_pipeline_tests.system import answers, free_ports

START_SECONDS = 150
PATIENCE = 20_000
"""Milliseconds."""
SHOWN = """(alt) => {
  const panel = document.querySelector('[data-testid=stBidiComponentIsolated]')?.shadowRoot;
  const shown = panel?.querySelector('img.picture')?.alt === alt;
  return shown && panel.querySelector('.stage').ariaBusy === 'false';
}"""


class Server:
    """`fer-pipeline review` on a home; it may be killed and started again at the same address."""

    def __init__(self, home: Path, host: str = "127.0.0.1", **variables: str) -> None:
        self.home = home
        self._host = host
        self._variables = variables
        (self.port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            graph.command("review", "--home", self.home, "--host", self._host, "--port", self.port),
            env=graph.environment(**self._variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.address}/_stcore/health"):
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < deadline, "it doesn't answer"
            time.sleep(0.1)

    def children(self) -> list[psutil.Process]:
        """The processes that serve the page."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> int:
        """SIGKILL what serves the page; give the exit code of the command."""
        for child in self.children():
            child.kill()
        return self.process.wait(timeout=30)

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
        if self.process.poll() is None:
            self.kill()


@contextmanager
def serving(home: Path, host: str = "127.0.0.1", **variables: str) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(home, host, **variables)
    try:
        yield server
    finally:
        server.end()


class Annotator:
    """Somebody at the page of a study, under a name."""

    def __init__(self, page: Page, server: Server, study: Study, name: str) -> None:
        self.page = page
        self.server = server
        self.study = study
        self.name = name

    def choose(self, *, whole: bool = True) -> None:
        """Fill in the first page as a visitor does."""
        self.page.goto(self.server.address)
        self.page.get_by_role("combobox", name="Stream").click()
        self.page.get_by_role("option", name=self.study.stream).click()
        self.page.get_by_label("Your name").fill(self.name)
        if not whole:
            self.page.get_by_text("Only the face").click()
        self.page.get_by_role("button", name="Start").click()

    def open(self) -> None:
        """Go where `choose` ends up."""
        wanted = {
            "stream": self.study.stream,
            "study": self.study.name,
            "name": self.name,
            "view": "whole",
        }
        self.page.goto(f"{self.server.address}/?{urlencode(wanted)}")

    def sees(self, place: int) -> None:
        """Wait until the picture at this place (from 1) is shown."""
        self.page.wait_for_function(SHOWN, arg=self.alt(place), timeout=PATIENCE)

    def alt(self, place: int) -> str:
        """The alternative text of the picture at this place."""
        return f"face {place:,} of {len(self.study):,}"

    def answer(self, key: str, place: int) -> None:
        """Press a key on the picture at this place, and wait for the next one or for the end."""
        self.sees(place)
        self.page.keyboard.press(key)
        if place < len(self.study):
            self.sees(place + 1)
        else:
            self.page.get_by_text("Thank you").wait_for()

    def hears(self, words: str) -> None:
        """Wait until a screen reader is told this."""
        said = self.page.locator(".panel .said", has_text=words)
        said.wait_for(state="attached", timeout=PATIENCE)

    def part(self, name: str) -> Locator:
        """The parts of the panel with this class."""
        return self.page.locator(f".panel .{name}")

    def stored(self) -> list[Answer]:
        """What the table holds under this name."""
        address = sqlite_address(self.server.home / "studies.db")
        with contextlib.closing(AnswerStore(address)) as store:
            return store.answers(self.study.key, self.study.sample, self.name)


def given(answers: list[Answer], keys: Mapping[str, str]) -> str:
    """The keys that make these answers, in the order in which they were shown."""
    return "".join(keys[answer.answer] for answer in answers)
