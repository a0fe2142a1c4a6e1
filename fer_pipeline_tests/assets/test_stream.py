"""One stream's model and report: what a whole run left, and what each refuses to start from."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.compute as pc
import pytest

from fer_pipeline import plan, tracking
from fer_pipeline.assets import training
from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.stream import TRAINING_POOL, stream_assets
from fer_pipeline.assets.training import INIT_DIGEST
from fer_pipeline.champion import read_champion
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.checkpoint import Progress
from fer_pipeline.core.crop_set import CROPS_LIST
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.manifest import manifest_hash, read_manifest
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.network import build_network
from fer_pipeline.core.train import predict
from fer_pipeline.failures import first_problem
from fer_pipeline.repeat import TRAINING_SETTINGS, training_settings
from fer_pipeline.reports import metrics_file, model_card_file, report_file
from fer_pipeline.settings import Settings
from fer_pipeline.training_groups import groups_of_run, unknown_start
from fer_pipeline.training_task import training_material
from fer_pipeline.versions import code_version
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Finished

STREAM = "three_class"


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


@pytest.fixture
def settings(drawn_release: Path, tmp_path: Path) -> Settings:
    """A home with crops and no model. The backend's threads are chosen once a process: not here."""
    early = graph.early_copy(drawn_release, tmp_path / "home")
    return early.model_copy(update={"threads": None})


def _made(done: Finished, name: str) -> dict[str, Any]:
    """The metadata of an asset's last materialization."""
    with graph.instance_of(done.home) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey([STREAM, name]))
    assert event is not None
    assert event.asset_materialization is not None
    return {key: value.value for key, value in event.asset_materialization.metadata.items()}


def _call(asset: int, settings: Settings, instance: dg.DagsterInstance) -> Any:
    """Train (0) or evaluate (1), called directly."""
    context = dg.build_asset_context(instance=instance)
    return stream_assets(settings, STREAM)[asset](context, settings=settings)


def test_assets_of_a_stream_carry_its_name() -> None:
    settings = Settings.fresh(home=Path("home"), streams=("seven_class",))
    assets = stream_assets(settings, "seven_class")
    assert [asset.key.to_user_string() for asset in assets] == [
        "seven_class/trained_model",
        "seven_class/evaluation_report",
    ]
    assert {group for asset in assets for group in asset.group_names_by_key.values()} == {
        "seven_class"
    }
    assert assets[0].op.pool == TRAINING_POOL


def test_training_tells_of_model_data_and_epochs(done: Finished) -> None:
    found = _made(done, "trained_model")
    assert found["manifest_hash"] == done.ended.answer["manifest_hash"]
    assert found["model_uri"] == done.ended.answer["streams"][STREAM]["model_uri"]
    assert found["epochs"] == len(found["history"]) >= found["best_epoch"] >= 1
    best = found["history"][found["best_epoch"] - 1]
    assert found["dev_macro_f1"] == pytest.approx(best["dev_macro_f1"], abs=0.01)
    assert found["dev_accuracy"] == pytest.approx(best["dev_accuracy"], abs=0.01)
    assert found["stopped"] in {"schedule", "early", "time"}
    assert found["training_curves"].startswith("![training curves](data:image/")


def test_model_of_few_dev_faces_keeps_temperature_one_and_says_why(done: Finished) -> None:
    found = _made(done, "trained_model")
    best = found["history"][found["best_epoch"] - 1]
    assert found["dev_nll"] == pytest.approx(best["dev_loss"], rel=1e-3)
    settings = done.settings()
    model, card = load_model(tracking.model_file(settings, found["model_uri"]))
    assert card.temperature == found["temperature"] == 1
    assert card.unfitted == found["temperature_not_fitted"]
    assert card.unfitted == f"{found['dev_faces']} dev faces are too few, 50 are needed"
    assert card.flip is False
    assert model.get_layer("temperature").scale == pytest.approx(1 / card.temperature)
    manifest, _, crop_set = verified_faces(settings)
    dev = select_examples(crop_set.paths, manifest, card.classes, "dev", "listed")
    right = predict(model, dev)[range(len(dev)), dev.expression]
    assert -np.log(right).mean() == pytest.approx(found["dev_nll"], rel=1e-4)


