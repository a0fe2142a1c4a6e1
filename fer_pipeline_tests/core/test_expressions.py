import pytest

from fer_pipeline.core.expressions import COLUMNS, expression_counts, find_row, sample_rows
from fer_pipeline.core.labels import NAMES
from fer_pipeline_tests.core.small_release import indexed, line, write_list


@pytest.fixture
def folder(tmp_path):
    """3 manual and 1 automatic Happiness, 2 Neutral, 1 No-Face, 1 Fear and 200 automatic Fear."""
    root = tmp_path / "release"
    codes = [1, 1, 1, 0, 0, 10, 4]
    write_list(
        root,
        "manual_train",
        [line(f"1/{at}.jpg", expression=code) for at, code in enumerate(codes)],
    )
    rows = [line(f"2/{at}.jpg", expression=4) for at in range(200)]
    write_list(root, "auto", [line("2/happy.jpg", expression=1), *rows])
    indexed(root, tmp_path / "index")
    return tmp_path / "index"


def test_counts_are_by_total_manual_and_auto_with_the_largest_first(folder):
    table = expression_counts(folder)
    assert tuple(table.columns) == COLUMNS
    assert table.to_numpy().tolist() == [
        [4, "Fear", 201, 1, 200],
        [1, "Happiness", 4, 3, 1],
        [0, "Neutral", 2, 2, 0],
        [10, "No-Face", 1, 1, 0],
    ]


def test_samples_are_of_each_class_seeded_and_manual_ones_first(folder):
    samples = sample_rows(folder, seed=3, of_each=5)
    assert list(samples) == ["Neutral", "Happiness", "Fear", "No-Face"]
    assert {name: len(rows) for name, rows in samples.items()} == {
        "Neutral": 2,
        "Happiness": 4,
        "Fear": 5,
        "No-Face": 1,
    }
    assert all(row.expression == name for name, rows in samples.items() for row in rows)
    assert [row.list for row in samples["Happiness"]] == ["manual_train"] * 3 + ["auto"]
    assert [row.list for row in samples["Fear"]] == ["manual_train"] + ["auto"] * 4
    assert sample_rows(folder, seed=3, of_each=5) == samples
    assert sample_rows(folder, seed=4, of_each=5) != samples


def test_a_flawed_row_is_no_first_choice_for_a_sample(tmp_path):
    root = tmp_path / "release"
    bad = [line(f"1/{at}.jpg", (-1, -1, -1, -1)) for at in range(30)]
    write_list(root, "manual_train", [*bad, line("1/good.jpg"), *bad])
    indexed(root, tmp_path / "index")
    (rows,) = sample_rows(tmp_path / "index", seed=0, of_each=3).values()
    assert rows[0].image_path == "1/good.jpg"


@pytest.mark.parametrize("number", [0, 3, 6, 7, 207])
def test_row_is_found_by_its_number_and_by_its_face_id(folder, number):
    row = find_row(folder, str(number))
    assert row.row == number
    assert row.image_path.endswith(f"{number}.jpg") or number >= 7
    assert find_row(folder, row.face_id) == row


def test_found_row_says_what_is_to_be_shown(folder):
    row = find_row(folder, "5")
    assert (row.list, row.image_path, row.expression) == ("manual_train", "1/5.jpg", NAMES[10])
    assert (row.box, row.issue) == ((10, 10, 60, 60), None)


@pytest.mark.parametrize(
    "wanted", ["208", "99999", "0123456789abcdef", "0123456789012345", "", "x", "²"]
)
def test_row_that_is_not_there_is_none_and_no_error(folder, wanted):
    assert find_row(folder, wanted) is None


def test_row_without_a_box_is_shown_without_one(tmp_path):
    root = tmp_path / "release"
    write_list(root, "manual_train", [line(box=("", "", "", ""))])
    indexed(root, tmp_path / "index")
    assert find_row(tmp_path / "index", "0").box is None
