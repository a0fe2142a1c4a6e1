"""Drawing and publishing a study from what a home holds: manifest, crops, suspected labels."""

from collections.abc import Callable, Sequence

from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import manifest_hash, read_manifest
from fer_pipeline.core.storage import Location, is_file, open_binary
from fer_pipeline.core.study import Study, StudyThereError, publish_study
from fer_pipeline.core.study_pictures import crop_boxes, study_pictures, usable_faces
from fer_pipeline.core.study_sample import Sample, draw_people, draw_suspects


def make_study(
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
    suspects: Sequence[str] | None = None,
    on_photo: Callable[[int, int], None] | None = None,
) -> tuple[Study, Sample]:
    """Draw faces that have a crop and publish them as a study, with their pictures.

    Without `suspects` that is a stratified sample, `per_class` faces of each class; with them,
    face_ids in order of rank, a study of kind `suspects`: the first `per_class` in all. `path` is
    that of `study_path`; `on_photo` is told photos read and photos to read. Raises
    StudyThereError, before anything is drawn, when a study stands there; InputError when there
    are no faces or a photo can't be read any more.
    """
    if is_file(path):
        raise StudyThereError(path)
    manifest = read_manifest(manifest_folder)
    crops = read_crop_set(crops_folder)
    if suspects is None:
        sample = draw_people(
            manifest,
            usable_faces(crops.paths),
            classes,
            label_source,
            per_class=per_class,
            repeat_share=repeat_share,
            seed=seed,
        )
    else:
        sample = draw_suspects(
            manifest,
            suspects,
            classes,
            label_source,
            count=per_class,
            repeat_share=repeat_share,
            seed=seed,
        )
    boxes = crop_boxes(crops.paths, sample.items["face_id"].to_pylist())
    study = publish_study(
        path,
        stream=stream,
        kind="people" if suspects is None else "suspects",
        classes=classes,
        label_source=label_source,
        seed=seed,
        manifest_hash=manifest_hash(manifest),
        per_class=per_class,
        repeat_share=repeat_share,
        items=sample.items,
        pictures=study_pictures(dataset, sample.items, boxes, crops.settings, on_photo),
    )
    return study, sample


def suspected_faces(path: Location) -> list[str]:
    """The face_ids in a table of suspected labels (`label_issues.csv`), in order of rank.

    Raises InputError when there is no such table, or none that holds faces.
    """
    import pandas as pd

    if not is_file(path):
        raise InputError(f"{path} is not there: materialize the stream's label_issues first")
    try:
        with open_binary(path) as stream:
            table = pd.read_csv(stream, usecols=["face_id"], dtype=str, keep_default_na=False)
    except ValueError as error:
        raise InputError(
            f"{path} has no column face_id that can be read: materialize label_issues again"
        ) from error
    if table.empty:
        raise InputError(f"{path} holds no face: materialize label_issues again")
    return table["face_id"].tolist()
