"""What prune removes can be made again or is of nobody's use; all else stays, and says so."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline import tracking
from fer_pipeline.build import PIPELINE_JOB
from fer_pipeline.champion import champion_file
from fer_pipeline.instance import locked_home
from fer_pipeline.operations.prune_history import standing_runs
from fer_pipeline.operations.prune_tracking import old_versions
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.automation.ticks import unfinished_run
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.operations.registered import STREAM, model_bytes

pytestmark = pytest.mark.usefixtures("own_environment")


@dg.op
def told() -> None:
    """Does nothing."""


@dg.job
def idle() -> None:
    told()


def _prune(here: Callable[..., Ended], settings: Settings, *words: object) -> dict[str, Any]:
    ended = here("prune", "--home", settings.home, "--json", "--older-than", 0, *words)
    assert ended.code == 0, ended.err
    return ended.answer


def test_nothing_is_removed_without_apply_and_with_it_only_what_nothing_stands_on(
    home: Settings, here: Callable[..., Ended]
) -> None:
    crops = Path(str(home.crops_folder))
    shutil.copytree(crops, crops.with_name("0therhash"))
    shown = crops.parent.parent / "shown" / "x.png"
    shown.parent.mkdir()
    shown.write_bytes(b"12345")
    part = crops / ".shard.part"
    part.write_bytes(b"123")
    kept = [home.home / "corrections.csv", home.home / "studies.db", home.home / "mine.txt"]
    for path in kept:
        path.write_text("kept")
    before = graph.to_be_made(home)
    there = sorted(Path(str(home.home)).rglob("*"))

    said = _prune(here, home)
    assert said["applied"] is False
    assert sorted(Path(str(home.home)).rglob("*")) == there
    removable = said["removable"]
    assert removable["crops of other settings"]["items"] == [str(crops.with_name("0therhash"))]
    assert removable["shown pictures"]["bytes"] == 5
    assert removable["unfinished files"]["items"] == [str(part)]

    done = _prune(here, home, "--apply")
    assert done == {**said, "applied": True}
    assert not crops.with_name("0therhash").exists()
    assert not shown.parent.exists()
    assert not part.exists()
    assert [path.read_text() for path in kept] == ["kept"] * 3
    assert graph.to_be_made(home) == before
    assert _prune(here, home)["bytes"] == 0


def test_run_that_made_an_asset_stays_and_another_goes_with_its_logs_once_it_is_old(
    home: Settings, here: Callable[..., Ended]
) -> None:
    before = graph.to_be_made(home)
    with graph.instance_of(home.state_folder) as instance:
        standing = standing_runs(home, instance)
        assert standing == {run.run_id for run in instance.get_runs()}
        old = idle.execute_in_process(instance=instance).run_id
    logs = home.dagster_home / "storage" / old / "compute_logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "x.out").write_bytes(b"printed")
    mine = home.dagster_home / "storage" / "mine"
    mine.mkdir()
    young = here("prune", "--home", home.home, "--json").answer["removable"]
    assert not {"events of old runs", "logs of old runs"} & young.keys()

    said = _prune(here, home, "--apply")["removable"]
    assert said["events of old runs"]["items"] == [old]
    assert str(logs.parent) in said["logs of old runs"]["items"]
    assert not logs.exists()
    assert mine.is_dir()
    assert not (home.dagster_home / "history" / "runs" / f"{old}.db").exists()
    with graph.instance_of(home.state_folder) as instance:
        assert {run.run_id for run in instance.get_runs()} == standing
    assert graph.to_be_made(home) == before


def test_apply_is_refused_beside_a_run_in_progress(
    home: Settings, here: Callable[..., Ended]
) -> None:
    run = unfinished_run(home, PIPELINE_JOB, ["class_manifest"])
    words = ("prune", "--home", home.home, "--apply", "--json")
    ended = here(*words)
    assert ended.code == 1
    assert run.run_id in ended.answer["error"]
    with graph.instance_of(home.state_folder) as instance:
        instance.report_run_failed(run)
    with locked_home(home):
        ended = here(*words)
    assert ended.code == 1
    assert "works on" in ended.answer["error"]


def test_champion_the_one_before_it_and_the_newest_stay(
    registered: Settings, here: Callable[..., Ended]
) -> None:
    settings = registered
    registry = Registry(settings, STREAM)
    history = json.loads(champion_file(settings, STREAM).read_text())["history"]
    for name in (settings.crop_settings.hash, "crops-1", "crops-2", "crops-3"):
        path = Path(str(settings.home)) / "crops" / name / "x"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 10)

    said = _prune(here, settings, "--keep-runs", 1)
    names = [f"version 1 of {registry.name}"]
    assert said["removable"]["old model versions"]["items"] == names
    (crops,) = said["removable"]["crops of other settings"]["items"]
    assert crops.endswith("crops-1")
    assert set(registry.versions()) == set("1234")

    done = _prune(here, settings, "--keep-runs", 1, "--apply")
    assert done["bytes"] == said["bytes"] > 32 * 40
    assert set(registry.versions()) == set("234")
    assert (registry.champion(), registry.previous()) == ("3", "2")
    for number in "234":
        assert model_bytes(settings, number)
    models = Path(str(settings.mlflow_artifacts)) / "models"
    assert len(list(models.rglob("model.keras"))) == 3
    # What was decided of the version that is gone is still told, and figures of its training stay.
    assert json.loads(champion_file(settings, STREAM).read_text())["history"] == history
    assert len(graph.tracked_runs(settings.state_folder)) == 4


def test_version_that_came_into_use_since_it_was_listed_stays(registered: Settings) -> None:
    settings = registered
    registry = Registry(settings, STREAM)
    with graph.instance_of(settings.state_folder) as instance:
        (listed,) = old_versions(settings, instance, runs=1, days=0)
    tracking.connect(settings).set_registered_model_alias(registry.name, "mine", "1")
    listed.remove()
    assert set(registry.versions()) == set("1234")
    assert model_bytes(settings, "1")
    with graph.instance_of(settings.state_folder) as instance:
        assert list(old_versions(settings, instance, runs=1, days=0)) == []


def _stopped(settings: Settings) -> str:
    """A training that kept a file and failed; its id."""
    with pytest.raises(ValueError, match="stop"), _training(settings) as run:  # noqa: PT012
        run.log_json({"x": 1}, "kept.json")
        raise ValueError("stop")
    return str(run.run_id)


def test_failed_trainings_of_this_home_go_and_those_of_others_stay(
    registered: Settings, here: Callable[..., Ended]
) -> None:
    settings = registered
    failed = _stopped(settings)
    client = tracking.connect(settings)
    experiment = client.get_run(failed).info.experiment_id
    other = client.create_run(experiment, tags={tracking.HOME_TAG: "another"}).info.run_id
    client.set_terminated(other, "FAILED")
    (item,) = _prune(here, settings)["removable"]["failed or deleted trainings"]["items"]
    assert failed in item
    _prune(here, settings, "--apply")
    assert client.get_run(failed).info.lifecycle_stage == "deleted"
    assert client.get_run(other).info.lifecycle_stage == "active"
    assert not (Path(str(settings.mlflow_artifacts)) / failed / "artifacts").exists()
    assert _prune(here, settings)["removable"] == {}


def test_home_that_is_not_there_is_wrong_input(tmp_path: Path, here: Callable[..., Ended]) -> None:
    ended = here("prune", "--home", tmp_path / "none", "--json")
    assert ended.code == 2
    assert "holds nothing yet" in ended.answer["error"]


def test_folder_of_a_run_that_nobody_knows_goes_when_it_is_old(
    home: Settings, here: Callable[..., Ended]
) -> None:
    folder = home.dagster_home / "storage" / "01234567-89ab-cdef-0123-456789abcdef"
    folder.mkdir(parents=True)
    ended = here("prune", "--home", home.home, "--json")
    assert "logs of old runs" not in ended.answer["removable"]
    long_ago = time.time() - 40 * 86_400
    os.utime(folder, (long_ago, long_ago))
    ended = here("prune", "--home", home.home, "--json")
    assert ended.answer["removable"]["logs of old runs"]["items"] == [str(folder)]


def _training(settings: Settings) -> Any:
    return tracking.training_run(settings, f"{STREAM}/trained_model", {}, "a training")
