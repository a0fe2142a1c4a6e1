"""An MLflow server that is gone, as steps and commands meet it."""

import base64
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
from mlflow.exceptions import MlflowException

from fer_pipeline import tracking
from fer_pipeline.assets.steps import step
from fer_pipeline.cli import evaluate
from fer_pipeline.core.errors import InputError
from fer_pipeline.operations.databases import ask_mlflow_server
from fer_pipeline.settings import Settings
from fer_pipeline.starter_command import starter
from fer_pipeline.tracking_server import (
    asked_by_a_person,
    out_of_reach,
    server_problem,
    shown_tracking_uri,
    tracking_uri,
)
from fer_pipeline_tests.core.parquet_faces import write_split

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv(RETRIES, "0")
    return Settings.fresh(home=tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")


def test_step_that_finds_no_server_fails_in_one_sentence(gone: Settings) -> None:
    with pytest.raises(dg.Failure) as failure, step():
        tracking.connect(gone).get_registered_model("fer-three_class")
    said = str(failure.value.description)
    assert said.startswith("MLflow can't be used (API request to http://127.0.0.1:9")
    assert "\n" not in said
    assert failure.value.allow_retries is False


def test_model_on_a_server_that_is_gone_is_not_called_unknown(gone: Settings) -> None:
    with pytest.raises(MlflowException) as error:
        tracking.model_file(gone, "models:/fer-three_class/1")
    assert out_of_reach(error.value)


def test_what_mlflow_refuses_is_not_called_a_server_that_is_gone(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path)
    client = tracking.connect(settings)
    with tracking.training_run(settings, "a/trained_model", {}, "name") as run:
        pass
    with pytest.raises(dg.Failure) as failure, step():
        client.get_model_version("nobody", "1")
    assert str(failure.value.description).startswith("MLflow refuses (Model Version (name=")
    client.delete_run(run.run_id)
    with pytest.raises(InputError, match=f"mlflow runs restore --run-id {run.run_id}"):
        tracking.log_evaluation(settings, run.run_id, {"test_accuracy": 0.5}, [])
    client.delete_experiment(client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id)
    with (
        pytest.raises(InputError, match="mlflow experiments restore --experiment-id 1"),
        tracking.training_run(settings, "a/trained_model", {}, "name"),
    ):
        pass


@pytest.mark.parametrize("address", ["mlflow:5000", "postgres://fer@127.0.0.1/mlflow"])
def test_address_that_is_none_is_not_called_a_deletion(tmp_path: Path, address: str) -> None:
    settings = Settings.fresh(home=tmp_path, mlflow_tracking_uri=address)
    with pytest.raises(MlflowException) as error:
        tracking.connect(settings).search_registered_models()
    said = str(server_problem(error.value))
    assert said.startswith("MLflow can't be used")
    assert "FER_MLFLOW_TRACKING_URI is right" in said


def test_other_errors_are_none_of_mlflow() -> None:
    assert server_problem(ValueError("API request to the moon")) is None
    assert not out_of_reach(MlflowException("Run 'x' not found"))


def test_commands_that_fetch_a_model_do_not_wait_for_a_server_as_long_as_a_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object) -> Path:
        raise InputError(f"{os.environ.get(RETRIES)} more requests")

    monkeypatch.delenv(RETRIES, raising=False)
    monkeypatch.setattr(tracking, "model_file", fetched)
    write_split(tmp_path, "test", [0])
    with pytest.raises(InputError, match="2 more requests"):
        evaluate("models:/a/1", "hf-parquet", str(tmp_path), home=str(tmp_path / "home"))
    with pytest.raises(InputError, match="2 more requests"):
        starter("models:/a/1", tmp_path / "out", home=str(tmp_path / "home"))


def test_person_waits_seconds_and_a_training_as_long_as_mlflow_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    with asked_by_a_person():
        assert os.environ[RETRIES] == "2"
    assert RETRIES not in os.environ
    monkeypatch.setenv(RETRIES, "5")
    with asked_by_a_person():
        assert os.environ[RETRIES] == "5"
    assert os.environ[RETRIES] == "5"


def test_name_and_password_of_the_address_go_to_the_server_and_into_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            asked.append(self.headers["Authorization"])
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv(RETRIES, "0")
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with_login = address.replace("//", "//ann:very%2Fsecret@")
        settings = Settings.fresh(home=tmp_path, mlflow_tracking_uri=with_login)
        with pytest.raises(MlflowException) as error:
            tracking.connect(settings).get_run("0" * 32)
        with pytest.raises(InputError, match=f"MLflow server at {address}: answered 500"):
            ask_mlflow_server(with_login)
        server.shutdown()
    login = f"Basic {base64.b64encode(b'ann:very/secret').decode()}"
    assert set(asked) == {login}
    said = f"{error.value} {server_problem(error.value)}"
    assert address in said
    assert "secret" not in said
    assert tracking_uri(settings) == address


def test_password_of_a_database_is_not_told() -> None:
    database = "postgresql://fer:very-secret@db:5432/mlflow"
    settings = Settings.fresh(mlflow_tracking_uri=database)
    assert tracking_uri(settings) == database
    assert shown_tracking_uri(settings) == "postgresql://db:5432/mlflow"
