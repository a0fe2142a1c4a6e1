"""Suspected wrong labels of a stream: out-of-fold predictions, ranked, and a study of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.steps import stream_asset, tell_progress
from fer_pipeline.core.files import file_digest, text_digest
from fer_pipeline.core.study import StudyThereError
from fer_pipeline.executors import TRAINING_POOL
from fer_pipeline.metadata import FILES, markdown_table, path_value, picture, published_files
from fer_pipeline.people import draw_study, label_issues_file, out_of_fold_file
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from fer_pipeline.core.examples import Examples
    from fer_pipeline.core.train import EpochResult

ON_DEMAND = "fer/on_demand"
"""Tag of assets that a run makes only when they are asked for by name."""
_SHOWN = 24


def suspect_assets(settings: Settings, stream: str) -> Sequence[dg.AssetsDefinition]:
    """`label_issues` of one stream, made on demand: it trains a model for each fold."""

    return [
        stream_asset(
            _rank,
            settings,
            stream,
            "label_issues",
            kinds={"tensorflow", "pandas"},
            deps=["class_manifest", "face_crops", f"{stream}/trained_model"],
            pool=TRAINING_POOL,
            tags={ON_DEMAND: "true"},
            description="Labels of training faces that models trained without these faces find "
            "hard to believe, the most suspicious first, and a study of them. Trains a model for "
            "each fold, so that a run makes it only when it is selected.",
        )
    ]


def _rank(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    from fer_pipeline.core.label_issues import rank_label_issues, write_label_issues
    from fer_pipeline.core.out_of_fold import forget_folds, out_of_fold, training_side
    from fer_pipeline.core.predictions import write_predictions
    from fer_pipeline.core.train import prepare_process

    prepare_process(settings.seed, settings.threads)
    manifest, digest, crop_set = verified_faces(settings)
    classes = settings.all_streams[stream]
    examples, split = training_side(crop_set.paths, manifest, classes, settings.label_rule)
    folds, folder = settings.label_issue_folds, settings.report_folder(stream) / "folds"

    def tell(fold: int, epoch: "EpochResult") -> None:
        context.log.info(
            f"{stream} fold {fold} of {folds}, epoch {epoch.epoch}: loss {epoch.loss:.3f}, "
            f"{epoch.images_per_second:.0f} faces/s, {epoch.seconds_left:.0f} s left of the fold"
        )

    def tell_fold(fold: int, there: bool) -> None:
        how = "was there already" if there else "is done"
        context.log.info(f"{stream} fold {fold} of {folds} {how}")

    predictions = out_of_fold(
        examples,
        split,
        classes,
        settings.recipe,
        folds=folds,
        seed=settings.seed,
        folder=folder,
        crops=crop_set.content_hash,
        minutes=settings.minutes,
        on_epoch=tell,
        on_fold=tell_fold,
    )
    table = rank_label_issues(predictions, manifest)
    path, kept = label_issues_file(settings, stream), out_of_fold_file(settings, stream)
    write_predictions(kept, predictions)
    write_label_issues(path, table)
    study = _study(context, settings, stream, table, file_digest(path))
    # Not before: whatever stops this is not to cost the trainings.
    forget_folds(folder)
    suspected = table[table["suspected"]]
    right = predictions.predicted == predictions.expression
    return dg.MaterializeResult(
        data_version=dg.DataVersion(file_digest(path)),
        metadata={
            "dagster/row_count": len(table),
            "path": path_value(path),
            FILES: published_files(settings, path, kept),
            "manifest_hash": digest,
            "folds": folds,
            "out_of_fold_accuracy": float(right.mean()),
            "suspected": len(suspected),
            "suspected_share": len(suspected) / len(table),
            "by_class": markdown_table(_by_class(table)),
            "most_suspicious": picture(_gallery(examples, table), "labels that are suspected most"),
            "study": study,
            "look_at_them": "fer-pipeline review",
            "correct_them": f"fer-pipeline study correct {study}",
        },
    )


def _study(
    context: dg.AssetExecutionContext,
    settings: Settings,
    stream: str,
    table: "pd.DataFrame",
    digest: str,
) -> str:
    """Publish the study of these suspects, unless it is there; give its key."""
    # As many of the same ranking as the settings say now, which a study of fewer doesn't have.
    name = f"suspects-{text_digest(digest, settings.suspects)[:6]}"
    try:
        draw_study(
            settings,
            stream,
            name,
            suspects=table["face_id"].tolist(),
            on_photo=tell_progress(context, "pictures of suspects made"),
        )
    except StudyThereError:
        context.log.info(f"the study of these suspects, {stream}/{name}, was there already")
    return f"{stream}/{name}"


def _by_class(table: "pd.DataFrame") -> "pd.DataFrame":
    counted = table.groupby("expression", as_index=False).agg(
        faces=("face_id", "size"), suspected=("suspected", "sum")
    )
    counted["share"] = (counted["suspected"] / counted["faces"]).map("{:.1%}".format)
    return counted


def _gallery(examples: "Examples", table: "pd.DataFrame") -> bytes:
    """The labels that are suspected most, as they were cropped."""
    import numpy as np

    from fer_pipeline.core.examples import load_images
    from fer_pipeline.core.photo_figures import contact_sheet

    shown: Any = table.head(_SHOWN)
    row = {face: at for at, face in enumerate(examples.face_id.tolist())}
    crops = load_images(examples, np.array([row[face] for face in shown["face_id"]]))
    captions = [
        f"label {label}\nmodels {other}"
        for label, other in zip(shown["expression"], shown["suggested"], strict=True)
    ]
    return contact_sheet(list(crops), captions, 6)
