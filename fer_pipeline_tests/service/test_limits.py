"""What is refused: too much at once, too large, too slow, and what is no request."""

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core.bounds import Bounds
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.app import create_app
from fer_pipeline.service.limits import Limits
from fer_pipeline.settings import Settings
from fer_pipeline_tests.core.small_release import encoded, noise
from fer_pipeline_tests.service.running import Client, Held, form, held, running

FACE = encoded(noise(1, 48, 48))
SMALL = Limits(body_bytes=20_000, pixels=250_000, faces=2)


@pytest.fixture(scope="module")
def small(recogniser: Recogniser) -> Iterator[Client]:
    with running(create_app(recogniser, SMALL)) as started:
        yield started


def until_under_way(client: Client, count: int) -> None:
    end = time.monotonic() + 10
    while client.metrics()["fer_queue_length"] != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def started(client: Client, body: bytes, declared: int) -> socket.socket:
    """A request whose body hasn't been sent to its end."""
    opened = socket.create_connection(("127.0.0.1", client.port), timeout=10)
    head = f"POST /recognise HTTP/1.1\r\nHost: x\r\nContent-Length: {declared}\r\n\r\n"
    opened.sendall(head.encode() + body)
    return opened


def test_full_queue_refuses_at_once_and_takes_up_again(recogniser: Recogniser) -> None:
    with (
        held(recogniser, Limits(waiting=3)) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        asked = [pool.submit(client.recognise, FACE) for _ in range(3)]
        until_under_way(client, 3)
        start = time.monotonic()
        refused = [client.recognise(FACE) for _ in range(5)]
        assert time.monotonic() - start < 2
        assert {answer.status for answer in refused} == {503}
        assert refused[0].headers["retry-after"] == "1"
        assert "3 requests are under way already" in refused[0].detail
        # What costs nothing is answered all the same.
        assert client.get("/health").status == 200
        assert client.metrics()["fer_refused_total"] == 5
        Held.go.set()
        assert [future.result().status for future in asked] == [200] * 3
        assert client.recognise(FACE).status == 200
        assert client.metrics()["fer_queue_length"] == 0


def test_bodies_that_are_held_together_are_bounded(recogniser: Recogniser) -> None:
    limits = Limits(held_bytes=len(FACE) + 1000)
    with held(recogniser, limits) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.recognise, FACE)
        until_under_way(client, 1)
        refused = client.recognise(FACE)
        assert refused.status == 503
        assert "hold" in refused.detail
        Held.go.set()
        assert first.result().status == 200
        assert client.recognise(FACE).status == 200


def test_request_has_a_deadline_and_its_place_is_kept_while_a_thread_works_for_it(
    recogniser: Recogniser,
) -> None:
    with held(recogniser, Limits(seconds=0.4, waiting=1)) as client:
        start = time.monotonic()
        late = client.recognise(FACE)
        assert 0.3 < time.monotonic() - start < 5
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        assert "not answered in 0.4 seconds" in late.detail
        assert "under way already" in client.recognise(FACE).detail
        Held.go.set()
        until_under_way(client, 0)
        assert client.recognise(FACE).status == 200
        assert client.metrics()["fer_timed_out_total"] == 1


def test_body_that_does_not_come_is_not_waited_for(recogniser: Recogniser) -> None:
    with (
        running(create_app(recogniser, Limits(seconds=0.4))) as client,
        started(client, b"\xff\xd8", 1000) as opened,
    ):
        with opened.makefile("rb") as answer:
            told = answer.read()  # to its end: the connection is closed
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"didn't come in 0.4 seconds" in told
        assert client.metrics()["fer_queue_length"] == 0


def test_client_that_leaves_in_the_middle_leaves_no_place_taken(client: Client) -> None:
    with started(client, b"\xff\xd8", 1000):
        until_under_way(client, 1)
    until_under_way(client, 0)


