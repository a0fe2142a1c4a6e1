"""Scores on parts of the test faces: by size, list, annotation, detector, source, agreement.

What a face is comes from the manifest and from the crop shards. Parts can be small, where a
bootstrap would not vary: their intervals are Wilson's (`agreement.share_of`).
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fer_pipeline.core.agreement import share_of
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.intervals import Estimate, Floats, Integers
from fer_pipeline.core.metrics import confusion_matrix, confusion_scores
from fer_pipeline.core.storage import parquet_source
from fer_pipeline.core.votes import EXPRESSIONS, vote_matrix

SIZE_EDGES = (32, 64, 128, 256)
"""Shorter side of a face in pixels of the photo at which a new part begins."""

SURE_DETECTION = 0.9
"""Detector score from which a detection counts as sure."""

SAME_BOX = 0.5
"""IoU from which a detected and a listed box are taken to agree."""

MOST_VALUES = 12
"""Values of an attribute up to which each is a part of its own."""

SOURCE = "Source"
"""The subject of the data set that a face comes from."""

_SHARD_COLUMNS = ("box_width", "box_height", "photo_width", "photo_height", "score", "iou")
_UNKNOWN = "not known"
_VOTE_SHARES = ("over 80% agree", "50% to 80% agree", "half or fewer agree", "no votes")


@dataclass(frozen=True)
class Slice:
    """The faces that have one value of one subject, and the model's scores on them."""

    subject: str
    value: str
    faces: int
    groups: int
    accuracy: Estimate
    balanced_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "subject": self.subject,
            "value": self.value,
            "faces": self.faces,
            "groups": self.groups,
            **self.accuracy.to_dict("accuracy"),
            "balanced_accuracy": self.balanced_accuracy,
        }


def score_slices(
    expression: Integers,
    probabilities: Floats,
    classes: Sequence[str],
    groups: NDArray[Any],
    subjects: Mapping[str, NDArray[np.object_]],
) -> tuple[Slice, ...]:
    """Scores of each value of each subject, the accuracy with an interval of that part alone.

    Args:
        expression: int (n,), true class as a position in `classes`.
        probabilities: float (n, K).
        classes: K names.
        groups: str (n,), rows of one value hang together.
        subjects: for each subject the value of each face, str (n,). Sizes come from small to
            large, agreement from high to low, other values by name. A subject with one value
            says nothing and is left out.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == expression
    found = []
    for subject, values in subjects.items():
        different = sorted(set(values.tolist()), key=_order)
        if len(different) < 2:
            continue
        for value in different:
            part = np.flatnonzero(values == value)
            confusion = confusion_matrix(expression[part], predicted[part], len(classes))
            share = share_of(right[part], groups[part])
            found.append(
                Slice(
                    subject,
                    value,
                    faces=len(part),
                    groups=len(np.unique(groups[part])),
                    accuracy=Estimate(float(right[part].mean()), share.low, share.high),
                    balanced_accuracy=float(confusion_scores(confusion)[1]),
                )
            )
    return tuple(found)


def face_subjects(test: Examples, manifest: pa.Table) -> dict[str, NDArray[np.object_]]:
    """What is known of each test face, by subject: str objects (n,).

    Subjects that neither the manifest nor the shards tell of are left out. `test` has to come
    from `manifest`, in which votes count people (see `base.votes_of_people`).
    """
    row = pc.index_in(pa.array(test.face_id), value_set=manifest["face_id"].combine_chunks())
    faces = manifest.take(row)
    shard = _shard_rows(test)
    subjects = {}
    if {"box_width", "box_height"} <= shard.keys():
        subjects["Face size"] = size_names(np.minimum(shard["box_width"], shard["box_height"]))
    for subject, column in ((SOURCE, "source"), ("List", "list"), ("Annotation", "annotation")):
        if column in faces.column_names:
            subjects[subject] = _texts(faces[column])
    subjects |= _attribute_values(faces)
    if {"score", "iou"} <= shard.keys():
        subjects["Face box"] = _box_names(shard)
    if faces["votes"].null_count < faces.num_rows:
        subjects["Agreement of annotators"] = _vote_names(faces["votes"])
    return subjects


def size_names(side: NDArray[Any]) -> NDArray[np.object_]:
    """The part of each face by its shorter side in pixels (n,), NaN where it isn't known."""
    names = [
        f"under {SIZE_EDGES[0]} px",
        *(f"{low} to {high - 1} px" for low, high in itertools.pairwise(SIZE_EDGES)),
        f"{SIZE_EDGES[-1]} px and more",
    ]
    place = np.searchsorted(SIZE_EDGES, np.nan_to_num(side), side="right")
    return np.where(np.isnan(side), _UNKNOWN, np.array(names, dtype=object)[place])