def test_training_keeps_its_settings_and_the_groups_it_learned_from(done: Finished) -> None:
    settings = done.settings()
    run_id = _made(done, "trained_model")["mlflow_run_id"]
    kept = tracking.run_file(settings, run_id, TRAINING_SETTINGS)
    assert json.loads(kept or b"") == training_settings(settings)
    groups: Any = groups_of_run(settings, run_id)
    manifest, _, crop_set = verified_faces(settings)
    classes = settings.all_streams[STREAM]
    training = select_examples(crop_set.paths, manifest, classes, "train", "listed")
    assert groups["group_id"].to_pylist() == sorted(set(training.group_id))
    assert set(groups["source"].to_pylist()) == {"affectnet"}
    assert set(groups["root"].to_pylist()) == {str(settings.root)}
    assert unknown_start(settings, run_id) is None


def test_training_starts_from_the_model_that_is_named(settings: Settings, tmp_path: Path) -> None:
    classes = ("Surprise", "Happiness", "Anger")
    path = tmp_path / "mine.keras"
    card = ModelCard("mine", classes, settings.crop_settings, "listed", {})
    save_model(build_network(settings.recipe, 3, seed=5), card, path)
    named = settings.model_copy(update={"init": str(path), "minutes": 0.02})
    made_from = file_digest(path)
    assert code_version("trained_model", named, STREAM) != code_version(
        "trained_model", settings, STREAM
    )
    key = dg.AssetKey([STREAM, "trained_model"])
    with dg.DagsterInstance.ephemeral() as instance:
        assert graph.materialize(named, [key.to_user_string()], instance).success
        event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    made = event.asset_materialization.metadata
    assert "outputs of Happiness, Surprise" in str(made["started_from"].value)
    assert made[INIT_DIGEST].value == made_from
    assert unknown_start(named, str(made["mlflow_run_id"].value)) == "mine.keras"


