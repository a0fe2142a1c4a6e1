import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import (
    FILE_LIST,
    MANIFEST_SCHEMA,
    manifest_hash,
    missing_classes,
)
from fer_pipeline.core.splits import groups_on_two_sides
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import (
    FIVE,
    NULLS,
    built,
    encoded,
    line,
    noise,
    small_release,
    write_list,
    write_photo,
)


def _splits(manifest):
    columns = (manifest[name].to_pylist() for name in ("image_path", "list", "split"))
    return {(path, name): split for path, name, split in zip(*columns, strict=True)}


def test_only_wanted_classes_are_kept_and_every_other_row_is_counted(root, tmp_path):
    codes = [0, 1, 6, 7, 8, 10]
    rows = [line(f"1/{code}.jpg", expression=code) for code in codes]
    write_list(root, "manual_train", [*rows, line("1/bad.jpg", (-1, -1, -1, -1)), rows[0]])
    summary, manifest = built(root, tmp_path)
    assert manifest["expression"].to_pylist() == [0, 1, 6]
    assert summary.left_out == {"other_class": 3, "bad_box": 1, "repeated_row": 1}
    assert summary.rows + sum(summary.left_out.values()) == summary.rows_indexed == 8


def test_manifest_has_its_schema_and_a_face_once(drawn_release, tmp_path):
    summary, manifest = built(drawn_release, tmp_path, dev_share=0.3)
    assert manifest.schema.remove_metadata() == MANIFEST_SCHEMA
    ids = manifest["face_id"].to_pylist()
    assert len(set(ids)) == len(ids) == summary.rows
    assert sum(summary.rows_by_split.values()) == summary.rows
    assert summary.rows + sum(summary.left_out.values()) == summary.rows_indexed
    groups, split = (np.array(manifest[name].to_pylist()) for name in ("group_id", "split"))
    assert groups_on_two_sides(groups, split) == []
    assert missing_classes(manifest, {"five": FIVE}, "listed") == []


def test_face_listed_in_training_and_validation_stands_in_test_alone(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg"), line("1/b.jpg")])
    write_list(root, "manual_val", [line("1/a.jpg")])
    summary, manifest = built(root, tmp_path)
    assert _splits(manifest) == {
        ("1/a.jpg", "manual_val"): "test",
        ("1/b.jpg", "manual_train"): "train",
    }
    assert summary.left_out == {"repeated_row": 1}


def test_other_face_of_a_validation_photo_is_excluded_from_training(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", (70, 0, 40, 40))])
    write_list(root, "manual_val", [line("1/a.jpg", (0, 0, 40, 40))])
    summary, manifest = built(root, tmp_path)
    assert _splits(manifest)["1/a.jpg", "manual_train"] == "excluded"
    assert summary.excluded == {"copy_of_test_photo": 1}


def test_byte_identical_copy_of_a_validation_photo_under_another_path_is_excluded(root, tmp_path):
    write_list(root, "manual_train", [line("1/copy.jpg"), line("1/other.jpg")])
    write_list(root, "manual_val", [line("2/a.jpg")])
    photo = encoded(noise(1))
    write_photo(root, "2/a.jpg", photo)
    write_photo(root, "1/copy.jpg", photo)
    # Of the same size and yet another photo.
    write_photo(root, "1/other.jpg", photo[:-1] + b"x")
    summary, manifest = built(root, tmp_path)
    assert _splits(manifest) == {
        ("1/copy.jpg", "manual_train"): "excluded",
        ("1/other.jpg", "manual_train"): "train",
        ("2/a.jpg", "manual_val"): "test",
    }
    assert (summary.photos_hashed, summary.identical_photos) == (3, 1)
    rows = {row["image_path"]: row for row in manifest.to_pylist()}
    assert rows["1/copy.jpg"]["group_id"] == rows["2/a.jpg"]["group_id"]
    assert rows["1/copy.jpg"]["content_hash"] == rows["2/a.jpg"]["content_hash"]
    assert rows["1/other.jpg"]["group_id"] != rows["2/a.jpg"]["group_id"]


def test_only_photos_of_equal_size_are_hashed(root, tmp_path):
    write_list(root, "manual_train", [line(f"1/{at}.jpg") for at in range(4)])
    for at, data in enumerate([b"a", b"bb", b"cc", b""]):
        write_photo(root, f"1/{at}.jpg", data)
    summary, manifest = built(root, tmp_path)
    assert summary.photos_hashed == 2
    hashes = manifest["content_hash"].to_pylist()
    assert [value is not None for value in hashes] == [False, True, True, False]


def test_empty_and_missing_photos_are_nobody_s_copies(root, tmp_path):
    write_list(root, "manual_train", [line(f"1/{name}.jpg") for name in "abcd"])
    write_photo(root, "1/a.jpg", b"")
    write_photo(root, "1/b.jpg", b"")
    summary, manifest = built(root, tmp_path)
    assert len(set(manifest["group_id"].to_pylist())) == 4
    assert (summary.photos_missing, summary.identical_photos) == (2, 0)


def test_conflicting_labels_stay_out_of_dev_and_test(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=code) for code in (1, 2)])
    write_list(root, "manual_val", [line("2/a.jpg", expression=code) for code in (1, 2)])
    summary, manifest = built(root, tmp_path, dev_share=1.0)
    assert _splits(manifest) == {
        ("1/a.jpg", "manual_train"): "excluded",
        ("2/a.jpg", "manual_val"): "excluded",
    }
    assert summary.excluded == {"conflicting_label": 2}


