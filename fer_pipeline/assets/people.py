"""What people make of a stream's faces: the sample they label, and the report on their error."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.steps import stream_asset, tell_progress
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, publish_json, text_digest
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.study import Study
from fer_pipeline.metadata import (
    FILES,
    counts_table,
    markdown_table,
    path_value,
    picture,
    published_files,
)
from fer_pipeline.people import (
    ANSWERS,
    OUT_OF_FOLD_USED,
    answers_digest,
    draw_study,
    out_of_fold_digest,
    predictions_beside_people,
    stream_study,
    study_answers,
    study_pictures_of,
)
from fer_pipeline.reports import people_figures_file, people_report_file
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from fer_pipeline.core.people_votes import VotesReport
    from fer_pipeline.core.predictions import Predictions


def people_assets(settings: Settings, stream: str) -> Sequence[dg.AssetsDefinition]:
    """The assets of one stream that people have a part in, their keys prefixed with its name."""

    return [
        stream_asset(
            _sample,
            settings,
            stream,
            "relabel_sample",
            kinds={"parquet", "image"},
            deps=["class_manifest", "face_crops"],
            description="A stratified sample of faces for people to label blind with "
            "`fer-pipeline review`; it stays as it is once it was drawn.",
        ),
        stream_asset(
            _human_error,
            settings,
            stream,
            "human_error_report",
            kinds={"matplotlib"},
            deps=[f"{stream}/relabel_sample", f"{stream}/evaluation_report"],
            description="How often people agree with the labels, what ceiling that implies for a "
            "model, and the model beside people on the same faces.",
        ),
    ]


def _sample(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    study = stream_study(settings, stream)
    shortfall: Mapping[str, int] = {}
    if study is None:
        verified_faces(settings)
        study, sample = draw_study(
            settings,
            stream,
            settings.study,
            on_photo=tell_progress(context, "pictures of the sample made"),
        )
        shortfall = sample.shortfall
    else:
        context.log.info(
            f"study {study.key} was drawn at {study.created} and stays as it is; set FER_STUDY to "
            "another name to draw another"
        )
    if study.classes != tuple(settings.all_streams[stream]) or study.kind != "people":
        raise InputError(
            f"study {study.key} is of {', '.join(study.classes)} and kind {study.kind}, which is "
            f"not what {stream} asks for: set FER_STUDY to another name"
        )
    _check_belongs(settings, study)
    faces = study.items.filter(study.items["repeat_of"].is_null())
    metadata: dict[str, Any] = {
        "dagster/row_count": study.items.num_rows,
        "path": path_value(study.path),
        FILES: published_files(settings, study.path),
        "study": study.key,
        "sample": study.sample,
        "drawn": study.created,
        "faces": faces.num_rows,
        "shown_twice": study.items.num_rows - faces.num_rows,
        "test_share": study.test_share,
        "class_by_split": markdown_table(_class_by_split(faces)),
        "label_them": "fer-pipeline review",
    }
    if shortfall:
        metadata["fewer_than_wanted"] = counts_table(shortfall, ("class", "faces that lack"))
    return dg.MaterializeResult(data_version=dg.DataVersion(study.sample), metadata=metadata)


def _check_belongs(settings: Settings, study: Study) -> None:
    """Refuse a study that another data set, or another home, left here."""
    import pyarrow.compute as pc

    manifest = read_manifest(settings.manifest_folder, ["face_id"])
    ours = manifest["face_id"].combine_chunks()
    if not pc.any(pc.is_in(study.items["face_id"], value_set=ours)).as_py():
        raise InputError(
            f"study {study.key} holds no face of {settings.manifest_folder}: it is of another "
            "data set, set FER_STUDY to another name to draw one of this"
        )


def _human_error(
    _context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    from fer_pipeline.core.people import people_report
    from fer_pipeline.core.people_page import (
        PeoplePage,
        gallery_faces,
        page_figures,
        render_people,
    )
    from fer_pipeline.core.synthetic import all_drawn

    study = stream_study(settings, stream)
    if study is None:
        raise InputError(
            f"there is no study {stream}/{settings.study}: materialize {stream}/relabel_sample"
        )
    digest = answers_digest(settings, stream)
    answers = study_answers(settings, study)
    out_of_fold = out_of_fold_digest(settings, stream)
    predictions = predictions_beside_people(settings, stream)
    manifest = read_manifest(settings.manifest_folder)
    people = people_report(
        study,
        answers,
        predictions,
        prevalence=_prevalence(settings, manifest, study.classes),
        seed=settings.seed,
        resamples=settings.resamples,
    )
    votes = votes_beside(settings, stream, manifest, predictions)
    page = PeoplePage(
        stream=stream,
        dataset=settings.open_dataset().title,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        drawn=all_drawn(settings.open_dataset()),
        people=people,
        votes=votes,
        pictures=study_pictures_of(study, gallery_faces(people)),
    )
    report, figures = people_report_file(settings, stream), people_figures_file(settings, stream)
    publish_bytes(report, render_people(page).encode())
    found = {
        "people": people.to_dict(),
        "votes": None if votes is None else votes.to_dict(),
        "scalars": people.scalars(),
        "answers_digest": digest,
    }
    publish_json(figures, found)
    metadata: dict[str, Any] = {
        "path": path_value(report),
        FILES: published_files(settings, report, figures),
        ANSWERS: digest,
        OUT_OF_FOLD_USED: out_of_fold,
        "study": study.key,
        **people.scalars(),
    }
    if people.answers:
        metadata["by_class"] = markdown_table(people.class_table())
        metadata["annotators"] = markdown_table(people.annotator_table())
    if votes is not None:
        metadata |= {f"votes_{name}": value for name, value in votes.scalars().items()}
        metadata["votes_by_class"] = markdown_table(votes.class_table())
    for name, png in page_figures(people, votes).items():
        metadata[f"figure_{name}"] = picture(png, name.replace("_", " "))
    version = dg.DataVersion(text_digest(json.dumps(found)))
    return dg.MaterializeResult(data_version=version, metadata=metadata)


def votes_beside(
    settings: Settings,
    stream: str,
    manifest: "pa.Table",
    predictions: "Mapping[str, Predictions]",
) -> "VotesReport | None":
    """The votes of people that a data set brings, taken as ten annotators; None for none.

    `predictions` are those of `predictions_beside_people`.
    """
    import numpy as np

    from fer_pipeline.core.datasets.base import votes_of_people
    from fer_pipeline.core.labels import CODES
    from fer_pipeline.core.people_votes import votes_report
    from fer_pipeline.core.votes import vote_matrix

    classes = settings.all_streams[stream]
    place = np.full(max(CODES.values()) + 1, -1)
    for at, name in enumerate(classes):
        place[CODES[name]] = at
    label = place[manifest["expression"].to_numpy()]
    votes = vote_matrix(votes_of_people(settings.open_dataset(), manifest)["votes"])
    rows = np.flatnonzero(label >= 0)
    if not votes[rows].any():
        return None
    chosen = manifest.select(["face_id", "group_id"]).take(rows)
    return votes_report(
        votes[rows],
        label[rows],
        classes,
        stream=stream,
        face_id=np.array(chosen["face_id"].to_pylist(), dtype=object),
        groups=np.array(chosen["group_id"].to_pylist(), dtype=object),
        prevalence=_prevalence(settings, manifest, classes),
        predictions=predictions,
        seed=settings.seed,
        resamples=settings.resamples,
    )


def _prevalence(
    settings: Settings, manifest: "pa.Table", classes: Sequence[str]
) -> Mapping[str, float]:
    """The share of each class in the test split."""
    import numpy as np
    import pyarrow.compute as pc

    from fer_pipeline.core.labels import CODES
    from fer_pipeline.core.votes import chosen_expression

    code = chosen_expression(manifest, settings.label_rule)
    in_test = pc.equal(manifest["split"], "test").to_numpy()
    counts = np.array([(in_test & (code == CODES[name])).sum() for name in classes])
    shares = counts / max(1, counts.sum())
    return dict(zip(classes, shares.tolist(), strict=True))


def _class_by_split(faces: "pa.Table") -> Any:
    import pandas as pd

    frame = faces.select(["expression", "split"]).to_pandas()
    return pd.crosstab(frame["expression"], frame["split"]).reset_index()
