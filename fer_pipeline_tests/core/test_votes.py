import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.core.labels import CODES, VOTE_NAMES
from fer_pipeline.core.votes import (
    VOTE_TIES,
    chosen_expression,
    majority_expression,
    vote_matrix,
    with_ties,
)


def _votes(**counts):
    return [counts.get(name.replace("-", ""), 0) for name in VOTE_NAMES]


def test_rows_without_votes_are_zeros_and_the_others_keep_their_place():
    column = pa.chunked_array(
        [[list(range(10)), None], [[9] * 10], [None, [1] * 10]], pa.list_(pa.int8())
    )
    matrix = vote_matrix(column)
    assert matrix.shape == (5, 10)
    assert matrix.tolist() == [list(range(10)), [0] * 10, [9] * 10, [0] * 10, [1] * 10]
    assert vote_matrix(column.slice(2, 2)).tolist() == [[9] * 10, [0] * 10]
    assert vote_matrix(pa.nulls(2, pa.list_(pa.int8()))).tolist() == [[0] * 10] * 2


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (_votes(Happiness=6, Neutral=4), "Happiness"),
        (_votes(Contempt=1, Unknown=5, NoFace=4), "Contempt"),
        (_votes(Happiness=5, Neutral=5), None),
        (_votes(Unknown=10), None),
        (_votes(), None),
    ],
)
def test_majority_is_of_the_eight_expressions_and_a_tie_has_none(votes, expected):
    (found,) = majority_expression(np.array([votes], np.int16))
    assert found == (-1 if expected is None else CODES[expected])


@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        ("leave_out", [None, None, "Fear"]),
        ("listed", ["Anger", None, "Fear"]),
        ("first", ["Happiness", "Happiness", "Fear"]),
    ],
)
def test_tie_is_left_out_or_decided_by_the_listed_label_or_by_order(ties, expected):
    tie = _votes(Anger=5, Happiness=5)
    table = pa.table(
        {
            "expression": pa.array([CODES["Anger"], CODES["Sadness"], CODES["Anger"]], pa.int8()),
            "votes": pa.array([tie, tie, _votes(Fear=6, Anger=4)], pa.list_(pa.int8())),
        }
    )
    codes = chosen_expression(table, with_ties("votes", ties)).tolist()
    assert codes == [-1 if name is None else CODES[name] for name in expected]
    assert chosen_expression(table, with_ties("listed", ties)).tolist() == [6, 2, 6]


@pytest.mark.parametrize("ties", VOTE_TIES)
def test_faces_without_votes_have_no_label_whatever_the_rule(ties):
    table = pa.table(
        {
            "expression": pa.array([0, 9], pa.int8()),
            "votes": pa.array([_votes(Unknown=10), None], pa.list_(pa.int8())),
        }
    )
    assert chosen_expression(table, with_ties("votes", ties)).tolist() == [-1, -1]


def test_label_source_chooses_between_the_listed_label_and_the_majority():
    table = pa.table(
        {
            "expression": pa.array([6, 1], pa.int8()),
            "votes": pa.array([_votes(Fear=9), None], pa.list_(pa.int8())),
        }
    )
    assert chosen_expression(table, "listed").tolist() == [6, 1]
    assert chosen_expression(table, "votes").tolist() == [CODES["Fear"], -1]
    with pytest.raises(ValueError, match="'guess'"):
        chosen_expression(table, "guess")