def test_conflict_with_a_class_that_is_not_wanted_is_still_a_conflict(root, tmp_path):
    write_list(root, "manual_val", [line("2/a.jpg", expression=code) for code in (1, 7)])
    assert built(root, tmp_path)[0].excluded == {"conflicting_label": 1}


def test_identical_photos_with_other_labels_for_one_place_are_a_conflict(root, tmp_path):
    write_list(
        root,
        "manual_train",
        [line("1/a.jpg", expression=1), line("1/b.jpg", expression=2), line("1/c.jpg")],
    )
    for name in "abc":
        write_photo(root, f"1/{name}.jpg", encoded(noise(0 if name != "c" else 1)))
    _, manifest = built(root, tmp_path)
    assert manifest["weight"].to_pylist() == [0.5, 0.5, 1.0]


def test_same_seed_and_data_give_the_same_hash_and_another_seed_another(root, tmp_path):
    small_release(root)
    first = built(root, tmp_path, dev_share=0.5)[0].manifest_hash
    assert built(root, tmp_path, dev_share=0.5)[0].manifest_hash == first
    others = {built(root, tmp_path, dev_share=0.5, seed=seed)[0].manifest_hash for seed in (1, 2)}
    assert first not in others


def test_photos_moved_to_another_root_keep_the_manifest_hash(root, tmp_path):
    small_release(root)
    first = built(root, tmp_path, dev_share=0.5)[0].manifest_hash
    moved = tmp_path / "another disk"
    shutil.copytree(root, moved)
    (moved / "Manually_Annotated_compressed" / "Manually_Annotated_Images").rename(
        moved / "Manually Annotated Images"
    )
    assert built(moved, tmp_path, dev_share=0.5)[0].manifest_hash == first


def test_more_data_moves_no_face_to_another_side(root, tmp_path):
    rows = [line(f"1/{at}.jpg", expression=at % 2) for at in range(60)]
    write_list(root, "manual_train", rows[:30])
    before = _splits(built(root, tmp_path, dev_share=0.4)[1])
    write_list(root, "manual_train", rows[::-1])
    after = _splits(built(root, tmp_path, dev_share=0.4)[1])
    assert len(after) == 60
    assert {key: after[key] for key in before} == before
    assert set(before.values()) == {"train", "dev"}


def test_hash_is_of_the_values_and_not_of_the_table_that_holds_them(root, tmp_path):
    small_release(root)
    summary, manifest = built(root, tmp_path, dev_share=0.5)
    assert manifest_hash(manifest) == summary.manifest_hash
    part = manifest.slice(1, 9)
    rebuilt = pa.Table.from_pylist(part.to_pylist(), schema=manifest.schema)
    chunked = pa.concat_tables([manifest.slice(1, 2), manifest.slice(3, 7)])
    assert manifest_hash(part) == manifest_hash(rebuilt) == manifest_hash(chunked)
    assert manifest_hash(part) != manifest_hash(manifest.slice(0, 9))


