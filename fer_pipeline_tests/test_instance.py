"""The home's lock, its configuration, and what becomes of runs that were killed."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import EngineEventData

from fer_pipeline import lease, tracking
from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.core.errors import InputError
from fer_pipeline.instance import (
    COMMAND_LINE_TAG,
    EXECUTOR_TAG,
    HomeBusyError,
    close_killed_runs,
    close_runs_of_the_home,
    environment,
    is_of_a_command,
    locked_home,
    lost_runs,
    prepare_home,
    refuse_beside_ui_runs,
)
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A new home; what `prepare_home` sets in the environment is taken back."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("FER_HOME", str(tmp_path))
    return Settings.fresh(home=tmp_path / "home")


def _run(instance: dg.DagsterInstance, settings: Settings, tags: dict[str, str]) -> str:
    job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
    return instance.create_run_for_job(job, status=STARTED, tags=tags).run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def _leftover(settings: Settings) -> Path:
    path = settings.index_folder / ".file_list_index.parquet.abc.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    return path


def test_prepared_home_sends_nothing_out_and_trains_one_at_a_time(settings: Settings) -> None:
    prepare_home(settings)
    found = yaml.safe_load((settings.dagster_home / "dagster.yaml").read_text())
    assert found["telemetry"] == {"enabled": False}
    assert found["concurrency"]["pools"]["default_limit"] == 1
    assert os.environ["DAGSTER_HOME"] == str(settings.dagster_home)
    assert os.environ["FER_HOME"] == str(settings.home)
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert instance.storage_directory().startswith(str(settings.home))


def test_dagster_yaml_of_the_user_is_left_as_it_is(settings: Settings) -> None:
    settings.dagster_home.mkdir(parents=True)
    mine = settings.dagster_home / "dagster.yaml"
    mine.write_text("telemetry: {enabled: false}\n")
    prepare_home(settings)
    assert mine.read_text() == "telemetry: {enabled: false}\n"


def test_home_that_is_a_file_is_wrong_input(settings: Settings) -> None:
    settings.home.write_text("in the way")
    with pytest.raises(InputError, match="give --home another folder"):
        prepare_home(settings)
    with pytest.raises(InputError, match="give --home another folder"), locked_home(settings):
        pass


@pytest.mark.parametrize("name", ["what?", "my%20faces"])
def test_home_whose_path_would_be_read_as_an_address_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    settings = Settings.fresh(home=tmp_path / name)
    with pytest.raises(InputError, match="another folder"):
        prepare_home(settings)
    with pytest.raises(InputError, match="another folder"), locked_home(settings):
        pass
    assert not settings.home.exists()


def test_home_with_odd_characters_keeps_its_history(settings: Settings, tmp_path: Path) -> None:
    odd = settings.model_copy(update={"home": tmp_path / "100% #1 [a] 'b' & é+;$"})
    prepare_home(odd)
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("made"))
    with dg.DagsterInstance.get() as instance:
        assert instance.get_latest_materialization_event(dg.AssetKey("made"))
    experiment = tracking.connect(odd).create_experiment("tried")
    assert tracking.connect(odd).get_experiment(experiment).name == "tried"
    assert tracking.database_file(odd).is_file()
    assert {path.name for path in tmp_path.iterdir()} == {odd.home.name}


def test_servers_are_pointed_at_the_home(settings: Settings) -> None:
    found = environment(settings)
    assert found["DAGSTER_HOME"] == str(settings.dagster_home)
    assert found["FER_HOME"] == str(settings.home)


def test_locked_home_refuses_another_and_names_the_holder(settings: Settings) -> None:
    with (
        locked_home(settings),
        pytest.raises(HomeBusyError, match=f"process {os.getpid()}\\) works on {settings.home}"),
        locked_home(settings),
    ):
        pass


def test_lock_ends_with_its_block(settings: Settings) -> None:
    for _ in range(2):
        with locked_home(settings):
            assert (settings.home / "run.lock").read_text() == str(os.getpid())


def test_lock_ends_with_a_killed_process(settings: Settings) -> None:
    holder = (
        "import os, pathlib, signal, sys\n"
        "from fer_pipeline.instance import locked_home\n"
        "from fer_pipeline.settings import Settings\n"
        "with locked_home(Settings.fresh(home=pathlib.Path(sys.argv[1]))):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", holder, str(settings.home)], timeout=120, check=False
    )
    assert ended.returncode == -9
    assert (settings.home / "run.lock").read_text().isdigit()
    with locked_home(settings):
        assert (settings.home / "run.lock").read_text() == str(os.getpid())


def test_nothing_to_close_touches_no_tracking(settings: Settings) -> None:
    leftover = _leftover(settings)
    with graph.instance_of(settings.home) as instance:
        assert close_killed_runs(instance, settings) == 0
    assert not settings.mlflow_folder.exists()
    assert not leftover.exists()


def test_killed_commands_are_closed_and_runs_of_the_ui_are_left_alone(settings: Settings) -> None:
    with tracking.training_run(settings, "a/trained_model", {}, "whole"):
        pass
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)

    def trained_in(dagster_run: str) -> str:
        tags = {
            tracking.DAGSTER_RUN_TAG: dagster_run,
            tracking.HOME_TAG: tracking.home_id(settings),
        }
        return str(client.create_run(experiment.experiment_id, tags=tags).info.run_id)

    leftover = _leftover(settings)
    with graph.instance_of(settings.home) as instance:
        killed = _run(instance, settings, {COMMAND_LINE_TAG: "true"})
        launched = _run(instance, settings, {})
        stale, trains = trained_in(killed), trained_in(launched)
        assert close_killed_runs(instance, settings) == 1
        assert _status(instance, killed) == dg.DagsterRunStatus.FAILURE
        assert _status(instance, launched) == STARTED
        tracked = graph.tracked_runs(settings.home)
        assert (tracked[stale], tracked[trains]) == ("KILLED", "RUNNING")
        # The run of the UI may be writing it.
        assert leftover.exists()
        instance.report_run_failed(instance.get_run_by_id(launched))
        assert close_killed_runs(instance, settings) == 0
        assert not leftover.exists()


def test_run_of_the_ui_is_closed_when_its_process_is_gone(settings: Settings) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with graph.instance_of(settings.home) as instance:

        def launched(process: int) -> str:
            found = _run(instance, settings, {})
            instance.report_engine_event(
                f"Started process for run (pid: {process}).",
                instance.get_run_by_id(found),
                EngineEventData.in_process(process),
            )
            return found

        dead, alive = launched(gone.pid), launched(os.getpid())
        unknown = _run(instance, settings, {})
        assert close_killed_runs(instance, settings) == 1
        assert _status(instance, dead) == dg.DagsterRunStatus.FAILURE
        assert _status(instance, alive) == _status(instance, unknown) == STARTED


def test_killed_run_on_a_cluster_that_is_gone_is_closed_once_its_steps_have_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    waited: list[float] = []
    monkeypatch.setattr("fer_pipeline.instance.time.sleep", waited.append)
    with graph.instance_of(settings.home) as instance:
        run = _run(instance, settings, {COMMAND_LINE_TAG: "true", EXECUTOR_TAG: "ray"})
        with pytest.raises(HomeBusyError, match=f"run {run}, which a command started, hasn't"):
            refuse_beside_ui_runs(instance, settings)
        assert close_killed_runs(instance, settings) == 1
        assert _status(instance, run) == dg.DagsterRunStatus.FAILURE
    assert waited == [lease.LAST_SECONDS]
    assert lease.LAST_SECONDS > lease.PATIENCE


def test_run_of_the_pages_that_repeats_a_step_of_a_commands_run_is_none_of_a_command(
    settings: Settings,
) -> None:
    with graph.instance_of(settings.home) as instance:
        first = instance.get_run_by_id(_run(instance, settings, {COMMAND_LINE_TAG: "true"}))
        assert first is not None
        assert is_of_a_command(first)
        # As the pages do it, with the tags of the run before.
        job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
        again = instance.create_run_for_job(
            job,
            status=STARTED,
            tags=first.tags,
            parent_run_id=first.run_id,
            root_run_id=first.run_id,
        )
        assert not is_of_a_command(again)
        assert lost_runs(instance, settings) == [first.run_id]


def test_steps_of_a_killed_run_of_the_pages_end_on_the_cluster_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr("fer_pipeline.cluster.end_jobs", ended.extend)
    monkeypatch.setattr("fer_pipeline.instance._process_is_gone", lambda *_: True)
    with graph.instance_of(settings.home) as instance:
        here = _run(instance, settings, {COMMAND_LINE_TAG: "true", EXECUTOR_TAG: "local"})
        there = _run(instance, settings, {})
        spread = settings.model_copy(update={"executor": "ray"})
        assert close_killed_runs(instance, spread) == 2
        assert (_status(instance, here), ended) == (dg.DagsterRunStatus.FAILURE, [there])


def test_pages_close_killed_runs_before_they_start_unless_one_works(settings: Settings) -> None:
    prepare_home(settings)
    with graph.instance_of(settings.home) as instance:
        run = _run(instance, settings, {COMMAND_LINE_TAG: "true"})
        with locked_home(settings):
            close_runs_of_the_home(settings)
        assert _status(instance, run) == STARTED
        close_runs_of_the_home(settings)
        assert _status(instance, run) == dg.DagsterRunStatus.FAILURE
