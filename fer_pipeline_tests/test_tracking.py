"""What a training run leaves in MLflow."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.model_file import read_card
from fer_pipeline.source_commit import git_commit
from fer_pipeline.tracking_server import tracking_uri
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Finished

STREAM = "three_class"


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


@pytest.fixture(scope="module")
def figures(done: Finished) -> dict[str, Any]:
    found: dict[str, Any] = done.ended.answer["streams"][STREAM]
    return found


@pytest.fixture(scope="module")
def client(done: Finished) -> Any:
    return tracking.connect(done.settings())


@pytest.fixture(scope="module")
def run(client: Any, figures: dict[str, Any]) -> Any:
    return client.get_run(figures["mlflow_run_id"])


def test_each_training_materialization_has_one_finished_run(client: Any, done: Finished) -> None:
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in runs} == {
        figures["mlflow_run_id"] for figures in done.ended.answer["streams"].values()
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags[tracking.ASSET_TAG] for run in runs} == {
        f"{stream}/trained_model" for stream in graph.STREAMS
    }


def test_no_secret_is_in_anything_that_a_run_leaves_or_says(run: Any, done: Finished) -> None:
    files = {path: path.read_bytes() for path in done.home.rglob("*") if path.is_file()}
    # Metadata, tags and logs stand in databases as plain text.
    dagster_run = run.data.tags[tracking.DAGSTER_RUN_TAG].encode()
    kept = [str(path.relative_to(done.home)) for path, data in files.items() if dagster_run in data]
    assert {"dagster", "mlflow"} <= {name.split("/")[0] for name in kept}
    assert [path for path, data in files.items() if graph.SECRET.encode() in data] == []
    assert graph.SECRET not in done.ended.out + done.ended.err


def test_run_is_tagged_with_where_it_comes_from(run: Any, done: Finished) -> None:
    tags = run.data.tags
    key = dg.AssetKey([STREAM, "trained_model"])
    with graph.instance_of(done.home) as instance:
        record = instance.fetch_materializations(key, limit=1).records[0]
    assert tags[tracking.DAGSTER_RUN_TAG] == record.event_log_entry.run_id
    assert tags[tracking.MANIFEST_TAG] == done.ended.answer["manifest_hash"]
    assert tags["dagster.asset_key"] == f"{STREAM}/trained_model"
    assert tags["dagster.retry_number"] == "0"
    assert tags["fer.git_commit"] == git_commit()


def test_parameters_of_recipe_and_data_are_logged(run: Any, done: Finished) -> None:
    parameters = run.data.params
    assert parameters["stream"] == STREAM
    assert parameters["classes"] == "Happiness,Sadness,Surprise"
    assert parameters["preset"] == "smoke"
    assert parameters["seed"] == "0"
    assert parameters["minutes"] == "0.05"
    assert parameters["crop_settings"] == done.settings().crop_settings.hash
    assert int(parameters["training_faces"]) > int(parameters["dev_faces"]) > 0
    assert {"recipe.learning_rate", "recipe.batch_size", "network.widths"} <= set(parameters)


def test_metrics_are_logged_by_epoch(client: Any, run: Any) -> None:
    for name in ("loss", "dev_accuracy", "dev_macro_f1", "learning_rate"):
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == list(range(1, len(history) + 1))
        assert history
    assert "history.csv" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_manifest_is_logged_as_the_data_set(run: Any, done: Finished) -> None:
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "class_manifest"
    assert used.dataset.digest == done.ended.answer["manifest_hash"]
    assert (
        json.loads(used.dataset.profile)["num_rows"]
        == read_manifest(done.home / "manifest").num_rows
    )


def test_evaluation_stands_in_the_run_of_the_training(
    client: Any, run: Any, figures: dict[str, Any]
) -> None:
    metrics = run.data.metrics
    assert metrics["test_n"] == figures["n_test"]
    for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "linear_accuracy", "ece"):
        assert metrics[f"test_{name}"] == pytest.approx(figures[name])
    files = {Path(f.path).name for f in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"report.html", "metrics.json", "confusion.png"} <= files


def test_model_is_registered_under_the_stream(client: Any, figures: dict[str, Any]) -> None:
    assert figures["model_uri"] == f"models:/fer-{STREAM}/1"
    version = client.get_model_version(f"fer-{STREAM}", "1")
    assert version.run_id == figures["mlflow_run_id"]
    assert len(client.search_model_versions(f"name='fer-{STREAM}'")) == 1


def test_crop_settings_and_label_order_travel_with_the_model(
    done: Finished, figures: dict[str, Any]
) -> None:
    settings = done.settings()
    card = read_card(tracking.model_file(settings, figures["model_uri"]))
    assert card.stream == STREAM
    assert card.classes == ("Happiness", "Sadness", "Surprise")
    assert card.crop == settings.crop_settings
    assert card.trained_on["manifest_hash"] == done.ended.answer["manifest_hash"]


def test_logged_version_brings_the_package_but_not_its_starter_model(
    done: Finished, figures: dict[str, Any]
) -> None:
    file = tracking.model_file(done.settings(), figures["model_uri"])
    code = file.parents[1] / "code" / "fer_pipeline"
    assert (code / "core" / "starter.py").is_file()
    assert not (code / "starter").exists()


def test_link_of_the_run_stands_on_the_asset(done: Finished, figures: dict[str, Any]) -> None:
    key = dg.AssetKey([STREAM, "trained_model"])
    with graph.instance_of(done.home) as instance:
        event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["mlflow_run_id"].value == figures["mlflow_run_id"]
    link = metadata["mlflow_run"].value
    assert link.startswith("http://127.0.0.1:5000/#/experiments/")
    assert link.endswith(f"/runs/{figures['mlflow_run_id']}")


_PREDICT = """
import base64, json, sys
import mlflow, pandas as pd
uri, store, photo, box = json.loads(sys.stdin.read())
mlflow.set_tracking_uri(store)
model = mlflow.pyfunc.load_model(uri)
boxed = dict(zip(("x", "y", "width", "height"), map(float, box)))
def predict(image, **more):
    return model.predict(pd.DataFrame([{"image": image, **more}])).to_dict("records")[0]
