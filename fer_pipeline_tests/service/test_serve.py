"""`fer-pipeline serve` as people start it: hostile files, load, its end, and wrong input."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_pipeline.core.bounds import TooLargeError, UnreadableError
from fer_pipeline.core.recogniser import Recogniser
from fer_pipeline.service.limits import Limits
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.hostile_files import hostile_bytes
from fer_pipeline_tests.service import load
from fer_pipeline_tests.service.process import Service, serving
from fer_pipeline_tests.service.running import Answer

SECONDS_A_FILE = 5.0
MOST_MEMORY = 1_200_000_000
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105 - of a service that lives for a test
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a token is to be asked for there
WAITING = 6


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(FER_SERVE_WAITING=str(WAITING)) as started:
        yield started


def _expected(recogniser: Recogniser, data: bytes) -> int:
    """The status that the library's own reading stands for."""
    if len(data) > Limits().body_bytes:
        return 413
    try:
        recogniser.prepare(data)
    except TooLargeError:
        return 413
    except UnreadableError:
        return 422
    return 200


def _sent(service: Service, files: Mapping[str, bytes]) -> dict[str, tuple[Answer, float]]:
    """The answer to each file and its seconds, two at once."""

    def one(name: str) -> tuple[Answer, float]:
        start = time.monotonic()
        answer = service.client.recognise(files[name], "image/jpeg")
        return answer, time.monotonic() - start

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(files, pool.map(one, files), strict=True))


def _check(service: Service, recogniser: Recogniser, files: Mapping[str, bytes]) -> None:
    bounded = recogniser.within(Limits().bounds)
    answers = _sent(service, files)
    assert {name: answer.status for name, (answer, _) in answers.items()} == {
        name: _expected(bounded, data) for name, data in files.items()
    }
    for name, (answer, seconds) in answers.items():
        assert seconds < SECONDS_A_FILE, name
        assert answer.status == 200 or 5 < len(answer.detail) < 300, name
    assert service.client.get("/health").status == 200
    assert service.peak_bytes < MOST_MEMORY


def test_hostile_files_are_refused_or_read_in_bounded_time_and_memory(
    service: Service, recogniser: Recogniser
) -> None:
    files = hostile_bytes()
    _check(service, recogniser, files)


def test_hostile_files_that_others_collected_are_refused_or_read(
    service: Service, recogniser: Recogniser, real_data: Path
) -> None:
    found = sorted(path for path in (real_data / "hostile").iterdir() if path.is_file())
    assert len(found) > 60
    _check(service, recogniser, {path.name: path.read_bytes() for path in found})


def test_at_twice_what_it_carries_it_refuses_some_and_answers_the_others_rightly(
    service: Service, recogniser: Recogniser
) -> None:
    port, asked = service.client.port, load.pictures(recogniser, 6)
    carried = asyncio.run(load.closed_loop(port, asked[:1], 0.7))
    # So that refusals come within seconds however unsteady the machine is.
    pressed = asyncio.run(load.open_loop(port, asked, 2, max(2 * carried.rate, 20)))
    assert set(pressed.statuses) <= {200, 503}
    assert pressed.statuses[200] > 0
    assert (pressed.wrong, pressed.broken) == (0, 0)
    assert service.process.poll() is None


def test_sigterm_ends_it_after_the_answers_under_way(group: bytes) -> None:
    with serving("--threads", 1) as service, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(service.client.recognise, group) for _ in range(6)]
        until = time.monotonic() + 20
        while service.client.metrics()["fer_queue_length"] == 0:
            assert time.monotonic() < until
            assert not asked[-1].done()
        service.process.terminate()
        # One that it hadn't taken up when it stopped listening is refused a connection.
        answered = [future.result() for future in asked if future.exception() is None]
        assert {answer.status for answer in answered} == {200}
        assert service.process.wait(timeout=30) == 0
        assert "Traceback" not in service.said


def test_token_is_asked_for_where_others_listen_and_is_never_written_down(group: bytes) -> None:
    with serving("--host", EVERYWHERE, FER_SERVE_TOKEN=TOKEN) as service:
        client = service.client
        assert client.recognise(group).status == 401
        told = client.ask("POST", "/recognise", group, "image/png", _bearer(TOKEN))
        assert len(told.json["faces"]) == 3
        assert client.get("/model?token=" + TOKEN, **_bearer("guess")).status == 401
        assert client.get("/metrics", **_bearer(TOKEN)).body.count(TOKEN.encode()) == 0
        # As Ctrl-C does.
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(timeout=30) == 0
        assert "Traceback" not in service.said
        assert TOKEN not in service.said


def test_log_in_json_has_a_line_for_each_request_and_nothing_of_what_was_sent(
    group: bytes,
) -> None:
    with serving(FER_SERVE_TOKEN=TOKEN, FER_LOG_FORMAT="json") as service:
        client = service.client
        asked = [
            client.ask("POST", "/recognise?small=false", group, "image/png", _bearer(TOKEN)),
            client.ask("POST", "/recognise", b"no picture", "image/png", _bearer(TOKEN)),
            client.get("/model?token=" + TOKEN),
            client.get("/" + "a" * 5000),
            client.get("/health"),
        ]
        service.process.terminate()
        assert service.process.wait(timeout=30) == 0
        lines = [json.loads(line) for line in service.said.splitlines()]
        assert TOKEN not in service.said
    requests = [line for line in lines if "method" in line]
    # Of /health nobody wants to read every few seconds.
    assert [line["status"] for line in requests] == [answer.status for answer in asked[:-1]]
    assert [line["status"] for line in requests] == [200, 422, 401, 404]
    assert [line["path"] for line in requests][:3] == ["/recognise", "/recognise", "/model"]
    assert len(requests[3]["path"]) == 200
    assert all(0 < line["ms"] < 60_000 for line in requests)
    known = {"time", "level", "logger", "message", "method", "path", "status", "ms"}
    assert all(set(line) <= known for line in lines)
    assert any("http://127.0.0.1" in line["message"] for line in lines)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("own_environment")
def test_wrong_input_is_one_sentence(
    service: Service,
    here: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "x.keras").write_bytes(b"PK")
    for words, expected in (
        (("--host", EVERYWHERE), "set a token in FER_SERVE_TOKEN"),
        (("--host", "no.such.host.invalid"), "set a token in FER_SERVE_TOKEN"),
        (("--port", service.client.port), "can't be used (Address already in use)"),
        (("--port", 0, "--model", "none.keras"), "neither a file nor an MLflow address"),
        (("--port", 0, "--model", tmp_path / "x.keras"), "is no model file of this pipeline"),
    ):
        ended = here("serve", "--home", tmp_path / "home", *words)
        assert (ended.code, expected in ended.words) == (2, True), ended
        assert "Traceback" not in ended.err
    monkeypatch.setenv("FER_SERVE_TOKEN", TOKEN)
    ended = here("serve", "--home", tmp_path / "home", "--host", "x" * 64)
    assert (ended.code, "can't be used (no name of a machine)" in ended.words) == (2, True), ended
    for seconds in ("inf", "1e9", "nan"):
        monkeypatch.setenv("FER_SERVE_SECONDS", seconds)
        ended = here("serve", "--home", tmp_path / "home", "--port", 0, "--model", "none.keras")
        assert (ended.code, "setting serve_seconds: " in ended.words) == (2, True), ended
