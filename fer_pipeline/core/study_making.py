"""Drawing and publishing a study from what a home holds: manifest, crops, suspected labels."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import manifest_hash, read_manifest
from fer_pipeline.core.storage import Location, is_file, open_binary
from fer_pipeline.core.study import Study, StudyThereError, publish_study
from fer_pipeline.core.study_pictures import crop_boxes, study_pictures, usable_faces
from fer_pipeline.core.study_sample import Sample, draw_people, draw_suspects


def make_people_study(
    path: Location,
    dataset: DataSet,
    manifest_folder: Location,
    crops_folder: Location,
    *,
    stream: str,
    classes: Sequence[str],
    label_source: str,
    per_class: int,
    repeat_share: float,
    seed: int,
    on_photo: Callable[[int, int], None] | None = None,
) -> tuple[Study, Sample]:
    """Draw a stratified sample of the faces with a crop and publish it with its pictures.

    `path` is that of `study_path`; `on_photo` is told photos read and photos to read. Raises
    StudyThereError, before anything is drawn, when a study stands there; InputError when there
    are no faces or a photo can't be read any more.
    """

    def draw(manifest: pa.Table, shards: Sequence[Location]) -> Sample:
        return draw_people(
            manifest,
            usable_faces(shards),
            classes,
            label_source,
            per_class=per_class,
            repeat_share=repeat_share,
            seed=seed,
        )

    return _publish(
        path,
        dataset,
        manifest_folder,
        crops_folder,
        draw,
        on_photo,
        stream=stream,
        kind="people",
        classes=classes,
        label_source=label_source,
        seed=seed,
        per_class=per_class,
        repeat_share=repeat_share,
        reason="a stratified sample, to learn the error people make",
    )


def make_suspects_study(
    path: Location,
    dataset: DataSet,
    manifest_folder: Location,
    crops_folder: Location,
    *,
    face_ids: Sequence[str],
    stream: str,
    classes: Sequence[str],
    label_source: str,
    count: int,
    repeat_share: float,
    seed: int,
    on_photo: Callable[[int, int], None] | None = None,
) -> tuple[Study, Sample]:
    """Publish a study of the `count` faces whose labels are suspected most.

    `face_ids` are in order of rank. Raises as `make_people_study` does.
    """

    def draw(manifest: pa.Table, _shards: Sequence[Location]) -> Sample:
        return draw_suspects(
            manifest,
            face_ids,
            classes,
            label_source,
            count=count,
            repeat_share=repeat_share,
            seed=seed,
        )

    return _publish(
        path,
        dataset,
        manifest_folder,
        crops_folder,
        draw,
        on_photo,
        stream=stream,
        kind="suspects",
        classes=classes,
        label_source=label_source,
        seed=seed,
        per_class=count,
        repeat_share=repeat_share,
        reason=f"the {count} labels that are suspected most, of {len(face_ids)} ranked",
    )


def suspected_faces(path: Location) -> list[str]:
    """The face_ids in a table of suspected labels (`label_issues.csv`), in order of rank.

    Raises InputError when there is no such table, or none that holds faces.
    """
    if not is_file(path):
        raise InputError(f"{path} is not there: materialize the stream's label_issues first")
    try:
        with open_binary(path) as stream:
            text = stream.read().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        faces = [row["face_id"] for row in rows]
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(
            f"{path} has no column face_id that can be read: materialize label_issues again"
        ) from error
    if not faces:
        raise InputError(f"{path} holds no face: materialize label_issues again")
    return faces


def _publish(
    path: Location,
    dataset: DataSet,
    manifest_folder: Location,
    crops_folder: Location,
    draw: Callable[[pa.Table, Sequence[Location]], Sample],
    on_photo: Callable[[int, int], None] | None,
    **about: Any,
) -> tuple[Study, Sample]:
    """Publish what `draw` makes of the manifest and the crop shards; `about` is of the study."""
    if is_file(path):
        raise StudyThereError(path)
    manifest = read_manifest(manifest_folder)
    crops = read_crop_set(crops_folder)
    sample = draw(manifest, crops.paths)
    boxes = crop_boxes(crops.paths, sample.items["face_id"].to_pylist())
    study = publish_study(
        path,
        manifest_hash=manifest_hash(manifest),
        items=sample.items,
        pictures=study_pictures(dataset, sample.items, boxes, crops.settings, on_photo),
        **about,
    )
    return study, sample
