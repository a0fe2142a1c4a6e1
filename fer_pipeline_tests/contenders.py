"""Models with set weights, registered as a training registers them: contenders for an alias.

They know the labels of the faces they are judged on, as far as the test wants them to.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import numpy as np
import pandas as pd

from fer_pipeline import tracking
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.examples import Examples, load_images, select_examples
from fer_pipeline.core.manifest import published_manifest_hash, read_manifest
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.settings import Settings
from fer_pipeline.training_groups import TRAINING_GROUPS, UNKNOWN_START_TAG


def dev_faces(settings: Settings, stream: str) -> Examples:
    """Today's dev faces of a stream."""
    crop_set = read_crop_set(settings.crops_folder)
    manifest = read_manifest(settings.manifest_folder)
    return select_examples(crop_set.paths, manifest, settings.all_streams[stream], "dev", "listed")


def knowing(faces: Examples, labels: Sequence[int] | np.ndarray[Any, Any], classes: int) -> Any:
    """A linear Keras model that says these labels of these faces: float (n, h, w, c) in."""
    import keras

    pixels = load_images(faces).reshape(len(faces), -1).astype(np.float64)
    wanted = np.eye(classes)[np.asarray(labels)] * 10 - 5
    weights, *_ = np.linalg.lstsq(np.c_[pixels, np.ones(len(faces))], wanted, rcond=None)
    inputs = keras.Input(faces.image_shape)
    dense = keras.layers.Dense(classes, activation="softmax")
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    dense.set_weights([weights[:-1].astype(np.float32), weights[-1].astype(np.float32)])
    return model


def register(
    settings: Settings,
    stream: str,
    model: Any,
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    crop: Any = None,
    trained_groups: Sequence[str] | None = None,
    drawn: bool = False,
    unknown_start: str | None = None,
) -> dict[str, Any]:
    """Log and register a model as a training does; what its materialization would say of it.

    Only the package's own code isn't kept beside it: those hundred uploads take longer than all
    else, and a contender is loaded by the package that is there.
    """
    photo = next(iter(settings.open_dataset().read_photos([_a_photo(settings)])))
    assert isinstance(photo, bytes)
    card = ModelCard(
        stream=stream,
        classes=tuple(classes or settings.all_streams[stream]),
        crop=crop or settings.crop_settings,
        label_source="listed",
        trained_on={
            "manifest_hash": published_manifest_hash(settings.manifest_folder),
            "drawn": drawn,
        },
    )
    asset = f"{stream}/trained_model"
    tags = {} if unknown_start is None else {UNKNOWN_START_TAG: unknown_start}
    with _without_code(), tracking.training_run(settings, asset, tags, "contender") as run:
        logged = run.log_model(model, card, photo)
        if trained_groups is not None:
            import mlflow

            file = folder / TRAINING_GROUPS
            pd.DataFrame({"group_id": list(trained_groups)}).to_parquet(file)
            mlflow.log_artifact(str(file))
    return {
        "model_uri": logged.model_uri,
        "model_id": logged.model_id,
        "mlflow_run_id": logged.run_id,
    }


def say_trained(instance: dg.DagsterInstance, stream: str, made: dict[str, Any]) -> None:
    """Tell Dagster of the model as its training would, and of a report on it."""
    for name in ("trained_model", "evaluation_report"):
        instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey([stream, name]), metadata=made)
        )


@contextmanager
def _without_code() -> Iterator[None]:
    import mlflow

    logged = mlflow.pyfunc.log_model

    def log_model(**words: Any) -> Any:
        return logged(**{**words, "code_paths": None})

    with mock.patch.object(mlflow.pyfunc, "log_model", log_model):
        yield


def _a_photo(settings: Settings) -> tuple[str, str]:
    row = read_manifest(settings.manifest_folder, ["list", "image_path"]).slice(0, 1).to_pylist()[0]
    return row["list"], row["image_path"]
