"""How MLflow's runs begin and end, also those of killed processes, and what is read from them."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.model_cards import with_version
from fer_pipeline.repeat import like
from fer_pipeline.settings import Settings
from fer_pipeline.stale_runs import close_stale_runs
from fer_pipeline.tracking_server import tracking_uri
from fer_pipeline_tests import graph


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with nothing but MLflow's database."""
    return Settings.fresh(home=tmp_path_factory.mktemp("tracking"))


def _status(settings: Settings, run_id: str) -> str:
    return str(tracking.connect(settings).get_run(run_id).info.status)


def _left_running(settings: Settings, asset: str, home: str | None = None) -> str:
    """A run that is RUNNING without a process, as SIGKILL leaves it."""
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    tags = {tracking.ASSET_TAG: asset, tracking.HOME_TAG: home or tracking.home_id(settings)}
    run = client.create_run(experiment.experiment_id, tags=tags)
    return str(run.info.run_id)


def test_home_without_an_experiment_has_nothing_to_close(store: Settings) -> None:
    assert close_stale_runs(store) == 0


def test_finished_training_is_a_finished_run(store: Settings) -> None:
    with tracking.training_run(store, "a/trained_model", {"one": "two"}, "name") as run:
        assert _status(store, run.run_id) == "RUNNING"
        run.log_parameters({"seed": 3})
    logged = tracking.connect(store).get_run(run.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "name"
    assert logged.data.params == {"seed": "3"}
    assert logged.data.tags["one"] == "two"
    assert logged.info.artifact_uri.startswith((store.mlflow_folder / "artifacts").as_uri())


def test_training_that_raises_is_a_failed_run(store: Settings) -> None:
    with (
        pytest.raises(FloatingPointError),
        tracking.training_run(store, "a/trained_model", {}, "name") as run,
    ):
        raise FloatingPointError
    assert _status(store, run.run_id) == "FAILED"


def test_training_closes_the_run_its_killed_predecessor_left(store: Settings) -> None:
    stale = _left_running(store, "a/trained_model")
    other = _left_running(store, "b/trained_model")
    with tracking.training_run(store, "a/trained_model", {}, "name") as run:
        assert _status(store, stale) == "KILLED"
        assert _status(store, other) == "RUNNING"
    assert _status(store, run.run_id) == "FINISHED"
    assert close_stale_runs(store) == 1
    assert _status(store, other) == "KILLED"


_KILLED_IN_A_WRITE = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("pragma cache_size = 1")
database.execute("update runs set status = 'FINISHED'")
database.execute("create table large as select zeroblob(1000000)")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_run_of_a_process_that_was_killed_in_a_write_is_closed_too(store: Settings) -> None:
    stale = _left_running(store, "a/trained_model")
    database = store.mlflow_folder / "mlflow.db"
    killed = subprocess.run([sys.executable, "-c", _KILLED_IN_A_WRITE, database], check=False)
    assert killed.returncode == -signal.SIGKILL
    with (
        contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("select * from runs")
    assert close_stale_runs(store) == 1
    assert graph.tracked_runs(store.home)[stale] == "KILLED"


def test_runs_of_another_home_on_the_same_server_are_left_alone(store: Settings) -> None:
    with tracking.training_run(store, "a/trained_model", {}, "name"):
        pass
    other = _left_running(store, "a/trained_model", home="of another machine")
    assert close_stale_runs(store) == 0
    assert _status(store, other) == "RUNNING"


def test_evaluation_is_added_without_reopening_the_run(store: Settings, tmp_path: Path) -> None:
    with tracking.training_run(store, "a/trained_model", {}, "name") as run:
        pass
    ended = tracking.connect(store).get_run(run.run_id).info.end_time
    page = tmp_path / "report.html"
    page.write_text("figures")
    tracking.log_evaluation(store, run.run_id, {"test_accuracy": 0.5}, [page])
    logged = tracking.connect(store).get_run(run.run_id)
    assert logged.data.metrics == {"test_accuracy": 0.5}
    assert (logged.info.status, logged.info.end_time) == ("FINISHED", ended)


def test_file_of_a_run_is_read_and_leaves_no_copy_behind(
    store: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.training_run(store, "a/trained_model", {}, "name") as run:
        run.log_json({"one": 1}, "settings.json")
        run.log_json({"two": 2}, "evaluation/deep.json")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, kept in (("settings.json", {"one": 1}), ("evaluation/deep.json", {"two": 2})):
        assert json.loads(tracking.run_file(store, run.run_id, name) or b"") == kept
    for name in ("deep.json", "none.json", "none/settings.json"):
        assert tracking.run_file(store, run.run_id, name) is None
    assert not list(tmp_path.iterdir())


def test_model_of_a_run_is_fetched_into_a_folder_that_goes_with_the_process(
    store: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.training_run(store, "a/trained_model", {}, "name") as run:
        pass
    model = tmp_path / "model.keras"
    model.write_bytes(b"weights")
    tracking.connect(store).log_artifact(run.run_id, str(model), "model")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = tracking.model_file(store, f"runs:/{run.run_id}/model")
    assert found.read_bytes() == b"weights"
    (folder,) = (tmp_path / "temporary").iterdir()
    assert folder.name.startswith(f".fer-pipeline.{os.getpid()}.")
    assert found.is_relative_to(folder)


def test_home_without_models_stays_as_it_is_when_it_is_asked_for_one(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path / "home")
    for asked in (
        lambda: tracking.model_file(settings, "models:/fer-three_class@champion"),
        lambda: with_version(settings, "models:/fer-three_class@champion"),
        lambda: like(settings, "0" * 32),
    ):
        with pytest.raises(InputError, match="known to sqlite://"):
            asked()
    assert not settings.home.exists()


def test_database_stands_in_the_home_unless_a_server_is_named(store: Settings) -> None:
    assert tracking_uri(store) == f"sqlite:///{store.home}/mlflow/mlflow.db"
    served = store.model_copy(update={"mlflow_tracking_uri": "http://mlflow:5000"})
    assert tracking_uri(served) == "http://mlflow:5000"


@pytest.mark.parametrize("address", ["models:/nobody/1", "models:/m-0000", "runs:/0000/model"])
def test_model_that_is_not_known_is_wrong_input(store: Settings, address: str) -> None:
    with pytest.raises(InputError, match=f"{address} isn't known to .*: give --home"):
        tracking.model_file(store, address)
