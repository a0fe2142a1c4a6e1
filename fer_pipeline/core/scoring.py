"""A model against labelled faces: the locked test split of a manifest, or any data set's list."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.compiling import full_precision
from fer_pipeline.core.crop import CropSettings, for_photos, prepare_face
from fer_pipeline.core.datasets.base import DataSet, Role
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import BAD_BOX, build_index, row_batches
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import listed_boxes, photos_of
from fer_pipeline.core.metrics import Evaluation, evaluate_predictions
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.train import predict_crops
from fer_pipeline.core.votes import chosen_expression, of_votes

_BATCH = 256


@dataclass(frozen=True)
class FolderScore:
    """A model's evaluation on a data set, and what became of every row of its list.

    `left_out` counts rows that weren't scored, by reason; `statuses` counts the faces of the
    classes scored by crop status. Only those of status ok are in `evaluation`. `other_classes`
    counts the rows of labels that are none of these classes, by name: they are `left_out` too.
    `absent_classes` are those of the classes without a face in `evaluation`.
    """

    evaluation: Evaluation
    rows_read: int
    left_out: Mapping[str, int]
    statuses: Mapping[str, int]
    other_classes: Mapping[str, int]
    absent_classes: tuple[str, ...]


def score_dataset(
    model: Any,
    card: ModelCard,
    dataset: DataSet,
    *,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    label_source: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
    on_faces: Callable[[int], None] | None = None,
) -> FolderScore:
    """Score a model on a list of a data set that it needn't know.

    `split` is the data set's own name of a list; without it, the list that is the locked test.
    Classes are matched by name; faces are cropped as the model's card says. Every row that has
    one of `classes` (default: the model's) and a readable face is scored, copies and all, see
    `among_classes`. Raises InputError when the list isn't there, nothing in it can be scored, or
    the model lacks one of `classes`.
    """
    scored = tuple(classes or card.classes)
    columns = _columns(card, scored)
    lists = _lists(dataset, split)
    source = label_source or card.label_source
    voted = 0
    crop = {name: crop_settings_for(card.crop, dataset.part_of(name)) for name in lists}
    class_of = np.full(max(CODES.values()) + 1, -1)
    for place, name in enumerate(scored):
        class_of[CODES[name]] = place
    left_out: dict[str, int] = {}
    statuses: dict[str, int] = {}
    others = np.zeros(len(CODES), np.int64)
    truth, probabilities, groups = [], [], []
    full_precision()
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(dataset, Path(folder), names=lists)
        for reason, count in index.rejected_by_reason.items():
            left_out[reason] = left_out.get(reason, 0) + count
        for batch in row_batches(Path(folder)):
            table = pa.Table.from_batches([batch])
            label = chosen_expression(table, source)
            voted += table.num_rows - table["votes"].null_count
            bad_box = np.array([issue == BAD_BOX for issue in table["issue"].to_pylist()], bool)
            truth_of_row = np.where(label >= 0, class_of[label], -1)
            wanted = truth_of_row >= 0
            others += np.bincount(label[~wanted & (label >= 0)], minlength=len(others))
            for reason, count in (
                ("no_majority_vote", int((label < 0).sum())),
                ("other_class", int((~wanted & (label >= 0)).sum())),
                (BAD_BOX, int((wanted & bad_box).sum())),
            ):
                left_out[reason] = left_out.get(reason, 0) + count
            keep = np.flatnonzero(wanted & ~bad_box)
            for start in range(0, len(keep), _BATCH):
                part = keep[start : start + _BATCH]
                seen, scores, photo_keys, counted = _score(
                    model, dataset, table.take(pa.array(part)), crop
                )
                for status, count in counted.items():
                    statuses[status] = statuses.get(status, 0) + count
                truth.append(truth_of_row[part][seen])
                probabilities.append(among_classes(scores, columns))
                groups.append(photo_keys)
                if on_faces:
                    on_faces(sum(statuses.values()))
    if of_votes(source) and not voted:
        raise InputError(
            f"{dataset.address} has no votes in {', '.join(lists)}: give --label-source listed"
        )
    if not sum(len(part) for part in truth):
        raise InputError(
            f"{dataset.address} has no readable face of {', '.join(scored)} "
            f"in {', '.join(lists)}: choose another --split or model"
        )
    evaluation = evaluate_predictions(
        np.concatenate(truth),
        np.concatenate(probabilities),
        scored,
        np.concatenate(groups),
        seed=seed,
        resamples=resamples,
    )
    return FolderScore(
        evaluation,
        index.rows_read,
        {reason: count for reason, count in left_out.items() if count},
        statuses,
        {name: int(others[code]) for name, code in CODES.items() if others[code]},
        tuple(one.name for one in evaluation.by_class if not one.support),
    )


def among_classes(
    probabilities: npt.NDArray[np.float64], columns: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Probabilities (n, K) of the classes in `columns`, given that the face is one of these.

    They are divided by their sum, so that the largest stays the largest: float64
    (n, `len(columns)`), rows sum to 1. Where all of them are 0 each class gets the same.
    """
    chosen = probabilities[:, list(columns)]
    total = chosen.sum(axis=1, keepdims=True)
    return np.where(total > 0, chosen / np.where(total > 0, total, 1), 1 / len(columns))


def _columns(card: ModelCard, classes: Sequence[str]) -> list[int]:
    lacking = [name for name in classes if name not in card.classes]
    if lacking:
        raise InputError(
            f"the model has no class for {', '.join(lacking)}: it tells {', '.join(card.classes)} "
            "apart, choose a --stream of these"
        )
    return [card.classes.index(name) for name in classes]


def crop_settings_for(settings: CropSettings, dataset: DataSet) -> CropSettings:
    """The model's crop settings, told whether this data set's pictures are faces already."""
    if dataset.faces_are_cropped:
        return replace(settings, detect="whole")
    return for_photos(settings)


def _score(
    model: Any, dataset: DataSet, rows: pa.Table, crop: Mapping[str, CropSettings]
) -> tuple[
    npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.object_], Mapping[str, int]
]:
    photos, boxes = photos_of(rows), listed_boxes(rows)
    faces = [
        prepare_face(data, box, crop[photo[0]])
        for photo, data, box in zip(photos, dataset.read_photos(photos), boxes, strict=True)
    ]
    counted: dict[str, int] = {}
    for face in faces:
        counted[face.status.value] = counted.get(face.status.value, 0) + 1
    seen = np.array([at for at, face in enumerate(faces) if face.crop is not None], np.intp)
    keys = np.array([dataset.photo_key(photos[at]) for at in seen], dtype=object)
    if not len(seen):
        return seen, np.empty((0, int(model.output_shape[-1]))), keys, counted
    crops = np.stack([faces[at].crop for at in seen])
    return seen, predict_crops(model, crops, _BATCH).astype(np.float64), keys, counted


def _lists(dataset: DataSet, split: str | None) -> list[str]:
    present = list(dataset.lists())
    if split is not None:
        if split not in present:
            raise InputError(
                f"{dataset.address} has no list {split!r}: "
                f"--split takes one of {', '.join(present)}"
            )
        return [split]
    chosen = [name for name, role in dataset.roles().items() if role == Role.TEST]
    if not chosen:
        raise InputError(
            f"{dataset.address} has no list to test on: give --split one of {', '.join(present)}"
        )
    return chosen
