"""FER+ votes: what ten annotators said of a face, as one label or as shares."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.labels import VOTE_NAMES

EXPRESSIONS = 8
"""The first eight vote columns are expressions; "unknown" and "no face" follow."""


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


def majority_expression(votes: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """The AffectNet code with most votes among the eight expressions, -1 where there is none.

    A tie for the most votes, or no vote for any expression, gives no majority. `votes` is
    (n, 10) in the order VOTE_NAMES; the result is (n,).
    """
    cast = votes[:, :EXPRESSIONS]
    most = cast.max(axis=1, initial=0)
    unique = (cast == most[:, None]).sum(axis=1) == 1
    return np.where((most > 0) & unique, cast.argmax(axis=1), -1).astype(np.int8)


def chosen_expression(table: pa.Table, label_source: str) -> npt.NDArray[np.int8]:
    """The code each row is trained and scored on; shape (n,), -1 where it has none.

    `listed` takes the data set's own label (column `expression`), `votes` the majority of the
    column `votes`. Raises ValueError for another source.
    """
    if label_source == "listed":
        return np.asarray(table["expression"].to_numpy(), np.int8)
    if label_source == "votes":
        return majority_expression(vote_matrix(table["votes"]))
    raise ValueError(f"unknown label source {label_source!r}")
