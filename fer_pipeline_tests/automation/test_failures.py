"""What becomes of a run that ends badly: in MLflow, in Dagster's queue and in the training pool."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage import runs

from fer_pipeline import instance as instance_module
from fer_pipeline import tracking
from fer_pipeline.automation.failures import failure_sensors
from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.instance import COMMAND_LINE_TAG, close_lost_runs, locked_home
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import STREAM, sensor_tick, unfinished_run

TRAINING = f"{STREAM}/trained_model"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.fresh(home=tmp_path / "home", streams=(STREAM,))


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _launched(settings: Settings, process: int, **tags: str) -> dg.DagsterRun:
    run = unfinished_run(settings, PIPELINE_JOB, [TRAINING], **tags)
    with graph.instance_of(settings.state_folder) as instance:
        instance.report_engine_event(
            f"Started process for run (pid: {process}).", run, EngineEventData.in_process(process)
        )
    return run


def _status(settings: Settings, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    with graph.instance_of(settings.state_folder) as instance:
        found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def _tracked(settings: Settings, run: dg.DagsterRun) -> str:
    """An MLflow run that the Dagster run opened and left RUNNING, from a host of another name."""
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    number = (
        client.create_experiment(tracking.EXPERIMENT)
        if experiment is None
        else experiment.experiment_id
    )
    tags = {tracking.DAGSTER_RUN_TAG: run.run_id, tracking.HOME_TAG: "of a container that is gone"}
    return str(client.create_run(number, tags=tags).info.run_id)


def _ended(settings: Settings, sensor: str, run: dg.DagsterRun) -> Any:
    """What a sensor says of a run that failed or was cancelled."""
    (found,) = [one for one in failure_sensors() if one.name == sensor]
    with graph.instance_of(settings.state_folder) as instance:
        report = (
            instance.report_run_failed if sensor == "failed_run" else instance.report_run_canceled
        )
        event = report(run)
        now = instance.get_run_by_id(run.run_id)
        assert now is not None
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor,
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=now,
            resources={"settings": settings},
        )
        return found(context)


@pytest.mark.parametrize("sensor", ["failed_run", "cancelled_run"])
def test_run_that_ended_badly_leaves_no_mlflow_run_running_and_touches_no_other(
    settings: Settings, sensor: str
) -> None:
    ended, living = (unfinished_run(settings, PIPELINE_JOB, [TRAINING]) for _ in range(2))
    left, trains = _tracked(settings, ended), _tracked(settings, living)
    said = _ended(settings, sensor, ended)
    assert f"1 MLflow run(s) of run {ended.run_id} closed" in said.skip_message
    tracked = graph.tracked_runs(settings.state_folder)
    assert (tracked[left], tracked[trains]) == ("KILLED", "RUNNING")


def test_run_that_trained_nothing_costs_no_look_at_mlflow(settings: Settings) -> None:
    ended = unfinished_run(settings, PIPELINE_JOB, ["class_manifest"])
    said = _ended(settings, "failed_run", ended)
    assert "trained nothing" in said.skip_message
    assert not settings.mlflow_folder.exists()


def test_run_without_a_process_is_closed_with_its_mlflow_run(settings: Settings, gone: int) -> None:
    dead, alive = _launched(settings, gone), _launched(settings, os.getpid())
    left, trains = _tracked(settings, dead), _tracked(settings, alive)
    _, data = sensor_tick(settings, "lost_runs")
    assert data.skip_message == "1 run(s) without a process closed"
    assert _status(settings, dead) == dg.DagsterRunStatus.FAILURE
    assert _status(settings, alive) == dg.DagsterRunStatus.STARTED
    # This host knows the run by its name alone: the sensor for failed runs closes it.
    _ended(settings, "failed_run", dead)
    tracked = graph.tracked_runs(settings.state_folder)
    assert (tracked[left], tracked[trains]) == ("KILLED", "RUNNING")
    _, again = sensor_tick(settings, "lost_runs")
    assert again.skip_message == "none lost"


def test_killed_command_is_closed_and_a_working_one_is_not(settings: Settings) -> None:
    run = unfinished_run(settings, PIPELINE_JOB, [TRAINING], **{COMMAND_LINE_TAG: "true"})
    with locked_home(settings):
        sensor_tick(settings, "lost_runs")
        assert _status(settings, run) == dg.DagsterRunStatus.STARTED
    sensor_tick(settings, "lost_runs")
    assert _status(settings, run) == dg.DagsterRunStatus.FAILURE


def test_lock_of_the_home_is_not_taken_where_no_run_looks_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that starts at that moment would find the home busy."""
    run = _launched(settings, os.getpid())
    monkeypatch.setattr(instance_module, "locked_home", None)
    with graph.instance_of(settings.state_folder) as instance:
        assert close_lost_runs(instance, settings) == 0
    assert _status(settings, run) == dg.DagsterRunStatus.STARTED


def test_shared_instance_is_looked_after_by_the_code_server_that_launched_the_run(
    settings: Settings, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL: a command's run may have its process, and its lock, on another machine."""

    class Other:
        pass

    launched = _launched(settings, gone)
    command = _launched(settings, gone, **{COMMAND_LINE_TAG: "true"})
    with graph.instance_of(settings.state_folder) as instance:
        assert isinstance(instance.run_storage, runs.SqliteRunStorage)
        monkeypatch.setattr(runs, "SqliteRunStorage", Other)
        assert close_lost_runs(instance, settings) == 1
    assert _status(settings, launched) == dg.DagsterRunStatus.FAILURE
    assert _status(settings, command) == dg.DagsterRunStatus.STARTED


def test_sensors_that_clean_up_are_always_on(settings: Settings) -> None:
    names = {sensor.name: sensor.default_status for sensor in failure_sensors()}
    assert names == dict.fromkeys(
        ("failed_run", "cancelled_run", "lost_runs"), dg.DefaultSensorStatus.RUNNING
    )
    known = {sensor.name for sensor in build_definitions(settings).sensors or ()}
    assert known >= names.keys()
