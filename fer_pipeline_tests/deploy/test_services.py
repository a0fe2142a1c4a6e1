"""The services of docker-compose.yml, started for real with their own command lines.

One set of processes serves every test here, PostgreSQL and the proxy among them.
"""

import base64
import http.client
import ipaddress
import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from fer_pipeline_tests.deploy.native import PASSWORD, machine_of_its_own, up_native
from fer_pipeline_tests.system import require_program

pytestmark = pytest.mark.timeout(480)

COLUMNS = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
LISTS = {
    "Manually_Annotated_file_lists/training.csv": 3,
    "Manually_Annotated_file_lists/validation.csv": 2,
    "Automatically_annotated_file_list/automatically_annotated.csv": 2,
}
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  __typename
  ... on PythonError { message }
  ... on RepositoryLocation { repositories { name assetNodes { assetKey { path } } } }
} } } } }
"""


def _write_release(root: Path) -> None:
    """Write three lists of an AffectNet release, of a few rows each, beside their photo folders."""
    for folder in ("Manually_Annotated", "Automatically_Annotated"):
        (root / f"{folder}_compressed" / f"{folder}_Images" / "1").mkdir(parents=True)
    landmarks = ";".join(["10.0;10.0"] * 68)
    for name, count in LISTS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stem = path.stem
        rows = [f"1/{stem}{i}.jpg,1,1,90,90,{landmarks},{i},0.1,0.1" for i in range(count)]
        path.write_text("\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")


Machine = up_native.Machine
USER, USERS_PASSWORD = "ada", "correct horse"
_PAGES = ("/", "/dagster/server_info", "/mlflow/health", "/label/", "/metrics", "/nothing")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    caddy = require_program("caddy")
    require_program("wget")
    with machine_of_its_own() as machine:
        _write_release(machine.paths["/data"])
        hashed = subprocess.run(
            [caddy, "hash-password", "--plaintext", USERS_PASSWORD],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        machine.paths["/run/secrets/users"].write_text(f"{USER} {hashed}\n", encoding="utf-8")
        machine.up(seconds=240)
        yield machine


def _through_the_door(
    machine: Machine, path: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """The answer of the proxy, whose certificate is its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = machine.ports[443]
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _signed_in(password: str = USERS_PASSWORD) -> dict[str, str]:
    word = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


def _ask(
    port: int, method: str, path: str, body: str, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _graphql(machine: Machine, query: str, variables: dict[str, Any] | None = None) -> Any:
    body = json.dumps({"query": query, "variables": variables or {}})
    headers = {"Content-Type": "application/json"}
    status, answer = _ask(machine.ports[3000], "POST", "/dagster/graphql", body, headers)
    decoded = json.loads(answer)
    assert status == 200, decoded
    assert "errors" not in decoded, decoded
    return decoded["data"]


def _rows(machine: Machine, database: str, query: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=machine.ports[5432],
        user="fer",
        password=PASSWORD,
        dbname=database,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def _location(machine: Machine) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        (entry,) = _graphql(machine, LOCATIONS)["workspaceOrError"]["locationEntries"]
        if entry["loadStatus"] == "LOADED" or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    location: dict[str, Any] = entry["locationOrLoadError"]
    assert location["__typename"] == "RepositoryLocation", location
    return location


def test_dagster_and_mlflow_keep_their_tables_in_postgresql(machine: Machine) -> None:
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    assert {("runs",), ("event_logs",), ("daemon_heartbeats",)} <= set(
        _rows(machine, "dagster", tables)
    )
    assert {("experiments",), ("registered_models",)} <= set(_rows(machine, "mlflow", tables))
    assert _rows(machine, "dagster", "SELECT count(*) FROM daemon_heartbeats") > [(0,)]


def test_webserver_shows_the_assets_of_the_code_server(machine: Machine) -> None:
    (repository,) = _location(machine)["repositories"]
    keys = {tuple(node["assetKey"]["path"]) for node in repository["assetNodes"]}
    assert {("file_list_index",), ("class_manifest",), ("five_class", "trained_model")} <= keys


@pytest.mark.parametrize(("host", "status"), [("mlflow", 200), ("elsewhere.example", 403)])
def test_mlflow_answers_the_other_services_and_no_foreign_name(
    machine: Machine, host: str, status: int
) -> None:
    port = machine.ports[5000]
    path = "/mlflow/api/2.0/mlflow/experiments/search?max_results=1"
    assert _ask(port, "GET", path, "", {"Host": f"{host}:{port}"})[0] == status


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("elsewhere.example", 400)])
def test_dagster_answers_to_its_own_names_alone(machine: Machine, host: str, status: int) -> None:
    port = machine.ports[3000]
    assert _ask(port, "GET", "/dagster/server_info", "", {"Host": host})[0] == status


