"""The asset `STREAM/trained_model`: a network trained here, or one that was trained elsewhere.

A run with the tag `ADOPTED_TAG` takes the result file that the tag names in place of training;
all else is the same, so that data version, lineage and MLflow run are those of any training.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from fer_pipeline import tracking
from fer_pipeline.core.challenge import leak_objections
from fer_pipeline.core.checkpoint import SECONDS_BETWEEN_STATES, Checkpoint
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, text_digest
from fer_pipeline.core.manifest import MANIFEST_FILE
from fer_pipeline.core.model_file import without_path
from fer_pipeline.metadata import FILES, picture, published_files
from fer_pipeline.operations.room import check_room_for_training
from fer_pipeline.repeat import TRAINING_SETTINGS, training_settings
from fer_pipeline.settings import Settings
from fer_pipeline.source_commit import git_commit
from fer_pipeline.training_groups import (
    TRAINING_GROUPS,
    UNKNOWN_START_TAG,
    joined,
    learned_by,
    own_groups,
)
from fer_pipeline.training_task import Material, check_same_task, training_material

if TYPE_CHECKING:
    import pandas as pd

    from fer_pipeline.core.result_file import Result
    from fer_pipeline.core.train import EpochResult
    from fer_pipeline.core.trained import Trained
    from fer_pipeline.core.transfer import Source

ADOPTED_TAG = "fer/adopted"
"""Tag of a Dagster run that names the file of a result to take instead of training."""
ELSEWHERE_TAG = "fer.result_file"
"""Tag of the MLflow run of a training elsewhere: the digest of its result file."""
INIT_DIGEST = "init_digest"
"""Metadata key: the digest of the model file that training started from."""


def train_stream(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    """Train the stream's network, or take the result that the run's tag names, and log it."""
    from fer_pipeline.core.train import prepare_process
    from fer_pipeline.core.trained import environment

    prepare_process(settings.seed, settings.threads)
    material = training_material(settings, stream)
    asset = context.asset_key.to_user_string()
    tags = {
        tracking.DAGSTER_RUN_TAG: context.run.run_id,
        tracking.MANIFEST_TAG: material.manifest_hash,
        "dagster.asset_key": asset,
        "dagster.retry_number": str(context.retry_number),
    }
    kept_settings = training_settings(settings)
    brought, elsewhere = _brought(context, material)
    if brought is not None and elsewhere is not None:
        tags[ELSEWHERE_TAG] = file_digest(brought.path)
        kept_settings["minutes"] = brought.task.minutes
    where = environment() if brought is None else brought.environment
    task = material.task if brought is None else brought.task
    source = None if elsewhere is not None else _source(material)
    groups, unknown = _groups(context, settings, material)
    if unknown is not None:
        tags[UNKNOWN_START_TAG] = unknown
    check_room_for_training(settings, stream)
    name = f"{stream} {datetime.now(UTC):%Y-%m-%d %H:%M}"
    with (
        _checkpoint(context, settings, material) as checkpoint,
        tracking.training_run(settings, asset, tags, name) as run,
    ):
        run.log_parameters(_parameters(material, task.minutes, where))
        run.log_json(kept_settings, TRAINING_SETTINGS)
        run.log_parquet(groups, TRAINING_GROUPS)
        table = str(settings.manifest_folder / MANIFEST_FILE)
        run.log_data(_manifest_frame(material.manifest), material.manifest_hash, table)
        if elsewhere is None:
            trained = _train(context, run, material, source, checkpoint)
        else:
            trained = elsewhere
            for epoch in trained.history:
                _log_epoch(run, epoch)
        photo = _example_photo(settings, material)
        logged = _log_trained(run, trained, photo)
    history = [asdict(epoch) for epoch in trained.history]
    unfitted = trained.served.unfitted
    if unfitted is not None:
        context.log.info(f"{stream}: no temperature was fitted: {unfitted}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(logged.model_id),
        metadata={
            "mlflow_run": dg.MetadataValue.url(logged.run_url),
            "mlflow_run_id": logged.run_id,
            "model_uri": logged.model_uri,
            "model_id": logged.model_id,
            "git_commit": git_commit(),
            **({FILES: published_files(settings, logged.file)} if logged.file else {}),
            "manifest_hash": material.manifest_hash,
            **trained.served.figures(),
            "temperature": trained.served.temperature,
            **({} if unfitted is None else {"temperature_not_fitted": unfitted}),
            **({} if trained.started_from is None else {"started_from": trained.started_from}),
            **({} if task.init is None else {INIT_DIGEST: task.init}),
            "training_faces": len(material.training),
            "dev_faces": len(material.dev),
            "epochs": len(history),
            "best_epoch": trained.best_epoch,
            "stopped": trained.stopped,
            "weights": int(trained.served.model.count_params()),
            "minutes": trained.seconds / 60,
            "trained_with": ", ".join(f"{what} {value}" for what, value in where.items()),
            **({} if brought is None else {"result_file": brought.path.name}),
            "training_curves": picture(_curves(history), "training curves"),
            "history": dg.MetadataValue.json(history),
        },
    )


def _brought(
    context: dg.AssetExecutionContext, material: Material
) -> "tuple[Result | None, Trained | None]":
    """The result that the run is to take, scored on dev here; nothing where it is to train.

    Raises InputError when it is damaged, belongs to another task, or scores otherwise.
    """
    from fer_pipeline.core.result_file import read_result, score_here

    path = context.run.tags.get(ADOPTED_TAG)
    if path is None:
        return None, None
    result = read_result(Path(path))
    check_same_task(result.path, result.task, material.task)
    return result, score_here(result, material.dev)


def _source(material: Material) -> "Source | None":
    """The model that training starts from."""
    from fer_pipeline.core.transfer import open_source

    if material.init is None:
        return None
    return open_source(material.init, material.task.card.trained_on["init"])


def _groups(
    context: dg.AssetExecutionContext, settings: Settings, material: Material
) -> tuple[pa.Table, str | None]:
    """What the model will have learned from, and what it starts from if not all of that is known.

    What keeps it from being judged fairly is said here, before it is trained for hours.
    """
    dataset = settings.open_dataset()
    groups = own_groups(dataset, material.manifest, material.training)
    if material.init_address is None:
        return groups, None
    stream, started = material.task.card.stream, without_path(material.init_address)
    before = learned_by(settings, material.init_address, dataset)
    groups = joined(groups, before.groups)
    learned = set(groups["group_id"].to_pylist())
    dealt, split = (material.manifest[name].to_numpy() for name in ("group_id", "split"))
    for objection in leak_objections(learned, dealt, split, two_sided=()):
        context.log.warning(
            f"{stream}: a version that starts from {started} can't be the champion: {objection}"
        )
    if before.complete:
        return groups, None
    context.log.warning(
        f"{stream}: what {started}, the model to start from, was trained on isn't known: figures "
        "on dev and test may be of faces it has seen"
    )
    return groups, started


def _train(
    context: dg.AssetExecutionContext,
    run: tracking.TrainingRun,
    material: Material,
    source: "Source | None",
    checkpoint: "Checkpoint",
) -> "Trained":
    from fer_pipeline.core.trained import train_task

    task = material.task
    stream = task.card.stream
    told = set()

    def tell(epoch: "EpochResult") -> None:
        context.log.info(
            f"{stream} epoch {epoch.epoch}: loss {epoch.loss:.3f}, "
            f"dev accuracy {epoch.dev_accuracy:.3f}, dev macro-F1 {epoch.dev_macro_f1:.3f}, "
            f"{epoch.images_per_second:.0f} faces/s, {epoch.seconds_left:.0f} s left"
        )
        _log_epoch(run, epoch)
        told.add(epoch.epoch)

    trained = train_task(
        task,
        material.training,
        material.dev,
        init=source,
        on_epoch=tell,
        checkpoint=checkpoint,
    )
    for epoch in trained.history:
        if epoch.epoch not in told:
            _log_epoch(run, epoch)
    if source is not None:
        context.log.info(f"{stream} started from {source.name}: {trained.started_from}")
    return trained


@contextlib.contextmanager
def _checkpoint(
    context: dg.AssetExecutionContext, settings: Settings, material: Material
) -> Iterator[Checkpoint]:
    """Where the state of the training stands until its model is kept.

    A run that was stopped is gone on from by one that would train just the same; what another
    task left is removed.
    """
    import keras

    task = material.task
    stream = task.card.stream
    same = {
        **task.needs(),
        "minutes": task.minutes,
        "package": task.package,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }
    folder = settings.state_folder / "training" / stream
    path = folder / f"{text_digest(json.dumps(same, sort_keys=True))}.npz"
    for other in folder.glob("*"):
        if other != path:
            other.unlink(missing_ok=True)
    checkpoint = Checkpoint(path, {}, SECONDS_BETWEEN_STATES)
    try:
        saved = checkpoint.load()
    except InputError:
        context.log.warning(f"{stream}: {path} is damaged: training from the start")
        path.unlink(missing_ok=True)
    else:
        if saved is not None:
            context.log.info(f"{stream}: going on after epoch {len(saved[1].history)}")
    yield checkpoint
    path.unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _log_epoch(run: tracking.TrainingRun, epoch: "EpochResult") -> None:
    row = asdict(epoch)
    run.log_epoch(row.pop("epoch"), row)


def _log_trained(
    run: tracking.TrainingRun, trained: "Trained", photo: bytes
) -> tracking.LoggedModel:
    """Log the history, the figures on dev and the model, which is registered."""
    import pandas as pd

    run.log_table(pd.DataFrame([asdict(epoch) for epoch in trained.history]), "history.csv")
    # Other names than those of the epochs, whose last one need not be the best.
    final = {f"final_{name}": value for name, value in trained.served.figures().items()}
    run.log_metrics({**final, "temperature": trained.served.temperature})
    return run.log_model(trained.served.model, trained.card, photo)


def _parameters(
    material: Material, minutes: float | None, where: Mapping[str, str]
) -> dict[str, Any]:
    task = material.task
    card, preset = task.card, task.preset
    return {
        "stream": card.stream,
        "classes": ",".join(card.classes),
        "data_set": card.trained_on["data_set"],
        "preset": card.trained_on["preset"],
        "label_source": card.label_source,
        "vote_share": card.trained_on["vote_share"],
        "init": material.init_address,
        "seed": task.seed,
        "minutes": minutes,
        "training_faces": len(material.training),
        "dev_faces": len(material.dev),
        "crop_settings": card.crop.hash,
        **where,
        **{f"recipe.{name}": value for name, value in asdict(preset.recipe).items()},
        **{f"network.{name}": value for name, value in asdict(preset.network).items()},
    }


def _curves(history: list[dict[str, Any]]) -> bytes:
    from fer_pipeline.core.figures import training_curves

    return training_curves(history)


def _manifest_frame(manifest: pa.Table) -> "pd.DataFrame":
    wanted = ["face_id", "source", "list", "expression", "group_id", "split", "reason", "weight"]
    frame: pd.DataFrame = manifest.select(wanted).to_pandas()
    return frame


def _example_photo(settings: Settings, material: Material) -> bytes:
    """The stored bytes of the first training face's photo."""
    manifest = material.manifest
    place = manifest["face_id"].to_pylist().index(material.training.face_id[0])
    row = manifest.select(["list", "image_path"]).slice(place, 1).to_pylist()[0]
    data = next(iter(settings.open_dataset().read_photos([(row["list"], row["image_path"])])))
    if not isinstance(data, bytes):
        raise InputError(f"{row['image_path']} was there when it was cropped and is gone now")
    return data
