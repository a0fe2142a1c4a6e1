"""The service on a port of this machine, and a client that says what it answered."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from fer_pipeline.core.recogniser import PreparedPicture, Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline.service.connections import server_config
from fer_pipeline.service.limits import Limits

_START_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The sentence of a refusal."""
        assert list(self.json) == ["detail"], self.json
        found = self.json["detail"]
        assert isinstance(found, str)
        return found


@dataclass(frozen=True)
class Client:
    """Asks a service on this machine, each time over a new connection."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            said = {**({"content-type": kind} if kind else {}), **(headers or {})}
            connection.request(method, path, body, said)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def recognise(self, body: Any, kind: str | None = "image/png", query: str = "") -> Answer:
        return self.ask("POST", f"/recognise{query}", body, kind)

    def metrics(self) -> dict[str, float]:
        """Values by name and labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name: float(value) for name, _, value in pairs}


@contextlib.contextmanager
def running(app: FastAPI, limits: Limits | None = None) -> Iterator[Client]:
    """The service in a thread of this process, ended with the block; `limits` of connections."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, limits or Limits()))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    end = time.monotonic() + _START_SECONDS
    while not server.started:
        assert thread.is_alive(), "it ended by itself"
        assert time.monotonic() < end, "it doesn't start"
        time.sleep(0.01)
    try:
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


class Held(Recogniser):
    """Prepares no picture until it is let go."""

    go = threading.Event()

    def prepare(self, *words: Any, **more: Any) -> PreparedPicture:
        self.go.wait(30)
        return super().prepare(*words, **more)


@contextlib.contextmanager
def held(recogniser: Recogniser, limits: Limits) -> Iterator[Client]:
    """A service whose pictures wait until `Held.go` is set."""
    Held.go.clear()
    with running(create_app(Held(recogniser._network), limits, threads=1)) as client:
        try:
            yield client
        finally:
            Held.go.set()


def form(fields: Mapping[str, bytes | str]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    mark = "a-boundary"
    parts = []
    for name, value in fields.items():
        file = '; filename="photo"' if name == "image" else ""
        head = f'--{mark}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'
        content = value.encode() if isinstance(value, str) else value
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"