found = {
    "bytes": predict(base64.b64decode(photo), **boxed),
    "base64": predict(photo, **boxed),
    "no_box": predict(base64.b64decode(photo)),
    "broken": predict(b"no photo"),
    "inputs": model.metadata.get_input_schema().input_names(),
    "outputs": model.metadata.get_output_schema().input_names(),
    "example": model.input_example.columns.tolist(),
}
sys.stdout.write(json.dumps(found, default=str))
"""


@pytest.fixture(scope="module")
def predicted(
    done: Finished, figures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the logged model says of one photo, in a process that only knows MLflow."""
    settings = done.settings()
    face = next(
        row for row in read_manifest(settings.manifest_folder).to_pylist() if row["split"] == "test"
    )
    data = next(iter(settings.open_dataset().read_photos([(face["list"], face["image_path"])])))
    assert data is not None
    box = [face[name] for name in ("face_x", "face_y", "face_width", "face_height")]
    asked = (
        figures["model_uri"],
        tracking_uri(settings),
        base64.b64encode(data).decode(),
        box,
    )
    ended = subprocess.run(
        [sys.executable, "-c", _PREDICT],
        input=json.dumps(asked),
        env=graph.environment(),
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return {**json.loads(ended.stdout.strip().splitlines()[-1]), "box": box}


def test_model_predicts_from_bytes_and_base64_alike(predicted: dict[str, Any]) -> None:
    answer = predicted["bytes"]
    assert answer == predicted["base64"]
    assert answer["status"] == "ok"
    shares = [answer[f"p_{name}"] for name in ("happiness", "sadness", "surprise")]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert answer["label"] == ("Happiness", "Sadness", "Surprise")[shares.index(max(shares))]
    assert [answer[name] for name in ("x", "y", "width", "height")] == predicted["box"]


def test_model_finds_the_face_where_no_box_is_given(predicted: dict[str, Any]) -> None:
    assert predicted["no_box"]["status"] == "ok"
    x, y, width, height = predicted["box"]
    found = predicted["no_box"]
    assert x - width / 2 < found["x"] < x + width / 2
    assert y - height / 2 < found["y"] < y + height / 2


def test_model_says_that_bytes_are_no_photo(predicted: dict[str, Any]) -> None:
    assert predicted["broken"]["status"] == "unreadable"
    assert predicted["broken"]["label"] in (None, "None", "nan")


def test_signature_and_input_example_are_logged(predicted: dict[str, Any]) -> None:
    box = ["x", "y", "width", "height"]
    assert predicted["inputs"] == ["image", *box]
    assert predicted["outputs"] == [
        *("status", "label", "p_happiness", "p_sadness", "p_surprise"),
        *box,
    ]
    assert predicted["example"] == ["image"]


def test_model_file_is_found_by_path_and_folder(
    done: Finished, figures: dict[str, Any], tmp_path: Path
) -> None:
    settings = done.settings()
    path = tracking.model_file(settings, figures["model_uri"])
    assert tracking.model_file(settings, str(path)) == path
    assert tracking.model_file(settings, str(path.parent)) == path
    with pytest.raises(InputError, match=r"holds no model\.keras"):
        tracking.model_file(settings, str(tmp_path))
    with pytest.raises(InputError, match="neither a file nor an MLflow address"):
        tracking.model_file(settings, "best-model")
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.keras").touch()
    with pytest.raises(InputError, match=r"2 models, such as a/model\.keras and b/c/model\.keras"):
        tracking.model_file(settings, str(tmp_path))
    for empty in ("", " ", "file://"):
        with pytest.raises(InputError, match="the name of the model is empty"):
            tracking.model_file(settings, empty)
