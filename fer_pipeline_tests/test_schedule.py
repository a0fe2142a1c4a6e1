"""A schedule on a running daemon: it ticks, a stream is trained anew, its champion is decided."""

import time
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.automation.retraining import retraining_job_name
from fer_pipeline.champion import read_champion
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import MODELS, STREAM, of_stream
from fer_pipeline_tests.served import serving

SHORT = {"min_epochs": "2", "max_epochs": "2"}
JOB = retraining_job_name(STREAM)
SECONDS = 540
"""A tick comes within a minute; the rest is a training of seconds on a busy machine."""
EVERY_MINUTE = {
    "FER_SCHEDULES": "true",
    "FER_SCHEDULE_CRON": "* * * * *",
}


def _scheduled(home: Path) -> list[dg.RunRecord]:
    """The runs that the schedule asked for, the first one first."""
    wanted = dg.RunsFilter(job_name=JOB)
    with graph.instance_of(home) as instance:
        records = instance.get_run_records(wanted)
    return sorted(records, key=lambda record: record.create_timestamp)


def _made(home: Path, run_id: str) -> set[str]:
    with graph.instance_of(home) as instance:
        events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    keys = [event.dagster_event.asset_key for event in events if event.dagster_event]
    return {key.to_user_string() for key in keys if key}


def _retrained(home: Path) -> dg.RunRecord:
    """The schedule's first run, when it has ended."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        records = _scheduled(home)
        if records and records[0].dagster_run.is_finished:
            return records[0]
        time.sleep(1)
    pytest.fail("no scheduled run ended in time")


def test_schedule_that_ticks_trains_a_stream_and_its_champion_is_decided(
    tmp_path: Path, drawn_release: Path
) -> None:
    made = graph.early_copy(drawn_release, tmp_path / "home")
    settings = made.model_copy(update={"recipe_overrides": SHORT})
    settings.remember()
    home = settings.state_folder
    with serving(home, **EVERY_MINUTE):
        first = _retrained(home)
        runs = _scheduled(home)
    assert first.dagster_run.status == dg.DagsterRunStatus.SUCCESS
    assert first.dagster_run.tags["dagster/schedule_name"] == f"{JOB}_schedule"
    assert first.end_time is not None
    # Ticks that came meanwhile were passed over.
    assert all(run.create_timestamp.timestamp() > first.end_time for run in runs[1:])
    # Upstream nothing but what was never made.
    assert _made(home, first.dagster_run.run_id) == of_stream((*MODELS, "relabel_sample"))
    (decision,) = read_champion(settings, STREAM)["history"]
    assert (decision["verdict"], decision["version"]) == ("first", "1")
    assert decision["why"]
    assert set(graph.tracked_runs(home).values()) == {"FINISHED"}