def test_body_that_is_too_large_is_refused_before_its_end(small: Client) -> None:
    with started(small, b"", 20_001) as opened:
        assert opened.recv(99).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as opened:
        opened.sendall(b"POST /recognise HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            opened.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert opened.recv(99).startswith(b"HTTP/1.1 413 ")
    refused = small.recognise(b"x" * 5_000_000)
    assert (refused.status, refused.detail) == (413, "a body of more than 20,000 bytes")
    assert small.recognise(FACE).status == 200


def test_pictures_of_too_many_pixels_are_refused(small: Client) -> None:
    large = encoded(np.zeros((600, 600, 3), np.uint8))
    assert len(large) < 20_000
    refused = small.recognise(large)
    assert (refused.status, refused.detail) == (413, "600x600 pixels, more than 250000")
    assert small.recognise(encoded(np.zeros((500, 500, 3), np.uint8))).status == 200


def test_faces_are_bounded_those_given_and_those_found(
    small: Client, recogniser: Recogniser, group: bytes
) -> None:
    assert small.recognise(FACE, query="?boxes=[[0,0,20,20],[9,9,20,20]]").status == 200
    refused = small.recognise(FACE, query="?boxes=[[0,0,20,20],[9,9,20,20],[1,1,20,20]]")
    assert (refused.status, refused.detail) == (422, "3 boxes, more than 2")
    limits = replace(SMALL, body_bytes=len(group) + 1, pixels=10**6)
    with running(create_app(recogniser, limits)) as client:
        told = client.recognise(group).json
    largest = [pytest.approx(face.box) for face in recogniser.read(group)[:2]]
    assert [tuple(face["box"].values()) for face in told["faces"]] == largest
    assert told["left_out"] == 1


def test_bounds_of_a_picture_follow_the_limits() -> None:
    assert SMALL.bounds == Bounds(250_000, 1_000_000, 20_000)


GOOD = base64.b64encode(FACE).decode()


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "detail"),
    [
        (b"", "image/png", "", 422, "no picture"),
        (b"hello", "image/png", "", 422, "can't be read: no known picture format"),
        (FACE[:60], "image/png", "", 422, "can't be read"),
        (FACE, "text/html", "", 415, "can't take 'text/html'"),
        (FACE, "application/x-www-form-urlencoded", "", 415, "send a picture as image/"),
        (FACE, "x" * 5000, "", 415, "can't take"),
        (b"{", "application/json", "", 400, "JSON"),
        (b"[" * 20_000, "application/json", "", 400, "JSON"),
        (b"\xff\xfe", "application/json", "", 400, "JSON"),
        (b"[]", "application/json", "", 422, "object"),
        ("{}", "application/json", "", 422, "image: "),
        ('{"image": "?"}', "application/json", "", 422, "image: is no base64"),
        ('{"image": "\u00e9"}', "application/json", "", 422, "image: is no base64"),
        ('{"image": ""}', "application/json", "", 422, "no picture"),
        (json.dumps({"image": GOOD, "box": 1}), "application/json", "", 422, "box: "),
        (json.dumps({"image": GOOD, "boxes": [[1, 2, 3]]}), "application/json", "", 422, "boxes.0"),
        (json.dumps({"image": GOOD, "whole": 1}), "application/json", "", 422, "whole: "),
        (
            json.dumps({"image": GOOD, "boxes": [[1, 2, 3, float("nan")]]}),
            "application/json", "", 422, "boxes.0.3: Input should be a finite number",
        ),
        (f'{{"boxes": [{"[]," * 200}[]]}}', "application/json", "", 422, "values than 2 boxes"),
        (*form({"image": FACE, "boxes": "[" + "[]," * 200}), "", 422, "values than 2 boxes"),
        (FACE, "image/png", "?boxes=1", 422, "boxes: "),
        (FACE, "image/png", "?boxes=[[1,2,3,NaN]]", 422, "give [[x, y, width, height], ...]"),
        (FACE, "image/png", "?whole=yes", 422, "whole: give true or false"),
        (FACE, "image/png", "?small=", 422, "small: give true or false"),
        (FACE, "multipart/form-data", "", 400, "names no boundary"),
        (FACE, "multipart/form-data; boundary=a", "", 400, "the form is damaged"),
        (form({"image": FACE})[0][:-5], form({})[1], "", 400, "ends before its last boundary"),
        (*form({}), "", 422, "no field `image`"),
        (*form({"photo": FACE}), "", 422, "a field that isn't known"),
        (*form({"image": FACE, "whole": "1"}), "", 422, "whole: give true or false"),
        (*form({"image": FACE, "boxes": "x"}), "", 422, "boxes: "),
        (*form({"image": FACE, "boxes": b"\xff"}), "", 422, "boxes: is no text"),
        (form({"image": b"a"})[0][:-16] + form({"image": b"b"})[0], form({})[1], "", 422, "twice"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_told_in_a_sentence(
    small: Client, body: Any, kind: str, query: str, status: int, detail: str
) -> None:
    answer = small.recognise(body.encode() if isinstance(body, str) else body, kind, query)
    assert (answer.status, detail in answer.detail) == (status, True), answer.body
    assert len(answer.detail) < 300


@pytest.mark.usefixtures("own_environment")
def test_limits_come_from_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings.load(home=tmp_path).service_limits == Limits()
    for name, value in {
        "BODY_BYTES": "1000", "PIXELS": "99", "FACES": "3", "SECONDS": "1.5", "WAITING": "2",
        "HELD_BYTES": "10", "CAMERAS": "4", "VIDEOS": "5", "VIDEO_BYTES": "6", "VIDEO_SECONDS": "7",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"FER_SERVE_{name}", value)
    # There is always room for one body.
    assert Settings.load(home=tmp_path).service_limits == Limits(
        1000, 99, 3, 1.5, 2, 1000, cameras=4, videos=5, video_bytes=6, video_seconds=7
    )
