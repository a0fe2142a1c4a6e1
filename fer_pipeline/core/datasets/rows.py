"""Tables of kept and rejected rows, made of columns; the dealing of rows that have no split.

Every reader hands its rows out through these, so that a column has one meaning and one type.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import INDEX_SCHEMA, REJECTED_SCHEMA, VOTES_TYPE
from fer_pipeline.core.labels import VOTE_NAMES

TRAIN, TEST = "train", "test"
"""The two lists of a data set that comes without splits."""

UNKNOWN_SPLIT = "unknown_split"
"""Reason of a rejected row that names no split, or one that is no known one."""

TEST_SHARE = 0.2
"""Share of groups that are the locked test of a data set without splits."""

_GIVEN: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest"), "validation"),
    **dict.fromkeys(("test", "testing", "privatetest"), TEST),
}
_JSON = json.JSONEncoder(ensure_ascii=False)
"""Made once: `json.dumps` makes one for each row."""

Column: TypeAlias = pa.Array | npt.NDArray[Any] | Sequence[object]
Tests: TypeAlias = Mapping[
    str, tuple[npt.NDArray[np.bool_], Sequence[str | None] | pa.ChunkedArray | None]
]
"""For each reason to reject a row, those of n rows it holds for, (n,), and the texts that tell."""


def kept_table(
    source: str,
    name: str,
    rows: npt.NDArray[np.int32] | Sequence[int],
    paths: Column,
    expression: npt.NDArray[np.int8] | Sequence[int],
    *,
    photo_root: str | None = None,
    annotation: str = "manual",
    box: Sequence[pa.Array] | None = None,
    valence: Column | None = None,
    arousal: Column | None = None,
    votes: pa.Array | None = None,
    attributes: Sequence[str | None] | None = None,
) -> pa.Table:
    """A table of INDEX_SCHEMA of one list's kept rows, from columns of equal length (n,).

    Args:
        source: the data set's name.
        name: the list's name.
        rows: their numbers.
        paths: the address of each photo, as the data set reads it.
        expression: AffectNet codes.
        photo_root: what tells the photos of two lists apart that may have equal paths; by default
            the list's name.
        annotation: who labelled: "manual" or "auto".
        box: x, y, width and height, int32 with nulls, pixels of the upright photo; None where
            there are no boxes.
        valence, arousal: float32 with nulls; None where there are none.
        votes: of VOTES_TYPE, see `votes_column`; None where there are none.
        attributes: what else is known of each face, see `attribute_texts`.
    """
    count = len(rows)
    paths = paths if isinstance(paths, pa.Array) else pa.array(paths, pa.string())
    sides = box if box is not None else [pa.nulls(count, pa.int32())] * 4
    floats = [
        pa.nulls(count, pa.float32()) if one is None else pa.array(one, pa.float32())
        for one in (valence, arousal)
    ]
    x, y, width, height = sides
    arrays = {
        "face_id": columns.face_ids(source, name if photo_root is None else photo_root, paths, box),
        "source": pa.repeat(source, count),
        "image_path": paths,
        "list": pa.repeat(name, count),
        "row": pa.array(rows, pa.int32()),
        "annotation": pa.repeat(annotation, count),
        "expression": pa.array(expression, pa.int8()),
        "valence": floats[0],
        "arousal": floats[1],
        "face_x": x,
        "face_y": y,
        "face_width": width,
        "face_height": height,
        "votes": pa.nulls(count, VOTES_TYPE) if votes is None else votes,
        "attributes": pa.nulls(count, pa.string())
        if attributes is None
        else pa.array(attributes, pa.string()),
        "issue": pa.nulls(count, pa.string()),
    }
    return pa.Table.from_pydict(arrays, schema=INDEX_SCHEMA)


def rejected_table(
    source: str, name: str, rows: Sequence[int], reasons: Sequence[str], values: Sequence[str]
) -> pa.Table:
    """A table of REJECTED_SCHEMA from columns of equal length."""
    count = len(rows)
    cut = [value[:200] for value in values]
    columns_ = [
        pa.array([source] * count, pa.string()),
        pa.array([name] * count, pa.string()),
        pa.array(rows, pa.int32()),
        pa.array(reasons, pa.string()),
        pa.array(cut, pa.string()),
    ]
    return pa.Table.from_arrays(columns_, schema=REJECTED_SCHEMA)


def first_reasons(
    tests: Tests,
) -> tuple[npt.NDArray[np.bool_], list[str], list[str]]:
    """Which of n rows are rejected, and the reason and the value of each that is.

    Of several reasons the first one counts.
    """
    bad = np.any([holds for holds, _ in tests.values()], axis=0)
    reasons, values = [], []
    for at in np.flatnonzero(bad).tolist():
        reason, texts = next(
            (reason, texts) for reason, (holds, texts) in tests.items() if holds[at]
        )
        value = texts[at] if texts is not None else ""
        reasons.append(reason)
        # Of a column of a million cells the few that are wrong are made Python's own.
        values.append((value.as_py() if isinstance(value, pa.Scalar) else value) or "")
    return bad, reasons, values


def given_list(split: str) -> str | None:
    """The list (`train`, `validation`, `test`) that a word for a split means, None for another."""
    return _GIVEN.get(split.strip().casefold())


def votes_column(
    votes: npt.NDArray[np.integer], filled: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Vote counts (n, 10) in the order VOTE_NAMES as a column; null where not `filled`."""
    count = len(votes)
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * len(VOTE_NAMES))
    mask = None if filled is None else pa.array(~filled)
    return pa.ListArray.from_arrays(offsets, pa.array(votes.ravel(), pa.int8()), mask=mask)


def attribute_text(attributes: Mapping[str, str]) -> str | None:
    """What is known of a face, such as gender or age group, as the column `attributes` holds it.

    A JSON object with sorted names; None where nothing is known.
    """
    known = {name: value for name, value in sorted(attributes.items()) if value}
    return _JSON.encode(known) if known else None


def dealt_list(group: str) -> str:
    """The list of a group (a photo, or a person) in a data set without splits: TRAIN or TEST.

    By a hash of the group alone: whatever is added to the data set, and whatever the seed, the
    locked test keeps its groups.
    """
    digest = hashlib.blake2b(f"test|{group}".encode(errors="surrogateescape"), digest_size=8)
    share = int.from_bytes(digest.digest(), "big") / 2**64
    return TEST if share < TEST_SHARE else TRAIN
