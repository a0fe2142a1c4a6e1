"""A run whose crops or models have no room is refused before it begins."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_pipeline.core import room
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.disk import RoomError, disk_problem, is_full
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.room import Need, check_room, crops_need, in_words, model_need
from fer_pipeline.operations.room import check_room_for, needs_of
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk has 1,000 bytes left."""
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))


def test_what_fits_passes_and_what_does_not_is_one_sentence_with_the_remedies(
    tmp_path: Path,
) -> None:
    needs = [Need("crops of 10 faces", 700), Need("model of mood", 301)]
    check_room(tmp_path, needs, free=1001)
    with pytest.raises(RoomError) as raised:
        check_room(tmp_path / "new" / "home", needs, free=1000)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'new' / 'home'} has 1.0 kB left and about 1.0 kB are")
    assert "(crops of 10 faces 700 bytes, model of mood 301 bytes)" in said
    assert "FER_CHECK_ROOM=false" in said
    assert disk_problem(raised.value, tmp_path) == said
    assert not is_full(raised.value)


def test_room_of_a_folder_that_is_not_there_is_that_of_its_disk(tmp_path: Path) -> None:
    assert room.free_bytes(tmp_path / "a" / "b") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.01
    )


def test_crops_are_reckoned_by_what_stored_crops_take(drawn_release: Path, tmp_path: Path) -> None:
    settings = graph.early(drawn_release)
    shards = list(Path(str(settings.crops_folder)).glob("shard-*.parquet"))
    stored = sum(path.stat().st_size for path in shards)
    faces = room.faces_there(settings.crops_folder)
    need = crops_need(faces, settings.crop_settings, settings.crops_folder)
    assert need.bytes == pytest.approx(stored, rel=0.01)
    empty = crops_need(1000, CropSettings(side=48, colour="grey"), tmp_path)
    assert empty.bytes == pytest.approx(1000 * 48 * 48, rel=0.05)


def test_damaged_shard_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "shard-00000-a-b.parquet").write_bytes(b"PAR1 no shard")
    assert room.stored_share(tmp_path) == pytest.approx(1.03)
    assert room.faces_there(tmp_path) == 0


def test_larger_network_needs_more_room() -> None:
    small, large = (model_need("mood", PRESETS[name].network).bytes for name in ("smoke", "gpu"))
    assert small < large


def test_only_what_is_to_be_made_needs_room(drawn_release: Path, tmp_path: Path) -> None:
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    assert needs_of(settings, ["face_crops"]) == []
    shutil.rmtree(settings.crops_folder)
    (crops,) = needs_of(settings, ["face_crops", "crop_report"])
    assert crops.what.startswith("crops of ")
    assert needs_of(settings, ["class_manifest", "face_crops"]) == []
    (model,) = needs_of(settings, ["three_class/trained_model"])
    assert model.what == "model of three_class"


@pytest.mark.usefixtures("full")
def test_setting_lets_a_run_go_on_all_the_same(drawn_release: Path) -> None:
    settings = graph.early(drawn_release)
    wanted = ["three_class/trained_model"]
    with pytest.raises(RoomError, match="1\\.0 kB left"):
        check_room_for(settings, wanted)
    check_room_for(settings.model_copy(update={"check_room": False}), wanted)


@pytest.mark.usefixtures("full")
def test_step_that_plans_the_crops_refuses_as_a_failure_that_is_not_tried_again(
    drawn_release: Path, tmp_path: Path
) -> None:
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    shutil.rmtree(settings.crops_folder)
    with graph.instance_of(settings.state_folder) as instance:
        result = graph.materialize(settings, ["face_crops"], instance)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "has 1.0 kB left" in str(data.description)
    assert "wrong_input" not in data.metadata
    assert not list(Path(str(settings.crops_folder)).glob("shard-*"))


@pytest.mark.usefixtures("full", "own_environment")
def test_command_ends_with_the_sentence_and_code_1_before_a_step_runs(
    drawn_release: Path, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    settings: Settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    shutil.rmtree(settings.crops_folder)
    ended = here("run", "--home", settings.home, "--select", "face_crops", "--json")
    assert ended.code == 1, ended.err
    assert "failed:" in ended.err
    assert "crops of" in ended.answer["error"]
    assert "Traceback" not in ended.err


def test_bytes_are_said_as_people_read_them() -> None:
    assert [in_words(count) for count in (999, 1000, 3_400_000, 2 * 10**12)] == [
        "999 bytes",
        "1.0 kB",
        "3.4 MB",
        "2.0 TB",
    ]
