"""What a backup brings back, where to, and what it refuses."""

import contextlib
import io
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fer_pipeline import tracking
from fer_pipeline.champion import champion_file
from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.errors import InputError
from fer_pipeline.operations.archive import unpack, written
from fer_pipeline.operations.backup import all_answers
from fer_pipeline.operations.portable import OF_THIS_PLACE, Tokens, portable_settings
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.registered import STREAM, model_bytes
from fer_pipeline_tests.postgresql import postgresql

pytestmark = pytest.mark.usefixtures("own_environment")

SECRET = "very-secret"  # noqa: S105


def _answer(item: int, answer: str = "Happiness", annotator: str = "Ann") -> Answer:
    at = datetime(2026, 3, 1, 12, 0, item, 123456, tzinfo=UTC)
    return Answer(
        *(f"{STREAM}/people", "sample", annotator, item, f"face{item}", answer),
        *(900, item, False, at),
    )


@pytest.fixture
def full(registered: Settings, tmp_path: Path) -> Settings:
    """A home with four versions, answers, a study, corrections, and settings with a secret."""
    home = registered.state_folder
    (home / "settings.toml").write_text(
        f'root = "{tmp_path}/private-photos"\ndataset = "affectnet"\nseed = 7\n'
        f'streams = ["{STREAM}"]\nalert_url = "https://hook.example/{SECRET}"\n'
    )
    (home / "corrections.csv").write_text("face_id,expression\nx,Anger\n")
    study = home / "studies" / STREAM / "people.parquet"
    study.parent.mkdir(parents=True)
    study.write_bytes(bytes(range(256)) * 9)
    (study.parent / ".half.part").write_bytes(b"never finished")
    with contextlib.closing(AnswerStore(registered.answers_address)) as store:
        store.add_all([_answer(1), _answer(2, "Anger"), _answer(1, annotator="Zoë")])
    return registered


def _backup(here: Callable[..., Ended], settings: Settings, file: Path, *words: str) -> Any:
    ended = here("backup", file, "--home", settings.home, "--json", *words)
    assert ended.code == 0, ended.err
    return ended.answer


def _restore(here: Callable[..., Ended], file: Path, home: Path, *words: str) -> Ended:
    return here("restore", file, "--home", home, "--json", *words)


def _same(first: Settings, second: Settings) -> None:
    """The registry of one home is that of another, and every model is found where it now stands."""
    one, other = Registry(first, STREAM), Registry(second, STREAM)
    tracking.connect(first)
    versions = one.versions()
    facts = {number: (v.run_id, v.tags, v.aliases, v.source) for number, v in versions.items()}
    figures = {number: (one.run_metrics(number), one.run_parameters(number)) for number in versions}
    held = one.champion(), one.previous(), one.history()
    models = {number: model_bytes(first, number) for number in versions}
    tracking.connect(second)
    versions = other.versions()
    assert facts == {n: (v.run_id, v.tags, v.aliases, v.source) for n, v in versions.items()}
    assert figures == {n: (other.run_metrics(n), other.run_parameters(n)) for n in versions}
    assert held == (other.champion(), other.previous(), other.history())
    assert models == {number: model_bytes(second, number) for number in versions}


def test_home_comes_back_on_another_place_and_a_second_time_changes_nothing(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    file = tmp_path / "all.tar.zst"
    said = _backup(here, full, file)
    model = tracking.registered_name(STREAM)
    assert said["versions"] == {model: [1, 2, 3, 4]}
    assert said["champions"] == {model: {"champion": "3", "previous": "2"}}
    assert said["answers"] == 3
    assert said["settings_left_out"] == ["alert_url", "root"]
    assert file.stat().st_mode & 0o077 == 0

    there = tmp_path / "there"
    ended = _restore(here, file, there, "--into-empty")
    assert ended.code == 0, ended.err
    second = Settings.load(home=there)
    assert (second.seed, second.dataset, second.root) == (7, "affectnet", None)
    assert all_answers(second) == all_answers(full)
    for name in ("corrections.csv", f"studies/{STREAM}/people.parquet"):
        assert (there / name).read_bytes() == (full.state_folder / name).read_bytes()
    assert champion_file(second, STREAM).read_bytes() == champion_file(full, STREAM).read_bytes()
    assert not (there / "studies" / STREAM / ".half.part").exists()
    _same(full, second)
    runs = {tags["fer.home"] for tags in _tags(there)}
    assert runs == {tracking.home_id(second)}

    before = {path: path.stat().st_mtime_ns for path in there.rglob("*.keras")}
    again = _restore(here, file, there)
    assert again.code == 0, again.err
    assert (again.answer["registry"], again.answer["files"]) == ("there already", 0)
    assert (again.answer["answers_added"], again.answer["answers_there"]) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*.keras")} == before
    refused = _restore(here, file, there, "--into-empty")
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
    _backup(here, full, file)
    data = file.read_bytes()
    assert SECRET.encode() not in data
    assert b"private-photos" not in data
    # Not that in which its models were logged either: the home was moved since.
    assert str(tmp_path.parent).encode() not in data
    with tarfile.open(file) as tar:
        assert not [name for name in tar.getnames() if name.startswith(("/", ".."))]


def test_every_secret_and_every_address_is_left_out_of_settings() -> None:
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation) or name.endswith(("_url", "_uri", "_files")):
            assert name in OF_THIS_PLACE, name
    assert SecretStr.__name__ in str(Settings.model_fields["alert_url"].annotation)
    kept, left_out = portable_settings('seed = 3\nserve_token = "x"\n[stream_classes]\na = ["b"]\n')
    assert left_out == ["serve_token"]
    assert "serve_token" not in kept
    assert "stream_classes" in kept


