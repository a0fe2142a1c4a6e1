"""Videos over HTTP: each moment as the library reads it, and nothing is left of the file."""

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.core.video import Video, open_video
from fer_pipeline.service import videos
from fer_pipeline.service.app import create_app
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.work import Work
from fer_pipeline_tests.core.films import Capture
from fer_pipeline_tests.service.moving import write_film
from fer_pipeline_tests.service.running import Answer, Client, form, running

SCENES = ("Happiness", "Surprise", "nobody", "Happiness")
LIMITS = Limits(video_bytes=300_000, video_seconds=5.0, videos=1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_film(tmp_path_factory.mktemp("film") / "film.webm", SCENES).read_bytes()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of temporary files while the service runs."""
    folder = tmp_path_factory.mktemp("temporary")
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = usual


@pytest.fixture(scope="module")
def service(recogniser: Recogniser, kept: Path) -> Iterator[Client]:  # noqa: ARG001
    with running(create_app(recogniser, LIMITS)) as started:
        yield started


def sent(client: Client, video: bytes, **fields: str) -> Answer:
    body, kind = form({**fields, "video": video})
    return client.ask("POST", "/video", body, kind)


def lines(answer: Answer) -> list[Any]:
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.body.splitlines()]


def until_gone(folder: Path) -> None:
    """The file goes when the thread that reads it is done, which may be after the answer."""
    deadline = time.monotonic() + 10
    while list(folder.iterdir()):
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.02)


def test_moments_are_read_as_the_library_reads_their_frames(
    service: Client, kept: Path, film: bytes, recogniser: Recogniser, tmp_path: Path
) -> None:
    (tmp_path / "film.webm").write_bytes(film)
    first, *moments, last = lines(sent(service, film, every="0.4"))
    with open_video(tmp_path / "film.webm") as video:
        frames = list(video)
        facts = {"width": 320, "height": 240, "seconds": video.seconds, "every": 0.4}
    assert first == {"video": facts}
    due = frames[::4]
    assert [moment["time"] for moment in moments] == pytest.approx([f.seconds for f in due])
    for moment, frame in zip(moments, due, strict=True):
        faces = recogniser.read(frame.pixels, order="bgr", small=False)
        for told, face in zip(moment["faces"], faces, strict=True):
            assert told["label"] == face.label
            assert told["probabilities"] == pytest.approx(face.probabilities, abs=1e-5)
    labels = [moment["faces"][0]["label"] if moment["faces"] else None for moment in moments]
    assert list(dict.fromkeys(labels)) == ["Happiness", "Surprise", None]
    assert labels[-1] == "Happiness"
    assert last == {"end": {"readings": len(due), "reason": None}}
    until_gone(kept)


def test_faces_of_a_video_are_counted(recogniser: Recogniser, film: bytes) -> None:
    with running(create_app(recogniser, LIMITS)) as client:
        _, *moments, _ = lines(sent(client, film, every="0.4"))
        counted = client.metrics()
    faces = [len(moment["faces"]) for moment in moments]
    assert counted['fer_faces_total{status="ok"}'] == sum(faces) > 0
    assert counted["fer_batch_faces_sum"] == sum(faces)
    assert counted["fer_batch_faces_count"] == len(faces)


def test_a_face_that_is_away_for_long_is_another_one(service: Client, film: bytes) -> None:
    _, *moments, _ = lines(sent(service, film, every="0.2"))
    tracks = [face["track"] for moment in moments for face in moment["faces"]]
    assert list(dict.fromkeys(tracks)) == [1, 2]


@pytest.mark.parametrize(
    ("video", "fields", "status", "sentence"),
    [
        (b"GIF89a? no, a text", {}, 422, "the file is a text file"),
        (bytes(range(256)) * 40, {}, 422, "can't be read as a video"),
        (b"", {}, 422, "no field `video` with a video"),
        (b"\0" * 300_001, {}, 413, "a video of more than 300,000 bytes"),
        (None, {"every": "0.01"}, 422, "every: give seconds from 0.1 to 60"),
        (None, {"every": "often"}, 422, "every: give seconds from 0.1 to 60"),
        (None, {"every": "nan"}, 422, "every: give seconds from 0.1 to 60"),
        (None, {"every": "1" * 101}, 422, "every is longer than 100 bytes"),
        (None, {"speed": "1"}, 422, "a field that isn't known: give video, every"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_and_leaves_nothing(
    service: Client,
    kept: Path,
    film: bytes,
    video: bytes | None,
    fields: dict[str, str],
    status: int,
    sentence: str,
) -> None:
    answer = sent(service, film if video is None else video, **fields)
    assert answer.status == status
    assert sentence in answer.detail
    assert str(kept) not in answer.detail
    until_gone(kept)


def test_other_bodies_are_refused(service: Client, film: bytes) -> None:
    assert service.ask("POST", "/video", film, "video/webm").status == 415
    cut = form({"video": film})
    assert service.ask("POST", "/video", cut[0][:-40], cut[1]).detail.startswith("the form ends")


def test_a_video_whose_frames_grow_beyond_the_bound_ends_there(
    recogniser: Recogniser, kept: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [(at * 0.5, np.zeros((side, side, 3), np.uint8)) for at, side in enumerate((9, 9, 11))]
    grown = Video("calls", Capture(frames), camera=False, seconds=None)
    monkeypatch.setattr(videos, "open_video", lambda _: grown)
    with running(create_app(recogniser, replace(LIMITS, pixels=100))) as client:
        *_, last = lines(sent(client, film))
    reason = "calls goes on with frames of 11x11 pixels, more than 100"
    assert last == {"end": {"readings": 2, "reason": reason}}
    until_gone(kept)


def test_a_video_that_is_too_long_is_refused_before_it_is_read(
    recogniser: Recogniser, kept: Path, film: bytes
) -> None:
    with running(create_app(recogniser, replace(LIMITS, video_seconds=2.5))) as client:
        answer = sent(client, film)
    assert answer.status == 413
    assert "a video of 4 seconds, more than 2.5" in answer.detail
    until_gone(kept)


def test_who_goes_away_takes_the_video_along_and_leaves_the_place_to_others(
    service: Client, kept: Path, film: bytes
) -> None:
    body, kind = form({"every": "0.1", "video": film})
    head = f"POST /video HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}"
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(head.encode() + b"\r\n\r\n" + body[:-100])
        deadline = time.monotonic() + 10
        while not list(kept.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = service.metrics()["fer_refused_total"]
        refused = sent(service, film)
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert service.metrics()["fer_refused_total"] == before + 1
        assert refused.detail.startswith("1 video is read already")
        line.sendall(body[-100:])
        assert line.recv(100).startswith(b"HTTP/1.1 200")
    until_gone(kept)
    assert len(lines(sent(service, film, every="2"))) == 4


def test_a_video_that_comes_byte_by_byte_is_not_waited_for(recogniser: Recogniser) -> None:
    with (
        running(create_app(recogniser, replace(LIMITS, seconds=0.4))) as client,
        socket.create_connection(("127.0.0.1", client.port)) as line,
    ):
        kind = form({})[1]
        line.sendall(b"POST /video HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n")
        line.sendall(f"content-type: {kind}\r\n\r\n".encode())
        line.settimeout(0.1)
        deadline = time.monotonic() + 10
        told = b""
        while not told:
            assert time.monotonic() < deadline
            line.sendall(b"\r")
            with suppress(TimeoutError):
                told = line.recv(100)
        assert client.metrics()["fer_timed_out_total"] == 1
    assert told.startswith(b"HTTP/1.1 408")


def test_a_disk_without_room_is_told_and_takes_no_place(
    service: Client, film: bytes, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(kept / "gone"))
        for _ in range(2):
            answer = sent(service, film)
            assert (answer.status, "can't be kept" in answer.detail) == (507, True)
    assert len(lines(sent(service, film, every="2"))) == 4


def test_frames_of_too_many_pixels_are_refused(recogniser: Recogniser, film: bytes) -> None:
    with running(create_app(recogniser, replace(LIMITS, pixels=70_000))) as client:
        answer = sent(client, film)
    assert answer.status == 413
    assert "frames of 320x240 pixels, more than 70000" in answer.detail


def test_a_thread_turns_to_others_while_no_moment_is_due(
    service: Client, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "_TURN", 0.0)
    steps: list[object] = []
    usual = Work.submit
    monkeypatch.setattr(Work, "submit", lambda self, step: steps.append(0) or usual(self, step))
    assert len(lines(sent(service, film, every="2"))) == 4
    # A step for nearly each of its 40 frames.
    assert len(steps) > 20


def test_who_takes_no_line_any_more_keeps_no_place(
    recogniser: Recogniser, kept: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = videos.MomentLine
    monkeypatch.setattr(usual, "model_dump_json", lambda _: "x" * 10_000_000)
    body, kind = form({"every": "0.1", "video": film})
    head = f"POST /video HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}"
    with (
        running(create_app(recogniser, replace(LIMITS, seconds=0.5))) as client,
        socket.create_connection(("127.0.0.1", client.port)) as line,
    ):
        line.sendall(head.encode() + b"\r\n\r\n" + body)
        assert line.recv(12) == b"HTTP/1.1 200"
        until_gone(kept)


def test_a_video_needs_the_token(recogniser: Recogniser, kept: Path, film: bytes) -> None:
    with running(create_app(recogniser, LIMITS, "open sesame")) as client:
        assert sent(client, film).status == 401
    assert list(kept.iterdir()) == []
