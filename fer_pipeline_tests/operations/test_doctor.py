"""The doctor finds what is broken, says what to do, and never shows a secret or a traceback."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from dagster._core.events import EngineEventData

from fer_pipeline.build import PIPELINE_JOB
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.operations import databases, doctor_machine
from fer_pipeline.operations.databases import wanted_schema
from fer_pipeline.operations.doctor import examine
from fer_pipeline.operations.findings import Finding
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import unfinished_run
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.listeners import webhook
from fer_pipeline_tests.postgresql import postgresql
from fer_pipeline_tests.system import free_ports

pytestmark = pytest.mark.usefixtures("own_environment")


def _of(home: Path | Settings, state: str) -> dict[str, str]:
    """What is found of each subject in this state: sentences and remedies."""
    where = home.home if isinstance(home, Settings) else home
    found: dict[str, str] = {}
    for one in examine(str(where)):
        if one.state == state:
            found[one.subject] = f"{found.get(one.subject, '')}{one.said}; {one.remedy}\n"
    return found


def test_home_that_works_has_no_problem_and_the_command_ends_with_0(
    home: Settings, here: Callable[..., Ended]
) -> None:
    ended = here("doctor", "--home", home.home, "--json")
    assert ended.code == 0, ended.err
    assert ended.answer["problem"] == 0
    subjects = {one["subject"] for one in ended.answer["findings"]}
    assert subjects == {
        *("settings", "versions", "limits", "home", "disk", "data", "Dagster", "MLflow"),
        *("answers", "clock", "leftovers"),
    }
    # Some photos of a drawn release are damaged, as in any.
    assert " of 5 photos picked by chance open" in ended.err


def test_home_that_is_not_there_yet_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    assert _of(tmp_path / "new", "problem") == {}
    assert "no data set is named yet" in _of(tmp_path / "new", "warning")["data"]
    assert not (tmp_path / "new").exists()


def test_address_that_can_be_no_home_is_wrong_input(here: Callable[..., Ended]) -> None:
    ended = here("doctor", "--home", "nowhere://x", "--json")
    assert ended.code == 2
    assert "unknown protocol" in ended.answer["error"]


def test_damaged_settings_are_a_problem_and_the_machine_is_looked_at_all_the_same(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    (tmp_path / "settings.toml").write_text("preset = [what\n")
    ended = here("doctor", "--home", tmp_path, "--json")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    by_subject = {one["subject"]: one for one in ended.answer["findings"]}
    assert "can't be read" in by_subject["settings"]["said"]
    assert by_subject["versions"]["state"] == "ok"


def test_data_set_that_is_gone_and_photos_that_do_not_open_are_told(
    home: Settings, tmp_path: Path
) -> None:
    copied = tmp_path / "release"
    shutil.copytree(str(home.root), copied)
    moved = home.model_copy(update={"root": copied})
    moved.remember()
    for path in copied.rglob("*"):
        if path.is_file() and path.suffix != ".csv":
            path.write_bytes(b"no photo")
    assert "0 of 5 photos" in _of(home, "problem")["data"]
    shutil.rmtree(copied)
    assert "isn't there or may not be read" in _of(home, "problem")["data"]


def test_databases_that_are_damaged_or_of_another_version_are_told(home: Settings) -> None:
    runs = home.dagster_home / "history" / "runs.db"
    with closing(sqlite3.connect(runs)) as database, database:
        database.execute("update alembic_version set version_num = 'newer'")
    home.mlflow_folder.mkdir(exist_ok=True)
    (home.mlflow_folder / "mlflow.db").write_bytes(b"no database at all " * 100)
    found = _of(home, "problem")
    assert (
        f"has the schema newer, and the installed package wants {wanted_schema('dagster')}"
        in (found["Dagster"])
    )
    assert "file is not a database" in found["MLflow"]


def test_damaged_dagster_configuration_is_one_problem(home: Settings) -> None:
    (home.dagster_home / "dagster.yaml").write_text("storage: [\n")
    assert "dagster.yaml can't be read" in _of(home, "problem")["Dagster"]
    (home.dagster_home / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: {env: FER_TEST_NO_SUCH}}}\n"
    )
    assert "FER_TEST_NO_SUCH, which has no value" in _of(home, "problem")["Dagster"]


def test_servers_out_of_reach_are_told_in_seconds_and_without_the_password(
    home: Settings, monkeypatch: pytest.MonkeyPatch, here: Callable[..., Ended]
) -> None:
    port, other = free_ports(2)
    monkeypatch.setenv("FER_ANSWERS_URL", f"postgresql://ann:hush%21hush@127.0.0.1:{port}/answers")
    monkeypatch.setenv("FER_MLFLOW_TRACKING_URI", f"http://ann:hush%21hush@127.0.0.1:{other}")
    (home.dagster_home / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: "
        f"'postgresql://ann:hush%21hush@127.0.0.1:{port}/dagster'}}}}\n"
    )
    started = time.monotonic()
    ended = here("doctor", "--home", home.home, "--json")
    assert time.monotonic() - started < 30
    assert ended.code == 1
    assert "Traceback" not in ended.err
    states = {one["subject"]: one["state"] for one in ended.answer["findings"]}
    assert [states[name] for name in ("Dagster", "MLflow", "answers")] == ["problem"] * 3
    for spelling in ("hush%21hush", "hush!hush"):
        assert spelling not in ended.err + ended.out


def test_wrong_password_is_told_and_not_shown_and_the_right_one_tells_the_clock(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql() as address:
        right = address.partition("//fer:")[2].partition("@")[0]
        monkeypatch.setenv("FER_ANSWERS_URL", address)
        with closing(AnswerStore(address)):
            pass
        assert "0 answers in postgresql://fer:***@" in _of(home, "ok")["answers"]
        assert "within 60 s of the answers' database" in _of(home, "ok")["clock"]
        monkeypatch.setattr(databases, "now", lambda: time.time() - 3600)
        assert "3,600 s behind that of the answers' database" in _of(home, "problem")["clock"]
        monkeypatch.setenv("FER_ANSWERS_URL", address.replace(right, "tr0ubador"))
        said = _of(home, "problem")["answers"]
    assert "doesn't answer" in said
    assert "tr0ubador" not in said


def test_mlflow_server_of_another_version_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as server:
        server.pages = {"/health": "OK", "/version": "2.1.0"}
        address = server.address.removesuffix("/secret-path")
        monkeypatch.setenv("FER_MLFLOW_TRACKING_URI", address)
        assert "its server answers, version 2.1.0" in _of(tmp_path, "warning")["MLflow"]
        assert "within 60 s of MLflow's server" in _of(tmp_path, "ok")["clock"]


def test_clock_before_the_last_run_is_named(home: Settings) -> None:
    path = home.dagster_home / "history" / "runs.db"
    later = time.time() + 7200
    os.utime(path, (later, later))
    said = _of(home, "problem")["clock"]
    assert "s before the last run" in said
    assert str(path) in said


def test_run_without_a_process_and_unfinished_files_are_told_and_left(home: Settings) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = unfinished_run(home, PIPELINE_JOB, ["class_manifest"])
    with graph.instance_of(home.state_folder) as instance:
        instance.report_engine_event(
            f"Started process for run (pid: {gone.pid}).",
            run,
            EngineEventData.in_process(gone.pid),
        )
    part = home.state_folder / "crops" / ".x.part"
    part.write_bytes(b"x")
    said = _of(home, "warning")["leftovers"]
    assert run.run_id in said
    assert f"1 unfinished file(s) of processes that ended, such as {part}" in said
    assert part.exists()


def test_home_that_may_not_be_written_is_a_problem(home: Settings) -> None:
    if os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    home.state_folder.chmod(0o500)
    try:
        assert "home" in _of(home, "problem")
    finally:
        home.state_folder.chmod(0o700)


def test_package_that_is_too_old_or_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "no-such-package-here>=1", "pandas; python_version < '3'"]
    monkeypatch.setattr(doctor_machine, "requires", lambda _: wanted)
    said = " ".join(one.said for one in doctor_machine.versions() if one.state == "problem")
    assert "not installed: no-such-package-here" in said
    assert "numpy" in said
    assert "pandas" not in said


def test_tensorflow_for_gpus_stands_for_the_one_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor_machine, "requires", lambda _: ["tensorflow-cpu>=2.20"])
    versions = {"tensorflow": "2.21.0", "keras": "3.15.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor_machine, "version", version)
    found = list(doctor_machine.versions())
    assert [one.state for one in found] == ["ok", "ok"]
    assert found[-1].said == "Keras 3.15.1 on tensorflow 2.21.0"
    versions["tensorflow"] = "2.19.0"
    assert "tensorflow-cpu 2.19.0 (>=2.20)" in next(iter(doctor_machine.versions())).said


def test_framework_is_looked_for_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from fer_pipeline.operations.doctor_machine import versions; "
            "print([one.state for one in versions()]); "
            "print({'tensorflow', 'keras', 'mlflow'} & set(sys.modules))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == ["['ok', 'ok']", "set()"], ended.stderr
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    assert any("'abacus'" in one.said for one in doctor_machine.versions())


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/a/b", {"a/memory.max": "2000", "a/b/memory.max": "max"}, (2000, None)),
        ("0::/", {"cpu.max": "150000 100000"}, (None, 1.5)),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x",
            {
                "memory/x/memory.limit_in_bytes": "3000",
                "cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            (3000, 0.5),
        ),
        ("0::/", {"memory.max": "max", "cpu.max": "max 100000"}, (None, None)),
    ],
)
def test_limits_of_a_container_are_read_in_both_versions_of_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    files: Mapping[str, str],
    expected: tuple[int | None, float | None],
) -> None:
    (tmp_path / "mine").write_text(f"{lines}\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    monkeypatch.setattr(doctor_machine, "_MINE", tmp_path / "mine")
    monkeypatch.setattr(doctor_machine, "_CGROUP", tmp_path / "groups")
    assert (doctor_machine.memory_limit(), doctor_machine.cpu_limit()) == expected


def test_more_steps_at_once_than_cpus_are_a_warning(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path, workers=4096)
    said: list[Finding] = list(doctor_machine.limits(settings))
    assert any("4096 steps" in one.said and one.state == "warning" for one in said)