def test_deleted_version_is_left_out_and_all_but_champions_where_that_is_asked_for(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], empty_registry: Path
) -> None:
    model = tracking.registered_name(STREAM)
    tracking.connect(full).delete_model_version(model, "1")
    said = _backup(here, full, tmp_path / "some.tar")
    assert said["versions"] == {model: [2, 3, 4]}
    said = _backup(here, full, tmp_path / "some.tar", "--champions-only")
    assert said["versions"] == {model: [2, 3]}
    second = Settings.load(home=tmp_path / "there")
    second.mlflow_folder.mkdir(parents=True)
    shutil.copy(empty_registry, second.mlflow_folder)
    ended = _restore(here, tmp_path / "some.tar", tmp_path / "there", "--into-empty")
    assert ended.code == 0, ended.err
    registry = Registry(second, STREAM)
    assert (registry.champion(), registry.previous()) == ("3", "2")
    assert model_bytes(second, "3") == model_bytes(full, "3")


def test_laptop_moves_to_a_server_and_back(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine, make_url

    file, served, team = tmp_path / "laptop.tar", tmp_path / "served", tmp_path / "team"
    said = _backup(here, full, file)
    with postgresql() as address, monkeypatch.context() as server:
        # As MLflow's server does at its first start, which takes it half a minute.
        psycopg2 = make_url(address).set(drivername="postgresql+psycopg2")
        engine = create_engine(psycopg2)
        _initialize_tables(engine)
        server.setenv("FER_ANSWERS_URL", address)
        server.setenv("FER_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        refused = _restore(here, file, team)
        assert refused.code == 2
        assert "FER_MLFLOW_DATABASE" in refused.answer["error"]
        server.setenv("FER_MLFLOW_DATABASE", address)
        server.setenv("FER_MLFLOW_FILES", str(served))
        ended = _restore(here, file, team, "--into-empty")
        assert ended.code == 0, ended.err
        assert (ended.answer["registry"], ended.answer["answers_added"]) == ("restored", 3)
        with engine.connect() as connection:
            uris = connection.exec_driver_sql("select artifact_uri from runs").scalars().all()
            # What MLflow makes next gets an id that isn't taken.
            (taken, following) = connection.exec_driver_sql(
                "select max(experiment_id), nextval('experiments_experiment_id_seq') "
                "from experiments"
            ).one()
        assert all(uri.startswith("mlflow-artifacts:/") for uri in uris)
        assert following > taken
        assert len(list(served.rglob("model.keras"))) == 4
        again = _restore(here, file, team)
        assert (again.answer["registry"], again.answer["answers_added"]) == ("there already", 0)
        # The registry is read past its server, which doesn't run here.
        plain = psycopg2.render_as_string(hide_password=False)
        server.setattr(tracking, "tracking_uri", lambda _: plain)
        back = _backup(here, Settings.load(home=team), tmp_path / "team.tar")
        assert back["versions"] == said["versions"]
        assert back["champions"] == said["champions"]
        engine.dispose()
    ended = _restore(here, tmp_path / "team.tar", tmp_path / "home again", "--into-empty")
    assert ended.code == 0, ended.err
    home = Settings.load(home=tmp_path / "home again")
    assert all_answers(home) == all_answers(full)
    _same(full, home)


def test_other_versions_files_and_answers_stay_as_they_are(
    full: Settings, tmp_path: Path, here: Callable[..., Ended]
) -> None:
    file, there = tmp_path / "all.tar", tmp_path / "there"
    _backup(here, full, file)
    shutil.copytree(str(full.home), there)
    second = Settings.load(home=there)
    with contextlib.closing(AnswerStore(second.answers_address)) as store:
        store.undo(f"{STREAM}/people", "sample", "Zoë")
        store.add(_answer(1, "Sadness", annotator="Zoë"))
    (there / "settings.toml").write_text("seed = 99\n")
    ended = _restore(here, file, there)
    assert ended.code == 0, ended.err
    assert (ended.answer["answers_that_differ"], ended.answer["answers_added"]) == (1, 0)
    assert ended.answer["settings_kept"] is True
    assert (there / "settings.toml").read_text() == "seed = 99\n"

    (there / "corrections.csv").write_text("mine\n")
    refused = _restore(here, file, there)
    assert refused.code == 2
    assert f"{there / 'corrections.csv'} is there already" in refused.answer["error"]
    assert (there / "corrections.csv").read_text() == "mine\n"
    (there / "corrections.csv").unlink()

    tracking.connect(second).delete_model_version(tracking.registered_name(STREAM), "1")
    refused = _restore(here, file, there)
    assert refused.code == 2
    assert "other versions than the backup's" in refused.answer["error"]
    assert not (there / "corrections.csv").exists()


def test_registry_of_another_schema_is_refused_with_the_remedy(
    full: Settings, tmp_path: Path, here: Callable[..., Ended], empty_registry: Path
) -> None:
    file, there = tmp_path / "all.tar", tmp_path / "there"
    _backup(here, full, file)
    second = Settings.load(home=there)
    second.mlflow_folder.mkdir(parents=True)
    shutil.copy(empty_registry, second.mlflow_folder)
    with contextlib.closing(sqlite3.connect(there / "mlflow" / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'older'")
    refused = _restore(here, file, there)
    assert refused.code == 2
    assert "mlflow db upgrade" in refused.answer["error"]
    assert not (there / "corrections.csv").exists()


CONTENT = random.Random(0).randbytes(3000)  # noqa: S311
"""Nothing that compression makes smaller, so that a byte of it can be changed in every archive."""


def _archive(path: Path) -> bytes:
    with written(path) as archive:
        archive.add_bytes("home/a.txt", CONTENT)
        archive.add_bytes("answers.jsonl", b"{}\n")
        archive.finish({"package": "0", "versions": {}})
    return path.read_bytes()


@pytest.mark.parametrize("name", ["x.tar", "x.tar.zst"])
def test_damage_anywhere_in_a_backup_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = _archive(path)
    (tmp_path / "whole").mkdir()
    unpack(path, tmp_path / "whole")
    assert (tmp_path / "whole" / "home" / "a.txt").read_bytes() == CONTENT
    damaged = [whole[: len(whole) // 2], whole[:100], b"", b"no archive at all" * 50]
    damaged += [
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in range(600, 3200, 700)
    ]
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InputError, match="damaged or no backup"):
            unpack(path, folder)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "link"])
def test_member_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member, io.BytesIO())
    (tmp_path / "to").mkdir()
    with pytest.raises(InputError, match="is no member of a backup"):
        unpack(path, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_backup_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with written(path) as archive:
        archive.finish({"package": "9.9", "format": 99})
    with pytest.raises(InputError, match=r"format 99.*9\.9"):
        unpack(path, tmp_path)


def test_backup_that_fails_or_is_killed_leaves_no_file_and_the_next_none_of_its_leftovers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.tar"
    _archive(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="stop"), written(path) as archive:  # noqa: PT012
        archive.add_bytes("a", b"a")
        raise ValueError("stop")
    assert path.read_bytes() == before
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fer_pipeline.operations.archive import written\n"
        "with written(Path(sys.argv[1])) as archive:\n"
        "    archive.add_bytes('a', b'a' * 100_000)\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
    )
    new = tmp_path / "new.tar"
    killed = subprocess.Popen(
        [sys.executable, "-c", script, new], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "half\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not new.exists()
    assert list(tmp_path.glob(".new.tar.*.part"))
    _archive(new)
    assert list(tmp_path.glob(".*")) == []


def test_file_that_is_none_and_home_that_is_none_are_wrong_input(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    ended = _restore(here, tmp_path / "none.tar", tmp_path / "there")
    assert (ended.code, "is no file" in ended.answer["error"]) == (2, True)
    ended = here("backup", tmp_path / "x.tar", "--home", tmp_path / "none", "--json")
    assert (ended.code, "holds nothing yet" in ended.answer["error"]) == (2, True)


def test_places_are_put_in_for_their_tokens_again() -> None:
    packed = Tokens({"/home/ann/fer": "${FER_HOME}", "/home/ann/fer/data": "${FER_ROOT}"})
    text = json.dumps({"root": "/home/ann/fer/data", "report": "/home/ann/fer/x.html"})
    assert packed.packed(text) == '{"root": "${FER_ROOT}", "report": "${FER_HOME}/x.html"}'
    assert packed.unpacked(packed.packed(text)) == text
    assert Tokens({}).unpacked("${FER_ROOT}/x") == "${FER_ROOT}/x"
