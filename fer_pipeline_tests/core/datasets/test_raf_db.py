import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.base import Role, cropped_faces
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import lists_digest, lists_stamp
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import (
    ATTRIBUTES,
    BOXES,
    RAF_LIST,
    raf_db,
    write,
)
from fer_pipeline_tests.core.small_release import built

NAME = "raf-db"


def test_rows_are_aligned_faces_with_their_attributes(tmp_path):
    kept, rejected = rows_of(NAME, raf_db(tmp_path / "root"), tmp_path / "index")
    assert not rejected
    assert [(row["list"], row["row"], row["image_path"], row["expression"]) for row in kept] == [
        ("train", 1, "Image/aligned/train_00001_aligned.jpg", 2),
        ("train", 2, "Image/aligned/train_00002_aligned.jpg", 1),
        ("test", 3, "Image/aligned/test_0001_aligned.jpg", 0),
    ]
    assert json.loads(kept[0]["attributes"]) == {
        "age": "40-69",
        "gender": "female",
        "race": "Asian",
    }


@pytest.mark.parametrize(
    ("number", "code"), [(1, 3), (2, 4), (3, 5), (4, 1), (5, 2), (6, 6), (7, 0)]
)
def test_its_numbers_are_not_affectnets(tmp_path, number, code):
    root = raf_db(tmp_path / "root", [f"train_00001.jpg {number}"])
    assert rows_of(NAME, root, tmp_path / "index")[0][0]["expression"] == code


def test_originals_are_photos_with_the_listed_boxes(tmp_path):
    kept, _ = rows_of(NAME, raf_db(tmp_path / "root"), tmp_path / "index", pictures="original")
    box = [kept[0][side] for side in ("face_x", "face_y", "face_width", "face_height")]
    assert (kept[0]["image_path"], box) == ("Image/original/train_00001.jpg", [40, 31, 120, 120])


@pytest.mark.parametrize(
    ("pictures", "folder", "is_seen"),
    [
        ("aligned", "manual", True),
        ("aligned", "boundingbox", False),
        ("original", "boundingbox", True),
    ],
)
def test_annotations_that_are_unpacked_later_are_a_change_of_the_lists(
    tmp_path, pictures, folder, is_seen
):
    root = raf_db(tmp_path / "root")
    dataset = open_dataset(NAME, root, None, {"raf-db.pictures": pictures})
    known = [(lists_stamp(dataset), lists_digest(dataset))]
    away = (root / "Annotation" / folder).rename(tmp_path / "away")
    known.append((lists_stamp(dataset), lists_digest(dataset)))
    (root / "Annotation" / folder).mkdir()
    for file in sorted(away.iterdir())[:1]:
        file.rename(root / "Annotation" / folder / file.name)
    known.append((lists_stamp(dataset), lists_digest(dataset)))
    assert len({stamp for stamp, _ in known}) == (3 if is_seen else 1)
    assert len({digest for _, digest in known}) == (3 if is_seen else 1)


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "a b c d", "nan 1 2 3", "1e300 1 2 3"])
def test_original_with_a_damaged_box_is_a_row_without_one(tmp_path, text):
    root = raf_db(tmp_path / "root")
    write(root, BOXES.format("train_00001"), text)
    (root / BOXES.format("train_00002")).unlink()
    kept, _ = rows_of(NAME, root, tmp_path / "index", pictures="original")
    assert [row["face_x"] for row in kept] == [None, None, 40]


@pytest.mark.parametrize(
    "text", ["", "1\n2\n3\n", "1 2\n" * 5, "1 2\n" * 5 + "9\n9\n9\n", "1 2\n" * 5 + "x\ny\n\xff\n"]
)
def test_damaged_attributes_are_no_lost_row(tmp_path, text):
    root = raf_db(tmp_path / "root")
    write(root, ATTRIBUTES.format("train_00001"), text)
    (root / ATTRIBUTES.format("train_00002")).unlink()
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert [row["attributes"] is None for row in kept] == [True, True, False]


@pytest.mark.parametrize("list_file", [RAF_LIST, "EmoLabel/list_partition_label.txt"])
@pytest.mark.parametrize("parent", ["", "basic/"])
def test_list_is_found_in_either_spelling_and_place(tmp_path, list_file, parent):
    root = tmp_path / "root"
    write(root, f"{parent}{list_file}", "test_0001.jpg 5\n")
    write(root, f"{parent}Image/aligned/test_0001_aligned.jpg", b"")
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert kept[0]["image_path"] == f"{parent}Image/aligned/test_0001_aligned.jpg"
    assert kept[0]["attributes"] is None
    assert find_format(NAME).recognise(root) == f"it holds {parent}{list_file}"