def test_other_weights_in_the_file_to_start_from_are_a_reason_to_train(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "mine.keras"
    path.write_bytes(b"some weights")
    key = dg.AssetKey([STREAM, "trained_model"])
    metadata = {INIT_DIGEST: file_digest(path)}

    def reason(init: object) -> str | None:
        named = settings.model_copy(update={"init": str(init)})
        return plan._changed_source(key, metadata, named)

    assert reason(path) is None
    # An alias moves when a better model comes, which is no reason to train this one.
    assert reason("models:/fer-three_class@champion") is None
    path.write_bytes(b"other weights")
    assert reason(path) == "the model to start from is another one"
    # What was trained stays, also once the file is gone; a training that is due says so.
    path.unlink()
    assert reason(path) is None


def test_version_that_started_from_one_that_learned_todays_dev_photos_is_blocked(
    settings: Settings,
) -> None:
    first = settings.model_copy(update={"minutes": 0.02})
    named = {"dev_share": 0.7, "init": f"models:/fer-{STREAM}@first"}
    again = first.model_copy(update=named)
    before = set(training_material(first, STREAM).training.group_id)
    trained, champion = (f"{STREAM}/{name}" for name in ("trained_model", "champion"))
    client = tracking.connect(first)
    with dg.DagsterInstance.ephemeral() as instance:
        assert graph.materialize(first, [trained], instance).success
        client.set_registered_model_alias(f"fer-{STREAM}", "first", "1")
        made = graph.materialize(
            again, ["class_manifest", "face_crops", trained, champion], instance
        )
    assert made.success
    run_id = client.get_model_version(f"fer-{STREAM}", "2").run_id
    groups: Any = groups_of_run(again, run_id)
    material = training_material(again, STREAM)
    learned = groups["group_id"].to_pylist()
    assert learned == sorted(before | set(material.training.group_id))
    assert unknown_start(again, run_id) is None
    held_out = pc.field("split").isin(["dev", "test"])
    seen = before & set(material.manifest.filter(held_out)["group_id"].to_pylist())
    assert seen
    decision = read_champion(again, STREAM)["decision"]
    assert decision["verdict"] == Verdict.BLOCKED
    said = f"a leak: it was trained on {len(seen)} photos of today's dev and test splits"
    assert said in decision["why"]


def test_stopped_training_is_gone_on_from_and_its_epochs_are_all_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_STATES", 0.0)
    overrides = {"min_epochs": "3", "max_epochs": "3", "patience": "3"}
    short = settings.model_copy(update={"recipe_overrides": overrides})
    log_epoch, told = training._log_epoch, []

    def stop_after_the_second(run: Any, epoch: Any) -> None:
        told.append(epoch.epoch)
        if told == [1, 2]:
            raise KeyError("stopped")
        log_epoch(run, epoch)

    monkeypatch.setattr(training, "_log_epoch", stop_after_the_second)
    key = dg.AssetKey([STREAM, "trained_model"])
    with dg.DagsterInstance.ephemeral() as instance:
        for success in (False, True):
            made = graph.materialize(short, [key.to_user_string()], instance)
            assert made.success == success
            if not success:
                # An error that nobody foresaw isn't tried again, and is told with its step.
                assert told == [1, 2]
                said = first_problem(instance, made.run_id)
                assert said == f"{STREAM}__trained_model: KeyError: 'stopped'"
                (failed,) = made.filter_events(lambda event: event.is_step_failure)
                assert failed.step_failure_data.error.cause.cls_name == "KeyError"
        event = instance.get_latest_materialization_event(key)
    # The third is trained by the second run, which then tells of the others too.
    assert told == [1, 2, 3, 1, 2]
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["epochs"].value == 3
    logged = tracking.connect(short).get_metric_history(metadata["mlflow_run_id"].value, "loss")
    assert sorted(point.step for point in logged) == [1, 2, 3]
    assert not (short.state_folder / "training").exists()


def test_state_of_another_training_or_a_damaged_one_is_not_gone_on_from(
    settings: Settings,
) -> None:
    short = settings.model_copy(update={"recipe_overrides": {"max_epochs": "2", "min_epochs": "2"}})
    material = training_material(short, STREAM)

    def stop(context: dg.AssetExecutionContext) -> None:
        with training._checkpoint(context, short, material) as checkpoint:
            checkpoint.save({}, Progress([], None, 0, 0.0))
            raise KeyError("stopped")

    with dg.build_asset_context() as context:
        with pytest.raises(KeyError):
            stop(context)
        (left,) = (short.state_folder / "training" / STREAM).iterdir()
        left.write_bytes(b"damaged")
        with training._checkpoint(context, short, material) as checkpoint:
            assert checkpoint.load() is None
            checkpoint.save({}, Progress([], None, 0, 0.0))
            other = replace(material, task=material.task.within(9))
            with training._checkpoint(context, short, other) as checkpoint:
                assert checkpoint.load() is None
                assert not left.exists()


def test_a_model_to_start_from_that_is_not_there_is_wrong_input(settings: Settings) -> None:
    named = settings.model_copy(update={"init": "nowhere.keras"})
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(dg.Failure, match=r"nowhere\.keras is neither a file nor an MLflow address"),
    ):
        _call(0, named, instance)


def test_report_is_one_page_that_needs_nothing_else(done: Finished) -> None:
    page = report_file(done.settings(), STREAM).read_text()
    linked = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)["']""", page)
    assert linked
    assert [address[:60] for address in linked if not address.startswith("data:")] == []
    for name in ("Happiness", "Sadness", "Surprise"):
        assert name in page
    assert done.ended.answer["manifest_hash"] in page


def test_figures_of_report_asset_and_summary_agree(done: Finished) -> None:
    stored = json.loads(metrics_file(done.settings(), STREAM).read_text())
    shown = _made(done, "evaluation_report")
    told = done.ended.answer["streams"][STREAM]
    for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "majority_accuracy"):
        assert stored[name] == shown[name] == told[name]
    assert shown["n_test"] == told["n_test"] == stored["n"]
    assert shown["mlflow_run_id"] == told["mlflow_run_id"]


