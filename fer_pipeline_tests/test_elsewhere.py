"""A training that leaves home in a bundle and comes back: the whole path, and what is refused."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from fer_pipeline import tracking
from fer_pipeline.assets.training import ELSEWHERE_TAG
from fer_pipeline.champion import read_champion
from fer_pipeline.core.bundle import read_task
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.network import build_network
from fer_pipeline.core.result_file import read_result
from fer_pipeline.core.train import predict
from fer_pipeline.core.trained import train_task
from fer_pipeline.core.transfer import open_source
from fer_pipeline.repeat import TRAINING_SETTINGS, training_settings
from fer_pipeline.reports import model_card_file
from fer_pipeline.settings import Settings
from fer_pipeline.summary import run_summary
from fer_pipeline.training_groups import TRAINING_GROUPS, UNKNOWN_START_TAG
from fer_pipeline.training_task import training_material
from fer_pipeline.versions import code_version
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.bundle_work import trained
from fer_pipeline_tests.graph import Ended, fer_pipeline

STREAM = "three_class"
SHORT = {"min_epochs": "2", "max_epochs": "2"}
KEY = dg.AssetKey([STREAM, "trained_model"])

Here = Callable[..., Ended]


@pytest.fixture(scope="module")
def home(drawn_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with crops and no model, whose trainings are short and start from a file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    settings = graph.early_copy(drawn_release, folder / "home")
    start = folder / "start.keras"
    classes = settings.all_streams[STREAM]
    card = ModelCard(STREAM, classes, settings.crop_settings, "listed", {})
    save_model(build_network(settings.recipe, len(classes), seed=5), card, start)
    settings = settings.model_copy(update={"recipe_overrides": SHORT, "init": str(start)})
    settings.remember()
    return settings


@pytest.fixture(scope="module")
def packed(home: Settings) -> tuple[Path, dict[str, Any]]:
    path = home.home.with_name("drawn.bundle")
    ended = fer_pipeline("bundle", "--stream", STREAM, "--out", path, "--home", home.home, "--json")
    assert ended.code == 0, ended.err
    return path, ended.answer


@pytest.fixture(scope="module")
def result(packed: tuple[Path, dict[str, Any]]) -> Path:
    ended = trained(packed[0])
    assert ended.returncode == 0, ended.stderr[-2000:]
    return packed[0].with_suffix(".result")


@pytest.fixture(scope="module")
def adopted(home: Settings, result: Path) -> dict[str, Any]:
    ended = fer_pipeline("adopt", result, "--home", home.home, "--json")
    assert ended.code == 0, ended.err
    return ended.answer


def _made(home: Settings) -> Any:
    with graph.instance_of(home.home) as instance:
        event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    return event.asset_materialization


def test_a_bundle_holds_train_and_dev_and_nothing_of_the_test_split(
    home: Settings, packed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, told = packed
    material = training_material(home, STREAM)
    assert told["bytes"] == path.stat().st_size
    assert told["manifest_hash"] == material.manifest_hash
    assert (told["training_faces"], told["dev_faces"]) == (
        len(material.training),
        len(material.dev),
    )
    assert read_task(path).needs() == material.task.needs()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    packed_faces = {
        face
        for part in tmp_path.glob("*.parquet")
        for face in pq.read_table(part, columns=["face_id"])["face_id"].to_pylist()
    }
    splits = dict(
        zip(
            material.manifest["face_id"].to_pylist(),
            material.manifest["split"].to_pylist(),
            strict=True,
        )
    )
    assert {splits[face] for face in packed_faces} == {"train", "dev"}
    assert packed_faces == {*material.training.face_id, *material.dev.face_id}
    words = (tmp_path / "description.json").read_text()
    assert str(home.root) not in words
    assert str(home.home) not in words
    assert str(home.init) not in words
    assert '"init": "start.keras"' in words


def test_it_is_the_training_of_the_home_batch_by_batch(home: Settings, result: Path) -> None:
    material = training_material(home, STREAM)
    assert material.init is not None
    source = open_source(material.init, "start.keras")
    here = train_task(material.task, material.training, material.dev, init=source)
    there = read_result(result)
    for ours, theirs in zip(here.history, there.history, strict=True):
        assert theirs.loss == pytest.approx(ours.loss, rel=1e-3)


def test_an_adopted_model_is_tracked_as_one_trained_here(
    home: Settings, result: Path, adopted: dict[str, Any]
) -> None:
    there = read_result(result)
    client = tracking.connect(home)
    run = client.get_run(adopted["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags[tracking.MANIFEST_TAG] == adopted["manifest_hash"]
    assert run.data.tags[tracking.ASSET_TAG] == f"{STREAM}/trained_model"
    assert run.data.tags[ELSEWHERE_TAG] == file_digest(result)
    assert run.data.params["recipe.max_epochs"] == "2"
    assert run.data.params["backend"] == "tensorflow"
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [point.value for point in losses] == [epoch.loss for epoch in there.history]
    assert run.data.metrics["final_dev_nll"] == pytest.approx(there.figures["dev_nll"], abs=1e-4)
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"history.csv", TRAINING_SETTINGS, TRAINING_GROUPS} <= names
    kept = tracking.run_file(home, run.info.run_id, TRAINING_SETTINGS)
    assert json.loads(kept or b"") == training_settings(home)
    # Of a file that it started from nobody knows what it has seen.
    assert run.data.tags[UNKNOWN_START_TAG] == "start.keras"
    assert [str(v.version) for v in client.search_model_versions(f"name='fer-{STREAM}'")] == ["1"]


def test_an_adopted_model_scores_as_it_did_elsewhere(
    home: Settings, result: Path, adopted: dict[str, Any]
) -> None:
    model, card = load_model(tracking.model_file(home, adopted["model_uri"]))
    dev = training_material(home, STREAM).dev
    accuracy = (predict(model, dev).argmax(axis=1) == dev.expression).mean()
    there = read_result(result)
    assert accuracy == pytest.approx(there.figures["dev_accuracy"], abs=1e-4)
    assert adopted["dev_accuracy"] == pytest.approx(accuracy)
    assert card.trained_on == there.task.card.trained_on


def test_an_adopted_model_has_the_lineage_of_one_trained_here(
    home: Settings, adopted: dict[str, Any]
) -> None:
    made = _made(home)
    assert made.tags["dagster/code_version"] == code_version("trained_model", home, STREAM)
    assert made.tags["dagster/data_version"] == made.metadata["model_id"].value
    with graph.instance_of(home.home) as instance:
        for name in ("class_manifest", "face_crops"):
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event is not None
            assert event.asset_materialization is not None
            now = (event.asset_materialization.tags or {})["dagster/data_version"]
            assert made.tags[f"dagster/input_data_version/{name}"] == now
    assert made.metadata["mlflow_run_id"].value == adopted["mlflow_run_id"]
    assert made.metadata["result_file"].value == "drawn.result"
    assert made.metadata["epochs"].value == 2


def test_a_later_run_makes_report_and_champion_and_trains_nothing(
    home: Settings, adopted: dict[str, Any]
) -> None:
    assert graph.make_behind(home) == {
        f"{STREAM}/{name}"
        for name in ("champion", "evaluation_report", "human_error_report", "relabel_sample")
    }
    figures = run_summary(home, list(graph.states(home).values()))["streams"][STREAM]
    assert figures["mlflow_run_id"] == adopted["mlflow_run_id"]
    assert figures["model_uri"] == adopted["model_uri"]
    assert len(graph.tracked_runs(home.home)) == 1
    said = "started from the weights of start.keras; what that model was trained on isn't known"
    assert said in model_card_file(home, STREAM).read_text()
    decision = read_champion(home, STREAM)["decision"]
    assert decision["verdict"] == Verdict.FIRST
    assert "what the model it started from (start.keras) was trained on" in decision["why"]


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FER_SEED": "4"}, r"trained for something else .*seed 0, here 4"),
        ({"FER_RECIPE_OVERRIDES": '{"ema": "0.9"}'}, r"recipe.ema 0.0, here 0.9.*bundle and train"),
        ({"FER_STREAMS": '["five_class"]'}, "is no stream of .* which trains five_class"),
        ({"FER_PRESET": "gpu"}, "holds no crops for preset gpu yet: run"),
    ],
)
def test_a_result_of_something_else_is_refused_before_anything_is_made(
    home: Settings,
    result: Path,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    runs = graph.tracked_runs(home.home)
    ended = here("adopt", result, "--home", home.home)
    assert ended.code == 2
    assert re.search(message, ended.words), ended.words
    assert graph.tracked_runs(home.home) == runs


@pytest.mark.usefixtures("own_environment")
def test_a_damaged_result_is_refused(
    home: Settings, result: Path, here: Here, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.result"
    damaged.write_bytes(result.read_bytes()[:-2000])
    ended = here("adopt", damaged, "--home", home.home, "--json")
    assert ended.code == 2
    assert "damaged.result is damaged, or no result at all" in ended.answer["error"]


@pytest.mark.usefixtures("own_environment")
def test_stale_crops_are_not_bundled_nor_other_files_replaced(
    home: Settings, here: Here, tmp_path: Path
) -> None:
    shutil.copytree(home.home, tmp_path / "home")
    settings = home.model_copy(update={"home": tmp_path / "home"})
    out = tmp_path / "stale.bundle"
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    words = ("bundle", "--stream", STREAM, "--home", settings.home, "--out")
    ended = here(*words, out)
    assert ended.code == 2
    assert "is missing or was changed: materialize face_crops again" in ended.words
    assert not out.exists()
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a face")
    for taken in (photo, tmp_path):
        ended = here(*words, taken)
        assert ended.code == 2
        assert "is there and is no bundle: name another file" in ended.words
    assert photo.read_bytes() == b"a face"
