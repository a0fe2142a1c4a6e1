"""FER+ votes: what ten annotators said of a face, as one label or as shares.

A label source says whose labels count, as a word: `listed` (the data set's own), `votes` (most of
the votes; ties are left out), or `votes:listed` and `votes:first`, which say how ties are decided.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.labels import VOTE_NAMES

EXPRESSIONS = 8
"""The first eight vote columns are expressions; "unknown" and "no face" follow."""

LABEL_SOURCES: tuple[str, ...] = ("listed", "votes")
VOTE_TIES: tuple[str, ...] = ("leave_out", "listed", "first")
"""What becomes of a tie for the most votes: the face has no label; the data set's own label, where
that is among the first places; the first of them in the order of the codes."""

FER_VOTES, SOFT_LABELS = "FER+ votes", "soft labels"

_MARK = ":"


def with_ties(label_source: str, ties: str) -> str:
    """A label source that decides ties as `ties` says, where it is of votes."""
    return (
        f"votes{_MARK}{ties}" if label_source == "votes" and ties != VOTE_TIES[0] else label_source
    )


def of_votes(label_source: str) -> bool:
    """Whether labels are those of votes, however ties are decided."""
    return label_source.partition(_MARK)[0] == "votes"


def ties_of(label_source: str) -> str:
    """What a label source of votes makes of ties, one of VOTE_TIES."""
    return label_source.partition(_MARK)[2] or VOTE_TIES[0]


def vote_words(count_people: Collection[bool]) -> str:
    """What votes are called that count people, that don't, or of which there are both kinds."""
    if set(count_people) == {True, False}:
        return f"{FER_VOTES} and {SOFT_LABELS}"
    return SOFT_LABELS if set(count_people) == {False} else FER_VOTES


def vote_matrix(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int16]:
    """The votes column as int16 (n, 10), zeros where a row has no votes."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    votes = np.zeros((len(column), len(VOTE_NAMES)), np.int16)
    filled = column.is_valid().to_numpy(zero_copy_only=False)
    if filled.any():
        flat = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        votes[filled] = flat.reshape(-1, len(VOTE_NAMES))
    return votes


def majority_expression(
    votes: npt.NDArray[np.int16],
    ties: str = "leave_out",
    listed: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.int8]:
    """The AffectNet code with most votes among the eight expressions, -1 where there is none.

    No vote for any expression gives no majority; a tie for the most votes what `ties` says (see
    VOTE_TIES), for which `listed` are the data set's own codes (n,). `votes` is (n, 10) in the
    order VOTE_NAMES; the result is (n,).
    """
    if ties not in VOTE_TIES:
        raise ValueError(f"unknown rule for ties {ties!r}")
    cast = votes[:, :EXPRESSIONS]
    most = cast.max(axis=1, initial=0)
    first_places = cast == most[:, None]
    found = np.where(most > 0, first_places.argmax(axis=1), -1).astype(np.int8)
    tied = first_places.sum(axis=1) > 1
    if ties == "leave_out":
        found[tied] = -1
    elif ties == "listed":
        if listed is None:
            raise ValueError("ties go by listed labels, and none are given")
        code = np.where((listed >= 0) & (listed < EXPRESSIONS), listed, -1)
        is_first = (code >= 0) & first_places[np.arange(len(code)), np.maximum(code, 0)]
        decided = np.where(is_first & (most > 0), code, -1).astype(np.int8)
        found[tied] = decided[tied]
    return found


def chosen_expression(table: pa.Table, label_source: str) -> npt.NDArray[np.int8]:
    """The code each row is trained and scored on; shape (n,), -1 where it has none.

    `listed` takes the data set's own label (column `expression`), `votes` the majority of the
    column `votes`. Raises ValueError for another source.
    """
    listed = np.asarray(table["expression"].to_numpy(), np.int8)
    if label_source == "listed":
        return listed
    if of_votes(label_source):
        return majority_expression(vote_matrix(table["votes"]), ties_of(label_source), listed)
    raise ValueError(f"unknown label source {label_source!r}")