@pytest.mark.parametrize("path", _PAGES)
def test_without_a_password_every_address_is_refused(machine: Machine, path: str) -> None:
    assert _through_the_door(machine, path)[0] == 401
    assert _through_the_door(machine, path, _signed_in("wrong"))[0] == 401


def test_who_has_the_password_gets_every_page(machine: Machine) -> None:
    pages = {path: _through_the_door(machine, path, _signed_in()) for path in _PAGES}
    assert {path: status for path, (status, _) in pages.items()} == {
        path: 404 if path == "/nothing" else 200 for path in _PAGES
    }
    assert b"Facial expressions" in pages["/"][1]
    # MLflow's assistant would run programs on the server.
    assistant = "/mlflow/ajax-api/3.0/mlflow/assistant/config"
    assert _through_the_door(machine, assistant, _signed_in())[0] == 403


def test_door_answers_to_no_other_name(machine: Machine) -> None:
    headers = {**_signed_in(), "Host": "elsewhere.example"}
    assert _through_the_door(machine, "/", headers)[0] == 421


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    # gRPC listens on an IPv6 socket that stands for an IPv4 address.
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def test_nothing_but_the_door_listens_beyond_this_machine(machine: Machine) -> None:
    ours = {service.process.pid for service in machine.running.values()}
    beyond = {
        one.laddr.port: " ".join(psutil.Process(one.pid).cmdline())
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
        and one.pid is not None
        and ours & {one.pid, *(parent.pid for parent in psutil.Process(one.pid).parents())}
        and not _is_loopback(one.laddr.ip)
    }
    assert set(beyond) == {machine.ports[443], machine.ports[80]}, beyond


def test_no_log_holds_a_secret(machine: Machine) -> None:
    _through_the_door(machine, "/metrics", _signed_in())
    secrets = [
        value for name, value in machine.variables.items() if name.endswith(("_PASSWORD", "_TOKEN"))
    ]
    secrets += [USERS_PASSWORD, _signed_in()["Authorization"].partition(" ")[2]]
    for log in (machine.folder / "logs").iterdir():
        text = log.read_text(encoding="utf-8", errors="replace")
        assert not [secret for secret in secrets if secret in text], log


def test_run_asked_for_on_the_page_is_queued_launched_and_kept(machine: Machine) -> None:
    (repository,) = _location(machine)["repositories"]
    selector = {
        "repositoryLocationName": "fer_pipeline",
        "repositoryName": repository["name"],
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": ["file_list_index"]}],
    }
    parameters = {"selector": selector, "mode": "default", "runConfigData": {}}
    launched = _graphql(machine, LAUNCH, {"params": parameters})["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    query = f"SELECT status FROM runs WHERE run_id = '{run_id}'"  # noqa: S608
    deadline = time.monotonic() + 180
    while (found := _rows(machine, "dagster", query)) != [("SUCCESS",)]:
        logs = machine.running["daemon"].log_tail() + machine.running["code"].log_tail()
        assert found != [("FAILURE",)], logs
        assert time.monotonic() < deadline, logs
        time.sleep(0.5)
    index = machine.paths["/fer-home"] / "index" / "file_list_index.parquet"
    assert index.exists()
    log = (machine.folder / "logs" / "code.log").read_text(encoding="utf-8")
    logged = [json.loads(line) for line in log.splitlines() if f'"run_id": "{run_id}"' in line]
    assert {"PIPELINE_START", "STEP_SUCCESS"} <= {line.get("event") for line in logged}


_LOGS_IN_JSON = ("code", "webserver", "daemon", "mlflow", "labelling", "recognition", "proxy")


def test_every_line_of_every_log_but_postgresqls_is_json(machine: Machine) -> None:
    for _ in range(2):
        _through_the_door(machine, "/nothing?secret", _signed_in())
    lines: dict[str, list[dict[str, Any]]] = {}
    for name in _LOGS_IN_JSON:
        text = (machine.folder / "logs" / f"{name}.log").read_text(encoding="utf-8")
        others = [line for line in text.splitlines() if not line.startswith("{")]
        assert not others, name
        lines[name] = [json.loads(line) for line in text.splitlines()]
        keys = {"ts", "level"} if name == "proxy" else {"time", "level", "logger", "message"}
        strange = [line for line in lines[name] if not keys <= set(line)]
        # One that Dagster writes before it has loaded what tells it our format.
        assert [line["logger"] for line in strange] == ["dagster.code_server"] * (name == "code")
    paths = [line["path"] for line in lines["recognition"] if line.get("status") == 404]
    # The line of the second may not be written yet.
    assert set(paths) == {"/nothing"}
