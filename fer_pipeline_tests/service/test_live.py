"""A camera's frames over a WebSocket: followed, in turn, and within bounds."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline.service.limits import Limits
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.service.moving import drawn
from fer_pipeline_tests.service.running import Client, held, running

TOKEN = "s3kr\u00e9t"  # noqa: S105 - of a service that lives for a test
SMALL = Limits(cameras=2, frame_bytes=200_000, frames_per_second=20.0, silence=0.4)
FACES = {name: encoded(drawn(name), "JPEG", quality=95) for name in ("Happiness", "Surprise")}


@pytest.fixture(scope="module")
def small(recogniser: Recogniser) -> Iterator[Client]:
    with running(create_app(recogniser, SMALL, TOKEN)) as started:
        yield started


@contextmanager
def opened(client: Client, token: str = TOKEN, **headers: str) -> Iterator[ClientConnection]:
    """A connection that has sent its first message."""
    address = f"ws://127.0.0.1:{client.port}/live"
    with connect(address, additional_headers=headers or None, proxy=None) as socket:
        # One that was refused may be closed already; that shows in what it receives.
        with suppress(ConnectionClosed):
            socket.send(json.dumps({"token": token}))
        yield socket


@contextmanager
def ready(client: Client) -> Iterator[ClientConnection]:
    """A connection that waits for frames."""
    with opened(client) as socket:
        assert set(json.loads(socket.recv())) == {"frames_per_second", "frame_bytes"}
        yield socket


def answer(socket: ClientConnection, frame: bytes) -> Any:
    socket.send(frame)
    return json.loads(socket.recv())


def ending(socket: ClientConnection) -> tuple[int, str]:
    """The code and the reason with which the service closes it."""
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_first_frame_is_read_as_the_library_reads_it(
    client: Client, recogniser: Recogniser
) -> None:
    with ready(client) as socket:
        found = answer(socket, FACES["Happiness"])
    (face,) = recogniser.read(FACES["Happiness"], small=False)
    (told,) = found["faces"]
    assert (found["width"], found["height"]) == (640, 480)
    assert found["milliseconds"] > 0
    assert told["label"] == face.label == "Happiness"
    assert told["probabilities"] == pytest.approx(face.probabilities, abs=1e-5)
    assert list(told["box"].values()) == pytest.approx(list(face.box))


def test_a_face_keeps_its_track_and_its_probabilities_move_smoothly(client: Client) -> None:
    with ready(client) as socket:
        before = answer(socket, FACES["Happiness"])["faces"][0]
        time.sleep(0.1)
        soon = answer(socket, FACES["Surprise"])["faces"][0]
        time.sleep(1.2)
        later = answer(socket, FACES["Surprise"])["faces"][0]
    assert before["track"] == soon["track"]
    # After more than a second without a frame it is another track, and nothing is smoothed.
    assert later["track"] != soon["track"]
    shares = [face["probabilities"]["Surprise"] for face in (before, soon, later)]
    assert shares[0] < shares[1] - 0.02 < shares[2] - 0.3


def test_each_connection_has_tracks_of_its_own(client: Client) -> None:
    with ready(client) as one, ready(client) as other:
        answer(one, FACES["Happiness"])
        found = answer(other, FACES["Surprise"])["faces"][0]
    assert (found["track"], found["label"]) == (1, "Surprise")


def test_frames_are_read_no_faster_than_the_limit(small: Client) -> None:
    with ready(small) as socket:
        start = time.monotonic()
        for _ in range(7):
            answer(socket, FACES["Happiness"])
        assert time.monotonic() - start > 0.9 * 6 / SMALL.frames_per_second


def test_a_frame_that_is_no_picture_is_told_and_the_next_one_is_read(client: Client) -> None:
    with ready(client) as socket:
        assert "can't be read" in answer(socket, b"no picture")["problem"]
        assert len(answer(socket, FACES["Happiness"])["faces"]) == 1


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (b"x" * 200_001, 1009, "more than 200,000 bytes"),
        ("text", 1008, "binary message"),
        (b"", 1008, "binary message"),
        (None, 4408, "No frame came for 0.4 seconds."),
    ],
)
def test_what_is_no_frame_ends_the_connection_with_a_sentence(
    small: Client, sent: bytes | str | None, code: int, reason: str
) -> None:
    with ready(small) as socket:
        if sent is not None:
            socket.send(sent)
        ended = ending(socket)
    assert ended[0] == code
    assert reason in ended[1]


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        ('{"token": "guess"}', 4401),
        ('{"token": null}', 4401),
        ('{"token": "\\ud800"}', 4401),
        ("{}", 1008),
        ("[" * 4000, 1008),
        ("token", 1008),
        (b"\xff\xd8", 1008),
    ],
)
def test_without_the_token_nothing_is_read(small: Client, greeting: str | bytes, code: int) -> None:
    with connect(f"ws://127.0.0.1:{small.port}/live", proxy=None) as socket:
        socket.send(greeting)
        assert ending(socket)[0] == code


def test_a_proxy_may_send_the_token_with_the_handshake(small: Client) -> None:
    for sent, found in ((TOKEN, True), ("guess", False)):
        header = f"Bearer {sent.encode().decode('latin-1')}"
        with opened(small, "", Authorization=header) as socket:
            if found:
                assert "frames_per_second" in json.loads(socket.recv())
            else:
                assert ending(socket)[0] == 4401


def test_one_camera_too_many_is_told_so_and_a_place_is_free_again(small: Client) -> None:
    def refused() -> float:
        said = {"authorization": f"Bearer {TOKEN.encode().decode('latin-1')}"}
        lines = small.get("/metrics", **said).body.decode().splitlines()
        return next(
            float(line.split()[1]) for line in lines if line.startswith("fer_refused_total")
        )

    before = refused()
    with ready(small), ready(small), opened(small) as third:
        assert ending(third) == (1013, "2 cameras are watched already.")
    assert refused() == before + 1
    deadline = time.monotonic() + 5
    while True:
        with opened(small) as socket:
            try:
                socket.recv()
                return
            except ConnectionClosed:
                assert time.monotonic() < deadline


def test_pages_of_other_sites_get_no_connection(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    with opened(client, Origin=own) as socket:
        assert "frames_per_second" in json.loads(socket.recv())
    for origin in (
        *("http://evil.example", "null", "http://[", f"{own}.evil.example", "http://127.0.0.1:1"),
        f"http://evil.example/@127.0.0.1:{client.port}",
    ):
        with pytest.raises(InvalidStatus) as refused, opened(client, Origin=origin):
            pass
        assert refused.value.response.status_code == 403


def test_who_goes_away_while_it_is_told_why_it_must_is_no_error(recogniser: Recogniser) -> None:
    came = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}])
    sent = []

    async def receive() -> Any:
        return next(came)

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "websocket.close":
            raise OSError

    scope = {"type": "websocket", "path": "/live", "headers": [], "query_string": b""}
    asyncio.run(create_app(recogniser)(scope, receive, send))
    assert sent == ["websocket.accept", "websocket.close"]


def test_a_frame_has_a_deadline(recogniser: Recogniser) -> None:
    with (
        held(recogniser, replace(SMALL, seconds=0.2, silence=5)) as client,
        ready(client) as socket,
    ):
        socket.send(FACES["Happiness"])
        assert ending(socket) == (1013, "The server takes too long: try again later.")
        assert client.metrics()["fer_timed_out_total"] == 1


def test_a_busy_service_says_so(recogniser: Recogniser) -> None:
    app = create_app(recogniser, replace(SMALL, waiting=0, silence=5))
    with running(app) as client, ready(client) as socket:
        socket.send(FACES["Happiness"])
        assert ending(socket) == (1013, "The server is busy: try again in a moment.")
        assert client.metrics()["fer_refused_total"] == 1
