"""Connections over which nothing is asked, or never to the end."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline.service.limits import Limits
from fer_pipeline_tests.service.running import Client, running

LIMITS = Limits(body_bytes=1000, seconds=0.4)
ASKED = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def service(recogniser: Recogniser) -> Iterator[Client]:
    with running(create_app(recogniser, LIMITS), LIMITS) as started:
        yield started


@contextmanager
def opened(client: Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as line:
        yield line


def ended(line: socket.socket, drip: bytes = b"") -> float:
    """Seconds until the service closes, whatever it says before; `drip` is sent all the while."""
    start = time.monotonic()
    line.settimeout(0.05)
    while time.monotonic() < start + 10:
        try:
            if drip:
                line.sendall(drip)
            if not line.recv(1 << 16):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_head_that_does_not_come_is_not_waited_for(service: Client, drip: bytes) -> None:
    with opened(service) as line:
        assert ended(line, drip) < 3
    with opened(service) as line:
        line.sendall(ASKED)
        assert line.recv(999).startswith(b"HTTP/1.1 200 ")
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: ")
        assert ended(line, drip) < 3


def test_a_head_of_any_length_is_not_taken_into_memory(service: Client) -> None:
    with opened(service) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 80_000)
        assert line.recv(99).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_was_refused_is_not_taken_without_end(service: Client) -> None:
    with opened(service) as line:
        line.sendall(b"POST /recognise HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        line.sendall(b"800\r\n" + b"x" * 0x800 + b"\r\n")
        assert line.recv(99).startswith(b"HTTP/1.1 413 ")
        assert ended(line, b"1\r\nx\r\n") < 3


def test_requests_and_cameras_that_take_longer_are_served(service: Client) -> None:
    with opened(service) as line:
        for _ in range(3):
            time.sleep(0.3)
            line.sendall(ASKED)
            assert line.recv(999).startswith(b"HTTP/1.1 200 ")
    with connect(f"ws://127.0.0.1:{service.port}/live", proxy=None) as camera:
        # Frames are compressed already.
        assert "Sec-WebSocket-Extensions" not in camera.response.headers  # type: ignore[union-attr]
        time.sleep(0.8)
        camera.send('{"token": ""}')
        assert "frame_bytes" in str(camera.recv(timeout=10))
