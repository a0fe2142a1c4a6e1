"""The sensor that has everything remade when lists or corrections changed."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.automation.changes import BECAUSE_TAG, CHANGES_SENSOR, changes_sensor
from fer_pipeline.build import PIPELINE_JOB
from fer_pipeline.core.corrections import Correction, append_corrections
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import (
    MODELS,
    chosen,
    copy_of,
    make_early,
    of_stream,
    sensor_tick,
    unfinished_run,
)

ALL = {*graph.EARLY_ASSETS, *of_stream(("relabel_sample", *MODELS))}
OF_THE_MANIFEST = ALL - {"file_list_index", "expression_summary"}

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture(scope="module")
def made(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(drawn_release, folder / "release")
    settings = graph.small_settings(folder / "release", folder / "home")
    make_early(settings)
    return settings


def _list_file(settings: Settings) -> Path:
    path = next(iter(settings.open_dataset().lists().values()))[0]
    assert isinstance(path, Path)
    return path


@pytest.fixture
def settings(made: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A home of its own; its lists are as they were at the end of the test."""
    lists, kept = _list_file(made), tmp_path / "kept"
    shutil.copy2(lists, kept)
    yield copy_of(made, tmp_path / "home")
    shutil.copy2(kept, lists)


class _Sensor:
    """Looks at a home again and again, as a daemon does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cursor: str | None = None
        self.tags: dict[str, str] = {}

    def look(self) -> set[str] | str:
        """The assets that it asks for, or why it doesn't."""
        self.cursor, data = sensor_tick(self.settings, CHANGES_SENSOR, self.cursor)
        if not data.run_requests:
            return str(data.skip_message)
        (request,) = data.run_requests
        self.tags = dict(request.tags)
        return chosen(data)


def _correct(settings: Settings, split: str) -> None:
    manifest = read_manifest(settings.manifest_folder).to_pandas()
    face = manifest[manifest["split"] == split].iloc[0]
    old = NAMES[face["expression"]]
    new = "Sadness" if old != "Sadness" else "Happiness"
    line = Correction(face["face_id"], old, new, "Ann", datetime.now(UTC), "three_class/people")
    append_corrections(settings.corrections_file, [line])


def test_nothing_is_asked_for_while_nothing_changes(settings: Settings) -> None:
    sensor = _Sensor(settings)
    assert [sensor.look() for _ in range(2)] == ["nothing new"] * 2


def test_changed_list_remakes_all_that_was_made_once_it_rests_and_is_asked_for_once(
    settings: Settings,
) -> None:
    sensor, path = _Sensor(settings), _list_file(settings)
    path.write_bytes(path.read_bytes() + b"\r\n")
    assert "waiting until they rest" in sensor.look()
    path.write_bytes(path.read_bytes() + b"\r\n")
    assert "waiting until they rest" in sensor.look()
    assert sensor.look() == ALL
    assert sensor.tags[BECAUSE_TAG] == "the list files changed"
    assert "nothing new since" in sensor.look()


def test_run_that_is_asked_for_leaves_nothing_to_ask_for(settings: Settings) -> None:
    sensor, path = _Sensor(settings), _list_file(settings)
    path.write_bytes(path.read_bytes() + b"\r\n")
    sensor.look()
    assert sensor.look() == ALL
    with graph.instance_of(settings.state_folder) as instance:
        assert graph.materialize(settings, ["file_list_index", "class_manifest"], instance).success
    assert sensor.look() == "nothing new"


def test_list_that_failed_a_run_is_asked_for_again_when_it_changes_again(
    settings: Settings,
) -> None:
    sensor, path = _Sensor(settings), _list_file(settings)
    for _ in range(2):
        path.write_bytes(path.read_bytes() + b"\r\n")
        sensor.look()
        assert sensor.look() == ALL
        assert "nothing new since" in sensor.look()


def test_touched_list_of_the_same_content_is_looked_at_once_and_remakes_nothing(
    settings: Settings,
) -> None:
    sensor = _Sensor(settings)
    os.utime(_list_file(settings))
    assert "waiting until they rest" in sensor.look()
    assert "nothing in them that counts" in sensor.look()
    assert "nothing new since" in sensor.look()


def test_new_correction_remakes_the_manifest_and_all_that_comes_of_it(settings: Settings) -> None:
    sensor = _Sensor(settings)
    _correct(settings, "train")
    assert "waiting until they rest" in sensor.look()
    assert sensor.look() == OF_THE_MANIFEST
    assert sensor.tags[BECAUSE_TAG] == "the corrections changed"


def test_correction_of_a_locked_test_face_remakes_nothing(settings: Settings) -> None:
    sensor = _Sensor(settings)
    _correct(settings, "test")
    sensor.look()
    assert "nothing in them that counts" in sensor.look()


def test_what_was_never_made_is_not_asked_for(settings: Settings) -> None:
    with graph.instance_of(settings.state_folder) as instance:
        instance.wipe_assets([dg.AssetKey.from_user_string(n) for n in of_stream(MODELS)])
    sensor = _Sensor(settings)
    _correct(settings, "train")
    sensor.look()
    assert sensor.look() == OF_THE_MANIFEST - of_stream(MODELS)


def test_run_in_progress_is_waited_for(settings: Settings) -> None:
    sensor = _Sensor(settings)
    _correct(settings, "train")
    sensor.look()
    run = unfinished_run(settings, PIPELINE_JOB, ["crop_report"])
    assert f"waiting for the end of run {run.run_id}" in sensor.look()
    with graph.instance_of(settings.state_folder) as instance:
        instance.report_run_failed(run, "gone")
    assert sensor.look() == OF_THE_MANIFEST


def test_stream_that_came_since_the_definitions_were_loaded_is_told_and_not_forgotten(
    settings: Settings,
) -> None:
    new = "seven_class/trained_model"
    both = settings.model_copy(update={"streams": (*settings.streams, "seven_class")})
    both.remember()
    with graph.instance_of(settings.state_folder) as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey.from_user_string(new))
        )
    sensor = _Sensor(settings)
    _correct(settings, "train")
    sensor.look()
    assert sensor.look() == sensor.look() == "seven_class came since: reload the definitions"
    sensor.settings = both
    asked = sensor.look()
    assert isinstance(asked, set)
    assert asked >= OF_THE_MANIFEST | {new}


def test_new_home_and_lists_out_of_reach_are_told_and_start_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    new = settings.model_copy(update={"home": tmp_path / "new"})
    new.remember()
    assert "never read" in _Sensor(new).look()
    settings.model_copy(update={"root": tmp_path / "unmounted"}).remember()
    assert "unmounted" in _Sensor(settings).look()


def test_sensor_is_off_until_the_setting_of_the_schedules_turns_it_on(settings: Settings) -> None:
    def status(schedules: bool) -> dg.DefaultSensorStatus:
        now = settings.model_copy(update={"schedules": schedules})
        return changes_sensor(now, lambda _settings, _instance: []).default_status

    assert status(schedules=False) == dg.DefaultSensorStatus.STOPPED
    assert status(schedules=True) == dg.DefaultSensorStatus.RUNNING