def test_report_shows_matrix_classes_and_calibration(done: Finished) -> None:
    shown = _made(done, "evaluation_report")
    for name in ("confusion", "confusion_counts", "recall", "reliability"):
        assert ";base64," in shown[name]
        assert len(shown[name]) < 300_000
    assert "| Happiness |" in shown["by_class"]


def test_report_examines_the_model_and_keeps_its_card(done: Finished) -> None:
    stored = json.loads(metrics_file(done.settings(), STREAM).read_text())
    details, shown = stored["details"], _made(done, "evaluation_report")
    assert (
        details["temperature"]
        == shown["temperature"]
        == _made(done, "trained_model")["temperature"]
    )
    assert details["after_temperature"]["ece"] == pytest.approx(stored["ece"], abs=1e-6)
    assert len(details["robustness"]["damaged"]) == 30
    assert {one["faces"] for one in details["latency"]["network"]} == {1, 64}
    assert details["latency"]["detector"]["p50"] > 0
    assert {one["subject"] for one in details["slices"]} >= {"Face size"}
    assert details["champion"] is None
    page = report_file(done.settings(), STREAM).read_text()
    for section in ("findings", "calibration", "parts", "damage", "maps", "cost", "card"):
        assert f'<section id="{section}">' in page
    card = model_card_file(done.settings(), STREAM).read_text()
    assert f"Accuracy {stored['accuracy']:.3f}" in card
    assert "drawn by a program" in card


def test_figures_and_card_are_kept_with_the_models_run(done: Finished) -> None:
    from fer_pipeline import tracking

    client, run_id = (
        tracking.connect(done.settings()),
        _made(done, "evaluation_report")["mlflow_run_id"],
    )
    names = {Path(file.path).name for file in client.list_artifacts(run_id, "evaluation")}
    assert {"report.html", "model_card.md", "metrics.json"} <= names
    assert {
        "reliability_before_after.png",
        "risk_coverage.png",
        "roc.png",
        "robustness.png",
    } <= names
    metrics = client.get_run(run_id).data.metrics
    stored = json.loads(metrics_file(done.settings(), STREAM).read_text())
    assert metrics["test_risk_coverage_area"] == stored["details"]["risk_coverage"]["area"]
    assert metrics["test_mean_accuracy_when_damaged"] > 0


def test_training_on_crops_of_another_manifest_is_refused(settings: Settings) -> None:
    path = settings.crops_folder / CROPS_LIST
    listed = json.loads(path.read_text())
    path.write_text(json.dumps({**listed, "manifest_hash": "0" * 16}))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(dg.Failure, match="materialize face_crops again") as caught,
    ):
        _call(0, settings, instance)
    assert "wrong_input" in caught.value.metadata
    assert not settings.mlflow_folder.exists()


def test_training_on_a_changed_shard_is_refused(settings: Settings) -> None:
    (shard,) = settings.crops_folder.glob("shard-*.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(dg.Failure, match="was changed: materialize face_crops again"),
    ):
        _call(0, settings, instance)


def test_evaluation_before_any_training_is_refused(settings: Settings) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(dg.Failure, match=f"{STREAM}/trained_model was never materialized"),
    ):
        _call(1, settings, instance)


def test_evaluation_on_a_manifest_made_after_the_training_is_refused(
    done: Finished, tmp_path: Path
) -> None:
    copied = done.copy(tmp_path / "home")
    settings = copied.settings(seed=1).model_copy(update={"threads": None})
    with graph.instance_of(copied.home) as instance:
        assert graph.materialize(settings, ["class_manifest", "face_crops"], instance).success
        changed = manifest_hash(read_manifest(settings.manifest_folder))
        with pytest.raises(dg.Failure, match=f"is now {changed}: materialize {STREAM}/trained"):
            _call(1, settings, instance)
