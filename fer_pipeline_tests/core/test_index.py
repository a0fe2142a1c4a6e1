import os

import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import INDEX_SCHEMA, REJECTED_SCHEMA
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import (
    INDEX_FILE,
    REJECTED_FILE,
    build_index,
    count_kept_and_rejected,
    lists_digest,
    lists_stamp,
    rejected_rows,
)
from fer_pipeline_tests.core.small_release import LISTS, NULLS, indexed, line, write_list


def _issues(root, tmp_path, rows):
    write_list(root, "manual_train", rows)
    return [row["issue"] for row in indexed(root, tmp_path / "index")[1]]


def test_exact_repeat_is_a_duplicate_and_the_first_row_is_not(root, tmp_path):
    rows = [line("1/a.jpg"), line("1/b.jpg"), line("1/a.jpg"), line("1/a.jpg")]
    assert _issues(root, tmp_path, rows) == [None, None, "duplicate", "duplicate"]


def test_two_labels_for_one_face_make_every_row_of_it_conflicting(root, tmp_path):
    rows = [line(expression=1), line("1/b.jpg"), line(expression=2), line(expression=1)]
    conflict = "conflicting_label"
    assert _issues(root, tmp_path, rows) == [conflict, None, conflict, conflict]


def test_two_faces_in_one_photo_are_no_conflict(root, tmp_path):
    rows = [line(box=(0, 0, 50, 50)), line(box=(60, 0, 50, 50), expression=3)]
    assert _issues(root, tmp_path, rows) == [None, None]


def test_conflict_between_training_and_validation_is_seen_across_lists(root, tmp_path):
    write_list(root, "manual_val", [line(expression=2)])
    assert _issues(root, tmp_path, [line(expression=1)]) == ["conflicting_label"] * 2


def test_the_automatic_list_is_of_other_photos_and_conflicts_with_none(root, tmp_path):
    write_list(root, "auto", [line(expression=2)])
    assert _issues(root, tmp_path, [line(expression=1)]) == [None, None]


@pytest.mark.parametrize(
    "box",
    [(-1, -1, -1, -1), (10, 10, -60, 60), (10, 10, 60, 0), (-80, 10, 60, 60), (10, -60, 60, 60)],
)
def test_box_of_minus_one_negative_width_or_left_of_the_frame_is_a_bad_box(root, tmp_path, box):
    assert _issues(root, tmp_path, [line(), line("1/b.jpg", box)]) == [None, "bad_box"]


def test_box_beyond_the_far_edge_is_left_to_the_crops_which_know_the_photo(root, tmp_path):
    assert _issues(root, tmp_path, [line(box=(900, 700, 60, 60))]) == [None]


def test_every_row_is_kept_or_rejected_and_numbered_once(root, tmp_path):
    write_list(root, "manual_train", [line(), NULLS, "short", line("../x.jpg"), line("1/b.jpg")])
    write_list(root, "auto", [line(expression=77), line()])
    summary, kept, rejected = indexed(root, tmp_path / "index")
    assert summary.rows_read == 7 == summary.rows_indexed + summary.rows_rejected
    assert (len(kept), len(rejected)) == (3, 4)
    assert summary.rows_by_list == {"manual_train": 5, "auto": 2}
    assert summary.rejected_by_reason == {
        "empty_row": 1,
        "wrong_field_count": 1,
        "unsafe_path": 1,
        "unknown_label": 1,
    }
    assert count_kept_and_rejected(tmp_path / "index") == {
        "manual_train": (2, 3, True),
        "auto": (1, 1, True),
    }
    assert rejected_rows(tmp_path / "index", "unsafe_path")["row"].to_pylist() == [4]
    assert rejected_rows(tmp_path / "index").num_rows == 4


