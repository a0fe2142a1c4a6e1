"""What a backup brings back, where to, and what it refuses."""

import contextlib
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_pipeline import tracking
from fer_pipeline.champion import champion_file
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.operations.backup import all_answers
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.moves import (
    SECRET,
    an_answer,
    assert_same,
    backup_of,
    restore_into,
)
from fer_pipeline_tests.operations.registered import STREAM, model_bytes

pytestmark = pytest.mark.usefixtures("own_environment")


def test_home_comes_back_on_another_place_and_a_second_time_changes_nothing(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    file = tmp_path / "all.tar.zst"
    said = backup_of(here, full, file)
    model = tracking.registered_name(STREAM)
    assert said["versions"] == {model: [1, 2, 3, 4]}
    assert said["champions"] == {model: {"champion": "3", "previous": "2"}}
    assert said["answers"] == 3
    assert said["settings_left_out"] == ["alert_url", "root"]
    assert file.stat().st_mode & 0o077 == 0

    there = tmp_path / "there"
    ended = restore_into(here, file, there, "--into-empty")
    assert ended.code == 0, ended.err
    second = Settings.load(home=there)
    assert (second.seed, second.dataset, second.root) == (7, "affectnet", None)
    assert all_answers(second) == all_answers(full)
    for name in ("corrections.csv", f"studies/{STREAM}/people.parquet"):
        assert (there / name).read_bytes() == (full.state_folder / name).read_bytes()
    assert champion_file(second, STREAM).read_bytes() == champion_file(full, STREAM).read_bytes()
    assert not (there / "studies" / STREAM / ".half.part").exists()
    assert_same(full, second)
    runs = {tags["fer.home"] for tags in _tags(there)}
    assert runs == {tracking.home_id(second)}

    before = {path: path.stat().st_mtime_ns for path in there.rglob("*.keras")}
    again = restore_into(here, file, there)
    assert again.code == 0, again.err
    assert (again.answer["registry"], again.answer["files"]) == ("there already", 0)
    assert (again.answer["answers_added"], again.answer["answers_there"]) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*.keras")} == before
    refused = restore_into(here, file, there, "--into-empty")
    assert refused.code == 2
    assert "hold answers, corrections, studies, models already" in refused.answer["error"]
    # The next training finds its experiment, and the next version its number.
    with tracking.training_run(second, f"{STREAM}/trained_model", {}, "next") as run:
        assert run.run_id not in graph.tracked_runs(full.state_folder)


def _tags(home: Path) -> list[dict[str, str]]:
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        found: dict[str, dict[str, str]] = {}
        for key, value, run in database.execute("select key, value, run_uuid from tags"):
            found.setdefault(run, {})[key] = value
        return list(found.values())


def test_backup_names_no_folder_of_its_machine_and_holds_no_secret(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    file = tmp_path / "all.tar"
    backup_of(here, full, file)
    data = file.read_bytes()
    assert SECRET.encode() not in data
    assert b"private-photos" not in data
    # Not that in which its models were logged either: the home was moved since.
    assert str(tmp_path.parent).encode() not in data
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if name.startswith(("/", ".."))]


def test_deleted_version_is_left_out_and_all_but_champions_where_that_is_asked_for(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], empty_registry: Path
) -> None:
    model = tracking.registered_name(STREAM)
    tracking.connect(full).delete_model_version(model, "1")
    said = backup_of(here, full, tmp_path / "some.tar")
    assert said["versions"] == {model: [2, 3, 4]}
    said = backup_of(here, full, tmp_path / "few.tar", "--champions-only")
    assert said["versions"] == {model: [2, 3]}
    second = Settings.load(home=tmp_path / "there")
    second.mlflow_folder.mkdir(parents=True)
    shutil.copy(empty_registry, second.mlflow_folder)
    ended = restore_into(here, tmp_path / "few.tar", tmp_path / "there", "--into-empty")
    assert ended.code == 0, ended.err
    registry = Registry(second, STREAM)
    assert (registry.champion(), registry.previous()) == ("3", "2")
    assert model_bytes(second, "3") == model_bytes(full, "3")


def test_other_versions_files_and_answers_stay_as_they_are(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    file, there = tmp_path / "all.tar", tmp_path / "there"
    backup_of(here, full, file)
    shutil.copytree(str(full.home), there)
    second = Settings.load(home=there)
    with contextlib.closing(AnswerStore(second.answers_address)) as store:
        store.undo(f"{STREAM}/people", "sample", "Zoë")
        store.add(an_answer(1, "Sadness", annotator="Zoë"))
    (there / "settings.toml").write_text("seed = 99\n")
    ended = restore_into(here, file, there)
    assert ended.code == 0, ended.err
    assert (ended.answer["answers_that_differ"], ended.answer["answers_added"]) == (1, 0)
    assert ended.answer["settings_kept"] is True
    assert (there / "settings.toml").read_text() == "seed = 99\n"

    (there / "corrections.csv").write_text("mine\n")
    refused = restore_into(here, file, there)
    assert refused.code == 2
    assert f"{there / 'corrections.csv'} is there already" in refused.answer["error"]
    assert (there / "corrections.csv").read_text() == "mine\n"
    (there / "corrections.csv").unlink()

    tracking.connect(second).delete_model_version(tracking.registered_name(STREAM), "1")
    refused = restore_into(here, file, there)
    assert refused.code == 2
    assert "other versions than the backup's" in refused.answer["error"]
    assert not (there / "corrections.csv").exists()


def test_registry_of_another_schema_is_refused_with_the_remedy(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], empty_registry: Path
) -> None:
    file, there = tmp_path / "all.tar", tmp_path / "there"
    backup_of(here, full, file)
    second = Settings.load(home=there)
    second.mlflow_folder.mkdir(parents=True)
    shutil.copy(empty_registry, second.mlflow_folder)
    with contextlib.closing(sqlite3.connect(there / "mlflow" / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'older'")
    refused = restore_into(here, file, there)
    assert refused.code == 2
    assert "mlflow db upgrade" in refused.answer["error"]
    assert not (there / "corrections.csv").exists()


def test_file_that_is_none_and_home_that_is_none_are_wrong_input(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    ended = restore_into(here, tmp_path / "none.tar", tmp_path / "there")
    assert (ended.code, "is no file" in ended.answer["error"]) == (2, True)
    ended = here("backup", tmp_path / "x.tar", "--home", tmp_path / "none", "--json")
    assert (ended.code, "holds nothing yet" in ended.answer["error"]) == (2, True)
