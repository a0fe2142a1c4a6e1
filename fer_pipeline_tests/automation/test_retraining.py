"""The job of each stream, and what its schedule asks for."""

import re
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData

from fer_pipeline.automation.retraining import retraining_job_name, retraining_schedules
from fer_pipeline.automation.states import ALONE_TAG
from fer_pipeline.core.errors import InputError
from fer_pipeline.plan import AssetState
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import (
    MODELS,
    STREAM,
    chosen,
    copy_of,
    job_assets,
    make_early,
    of_stream,
    schedule_tick,
    unfinished_run,
)

OTHER = "seven_class"
JOB = retraining_job_name(STREAM)
SCHEDULE = f"{JOB}_schedule"
EVERY_TIME = of_stream(MODELS)
NEEDED = {"file_list_index", "class_manifest", "face_crops", f"{STREAM}/relabel_sample"}

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture(scope="module")
def made(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = graph.small_settings(drawn_release, tmp_path_factory.mktemp("made") / "home")
    make_early(settings)
    return settings


@pytest.fixture
def settings(made: Settings, tmp_path: Path) -> Settings:
    return copy_of(made, tmp_path / "home")


def _no_states(_settings: Settings, _instance: dg.DagsterInstance) -> list[AssetState]:
    raise AssertionError("nothing is looked at before a tick")


def test_each_stream_has_a_job_of_its_model_and_what_comes_of_it_and_what_it_needs(
    settings: Settings,
) -> None:
    streams = (STREAM, OTHER)
    both = settings.model_copy(update={"streams": streams})
    for stream in streams:
        made = job_assets(both, retraining_job_name(stream))
        assert made == {name.replace(STREAM, stream) for name in EVERY_TIME | NEEDED}


def test_schedules_are_off_until_one_setting_turns_them_all_on(settings: Settings) -> None:
    def status(**options: bool) -> set[dg.DefaultScheduleStatus]:
        streams = {"streams": (STREAM, OTHER)}
        now = settings.model_copy(update=streams | options)
        schedules = retraining_schedules(now, _no_states)
        assert [one.name for one in schedules] == [SCHEDULE, SCHEDULE.replace(STREAM, OTHER)]
        return {schedule.default_status for schedule in schedules}

    assert status() == {dg.DefaultScheduleStatus.STOPPED}
    assert status(schedules=True) == {dg.DefaultScheduleStatus.RUNNING}


def test_schedule_runs_weekly_unless_a_setting_says_when(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cron(now: Settings) -> object:
        (schedule,) = retraining_schedules(now, _no_states)
        return schedule.cron_schedule

    assert cron(settings) == "0 3 * * 1"
    monkeypatch.setenv("FER_SCHEDULE_CRON", "*/5 * * * *")
    assert cron(Settings.load(home=settings.home)) == "*/5 * * * *"
    for words in ("every Monday", "0 25 * * *", "0 3 * *", ""):
        monkeypatch.setenv("FER_SCHEDULE_CRON", words)
        said = re.escape(f"schedule_cron: {words!r} says no time")
        with pytest.raises(InputError, match=said):
            Settings.load(home=settings.home)


def test_tick_trains_anew_and_makes_nothing_else_where_all_is_up_to_date(
    settings: Settings,
) -> None:
    assert chosen(schedule_tick(settings, SCHEDULE)) == EVERY_TIME


def test_tick_makes_what_is_behind_upstream_too(settings: Settings) -> None:
    (settings.manifest_folder / "class_manifest.parquet").unlink()
    behind = {"class_manifest", "face_crops", f"{STREAM}/relabel_sample"}
    assert chosen(schedule_tick(settings, SCHEDULE)) == EVERY_TIME | behind


def test_tick_goes_by_the_settings_that_the_steps_will_find(settings: Settings) -> None:
    """A code server that was started before the last run knows the settings before it."""
    settings.model_copy(update={"seed": 7}).remember()
    behind = {"class_manifest", "face_crops", f"{STREAM}/relabel_sample"}
    assert chosen(schedule_tick(settings, SCHEDULE)) == EVERY_TIME | behind


def test_tick_waits_for_the_end_of_the_last_retraining_of_the_same_stream(
    settings: Settings,
) -> None:
    both = settings.model_copy(update={"streams": (STREAM, OTHER)})
    unfinished_run(both, retraining_job_name(OTHER), [f"{OTHER}/trained_model"])
    assert chosen(schedule_tick(settings, SCHEDULE)) == EVERY_TIME
    run = unfinished_run(both, JOB, [f"{STREAM}/trained_model"])
    data = schedule_tick(settings, SCHEDULE)
    assert chosen(data) == set()
    assert f"run {run.run_id}, goes on still" in (data.skip_message or "")


def test_streams_that_tick_together_make_what_they_share_once(settings: Settings) -> None:
    both = settings.model_copy(update={"streams": (STREAM, OTHER)})
    both.remember()
    other = retraining_job_name(OTHER)
    shared = {"class_manifest", "face_crops"}
    own = EVERY_TIME | {f"{STREAM}/relabel_sample"}
    first = chosen(schedule_tick(both, f"{other}_schedule"))
    assert first == shared | {name.replace(STREAM, OTHER) for name in own}
    run = unfinished_run(both, other, sorted(first), **{ALONE_TAG: "true"})
    assert chosen(schedule_tick(both, SCHEDULE)) == own
    # What that run made already and is behind once more isn't its business any more.
    with graph.instance_of(both.state_folder) as instance:
        for name in shared:
            told = StepMaterializationData(dg.AssetMaterialization(name))
            event = dg.DagsterEvent("ASSET_MATERIALIZATION", JOB, event_specific_data=told)
            instance.report_dagster_event(event, run.run_id)
    assert chosen(schedule_tick(both, SCHEDULE)) == own | shared


def test_tick_says_why_where_the_data_set_is_gone(settings: Settings, tmp_path: Path) -> None:
    settings.model_copy(update={"root": tmp_path / "unmounted"}).remember()
    data = schedule_tick(settings, SCHEDULE)
    assert chosen(data) == set()
    assert "unmounted" in (data.skip_message or "")


def test_tick_of_a_stream_that_is_active_no_more_asks_for_nothing(settings: Settings) -> None:
    settings.model_copy(update={"streams": (OTHER,)}).remember()
    data = schedule_tick(settings, SCHEDULE)
    assert chosen(data) == set()
    assert "reload" in (data.skip_message or "")
