"""Dagster's web server: who it answers, and that `ui` starts this one."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from dagster._cli import dev
from rich.console import Console

from fer_pipeline import dagster_dev, servers
from fer_pipeline.settings import Settings
from fer_pipeline.webserver import _OwnWebserver

JSON = {"accept": "*/*"}
PAGE = {"accept": "text/html,*/*"}
IMAGE = {"accept": "image/avif,image/*,*/*"}


def _asked(path: str, method: str | None, headers: dict[str, str]) -> int:
    """The status that Dagster's web server would answer with; 200: it would answer."""
    sent: list[Any] = []

    async def dagster(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "websocket", "path": path, "headers": given}
    if method is not None:
        scope |= {"type": "http", "method": method}
    guard = _OwnWebserver.build_middleware(object.__new__(_OwnWebserver))[0]
    application: Any = guard.cls(dagster, *guard.args, **guard.kwargs)
    asyncio.run(application(scope, receive, send))
    return int(sent[0].get("status") or sent[0]["code"])


@pytest.mark.parametrize("path", ["/graphql", "/dagster/graphql"])
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", JSON, 200),
        ("POST", {**JSON, "sec-fetch-site": "same-origin"}, 200),
        ("POST", {**JSON, "origin": "http://localhost:3000"}, 200),
        ("POST", {**JSON, "sec-fetch-site": "cross-site"}, 400),
        ("POST", {**JSON, "sec-fetch-site": "same-site"}, 400),
        ("POST", {**JSON, "origin": "http://evil.example"}, 400),
        ("GET", {**PAGE, "sec-fetch-site": "none"}, 200),
        ("GET", {**PAGE, "sec-fetch-site": "cross-site"}, 400),
        ("GET", {**IMAGE, "sec-fetch-site": "cross-site"}, 400),
        ("GET", IMAGE, 400),
        (None, {"origin": "http://localhost:3000"}, 200),
        (None, {"origin": "http://evil.example"}, 1008),
        (None, {"sec-fetch-site": "cross-site"}, 1008),
    ],
)
def test_only_own_pages_and_programs_send_queries(
    path: str, method: str | None, headers: dict[str, str], status: int
) -> None:
    assert _asked(path, method, {"host": "localhost:3000", **headers}) == status


def test_pages_of_others_may_lead_here_and_report_nothing() -> None:
    foreign = {"host": "localhost:3000", "sec-fetch-site": "cross-site"}
    assert _asked("/runs", "GET", {**PAGE, **foreign}) == 200
    assert _asked("/report_asset_materialization/face_crops", "POST", foreign) == 400


@pytest.mark.parametrize(
    ("listed", "host", "status"),
    [
        (None, "127.0.0.1:3000", 200),
        (None, "[::1]:3000", 200),
        (None, "evil.example:3000", 400),
        (None, "", 400),
        ("faces.example, webserver", "faces.example", 200),
        ("faces.example, webserver", "localhost", 400),
        ("*", "anything.example", 200),
    ],
)
def test_names_that_are_answered_to(
    listed: str | None, host: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FER_WEB_HOSTS", raising=False)
    if listed is not None:
        monkeypatch.setenv("FER_WEB_HOSTS", listed)
    assert _asked("/", "GET", {"host": host, **PAGE}) == status


def test_dagster_dev_starts_this_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(dagster_dev, "_start", lambda parts, **_: started.append(parts))
    monkeypatch.setattr(dev, "open_ipc_subprocess", dev.open_ipc_subprocess)
    monkeypatch.setattr(
        dagster_dev._cli,
        "main",
        lambda: dev.open_ipc_subprocess(["python", "-m", "dagster_webserver", "--port", "1"]),
    )
    dagster_dev.main()
    assert started == [["python", "-m", "fer_pipeline.webserver", "--port", "1"]]


@pytest.mark.parametrize(
    ("host", "listed", "names", "warned", "told"),
    [
        ("127.0.0.1", "", "127.0.0.1,::1,localhost", False, []),
        (
            *("127.0.0.2", "", "127.0.0.1,127.0.0.2,::1,localhost", False),
            ["127.0.0.1:5000,127.0.0.2:5000,::1:5000,localhost:5000", "http://127.0.0.2:5000"],
        ),
        ("0.0.0.0", "", "*", True, ["*", "http://0.0.0.0:5000"]),  # noqa: S104
        (
            *("0.0.0.0", "faces.lan, here", "faces.lan,here", True),  # noqa: S104
            ["0.0.0.0:5000,faces.lan:5000,here:5000", "http://faces.lan:5000"],
        ),
    ],
)
def test_ui_that_others_reach_says_that_it_has_no_password(
    host: str,
    listed: str,
    names: str,
    warned: bool,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: dict[str, Any] = {}

    def run(commands: Any, variables: Any, *_: Any) -> None:
        ran.update(commands=commands, variables=variables)

    monkeypatch.setenv("FER_WEB_HOSTS", listed)
    monkeypatch.setattr(servers, "run_servers", run)
    for name in ("check_free", "prepare_home", "close_runs_of_the_home", "follow_home"):
        monkeypatch.setattr(servers, name, lambda *_: None)
    said = io.StringIO()
    console = Console(file=said, width=500)
    servers.serve_ui(Settings.load(home=tmp_path / "home"), host, 3000, 5000, console)
    assert ("no password" in said.getvalue()) == warned
    assert ran["variables"]["FER_WEB_HOSTS"] == names
    assert "fer_pipeline.dagster_dev" in ran["commands"][f"http://{host}:3000"]
    mlflow = ran["commands"][f"http://{host}:5000"]
    assert ("--allowed-hosts" in mlflow) == bool(told)
    if told:
        hosts, origin = told
        assert mlflow[mlflow.index("--allowed-hosts") + 1] == hosts
        assert origin in mlflow[mlflow.index("--cors-allowed-origins") + 1].split(",")
