"""The services of docker-compose.yml, started for real with their own command lines.

One set of processes serves every test here: PostgreSQL, MLflow, code server, daemon, webserver.
"""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fer_pipeline_tests.deploy.native import PASSWORD, Machine, machine_with_postgresql

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


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with machine_with_postgresql() as machine:
        _write_release(machine.paths["/data"])
        # Two long starts at once; in compose the code server waits for MLflow.
        for service in ("mlflow", "code"):
            machine.start(service)
        machine.wait_until_healthy("code", 150)
        for service in ("webserver", "daemon"):
            machine.start(service)
        for service in ("mlflow", "webserver", "daemon"):
            machine.wait_until_healthy(service, 150)
        yield machine


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
    status, answer = _ask(machine.ports[3000], "POST", "/graphql", body, headers)
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
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert _ask(port, "GET", path, "", {"Host": f"{host}:{port}"})[0] == status


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