def test_file_list_is_readable_csv_with_names(root, tmp_path):
    write_list(root, "manual_train", [line('1/"a", b.jpg'.replace('"', '""').join('""'))])
    _, manifest = built(root, tmp_path)
    table = pd.read_csv(tmp_path / "manifest" / FILE_LIST)
    assert table["image_path"].tolist() == manifest["image_path"].to_pylist() == ['1/"a", b.jpg']
    assert table["expression_name"].tolist() == ["Happiness"]
    assert table["split"].tolist() == ["train"]


def test_no_row_of_the_wanted_classes_is_an_input_error(root, tmp_path):
    write_list(root, "manual_train", [line(expression=7)])
    with pytest.raises(InputError, match=r"no row of .* has one of the classes Neutral"):
        built(root, tmp_path)


def test_index_whose_rows_were_all_rejected_is_an_input_error(root, tmp_path):
    write_list(root, "manual_train", [NULLS])
    with pytest.raises(InputError, match="every row of the lists was rejected"):
        built(root, tmp_path)


def test_votes_label_by_majority_and_rows_without_one_are_left_out(root, tmp_path):
    columns = ["anger", "happiness", "unknown"]
    votes = [[9, 1, 0], [1, 9, 0], [5, 5, 0], None, [0, 0, 10]]
    write_split(root, "train", [3] * 5, votes=votes, vote_columns=columns)
    summary, manifest = built(root, tmp_path, name="hf-parquet", votes=True)
    assert manifest["image_path"].to_pylist() == ["data/train.parquet#0", "data/train.parquet#1"]
    assert summary.left_out == {"no_majority_vote": 3}
    names = pd.read_csv(tmp_path / "manifest" / FILE_LIST)["expression_name"]
    assert names.tolist() == ["Anger", "Happiness"]


def test_votes_asked_of_a_data_set_without_them_are_an_input_error(root, tmp_path):
    write_list(root, "manual_train", [line()])
    with pytest.raises(InputError, match=r"no row of .* has votes: use --label-source listed"):
        built(root, tmp_path, votes=True)


def test_class_without_a_face_in_a_split_is_named(root, tmp_path):
    write_list(root, "manual_train", [line("1/a.jpg", expression=CODES["Anger"])])
    write_list(root, "manual_val", [line("2/a.jpg", expression=CODES["Anger"])])
    _, manifest = built(root, tmp_path)
    found = missing_classes(manifest, {"mine": ("Anger", "Neutral")}, "listed")
    assert found == [
        ("mine", "train", "Neutral"),
        ("mine", "dev", "Anger"),
        ("mine", "dev", "Neutral"),
        ("mine", "test", "Neutral"),
    ]


def test_real_release_keeps_its_test_list_locked(real_data, tmp_path):
    summary, manifest = built(real_data / "affectnet-layout", tmp_path, dev_share=0.15)
    assert summary.rows + sum(summary.left_out.values()) == 1606
    assert summary.rows_by_split["test"] == 173
    rows = manifest.select(["list", "split"]).to_pylist()
    assert {row["list"] for row in rows if row["split"] == "test"} == {"manual_val"}
    assert {row["split"] for row in rows if row["list"] == "auto"} <= {"train", "excluded"}
    assert groups_on_two_sides(manifest["group_id"].to_numpy(), manifest["split"].to_numpy()) == []


def test_identical_pictures_of_fer2013_never_stand_on_two_sides(real_data, tmp_path):
    summary, manifest = built(real_data / "fer2013", tmp_path, name="hf-parquet", dev_share=0.1)
    assert summary.identical_photos > 1000
    assert summary.excluded["copy_of_test_photo"] > 0
    assert groups_on_two_sides(manifest["group_id"].to_numpy(), manifest["split"].to_numpy()) == []
