"""A home that was moved or copied goes on where it stands, with the models that came along."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.moved_home import follow_home, home_id
from fer_pipeline.settings import Settings
from fer_pipeline.stale_runs import close_stale_runs
from fer_pipeline.summary import run_summary
from fer_pipeline_tests import graph

STREAM = "three_class"
ELSEWHERE = "file:///elsewhere/artifacts"


def test_home_keeps_its_id_under_another_machine_name_and_loses_it_at_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Settings.fresh(home=tmp_path / "first")
    assert not first.home.exists()
    unkept = home_id(first)
    assert not first.home.exists()
    first.home.mkdir()
    assert home_id(first) == unkept
    monkeypatch.setattr("platform.node", lambda: "another container")
    assert home_id(first) == unkept
    shutil.copytree(first.home, tmp_path / "copy")
    assert home_id(Settings.fresh(home=tmp_path / "copy")) != unkept
    (first.home / "home.id").write_text("cut off")
    assert home_id(first) != unkept


def test_copy_at_the_same_place_is_another_home_where_a_server_keeps_the_runs_of_both(
    tmp_path: Path,
) -> None:
    alone = Settings.fresh(home=tmp_path / "home")
    served = Settings.fresh(home=tmp_path / "home", mlflow_tracking_uri="http://127.0.0.1:9")
    alone.home.mkdir()
    first = home_id(served)
    assert home_id(alone) == first
    # As on another machine or volume.
    alone.home.rename(tmp_path / "original")
    shutil.copytree(tmp_path / "original", alone.home)
    second = home_id(served)
    assert second != first
    assert home_id(served) == second
    shutil.copy(tmp_path / "original" / "home.id", alone.home)
    assert home_id(alone) == first
    assert home_id(served) == first
    # Earlier versions wrote no folder down.
    (alone.home / "home.id").write_text(f"abc\n{alone.home}\n")
    assert (home_id(served), home_id(alone)) == ("abc", "abc")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a finished run, one that a killed process left RUNNING, and a file of each.

    Not to be changed.
    """
    settings = Settings.fresh(home=tmp_path_factory.mktemp("moved") / "the first")
    with tracking.training_run(settings, "a/trained_model", {}, "name") as run:
        run.log_json({"epochs": 3}, "kept.json")
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    tags = {tracking.ASSET_TAG: "b/trained_model", tracking.HOME_TAG: tracking.home_id(settings)}
    left = client.create_run(experiment, tags=tags)
    client.log_text(left.info.run_id, "x", "kept.json")
    client.create_experiment("mine", ELSEWHERE)
    return settings


@pytest.fixture
def second(first: Settings, tmp_path: Path) -> Settings:
    """That home in another place."""
    shutil.copytree(first.home, tmp_path / "second")
    return first.model_copy(update={"home": tmp_path / "second"})


def _addresses(settings: Settings) -> dict[str, str]:
    """Where each run keeps its files, as the database says."""
    with closing(sqlite3.connect(settings.mlflow_folder / "mlflow.db")) as database:
        return dict(database.execute("select run_uuid, artifact_uri from runs").fetchall())


def test_what_runs_left_is_found_in_the_new_place_and_new_runs_write_there(
    first: Settings, second: Settings
) -> None:
    before = _addresses(first)
    client = tracking.connect(second)
    for run_id, address in _addresses(second).items():
        assert address.startswith(f"{Path(second.mlflow_artifacts).as_uri()}/")
        assert [file.path for file in client.list_artifacts(run_id)] == ["kept.json"]
    with tracking.training_run(second, "a/trained_model", {}, "name") as run:
        run.log_json({}, "new.json")
    (written,) = Path(second.home).rglob("new.json")
    assert run.run_id in written.parts
    assert list(Path(first.home).rglob("new.json")) == []
    assert _addresses(first) == before


def test_run_that_was_killed_before_the_move_is_closed_after_it(second: Settings) -> None:
    assert close_stale_runs(second) == 1
    assert set(graph.tracked_runs(Path(second.home)).values()) == {"FINISHED", "KILLED"}


def test_home_that_stayed_is_left_as_it_is(first: Settings, tmp_path: Path) -> None:
    database = first.mlflow_folder / "mlflow.db"
    before = database.read_bytes()
    assert not follow_home(first)
    assert not follow_home(Settings.fresh(home=tmp_path / "new"))
    assert database.read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_artifacts_that_never_stood_in_a_home_stay_where_they_are(second: Settings) -> None:
    assert follow_home(second)
    with closing(sqlite3.connect(second.mlflow_folder / "mlflow.db")) as database:
        found = dict(database.execute("select name, artifact_location from experiments"))
    assert found["mine"] == ELSEWHERE
    assert found[tracking.EXPERIMENT] == Path(second.mlflow_artifacts).as_uri()
    assert not follow_home(second)


def test_database_that_is_in_use_is_told_of_in_one_sentence(
    second: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer_pipeline.moved_home._SECONDS", 0.1)
    with closing(sqlite3.connect(second.mlflow_folder / "mlflow.db")) as other:
        other.execute("begin immediate")
        with pytest.raises(InputError, match=r"names the folder .* before, .*\(database is locked"):
            follow_home(second)


def test_moved_home_trains_and_its_champion_is_challenged(
    drawn_release: Path, tmp_path: Path
) -> None:
    copied = graph.finished(drawn_release).copy(tmp_path / "copied")
    # The registry then names the copy, so that nothing can be found where it was made.
    tracking.connect(copied.settings())
    shutil.move(copied.home, tmp_path / "moved")
    made = [f"{STREAM}/{name}" for name in ("trained_model", "evaluation_report", "champion")]
    settings = graph.remembered(tmp_path / "moved", minutes=0.05)
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, made, instance).success
    graph.make_behind(settings)
    streams = run_summary(settings, list(graph.states(settings).values()))["streams"]
    assert {told["report"] for told in streams.values()} == {
        str(tmp_path / "moved" / "reports" / stream / "report.html") for stream in graph.STREAMS
    }
    figures = streams[STREAM]["champion"]
    assert figures["challenger"] == "2"
    assert figures["verdict"] != "first"
    assert not copied.home.exists()
