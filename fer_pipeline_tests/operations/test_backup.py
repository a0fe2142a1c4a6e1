"""What a backup brings back, where to, and what it refuses."""

import contextlib
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fer_pipeline import tracking
from fer_pipeline.champion import champion_file
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.operations.backup import all_answers
from fer_pipeline.operations.restore import restore
from fer_pipeline.operations.restored_files import put
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
from fer_pipeline_tests.operations.registered import STREAM, model_bytes, register

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


@pytest.mark.parametrize("ends_at", ["put", "write_rows", "closing"])
def test_restore_that_was_killed_is_given_again(
    full: Settings,
    tmp_path: Path,
    here: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    ends_at: str,
    empty_registry: Path,
) -> None:
    file, there = tmp_path / "all.tar", tmp_path / "there"
    backup_of(here, full, file)
    (there / "mlflow").mkdir(parents=True)
    shutil.copy(empty_registry, there / "mlflow")
    settings, calls = Settings.load(home=there), iter(range(5))

    def stop(*words: Any) -> None:
        if ends_at != "put" or next(calls) == 4:
            raise KeyboardInterrupt
        put(*words)

    with monkeypatch.context() as killed:
        killed.setattr(f"fer_pipeline.operations.restore.{ends_at}", stop)
        # What a process that is killed doesn't come to either.
        killed.setattr("fer_pipeline.operations.restore.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            restore(settings, file, into_empty=False, as_json=False, console=Console())
    assert (there / ".restore.part").is_dir()
    ended = restore_into(here, file, there)
    assert ended.code == 0, ended.err
    assert not list(there.rglob("*.part"))
    second = Settings.load(home=there)
    assert all_answers(second) == all_answers(full)
    assert_same(full, second)


def test_model_whose_files_are_gone_is_named_instead_of_left_out(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    gone = next(full.state_folder.rglob("model.keras")).parent
    shutil.rmtree(gone)
    ended = here("backup", tmp_path / "x.tar", "--home", full.home, "--json")
    assert ended.code == 2
    assert f"{gone} holds no file of a model" in ended.answer["error"]
    assert not list(tmp_path.glob("*x.tar*"))


def test_two_homes_that_trained_on_the_same_data_are_restored_into_one(
    registered: Settings, tmp_path: Path, here: Callable[..., Ended], empty_registry: Path
) -> None:
    """MLflow keeps a data set once in an experiment, under an id of its own in each home."""
    other = Settings.load(home=tmp_path / "other")
    for folder in (other.dagster_home, other.mlflow_folder):
        folder.mkdir(parents=True)
    shutil.copy(empty_registry, other.mlflow_folder)
    register(other, stream="mood")
    for name, home in {"first": registered, "other": other}.items():
        _add_data_set(home.mlflow_folder / "mlflow.db", f"of the {name}")
        backup_of(here, home, tmp_path / f"{name}.tar")
    for name in ("first", "other"):
        ended = restore_into(here, tmp_path / f"{name}.tar", tmp_path / "both")
        assert (ended.code, ended.answer["registry"]) == (0, "restored"), ended.err
    both = tmp_path / "both" / "mlflow" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(both)) as connection:
        (data_sets,) = connection.execute("select count(*) from datasets").fetchone()
        used = connection.execute(
            "select count(*) from inputs join datasets on source_id = dataset_uuid"
        ).fetchone()
    assert (data_sets, used) == (1, (5,))


def _add_data_set(database: Path, uuid: str) -> None:
    """Let every run of a home have been trained on one data set."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        (experiment,) = connection.execute("select distinct experiment_id from runs").fetchone()
        connection.execute(
            "insert into datasets values (?, ?, 'class_manifest', 'abc', 'local', '{}', '', '')",
            (uuid, experiment),
        )
        for (run,) in connection.execute("select run_uuid from runs").fetchall():
            connection.execute(
                "insert into inputs (input_uuid, source_type, source_id, destination_type, "
                "destination_id, step) values (?, 'DATASET', ?, 'RUN', ?, 0)",
                (f"{run[:16]} {uuid}", uuid, run),
            )


def test_database_of_a_server_that_the_home_does_not_use_is_refused(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_MLFLOW_DATABASE", f"postgresql://fer:{SECRET}@127.0.0.1:9/mlflow")
    monkeypatch.setenv("FER_MLFLOW_FILES", str(tmp_path))
    ended = here("backup", tmp_path / "x.tar", "--home", full.home, "--json")
    assert (ended.code, "FER_MLFLOW_TRACKING_URI" in ended.answer["error"]) == (2, True)


def test_database_that_is_gone_is_told_without_its_password(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.tar"
    backup_of(here, full, file)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
    monkeypatch.setenv("FER_MLFLOW_TRACKING_URI", f"http://ann:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("FER_MLFLOW_DATABASE", f"postgresql://fer:{SECRET}@127.0.0.1:9/mlflow")
    monkeypatch.setenv("FER_MLFLOW_FILES", str(tmp_path / "files"))
    for words in (("restore", file), ("backup", tmp_path / "y.tar")):
        ended = here(*words, "--home", tmp_path / "there", "--json")
        assert ended.code == 2
        assert "127.0.0.1" in ended.answer["error"]
        assert SECRET not in ended.out + ended.err