def test_line_ends_blanks_and_a_byte_order_mark_are_no_damage(tmp_path):
    root = raf_db(tmp_path / "root")
    data = b"\xef\xbb\xbftrain_00001.jpg\t 5 \r\n\r\n  train_00002.jpg 4\rtest_0001_aligned.jpg 7"
    write(root, RAF_LIST, data)
    kept, rejected = rows_of(NAME, root, tmp_path / "index")
    assert not rejected
    assert [row["row"] for row in kept] == [1, 2, 3]
    assert kept[2]["image_path"] == "Image/aligned/test_0001_aligned.jpg"


@pytest.mark.parametrize(
    ("row", "name", "reason", "value"),
    [
        ("train_00003.jpg", "train", "wrong_field_count", "train_00003.jpg"),
        ("test_3.jpg 1 2", "test", "wrong_field_count", "test_3.jpg 1 2"),
        ("other_00003.jpg 5", "train", "unknown_split", "other_00003.jpg"),
        ("train_/../../x.jpg 5", "train", "unsafe_path", "train_/../../x.jpg"),
        ("test_0003.jpg 8", "test", "unknown_label", "8"),
        ("test_0003.jpg 0", "test", "unknown_label", "0"),
        ("train_00003.jpg NULL", "train", "no_label", "train_00003.jpg"),
    ],
)
def test_row_that_cannot_be_used_is_rejected_in_its_list(tmp_path, row, name, reason, value):
    root = raf_db(tmp_path / "root")
    write(root, RAF_LIST, f"train_00001.jpg 5\n{row}\ntest_0001.jpg 7\n")
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [(r["list"], r["row"], r["reason"], r["value"]) for r in rejected] == [
        (name, 2, reason, value)
    ]


def test_index_looks_at_no_photo(tmp_path, monkeypatch):
    dataset = open_dataset(NAME, raf_db(tmp_path))
    seen = []
    plain, opened = os.stat, os.open
    monkeypatch.setattr(os, "stat", lambda path, **more: seen.append(path) or plain(path, **more))
    monkeypatch.setattr(os, "open", lambda path, *more: seen.append(path) or opened(path, *more))
    assert len(list(dataset.batches())) == 2
    assert len(seen) == 3
    assert not any("Image" in str(path) for path in seen)


def test_pictures_are_faces_only_when_aligned(tmp_path):
    root = raf_db(tmp_path)
    for pictures, are_faces in (("aligned", True), ("original", False)):
        dataset = open_dataset(NAME, root, None, {"raf-db.pictures": pictures})
        assert cropped_faces(dataset, ["train", "test"]).tolist() == [are_faces] * 2
        assert dataset.roles() == {"train": Role.TRAIN, "test": Role.TEST}


def test_unknown_pictures_are_an_input_error(tmp_path):
    with pytest.raises(InputError, match="choose aligned"):
        open_dataset(NAME, raf_db(tmp_path), None, {"raf-db.pictures": "cropped"})


def test_list_without_pictures_is_refused_in_a_sentence(tmp_path):
    write(tmp_path, RAF_LIST, "train_00001.jpg 5\n")
    with pytest.raises(InputError, match="has no folder Image/aligned"):
        open_dataset(NAME, tmp_path)


@pytest.mark.parametrize("pictures", ["aligned", "original"])
def test_manifest_keeps_test_apart_and_every_face_has_a_crop(tmp_path, pictures):
    root = raf_db(tmp_path / "root", [f"train_{n:05d}.jpg {n % 7 + 1}" for n in range(1, 8)])
    with (root / RAF_LIST).open("a") as stream:
        stream.write("test_0001.jpg 4\n")
    write(root, "Image/aligned/test_0001_aligned.jpg", b"")
    _, manifest = built(root, tmp_path / "built", name=NAME, dev_share=0.3)
    assert {row["split"] for row in manifest.to_pylist() if row["list"] == "test"} == {"test"}
    dataset = open_dataset(NAME, root, None, {"raf-db.pictures": pictures})
    assert crop_statuses(dataset, tmp_path)["ok"] == 7


_PIECES = ["train_1.jpg", "test_2.jpg", "x", "5", "4", " ", "\t", "\n", "\r", "\r\n", "\x00", "é"]
_PIECES += ["\ufeff", "..", "/", "NULL", "\x85", "\x1c", "\u2028", '"', "train_1.jpg 5\n"]


@given(data=st.lists(st.sampled_from([p.encode() for p in _PIECES] + [b"\xff", b"\xc3"])))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_of_any_list_are_kept_or_rejected_and_all_are_counted(tmp_path, data):
    root = tmp_path / "any"
    write(root, RAF_LIST, b"".join(data))
    (root / "Image/aligned").mkdir(parents=True, exist_ok=True)
    kept, rejected = all_rows(open_dataset(NAME, root))
    whole = [part for part in b"".join(data).replace(b"\r", b"\n").split(b"\n") if part.split()]
    assert len(kept) + len(rejected) <= len(whole)
