"""Dagster's pages and MLflow of a machine, asked over HTTP as their pages ask."""

import http.client
import json
import time
import urllib.parse
from collections.abc import Collection, Sequence
from typing import Any

from fer_pipeline_tests.deploy.native import up_native

_LAUNCH = """mutation($given: ExecutionParams!) { launchRun(executionParams: $given) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""
_EVENTS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  __typename ... on ExecutionStepFailureEvent { stepKey error { message } }
  ... on RunFailureEvent { message } } } } }"""
_RETRY = """mutation($given: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $given) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUNS = """query($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) {
  ... on Runs { results { runId } } } }"""
_TAGS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { tags { key value } } } }"
_CANCEL = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""
_REPOSITORY = """{ workspaceOrError { ... on Workspace { locationEntries { name
  locationOrLoadError { ... on RepositoryLocation { repositories { name } } } } } } }"""


class Pages:
    """What the pages of a machine's services are asked."""

    def __init__(self, machine: up_native.Machine) -> None:
        self.machine = machine

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The data that a GraphQL query gives."""
        body = json.dumps({"query": query, "variables": variables or {}})
        answer = json.loads(self._post(3000, "/dagster/graphql", body))
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, assets: Sequence[str], seconds: float = 120) -> str:
        """Launch a run that makes these assets; gives its id."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                (entry,) = self.ask(_REPOSITORY)["workspaceOrError"]["locationEntries"]
                (repository,) = entry["locationOrLoadError"]["repositories"]
                selector = {
                    "repositoryLocationName": entry["name"],
                    "repositoryName": repository["name"],
                    "jobName": "__ASSET_JOB",
                    "assetSelection": [{"path": name.split("/")} for name in assets],
                }
                given = {"selector": selector, "mode": "default", "runConfigData": {}}
                launched = self.ask(_LAUNCH, {"given": given})["launchRun"]
                assert launched["__typename"] == "LaunchRunSuccess", launched
                return str(launched["run"]["runId"])
            except (AssertionError, OSError, ValueError, KeyError, http.client.HTTPException):
                # The code server may just have come back.
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def state(self, run: str) -> str:
        """The state of a run; "" while it can't be asked."""
        try:
            return str(self.ask(_STATUS, {"id": run})["runOrError"].get("status", ""))
        except (AssertionError, OSError, ValueError, http.client.HTTPException):
            return ""

    def wait(self, run: str, wanted: Collection[str], seconds: float) -> str:
        """The state of a run once it is one of these, or when time is up."""
        deadline = time.monotonic() + seconds
        while (state := self.state(run)) not in wanted and time.monotonic() < deadline:
            time.sleep(0.5)
        return state

    def why(self, run: str) -> list[str]:
        """What a run's log says of failures."""
        events = self.ask(_EVENTS, {"id": run})["logsForRun"]["events"]
        return [json.dumps(one)[:600] for one in events if len(one) > 1]

    def is_to_be_retried(self, run: str) -> bool:
        """Whether the daemon is going to run it again, or hasn't decided yet."""
        tags = {
            one["key"]: one["value"] for one in self.ask(_TAGS, {"id": run})["runOrError"]["tags"]
        }
        return tags.get("dagster/will_retry", "true") == "true"

    def retries_of(self, run: str) -> list[str]:
        """The runs that were started to do the work of this one."""
        tags = [{"key": "dagster/parent_run_id", "value": run}]
        return [one["runId"] for one in self.ask(_RUNS, {"tags": tags})["runsOrError"]["results"]]

    def retry(self, run: str) -> str:
        """Run again what a failed run left undone, as the button does; gives the id."""
        given = {"parentRunId": run, "strategy": "FROM_FAILURE"}
        launched = self.ask(_RETRY, {"given": given})["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def told(self, run: str) -> int:
        """How many events the log of a run has; 0 while it can't be asked."""
        try:
            return len(self.ask(_EVENTS, {"id": run})["logsForRun"].get("events", []))
        except (AssertionError, OSError, ValueError, http.client.HTTPException):
            return 0

    def cancel(self, run: str) -> None:
        """Terminate a run."""
        self.ask(_CANCEL, {"id": run})

    def open_trainings(self) -> list[str]:
        """The MLflow runs that are still RUNNING."""
        found = json.loads(self._post(5000, "/mlflow/api/2.0/mlflow/experiments/search", _MANY))
        ids = [one["experiment_id"] for one in found.get("experiments", [])]
        body = json.dumps({"experiment_ids": ids, "filter": "status = 'RUNNING'"})
        runs = json.loads(self._post(5000, "/mlflow/api/2.0/mlflow/runs/search", body))
        return [one["info"]["run_id"] for one in runs.get("runs", [])]

    def model_versions(self, name: str) -> dict[str, str]:
        """The registered versions of a model: number and the id of the model it is."""
        query = "/mlflow/api/2.0/mlflow/model-versions/search?max_results=1000&filter="
        asked = query + urllib.parse.quote(f"name='{name}'")
        found = json.loads(self._get(5000, asked)).get("model_versions", [])
        return {one["version"]: one["source"].rsplit("/", 1)[-1] for one in found}

    def _get(self, port: int, path: str) -> bytes:
        return self._ask("GET", port, path, None)

    def _post(self, port: int, path: str, body: str) -> bytes:
        return self._ask("POST", port, path, body)

    def _ask(self, method: str, port: int, path: str, body: str | None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.machine.ports[port], timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data[:500]
            return data
        finally:
            connection.close()


_MANY = json.dumps({"max_results": 100})