def _order(value: str) -> tuple[int, str]:
    if value in _VOTE_SHARES:
        return _VOTE_SHARES.index(value), value
    if value == _UNKNOWN:
        return 10**6, value
    if value.startswith("under "):
        return 0, value
    first = value.partition(" ")[0]
    return (int(first), value) if first.isdecimal() else (0, value)


def _shard_rows(test: Examples) -> dict[str, NDArray[np.float64]]:
    """The numbers that the shards hold of each test face, float64 (n,), NaN where null."""
    found: dict[str, NDArray[np.float64]] = {}
    for number in np.unique(test.shard_index):
        here = np.flatnonzero(test.shard_index == number)
        with pq.ParquetFile(parquet_source(test.shards[number])) as shard:
            names = [name for name in _SHARD_COLUMNS if name in shard.schema_arrow.names]
            table = shard.read(columns=names)
        for name in names:
            values = table[name].to_numpy().astype(np.float64)
            found.setdefault(name, np.full(len(test), np.nan))[here] = values[test.row[here]]
    return found


def _box_names(shard: Mapping[str, NDArray[np.float64]]) -> NDArray[np.object_]:
    score, overlap = shard["score"], shard["iou"]
    whole = (shard["box_width"] == shard["photo_width"]) & (
        shard["box_height"] == shard["photo_height"]
    )
    sure = score >= SURE_DETECTION
    return np.select(
        [
            np.isnan(score) & whole,
            np.isnan(score),
            ~np.isnan(overlap) & (overlap < SAME_BOX),
            sure,
        ],
        [
            "whole picture",
            "listed",
            f"detected, away from the listed one (IoU under {SAME_BOX})",
            f"detected, score from {SURE_DETECTION}",
        ],
        default=f"detected, score under {SURE_DETECTION}",
    ).astype(object)


def _attribute_values(faces: pa.Table) -> dict[str, NDArray[np.object_]]:
    """What the data set says of each face besides, by name; names with many values left out."""
    if "attributes" not in faces.column_names:
        return {}
    known = [json.loads(text) if text else {} for text in faces["attributes"].to_pylist()]
    names = sorted({name for one in known for name in one})
    values = {
        name.replace("_", " ").capitalize(): np.array(
            [one.get(name, _UNKNOWN) for one in known], dtype=object
        )
        for name in names
    }
    return {name: one for name, one in values.items() if len(set(one)) <= MOST_VALUES}


def _vote_names(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """How many of the annotators that named an expression named the first one."""
    votes = vote_matrix(column)[:, :EXPRESSIONS].astype(np.float64)
    cast = votes.sum(axis=1)
    share = votes.max(axis=1) / np.maximum(cast, 1)
    return np.select(
        [cast == 0, share > 0.8, share > 0.5],
        [_VOTE_SHARES[3], _VOTE_SHARES[0], _VOTE_SHARES[1]],
        default=_VOTE_SHARES[2],
    ).astype(object)


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    texts: NDArray[np.object_] = np.array(
        [_UNKNOWN if value is None else value for value in column.to_pylist()], dtype=object
    )
    return texts