def test_lost_or_doubled_row_is_noticed_in_the_published_files(root, tmp_path):
    write_list(root, "manual_train", [line(), line("1/b.jpg"), line("1/c.jpg")])
    indexed(root, tmp_path / "index")
    path = tmp_path / "index" / INDEX_FILE
    whole = pq.read_table(path)
    pq.write_table(whole.take([0, 2]), path)
    assert count_kept_and_rejected(tmp_path / "index") == {"manual_train": (2, 0, False)}
    pq.write_table(whole.take([0, 1, 1]), path)
    assert count_kept_and_rejected(tmp_path / "index") == {"manual_train": (3, 0, False)}


def test_published_files_have_the_schema_and_nothing_else_is_left(root, tmp_path):
    write_list(root, "manual_train", [line()])
    indexed(root, tmp_path / "index")
    assert pq.read_schema(tmp_path / "index" / INDEX_FILE).remove_metadata() == INDEX_SCHEMA
    assert pq.read_schema(tmp_path / "index" / REJECTED_FILE).remove_metadata() == REJECTED_SCHEMA
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        INDEX_FILE,
        REJECTED_FILE,
    ]


def test_lists_without_any_row_are_an_input_error_that_names_the_files(root, tmp_path):
    write_list(root, "manual_train", [])
    with pytest.raises(InputError, match=r"the lists hold no row: .*training\.csv"):
        indexed(root, tmp_path / "index")


def test_list_whose_rows_are_all_rejected_is_still_indexed(root, tmp_path):
    write_list(root, "manual_train", [NULLS, NULLS])
    summary, kept, rejected = indexed(root, tmp_path / "index")
    assert (summary.rows_indexed, kept, len(rejected)) == (0, [], 2)
    assert count_kept_and_rejected(tmp_path / "index") == {"manual_train": (0, 2, True)}


def test_same_lists_give_the_same_hash_and_one_changed_cell_another(root, tmp_path):
    write_list(root, "manual_train", [line(), line("1/b.jpg")])
    first = indexed(root, tmp_path / "one")[0].content_hash
    assert indexed(root, tmp_path / "two")[0].content_hash == first
    write_list(root, "manual_train", [line(), line("1/b.jpg", expression=2)])
    assert indexed(root, tmp_path / "three")[0].content_hash != first


def test_progress_tells_the_rows_read_so_far(root, tmp_path):
    for name in LISTS:
        write_list(root, name, [line(), NULLS])
    told = []
    build_index(open_dataset("affectnet", root), tmp_path / "index", on_rows=told.append)
    assert told == [2, 4, 6]


def test_stamp_and_digest_change_when_a_list_is_edited_added_or_taken_away(root):
    for told in (lists_stamp, lists_digest):
        write_list(root, "manual_train", [line()])
        seen = [told(open_dataset("affectnet", root))]
        assert told(open_dataset("affectnet", root)) == seen[0]
        write_list(root, "manual_train", [line(), line()])
        seen.append(told(open_dataset("affectnet", root)))
        write_list(root, "auto", [line()])
        seen.append(told(open_dataset("affectnet", root)))
        assert len(set(seen)) == 3
        (root / LISTS["auto"]).unlink()


def test_a_touched_list_has_another_stamp_and_the_same_digest(root):
    write_list(root, "manual_train", [line()])
    dataset = open_dataset("affectnet", root)
    before = lists_stamp(dataset), lists_digest(dataset)
    os.utime(root / LISTS["manual_train"], ns=(1, 1))
    assert lists_stamp(dataset) != before[0]
    assert lists_digest(dataset) == before[1]


def test_drawn_release_is_indexed_with_every_trap_counted(drawn_release, tmp_path):
    summary, kept, rejected = indexed(drawn_release, tmp_path / "index")
    assert summary.rows_read == len(kept) + len(rejected)
    assert {row["reason"] for row in rejected} == {
        "unsafe_path",
        "wrong_field_count",
        "not_a_number",
        "unknown_label",
        "empty_row",
    }
    assert all(summary.issues[name] for name in ("duplicate", "conflicting_label", "bad_box"))
