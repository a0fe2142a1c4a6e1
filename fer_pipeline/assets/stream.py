"""One group for each stream: its trained model and the report on it, from one factory."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from fer_pipeline import tracking
from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.steps import ONCE_MORE, stream_asset
from fer_pipeline.assets.training import train_stream
from fer_pipeline.core.crop_set import CropSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.files import publish_bytes, publish_json, text_digest
from fer_pipeline.core.model_file import load_model, read_card
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
from fer_pipeline.reports import metrics_file, model_card_file, report_file
from fer_pipeline.settings import Settings
from fer_pipeline.training_groups import unknown_start


def stream_assets(settings: Settings, stream: str) -> Sequence[dg.AssetsDefinition]:
    """The assets of one stream, their keys prefixed with its name."""
    return [
        stream_asset(
            train_stream,
            settings,
            stream,
            "trained_model",
            kinds={"tensorflow", "mlflow"},
            deps=["class_manifest", "face_crops"],
            pool=TRAINING_POOL,
            retry_policy=ONCE_MORE,
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


def _evaluate(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    from fer_pipeline.assets.examined import examined
    from fer_pipeline.core.evaluation import evaluate_examples
    from fer_pipeline.core.model_card import model_card, model_card_markdown
    from fer_pipeline.core.predictions import write_predictions
    from fer_pipeline.core.report import render_report
    from fer_pipeline.core.report_details import detail_figures
    from fer_pipeline.core.train import prepare_process

    prepare_process(settings.seed, settings.threads)
    trained = latest_training(context, stream)
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
    context.log.info(f"{stream}: calibration, slices, copies, damage, saliency, latency")
    details = examined(
        context,
        settings,
        trained,
        model,
        card,
        scored.predictions,
        test,
        training,
        manifest,
    )
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
        details=details,
        init_known=unknown_start(settings, trained["mlflow_run_id"]) is None,
    )
    folder = settings.report_folder(stream)
    page, card_file = report_file(settings, stream), model_card_file(settings, stream)
    figures = scored.figures()
    pictures_of = figures | detail_figures(details)
    publish_bytes(page, render_report(report, pictures_of).encode())
    title = f"Expression model {stream}"
    publish_bytes(card_file, model_card_markdown(model_card(report), title).encode())
    for name, png in pictures_of.items():
        publish_bytes(folder / f"{name}.png", png)
    metrics = {
        **scored.to_dict(),
        "mlflow_run_id": trained["mlflow_run_id"],
        "model_uri": trained["model_uri"],
        "manifest_hash": digest,
        "report": str(page),
        "people": None if beside is None else beside.to_dict(),
        "details": details.to_dict(),
    }
    publish_json(metrics_file(settings, stream), metrics)
    scalars = scored.scalars() | details.scalars()
    tracking.log_evaluation(
        settings,
        trained["mlflow_run_id"],
        {f"test_{name}": value for name, value in scalars.items()},
        [
            page,
            card_file,
            metrics_file(settings, stream),
            *(folder / f"{name}.png" for name in pictures_of),
        ],
        model_id=trained["model_id"],
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(
            text_digest(
                trained["model_id"],
                json.dumps([scored.to_dict(), details.to_dict(timings=False)]),
            )
        ),
        metadata={
            "path": path_value(page),
            FILES: published_files(
                settings,
                page,
                card_file,
                metrics_file(settings, stream),
                predictions_file(settings, stream),
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
            "ece_before_temperature": scalars["ece_before_temperature"],
            "temperature": scalars["temperature"],
            **{name: scalars[name] for name in ("accuracy_without_copies",) if name in scalars},
            "latency_1_p50_ms": scalars["latency_1_p50_ms"],
            "seconds_of_examination": sum(details.seconds.values()),
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
    return select_examples(crop_set.paths, manifest, classes, split, settings.label_rule)


def latest_training(context: dg.AssetExecutionContext, stream: str) -> Mapping[str, Any]:
    """What the upstream materialization says of its model."""
    key = dg.AssetKey([stream, "trained_model"])
    event = context.instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        raise InputError(f"{key.to_user_string()} was never materialized: materialize it first")
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}
