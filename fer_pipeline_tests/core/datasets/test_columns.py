import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.core.datasets.columns import (
    face_ids,
    int32_or_null,
    missing,
    numbers,
    unsafe_path,
    whole,
)


def _text(*values):
    return pa.chunked_array([pa.array(values, pa.string())])


@pytest.mark.parametrize("cell", ["", " ", "NULL", "null", "NaN", "None", "n/a", "\\N"])
def test_blank_null_and_nan_are_missing_and_no_error(cell):
    column = _text("1", cell)
    assert missing(column).tolist() == [False, True]
    values, refused = numbers(column)
    assert values[0] == 1
    assert np.isnan(values[1])
    assert not refused.any()


@pytest.mark.parametrize(
    ("cell", "value"),
    [("12", 12), (" 12 ", 12), ("-2", -2), ("+3.5", 3.5), (".5", 0.5), ("1e2", 100), ("5.", 5)],
)
def test_numbers_are_read_as_people_write_them(cell, value):
    for column in (_text(cell), _text(cell, "not a number")):
        assert numbers(column)[0][0] == value


@pytest.mark.parametrize("cell", ["12px", "1,5", "0x10", "1e", "--1", "inf", "-Infinity", "1e999"])
def test_cell_that_is_no_finite_number_is_refused_whatever_stands_beside_it(cell):
    for column in (_text(cell), _text(cell, "7"), _text(cell, "words"), _text(cell, "")):
        values, refused = numbers(column)
        assert refused[0]
        assert np.isnan(values[0])


def test_whole_pixels_are_finite_and_of_this_world():
    values = np.array([0, -3.4, 1e6, 1.1e6, np.nan, np.inf])
    assert whole(values).tolist() == [True, True, True, False, False, False]


def test_pixels_are_rounded_and_missing_ones_null():
    assert int32_or_null(np.array([1.6, np.nan, -2.4])).to_pylist() == [2, None, -2]
    valid = np.array([True, False, True])
    assert int32_or_null(np.array([1.0, 2.0, 3.0]), valid).to_pylist() == [1, None, 3]


@pytest.mark.parametrize(
    "path",
    [
        "../a.jpg",
        "1/../../a.jpg",
        "1/..",
        "..",
        "..\\a.jpg",
        "1\\..\\a.jpg",
        "/etc/a.jpg",
        "\\share\\a.jpg",
        "//host/a.jpg",
        "C:\\a.jpg",
        "c:a.jpg",
        "~/a.jpg",
        "1/a\x00.jpg",
        "1/a\nb.jpg",
        "M\N{REPLACEMENT CHARACTER}ller/1.jpg",
    ],
)
def test_path_that_leaves_its_root_or_is_no_text_is_unsafe(path):
    assert unsafe_path(_text(path)).tolist() == [True]


@pytest.mark.parametrize("path", ["1/a.jpg", "1/a..jpg", "..a/b.jpg", "1/~a.jpg", "1/b:c.jpg"])
def test_odd_but_harmless_path_is_safe(path):
    assert unsafe_path(_text(path)).tolist() == [False]


def test_face_id_changes_with_path_box_root_and_source_and_with_nothing_else():
    def face_id(source="s", root="manual", path="1/a.jpg", box=(1, 2, 3, 4)):
        sides = [pa.array([side], pa.int32()) for side in box]
        return face_ids(source, root, pa.array([path]), sides)[0].as_py()

    assert len(face_id()) == 16
    assert face_id() == face_id()
    others = {
        face_id(source="t"),
        face_id(root="auto"),
        face_id(path="1/b.jpg"),
        face_id(box=(1, 2, 3, 5)),
        face_id(box=(None,) * 4),
        face_id(box=(12, 3, 4, None)),
        face_id(box=(1, 23, 4, None)),
    }
    assert len(others | {face_id()}) == 8
