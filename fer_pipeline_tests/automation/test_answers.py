"""The sensor that remakes the reports when people have answered."""

from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline.automation.answers import ANSWERS_SENSOR, answers_sensor
from fer_pipeline.automation.states import ALONE_TAG
from fer_pipeline.build import build_definitions
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.study import Study
from fer_pipeline.instance import locked_home
from fer_pipeline.people import ANSWERS, answers_digest, stream_study
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

pytestmark = pytest.mark.usefixtures("own_environment")

STREAM = "three_class"
REPORTS = {f"{STREAM}/evaluation_report", f"{STREAM}/human_error_report"}
BEHIND = {*REPORTS, f"{STREAM}/champion"}
"""What waits for a report, though a report with other answers leaves it up to date."""


@pytest.fixture
def settings(drawn_release: Path, tmp_path: Path) -> Settings:
    return graph.finished(drawn_release).copy(tmp_path / "home").settings()


def _tick(settings: Settings, cursor: str | None) -> tuple[str | None, Any]:
    definitions = build_definitions(settings)
    sensor = definitions.resolve_sensor_def(ANSWERS_SENSOR)
    with graph.instance_of(settings.state_folder) as instance:
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={"settings": settings},
            repository_def=definitions.get_repository_def(),
        )
        return context.cursor, sensor.evaluate_tick(context)


def _study(settings: Settings) -> Study:
    study = stream_study(settings, STREAM)
    assert study is not None
    return study


def _report(settings: Settings) -> None:
    """Tell Dagster that the reports were made with the answers there are, without the seconds."""
    with graph.instance_of(settings.state_folder) as instance:
        for name in REPORTS:
            made = dg.AssetMaterialization(
                dg.AssetKey.from_user_string(name),
                metadata={ANSWERS: answers_digest(settings, STREAM)},
            )
            instance.report_runless_asset_event(made)


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

    graph.store_answers(settings, _study(settings), "Ann")
    _, first = _tick(settings, nothing.cursor)
    assert _chosen(first) == set()
    assert "people are answering" in (first.skip_message or "")
    _, second = _tick(settings, first.cursor)
    assert _chosen(second) == REPORTS

    _report(settings)
    _, after = _tick(settings, second.cursor)
    assert _chosen(after) == set()
    assert "nothing new" in (after.skip_message or "")


def test_sensor_waits_for_a_model_that_is_to_be_made_anew_and_for_what_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.store_answers(settings, _study(settings), "Ann")
    _, first = _tick(settings, None)
    with locked_home(settings):
        _, busy = _tick(settings, first.cursor)
    assert "waiting for the end of a command (process" in (busy.skip_message or "")
    # The settings of the next run, as the sensor and its runs find them.
    monkeypatch.setenv("FER_SEED", "7")
    _, behind = _tick(settings, busy.cursor)
    assert "its model is to be made anew first (" in (behind.skip_message or "")
    monkeypatch.delenv("FER_SEED")
    _, asked = _tick(settings, behind.cursor)
    assert _chosen(asked) == REPORTS
    (request,) = asked.run_requests
    assert request.tags[ALONE_TAG] == "true"


def test_answers_that_are_there_once_more_ask_for_a_run_of_their_own(settings: Settings) -> None:
    def requested(cursor: str | None) -> tuple[str | None, list[str | None]]:
        _, data = _tick(settings, _tick(settings, cursor)[1].cursor)
        return data.cursor, [request.run_key for request in data.run_requests or []]

    study = _study(settings)
    graph.store_answers(settings, study, "Ann")
    cursor, first = requested(None)
    # Dagster starts one run for a key: one that failed isn't started again and again.
    assert requested(cursor)[1] == first
    _report(settings)
    graph.store_answers(settings, study, "Bo")
    cursor, second = requested(cursor)
    _report(settings)
    with closing(AnswerStore(settings.answers_address)) as store:
        while store.undo(study.key, study.sample, "Bo"):
            pass
    _, third = requested(cursor)
    assert len({*first, *second, *third}) == 3


def test_reports_are_behind_when_answers_came_or_were_taken_back_until_they_are_remade(
    settings: Settings,
) -> None:
    study = _study(settings)
    assert graph.to_be_made(settings) == {}
    graph.store_answers(settings, study, "Ann")
    waiting = graph.to_be_made(settings)
    assert set(waiting) == BEHIND
    assert waiting[f"{STREAM}/evaluation_report"] == "people's answers changed"
    with graph.instance_of(settings.state_folder) as instance:
        assert graph.materialize(settings, sorted(REPORTS), instance).success
    assert graph.to_be_made(settings) == {}
    with closing(AnswerStore(settings.answers_address)) as store:
        assert store.undo(study.key, study.sample, "Ann") is not None
    assert set(graph.to_be_made(settings)) == BEHIND


def test_sensor_runs_unless_it_is_stopped_and_aims_at_the_reports_alone(settings: Settings) -> None:
    sensor = answers_sensor(settings, lambda *_: [])
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 60
