import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, NAMES, VOTE_NAMES
from fer_pipeline.core.votes import majority_expression, vote_matrix
from fer_pipeline_tests.core.datasets.table_releases import (
    ICML_HEADER,
    indexed_as,
    opened,
    write_fer2013,
    write_votes,
)

HAPPY = [0, 9, 0, 0, 0, 0, 0, 0, 1, 0]
ANGRY = [0, 0, 0, 0, 6, 0, 0, 0, 0, 4]


def _index(root, tmp_path):
    return indexed_as(opened("ferplus", root), tmp_path / "index")


def _votes_of(rows):
    return vote_matrix(pa.array([row["votes"] for row in rows], pa.list_(pa.int8())))


def test_votes_join_by_row_order_whatever_the_names_say(tmp_path):
    write_fer2013(tmp_path, ["3,1,Training", "4,1,Training", "6,1,PublicTest"])
    named = [("Training", "fer0000002.png", HAPPY), ("Training", "", ANGRY)]
    write_votes(tmp_path, [*named, ("PublicTest", "fer0000002.png", [0] * 10)])
    kept = _index(tmp_path, tmp_path)[1]
    assert [NAMES[row["expression"]] for row in kept] == ["Happiness", "Sadness", "Neutral"]
    assert dict(zip(VOTE_NAMES, kept[0]["votes"], strict=True))["Happiness"] == 9
    assert dict(zip(VOTE_NAMES, kept[1]["votes"], strict=True)) == {
        **dict.fromkeys(VOTE_NAMES, 0),
        "Anger": 6,
        "No-Face": 4,
    }
    assert kept[2]["votes"] == [0] * 10


def test_the_variant_with_another_order_of_columns_is_joined_too(tmp_path):
    write_fer2013(tmp_path, ["3,Training,1", "4,PrivateTest,1"], ICML_HEADER)
    write_votes(tmp_path, [("Training", "", HAPPY), ("PrivateTest", "", ANGRY)])
    assert _votes_of(_index(tmp_path, tmp_path)[1])[1, CODES["Anger"]] == 6


@pytest.mark.parametrize(
    ("usages", "message"),
    [
        (["Training", "PublicTest", "Training"], r"row 3 is in one alone"),
        (["Training"], r"has 2 rows and .*fer2013new\.csv 1: row 2 is in one alone"),
        (["Training", "Training"], r"row 2 is 'PublicTest' in .*fer2013\.csv and 'Training' in"),
    ],
)
def test_files_that_differ_are_an_input_error_with_both_names_and_the_row(
    tmp_path, usages, message
):
    write_fer2013(tmp_path, ["3,1,Training", "4,1,PublicTest"])
    write_votes(tmp_path, [(usage, "", HAPPY) for usage in usages])
    with pytest.raises(InputError, match=message) as caught:
        _index(tmp_path, tmp_path)
    assert "fer2013.csv" in str(caught.value)
    assert "fer2013new.csv" in str(caught.value)


def test_row_whose_votes_are_no_numbers_is_rejected_with_what_stands_there(tmp_path):
    write_fer2013(tmp_path, ["3,1,Training"] * 4)
    rows = [HAPPY, ["x", *HAPPY[1:]], ["", *HAPPY[1:]], [*HAPPY, 1]]
    write_votes(tmp_path, [("Training", "", votes) for votes in rows])
    _, kept, rejected = _index(tmp_path, tmp_path)
    assert [row["row"] for row in kept] == [1]
    assert {(row["row"], row["reason"]) for row in rejected} == {
        (number, "not_a_number") for number in (2, 3, 4)
    }
    assert "x,9,0" in rejected[0]["value"]


def test_votes_file_without_one_of_its_columns_is_an_input_error(tmp_path):
    write_fer2013(tmp_path, ["3,1,Training"])
    path = write_votes(tmp_path, [("Training", "", HAPPY)])
    path.write_text(path.read_text().replace("contempt", "content"))
    with pytest.raises(InputError, match=r"fer2013new\.csv, row 1: .*Contempt 0 times"):
        opened("ferplus", tmp_path)


def test_folder_without_votes_is_an_input_error_that_names_the_other_format(tmp_path):
    write_fer2013(tmp_path, ["3,1,Training"])
    with pytest.raises(InputError, match=r"no fer2013new\.csv: give --root .* as fer2013"):
        opened("ferplus", tmp_path)


def test_top_votes_of_the_real_rows_fit_only_unshifted(real_data, tmp_path):
    kept = sorted(_index(real_data / "fer2013-csv", tmp_path)[1], key=lambda row: row["row"])
    assert [row["row"] for row in kept] == list(range(1, 601))
    top = majority_expression(_votes_of(kept), "first")
    listed = np.array([row["expression"] for row in kept])
    assert 0.55 < (top == listed).mean() < 0.7
    assert max((np.roll(top, by) == listed).mean() for by in (-1, 1)) < 0.3
