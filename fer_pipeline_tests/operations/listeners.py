"""A webhook and a mail server of a test's own, which keep what they were told."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass
class Webhook:
    """Where it listens, the texts it was sent, and what it answers; `pages` are what it shows."""

    address: str = ""
    texts: list[str] = field(default_factory=list)
    status: int = 200
    pages: dict[str, str] = field(default_factory=dict)


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook on a free port, until the block ends."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.texts.append(json.loads(body)["text"])
            self.send_response(kept.status)
            self.end_headers()

        def do_GET(self) -> None:
            page = kept.pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.address = f"http://127.0.0.1:{server.server_port}/secret-path"
        with _served(server):
            yield kept


@dataclass
class Mailbox:
    """Where it listens, the commands and messages that it heard, and what it says of a login."""

    port: int = 0
    commands: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    login: bytes = b"235 welcome"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a free port that speaks as much SMTP as a client needs."""
    kept = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            for line in self.rfile:
                words = line.decode().strip()
                kept.commands.append(words)
                self._answer(words.partition(" ")[0].upper())
                if words.upper() == "QUIT":
                    return

        def _answer(self, verb: str) -> None:
            if verb == "EHLO":
                self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif verb == "AUTH":
                self.wfile.write(kept.login + b"\r\n")
            elif verb == "DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                kept.messages.append(b"".join(lines).decode())
                self.wfile.write(b"250 kept\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if verb == "QUIT" else b"250 fine\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        kept.port = server.server_address[1]
        with _served(server):
            yield kept


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
