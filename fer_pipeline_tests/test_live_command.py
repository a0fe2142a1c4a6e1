"""The command `live` on videos of drawn faces: what it writes, shows, refuses, and how it ends."""

import errno
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.video import open_video
from fer_pipeline.live_command import stopping
from fer_pipeline.live_outputs import opened_outputs
from fer_pipeline.live_page import LivePage, serving
from fer_pipeline_tests.core.films import HEIGHT, WIDTH, write_film
from fer_pipeline_tests.graph import Ended, command, environment

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with one face; not to be written to."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


def test_every_frame_of_a_file_is_answered_written_and_counted(
    here: Callable[..., Ended], film: Path, tmp_path: Path
) -> None:
    out, lines = tmp_path / "new" / "out.mp4", tmp_path / "lines.jsonl"
    ended = here(
        *("live", film, "--every-frame", "--threads", 1, "--home", tmp_path / "home"),
        *("--out", out, "--jsonl", lines, "--json"),
    )
    assert ended.code == 0, ended.err
    answer = ended.answer
    assert (answer["frames"], answer["dropped"], answer["problem"]) == (50, 0, None)
    assert answer["faces"] == sum(answer["labels"].values()) >= 45
    assert answer["tracks"] == 1
    assert 0 < answer["latency_ms_p50"] <= answer["latency_ms_p95"]
    assert answer["fps"] > 0
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["frame"] for one in told] == list(range(50))
    assert [one["seconds"] for one in told] == pytest.approx(np.arange(50) / 25)
    for face in (face for one in told for face in one["faces"]):
        assert face["track"] == 1
        assert face["label"] == max(face["probabilities"], key=face["probabilities"].get)
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    with open_video(film) as before, open_video(out) as after:
        assert (after.width, after.height, after.frames) == (WIDTH, HEIGHT, 50)
        pairs = list(zip(before, after, strict=True))
    # A box, a label and bars are drawn in each, and nothing else.
    for plain, drawn in pairs:
        changed = np.abs(plain.pixels.astype(int) - drawn.pixels).max(axis=2) > 60
        assert 0.01 < changed.mean() < 0.5
    assert not (tmp_path / "home").exists()


def test_file_plays_at_its_own_speed_and_ends_after_the_seconds_that_are_given(
    here: Callable[..., Ended], film: Path
) -> None:
    began = time.monotonic()
    ended = here("live", "--camera", film, "--seconds", "1", "--jsonl", "-", "--json")
    assert ended.code == 0, ended.err
    assert time.monotonic() - began > 0.9
    *lines, last = map(json.loads, ended.out.splitlines())
    assert last["frames"] == len(lines) > 0
    assert last["frames"] + last["dropped"] <= 27
    assert all(line["seconds"] < 1 for line in lines)


def test_video_that_breaks_off_is_answered_up_to_there(
    here: Callable[..., Ended], tmp_path: Path
) -> None:
    whole = write_film(tmp_path / "film.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    ended = here("live", tmp_path / "half.avi", "--every-frame", "--json")
    assert ended.code == 0, ended.err
    assert "half.avi breaks off after" in ended.answer["problem"]
    assert "ended early:" in ended.words
    assert 15 < ended.answer["frames"] < 35


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("text.mp4",), "text.mp4 is a text file"),
        (("none.mp4",), "none.mp4 is no file"),
        (("x" * 300,), "can't be used (File name too long): give another path"),
        ((".",), "is a folder"),
        (("",), "is a folder"),
        (("--camera", "99"), "there is no camera 99"),
        (("film.mp4", "--camera", "0"), "film.mp4 and --camera 0 both say what is read"),
        (("film.mp4", "--out", "out.avi"), "must end in .mp4"),
        (("film.mp4", "--out", "text.mp4/out.mp4"), "can't be written"),
        (("film.mp4", "--out", "./film.mp4"), "is the video that is read"),
        (("film.mp4", "--jsonl", "text.mp4/lines"), "can't be written"),
        (("film.mp4", "--out", "a.mp4", "--jsonl", "./a.mp4"), "both name a.mp4"),
        (("film.mp4", "--model", "none.keras"), "none.keras is no file"),
    ],
)
def test_what_can_not_be_is_one_sentence(
    here: Callable[..., Ended],
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("Not a film.\n")
    (tmp_path / "film.mp4").symlink_to(film)
    ended = here("live", *words)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("wrong input:")
    assert problem in line
    assert {path.name for path in tmp_path.iterdir()} == {"text.mp4", "film.mp4"}


def test_lines_of_an_earlier_time_are_kept_where_the_page_finds_no_port(
    here: Callable[..., Ended], film: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text("{}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = here("live", film, "--jsonl", old, "--page", "--port", port)
    assert (ended.code, "can't be used" in ended.words) == (2, True), ended
    assert old.read_text() == "{}\n"


def test_sigterm_in_the_middle_leaves_whole_files(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 400)
    out, lines = tmp_path / "out" / "out.mp4", tmp_path / "out" / "lines.jsonl"
    with subprocess.Popen(
        command("live", film, "--out", out, "--jsonl", lines, "--json"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.read_bytes().count(b"\n") > 5):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        words, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    answer = json.loads(words.splitlines()[-1])
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(told) == answer["frames"] < 400
    with open_video(out) as video:
        assert len(list(video)) == video.frames
        assert video.frames == pytest.approx(25 * told[-1]["seconds"], abs=3)
    assert {path.name for path in out.parent.iterdir()} == {"out.mp4", "lines.jsonl"}


def test_standard_output_that_is_closed_takes_no_lines(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with (
        open_video(film) as video,
        pytest.raises(InputError, match="standard output is closed"),
        opened_outputs(video, "starter", out=None, jsonl="-", port=None),
    ):
        pass


def test_full_disk_is_that_of_the_lines(film: Path, tmp_path: Path) -> None:
    def work() -> None:
        lines = str(tmp_path / "lines")
        with (
            open_video(film) as video,
            opened_outputs(video, "starter", out=None, jsonl=lines, port=None),
        ):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        work()
    assert caught.value.filename == str(tmp_path / "lines")


def test_ctrl_c_asks_for_the_end_once_and_a_second_one_insists() -> None:
    # A process that was started in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stopping() as stop:
            assert not stop.is_set()
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _asked(port: int, path: str, **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_page_streams_the_frames_to_this_machine_only() -> None:
    page, port = LivePage("film & <i>.mp4", "starter"), _free_port()
    frame = np.full((48, 64, 3), (200, 30, 90), np.uint8)
    with serving(page, port) as address:
        assert address == f"http://127.0.0.1:{port}"
        assert "film &amp; &lt;i&gt;.mp4" in _asked(port, "/").read().decode()
        page.say("face 1: Happiness 90%")
        assert json.load(_asked(port, "/state")) == {"line": "face 1: Happiness 90%"}
        assert not page.watched
        with _asked(port, "/stream") as stream:
            assert "boundary=frame" in str(stream.headers["Content-Type"])
            assert stream.readline() == b"--frame\r\n"
            for _ in range(2):
                assert page.watched
                page.show(frame)
                assert stream.readline() == b"Content-Type: image/jpeg\r\n"
                length = int(stream.readline().split()[1])
                assert stream.readline() == b"\r\n"
                shown = cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), 1)
                assert np.abs(shown.astype(int) - frame).max() < 12
                assert stream.readline() + stream.readline() == b"\r\n--frame\r\n"
        assert _asked(port, "/stream", Host="rebound.example").status == 400
        with (
            pytest.raises(InputError, match=f"port {port} on .* can't be used"),
            serving(page, port),
        ):
            pass
