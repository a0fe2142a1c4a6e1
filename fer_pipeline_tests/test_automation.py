"""The sensor that remakes the reports when people have answered."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline.automation import ANSWERS_SENSOR, answers_sensor
from fer_pipeline.build import build_definitions
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.people import stream_study
from fer_pipeline.plan import asset_states
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.assets.test_people import answer_all

STREAM = "three_class"
REPORTS = {f"{STREAM}/evaluation_report", f"{STREAM}/human_error_report"}


@pytest.fixture
def settings(drawn_release: Path, tmp_path: Path) -> Settings:
    return graph.finished(drawn_release).copy(tmp_path / "home").settings()


def _tick(settings: Settings, cursor: str | None) -> tuple[str | None, Any]:
    definitions = build_definitions(settings)
    sensor = definitions.resolve_sensor_def(ANSWERS_SENSOR)
    with graph.instance_of(settings.home) as instance:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={"settings": settings},
            repository_def=definitions.get_repository_def(),
        )
        return context.cursor, sensor.evaluate_tick(context)


def _chosen(data: Any) -> set[str]:
    return {
        key.to_user_string()
        for request in data.run_requests or []
        for key in request.asset_selection or []
    }


def test_sensor_waits_for_answers_and_until_they_rest_and_asks_once(settings: Settings) -> None:
    _, nothing = _tick(settings, None)
    assert _chosen(nothing) == set()
    assert "no answer yet" in (nothing.skip_message or "")

    answer_all(settings, "Ann")
    _, first = _tick(settings, nothing.cursor)
    assert _chosen(first) == set()
    assert "people are answering" in (first.skip_message or "")
    _, second = _tick(settings, first.cursor)
    assert _chosen(second) == REPORTS

    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, sorted(REPORTS), instance).success
    _, after = _tick(settings, second.cursor)
    assert _chosen(after) == set()
    assert "nothing new" in (after.skip_message or "")


def test_answers_that_are_there_once_more_ask_for_a_run_of_their_own(settings: Settings) -> None:
    def requested(cursor: str | None) -> tuple[str | None, list[str | None]]:
        _, data = _tick(settings, _tick(settings, cursor)[1].cursor)
        return data.cursor, [request.run_key for request in data.run_requests or []]

    def reported() -> None:
        with graph.instance_of(settings.home) as instance:
            assert graph.materialize(settings, sorted(REPORTS), instance).success

    answer_all(settings, "Ann")
    cursor, first = requested(None)
    # Dagster starts one run for a key: one that failed isn't started again and again.
    assert requested(cursor)[1] == first
    reported()
    answer_all(settings, "Bo")
    cursor, second = requested(cursor)
    reported()
    store = AnswerStore(settings.answers_address)
    (study,) = store.counts()
    while store.undo(study, _sample(settings), "Bo"):
        pass
    store.close()
    _, third = requested(cursor)
    assert len({*first, *second, *third}) == 3


def test_a_run_remakes_exactly_the_reports_when_answers_came_or_were_taken_back(
    settings: Settings,
) -> None:
    def waiting() -> dict[str, str]:
        with graph.instance_of(settings.home) as instance:
            states = asset_states(build_definitions(settings), instance, settings)
        return {
            state.key.to_user_string(): state.reason
            for state in states
            if state.reason and not state.on_demand
        }

    assert waiting() == {}
    answer_all(settings, "Ann")
    assert set(waiting()) == REPORTS
    assert waiting()[f"{STREAM}/evaluation_report"] == "people's answers changed"
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, sorted(REPORTS), instance).success
    assert waiting() == {}
    store = AnswerStore(settings.answers_address)
    (study,) = store.counts()
    sample = store.undo(study, _sample(settings), "Ann")
    store.close()
    assert sample is not None
    assert set(waiting()) == REPORTS


def _sample(settings: Settings) -> str:
    study = stream_study(settings, STREAM)
    assert study is not None
    return study.sample


def test_sensor_runs_unless_it_is_stopped_and_aims_at_the_reports_alone(settings: Settings) -> None:
    sensor = answers_sensor(settings)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 60
