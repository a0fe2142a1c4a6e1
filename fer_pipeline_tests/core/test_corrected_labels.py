"""Corrections in the manifest: which labels they change, and that none is lost in silence."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from fer_pipeline.core.corrections import Correction
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.manifest import FILE_LIST, manifest_hash
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import (
    FIVE,
    built,
    encoded,
    line,
    noise,
    small_release,
    write_list,
    write_photo,
)

WHEN = datetime(2026, 1, 31, tzinfo=UTC)


def _face(manifest, path):
    return next(row for row in manifest.to_pylist() if row["image_path"] == path)


def _says(face_id, old, new):
    return Correction(face_id, old, new, "Ann", WHEN, "five_class/suspects")


def test_without_corrections_no_row_has_a_listed_label_beside_its_own(root, tmp_path):
    small_release(root)
    summary, manifest = built(root, tmp_path)
    assert manifest["listed_expression"].null_count == manifest.num_rows
    assert (summary.corrected, summary.corrections_left) == (0, {})


def test_a_corrected_label_replaces_the_listed_one_which_is_kept_beside_it(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=1), line("1/b.jpg", expression=1)])
    _, before = built(root, tmp_path)
    face = _face(before, "1/a.jpg")["face_id"]
    summary, manifest = built(root, tmp_path, corrections=[_says(face, "Happiness", "Anger")])
    assert manifest["expression"].to_pylist() == [CODES["Anger"], 1]
    assert manifest["listed_expression"].to_pylist() == [1, None]
    assert (summary.corrected, summary.corrections_left) == (1, {})
    table = pd.read_csv(tmp_path / "manifest" / FILE_LIST)
    assert table["expression_name"].tolist() == ["Anger", "Happiness"]
    assert table["listed_expression"].tolist()[0] == 1
    assert summary.manifest_hash != manifest_hash(before)


def test_a_face_corrected_out_of_the_wanted_classes_is_left_out_and_counted(root, tmp_path):
    rows = [line(f"1/{name}.jpg", expression=1) for name in "abc"]
    write_list(root, "manual_train", [*rows, rows[0]])
    _, before = built(root, tmp_path)
    away = [
        _says(_face(before, "1/a.jpg")["face_id"], "Happiness", "No-Face"),
        _says(_face(before, "1/b.jpg")["face_id"], "Happiness", "Contempt"),
    ]
    summary, manifest = built(root, tmp_path, corrections=away)
    assert manifest["image_path"].to_pylist() == ["1/c.jpg"]
    assert summary.left_out == {"corrected_away": 3}
    assert summary.corrected == 2
    assert summary.rows + sum(summary.left_out.values()) == summary.rows_indexed


def test_a_face_corrected_into_a_wanted_class_comes_in(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=7), line("1/b.jpg")])
    _, all_classes = built(root, tmp_path, (*FIVE, "Contempt"))
    face = _face(all_classes, "1/a.jpg")["face_id"]
    summary, manifest = built(root, tmp_path, corrections=[_says(face, "Contempt", "Neutral")])
    assert manifest["expression"].to_pylist() == [0, 1]
    assert manifest["listed_expression"].to_pylist() == [7, None]
    assert summary.left_out == {}


def test_every_correction_that_is_not_applied_is_counted_with_its_reason(root, tmp_path):
    names = "abcdef"
    write_list(root, "manual_train", [line(f"1/{name}.jpg", expression=1) for name in names])
    write_list(root, "manual_val", [line("2/a.jpg", expression=1)])
    _, before = built(root, tmp_path)
    ids = {path: _face(before, path)["face_id"] for path in before["image_path"].to_pylist()}
    given = [
        _says(ids["1/a.jpg"], "Happiness", "Sadness"),
        _says(ids["1/b.jpg"], "Neutral", "Sadness"),
        _says(ids["2/a.jpg"], "Happiness", "Sadness"),
        _says("0" * 16, "Happiness", "Sadness"),
        _says(ids["1/c.jpg"], "Happiness", "Sadness"),
        _says(ids["1/c.jpg"], "Sadness", "Happiness"),
        _says(ids["1/d.jpg"], "Happiness", "Sadness"),
        _says(ids["1/d.jpg"], "Sadness", "Anger"),
    ]
    summary, manifest = built(root, tmp_path, corrections=given)
    assert summary.corrected == 2
    assert summary.corrections_left == {
        "face_not_in_index": 1,
        "label_differs": 1,
        "locked_test": 1,
        "taken_back": 1,
    }
    labels = {row["image_path"]: row["expression"] for row in manifest.to_pylist()}
    assert [labels[f"1/{name}.jpg"] for name in "abcd"] == [2, 1, 1, CODES["Anger"]]
    assert labels["2/a.jpg"] == 1


def test_test_faces_are_corrected_when_that_is_asked_for(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg")])
    write_list(root, "manual_val", [line("2/a.jpg", expression=1)])
    _, before = built(root, tmp_path)
    given = [_says(_face(before, "2/a.jpg")["face_id"], "Happiness", "Sadness")]
    summary, manifest = built(root, tmp_path, corrections=given, correct_test=True)
    assert _face(manifest, "2/a.jpg")["expression"] == CODES["Sadness"]
    assert (summary.corrected, summary.corrections_left) == (1, {})


def test_a_face_of_training_that_stands_in_the_test_list_too_is_locked(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=1)])
    write_list(root, "manual_val", [line("1/a.jpg", expression=1)])
    _, before = built(root, tmp_path)
    given = [_says(before["face_id"][0].as_py(), "Happiness", "Sadness")]
    summary, manifest = built(root, tmp_path, corrections=given)
    assert manifest["expression"].to_pylist() == [1]
    assert summary.corrections_left == {"locked_test": 1}


@pytest.mark.parametrize(
    ("listed", "new"),
    [
        (1, "Sadness"),
        (1, "No-Face"),
        (2, "Happiness"),
        (2, "No-Face"),
        (7, "Sadness"),
        (7, "No-Face"),
    ],
)
def test_a_correction_of_a_copy_of_a_test_photo_changes_nothing_of_the_test(
    root, tmp_path, listed, new
):
    write_list(root, "manual_train", [line("1/copy.jpg", expression=listed), line("1/b.jpg")])
    write_list(root, "manual_val", [line("2/a.jpg", expression=1)])
    for path in ("1/copy.jpg", "2/a.jpg"):
        write_photo(root, path, encoded(noise(1)))
    every = (*FIVE, "Contempt")
    face = _face(built(root, tmp_path, every)[1], "1/copy.jpg")["face_id"]
    summary, before = built(root, tmp_path)
    given = [_says(face, NAMES[listed], new)]
    after_summary, after = built(root, tmp_path, corrections=given)
    columns = [name for name in before.column_names if name not in ("group_id", "content_hash")]
    assert after.select(columns).to_pylist() == before.select(columns).to_pylist()
    assert after_summary.left_out == summary.left_out
    applied = listed == 7 and new == "No-Face"
    assert after_summary.corrected == int(applied)
    assert after_summary.corrections_left == ({} if applied else {"locked_test": 1})


def test_a_person_s_word_ends_the_conflict_of_a_face_listed_with_two_labels(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=code) for code in (1, 2)])
    _, before = built(root, tmp_path)
    assert before["weight"].to_pylist() == [0.5]
    given = [_says(before["face_id"][0].as_py(), "Happiness", "Anger")]
    summary, manifest = built(root, tmp_path, corrections=given)
    assert manifest["weight"].to_pylist() == [1.0]
    assert manifest["expression"].to_pylist() == [CODES["Anger"]]
    assert summary.left_out == {"repeated_row": 1}


def test_labels_by_votes_are_not_corrected_and_that_is_counted(root, tmp_path):
    votes = [[9, 1], [1, 9]]
    write_split(root, "train", [3] * 2, votes=votes, vote_columns=["anger", "happiness"])
    _, before = built(root, tmp_path, name="hf-parquet", votes=True)
    given = [_says(before["face_id"][0].as_py(), "Happiness", "Sadness")]
    summary, manifest = built(root, tmp_path, name="hf-parquet", votes=True, corrections=given)
    assert manifest_hash(manifest) == manifest_hash(before)
    assert (summary.corrected, summary.corrections_left) == (0, {"labels_are_votes": 1})


def test_when_corrections_leave_no_face_that_is_an_input_error(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=1)])
    _, before = built(root, tmp_path)
    given = [_says(before["face_id"][0].as_py(), "Happiness", "No-Face")]
    with pytest.raises(InputError, match=r"no row of .* has one of the classes"):
        built(root, tmp_path, corrections=given)
