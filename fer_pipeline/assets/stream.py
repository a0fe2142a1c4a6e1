"""One group for each stream: its trained model and the report on it, from one factory."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from fer_pipeline import tracking
from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.steps import stream_asset
from fer_pipeline.core.crop_set import CropSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.files import publish_bytes, publish_json, text_digest
from fer_pipeline.core.manifest import MANIFEST_FILE
from fer_pipeline.core.model_file import ModelCard, load_model, read_card
from fer_pipeline.executors import TRAINING_POOL
from fer_pipeline.metadata import (
    FILES,
    counts_table,
    markdown_table,
    path_value,
    picture,
    published_files,
)
from fer_pipeline.people import ANSWERS, answers_digest, people_on_test, predictions_file
from fer_pipeline.reports import metrics_file, report_file
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def stream_assets(settings: Settings, stream: str) -> Sequence[dg.AssetsDefinition]:
    """The assets of one stream, their keys prefixed with its name."""
    return [
        stream_asset(
            _train,
            settings,
            stream,
            "trained_model",
            kinds={"tensorflow", "mlflow"},
            deps=["class_manifest", "face_crops"],
            pool=TRAINING_POOL,
            description=f"A network that tells {', '.join(settings.all_streams[stream])} apart: "
            "one MLflow run for each materialization, a registered model version.",
        ),
        stream_asset(
            _evaluate,
            settings,
            stream,
            "evaluation_report",
            kinds={"scikitlearn", "matplotlib"},
            deps=[f"{stream}/trained_model", f"{stream}/relabel_sample"],
            description="The model on the locked test split: scores with intervals, baselines, "
            "figures and one self-contained HTML report.",
        ),
    ]


def _train(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    import pandas as pd

    from fer_pipeline.core.figures import training_curves
    from fer_pipeline.core.train import EpochResult, prepare_process, train

    started = time.monotonic()
    prepare_process(settings.seed, settings.threads)
    preset = settings.recipe
    classes = settings.all_streams[stream]
    manifest, digest, crop_set = verified_faces(settings)
    training = _examples(settings, stream, manifest, crop_set, "train")
    dev = _examples(settings, stream, manifest, crop_set, "dev")
    card = ModelCard(
        stream=stream,
        classes=tuple(classes),
        crop=crop_set.settings,
        label_source=settings.label_source,
        trained_on={
            "data_set": settings.dataset,
            "manifest_hash": digest,
            "crops_hash": crop_set.content_hash,
            "preset": settings.preset,
            "seed": settings.seed,
            "minutes": settings.minutes,
            "training_faces": len(training),
        },
    )
    tags = {
        tracking.DAGSTER_RUN_TAG: context.run_id,
        tracking.MANIFEST_TAG: digest,
        "dagster.asset_key": context.asset_key.to_user_string(),
        "dagster.retry_number": str(context.retry_number),
    }
    name = f"{stream} {datetime.now(UTC):%Y-%m-%d %H:%M}"
    with tracking.training_run(settings, context.asset_key.to_user_string(), tags, name) as run:
        run.log_parameters(_parameters(settings, stream, card, len(training), len(dev)))
        run.log_data(
            _manifest_frame(manifest), digest, str(settings.manifest_folder / MANIFEST_FILE)
        )

        def tell(epoch: EpochResult) -> None:
            context.log.info(
                f"{stream} epoch {epoch.epoch}: loss {epoch.loss:.3f}, "
                f"dev accuracy {epoch.dev_accuracy:.3f}, dev macro-F1 {epoch.dev_macro_f1:.3f}, "
                f"{epoch.images_per_second:.0f} faces/s, {epoch.seconds_left:.0f} s left"
            )
            row = asdict(epoch)
            run.log_epoch(row.pop("epoch"), row)

        result = train(
            training,
            dev,
            classes,
            preset,
            seed=settings.seed,
            minutes=settings.minutes,
            on_epoch=tell,
        )
        history = [asdict(epoch) for epoch in result.history]
        run.log_table(pd.DataFrame(history), "history.csv")
        logged = run.log_model(result.model, card, _example_photo(settings, manifest, training))
    best = result.history[result.best_epoch - 1]
    weights = int(result.model.count_params())
    return dg.MaterializeResult(
        data_version=dg.DataVersion(logged.model_id),
        metadata={
            "mlflow_run": dg.MetadataValue.url(logged.run_url),
            "mlflow_run_id": logged.run_id,
            "model_uri": logged.model_uri,
            "model_id": logged.model_id,
            "git_commit": tracking.git_commit(),
            **({FILES: published_files(settings, logged.file)} if logged.file else {}),
            "manifest_hash": digest,
            "dev_accuracy": best.dev_accuracy,
            "dev_macro_f1": best.dev_macro_f1,
            "training_faces": len(training),
            "dev_faces": len(dev),
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "stopped": result.stopped,
            "weights": weights,
            "minutes": (time.monotonic() - started) / 60,
            "training_curves": picture(training_curves(history), "training curves"),
            "history": dg.MetadataValue.json(history),
        },
    )


def _evaluate(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    from fer_pipeline.core.evaluation import evaluate_examples
    from fer_pipeline.core.predictions import write_predictions
    from fer_pipeline.core.report import render_report
    from fer_pipeline.core.train import prepare_process

    prepare_process(settings.seed, settings.threads)
    trained = _latest_training(context, stream)
    manifest, digest, crop_set = verified_faces(settings)
    path = tracking.model_file(settings, f"models:/{trained['model_id']}")
    card = read_card(path)
    if card.trained_on["manifest_hash"] != digest or card.crop != crop_set.settings:
        raise InputError(
            f"{stream}/trained_model was trained on manifest {card.trained_on['manifest_hash']} "
            f"or other crops, and the manifest is now {digest}: materialize {stream}/trained_model"
        )
    model, card = load_model(path)
    training = _examples(settings, stream, manifest, crop_set, "train")
    test = _examples(settings, stream, manifest, crop_set, "test")
    context.log.info(f"{stream}: scoring {len(test):,} test faces and the baselines")
    scored = evaluate_examples(
        model, card.classes, training, test, seed=settings.seed, resamples=settings.resamples
    )
    write_predictions(predictions_file(settings, stream), scored.predictions)
    digest_of_answers = answers_digest(settings, stream)
    beside, pictures = people_on_test(settings, stream, scored.predictions)
    report = scored.report_data(
        card,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        dataset=settings.open_dataset(),
        manifest=manifest,
        manifest_hash=digest,
        statuses=crop_set.statuses,
        history=trained["history"],
        minutes=trained["minutes"],
        mlflow_run_id=trained["mlflow_run_id"],
        git_commit=trained["git_commit"],
        people=beside,
        people_pictures=pictures,
    )
    folder = settings.report_folder(stream)
    page = report_file(settings, stream)
    publish_bytes(page, render_report(report).encode())
    figures = scored.figures()
    for name, png in figures.items():
        publish_bytes(folder / f"{name}.png", png)
    metrics = {
        **scored.to_dict(),
        "mlflow_run_id": trained["mlflow_run_id"],
        "model_uri": trained["model_uri"],
        "manifest_hash": digest,
        "report": str(page),
        "people": None if beside is None else beside.to_dict(),
    }
    publish_json(metrics_file(settings, stream), metrics)
    scalars = scored.scalars()
    tracking.log_evaluation(
        settings,
        trained["mlflow_run_id"],
        {f"test_{name}": value for name, value in scalars.items()},
        [page, metrics_file(settings, stream), *(folder / f"{n}.png" for n in figures)],
        model_id=trained["model_id"],
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(text_digest(trained["model_id"], json.dumps(scored.to_dict()))),
        metadata={
            "path": path_value(page),
            FILES: published_files(
                settings, page, metrics_file(settings, stream), predictions_file(settings, stream)
            ),
            ANSWERS: digest_of_answers,
            **({} if beside is None else beside.scalars()),
            "report": dg.MetadataValue.url(
                f"{trained['mlflow_run']}/artifacts/evaluation/{page.name}"
            ),
            "mlflow_run_id": trained["mlflow_run_id"],
            "model_uri": trained["model_uri"],
            "accuracy": scalars["accuracy"],
            "accuracy_low": scalars["accuracy_low"],
            "accuracy_high": scalars["accuracy_high"],
            "macro_f1": scalars["macro_f1"],
            "balanced_accuracy": scalars["balanced_accuracy"],
            "majority_accuracy": scalars["majority_accuracy"],
            "linear_accuracy": scalars["linear_accuracy"],
            "ece": scalars["ece"],
            "n_test": int(scalars["n"]),
            "by_class": markdown_table(scored.class_table()),
            "test_faces": counts_table(crop_set.statuses, ("status", "faces of the manifest")),
            **{name: picture(png, name.replace("_", " ")) for name, png in figures.items()},
        },
    )


def _examples(
    settings: Settings, stream: str, manifest: pa.Table, crop_set: CropSet, split: str
) -> Examples:
    classes = settings.all_streams[stream]
    return select_examples(crop_set.paths, manifest, classes, split, settings.label_source)


def _latest_training(context: dg.AssetExecutionContext, stream: str) -> Mapping[str, Any]:
    """What the upstream materialization says of its model."""
    key = dg.AssetKey([stream, "trained_model"])
    event = context.instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        raise InputError(f"{key.to_user_string()} was never materialized: materialize it first")
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def _parameters(
    settings: Settings, stream: str, card: ModelCard, training: int, dev: int
) -> dict[str, Any]:
    import keras

    preset = settings.recipe
    return {
        "stream": stream,
        "classes": ",".join(card.classes),
        "data_set": settings.dataset,
        "preset": settings.preset,
        "label_source": settings.label_source,
        "seed": settings.seed,
        "minutes": settings.minutes,
        "training_faces": training,
        "dev_faces": dev,
        "crop_settings": card.crop.hash,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": platform.machine(),
        **{f"recipe.{name}": value for name, value in asdict(preset.recipe).items()},
        **{f"network.{name}": value for name, value in asdict(preset.network).items()},
    }


def _manifest_frame(manifest: pa.Table) -> "pd.DataFrame":
    wanted = ["face_id", "source", "list", "expression", "group_id", "split", "reason", "weight"]
    frame: pd.DataFrame = manifest.select(wanted).to_pandas()
    return frame


def _example_photo(settings: Settings, manifest: pa.Table, training: Examples) -> bytes:
    """The stored bytes of the first training face's photo."""
    place = manifest["face_id"].to_pylist().index(training.face_id[0])
    row = manifest.select(["list", "image_path"]).slice(place, 1).to_pylist()[0]
    data = next(iter(settings.open_dataset().read_photos([(row["list"], row["image_path"])])))
    if not isinstance(data, bytes):
        raise InputError(f"{row['image_path']} was there when it was cropped and is gone now")
    return data
