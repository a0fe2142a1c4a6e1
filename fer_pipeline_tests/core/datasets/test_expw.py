import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.datasets.rows import TEST, TRAIN, dealt_list
from fer_pipeline.core.errors import InputError
from fer_pipeline_tests.core.datasets.reading import all_rows, crop_statuses, rows_of
from fer_pipeline_tests.core.datasets.tree_releases import expw, write
from fer_pipeline_tests.core.small_release import built, encoded, noise

NAME = "expw"
LIST = "label/label.lst"
TRAIN_PHOTO = next(f"a{n}.jpg" for n in range(99) if dealt_list(f"a{n}.jpg") == TRAIN)
TEST_PHOTO = next(f"a{n}.jpg" for n in range(99) if dealt_list(f"a{n}.jpg") == TEST)
BOX = ("face_x", "face_y", "face_width", "face_height")


def row(photo=TRAIN_PHOTO, face=0, box=(10, 20, 60, 80), confidence="62.5", label=3):
    """A line; the box is top, left, right, bottom."""
    return " ".join(map(str, (photo, face, *box, confidence, label)))


def test_box_is_read_in_the_order_top_left_right_bottom(tmp_path):
    root = expw(tmp_path / "root", [row(box=(10, 20, 60, 80))])
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert [kept[0][side] for side in BOX] == [20, 10, 40, 70]
    assert kept[0]["image_path"] == f"image/origin/{TRAIN_PHOTO}"


@pytest.mark.parametrize(
    ("number", "code"), [(0, 6), (1, 5), (2, 4), (3, 1), (4, 2), (5, 3), (6, 0)]
)
def test_its_numbers_are_fer2013s(tmp_path, number, code):
    root = expw(tmp_path / "root", [row(label=number)])
    assert rows_of(NAME, root, tmp_path / "index")[0][0]["expression"] == code


def test_all_faces_of_a_photo_are_dealt_to_one_list(tmp_path):
    rows = [row(f"a{at // 3}.jpg", at % 3, (at, 0, 50, 60 + at)) for at in range(90)]
    kept, _ = rows_of(NAME, expw(tmp_path / "root", rows), tmp_path / "index")
    lists = {}
    for one in kept:
        lists.setdefault(one["image_path"], set()).add(one["list"])
    assert all(len(found) == 1 for found in lists.values())
    assert {one["list"] for one in kept} == {TRAIN, TEST}
    assert len({one["face_id"] for one in kept}) == 90


@pytest.mark.parametrize(
    ("confidence", "band"),
    [("24.9", "under 25"), ("25", "25 to 50"), ("74", "50 to 75"), ("120", "75 and over")],
)
def test_confidence_of_the_detector_is_an_attribute_in_bands(tmp_path, confidence, band):
    root = expw(tmp_path / "root", [row(confidence=confidence)])
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert json.loads(kept[0]["attributes"]) == {"detector_confidence": band}


def test_confidence_that_is_no_number_is_no_lost_row(tmp_path):
    root = expw(tmp_path / "root", [row(confidence="?")])
    assert rows_of(NAME, root, tmp_path / "index")[0][0]["attributes"] is None


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        (row(label=7), TRAIN, "unknown_label"),
        (row(label="NULL"), TRAIN, "no_label"),
        (row(box=("x", 1, 2, 3)), TRAIN, "not_a_number"),
        (row(box=(1, 1, 2, "inf")), TRAIN, "not_a_number"),
        (row(box=(1, 1, 2, 10**9)), TRAIN, "not_a_number"),
        (row("../up.jpg"), dealt_list("../up.jpg"), "unsafe_path"),
        (f"{TEST_PHOTO} 0 1 2", TEST, "wrong_field_count"),
        (row(TRAIN_PHOTO) + " 9", TRAIN, "wrong_field_count"),
    ],
)
def test_row_that_cannot_be_used_is_rejected_in_its_photos_list(tmp_path, line, name, reason):
    root = expw(tmp_path / "root", [row(), line, row(TEST_PHOTO)])
    _, rejected = rows_of(NAME, root, tmp_path / "index")
    assert [(one["list"], one["row"], one["reason"]) for one in rejected] == [(name, 2, reason)]


def test_box_without_an_area_is_an_issue_and_no_box_is_none(tmp_path):
    root = expw(tmp_path / "root", [row(box=(10, 60, 20, 80)), row(face=1, box=["nan"] * 4)])
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert [one["issue"] for one in kept] == ["bad_box", None]
    assert [kept[1][side] for side in BOX] == [None] * 4


@pytest.mark.parametrize(
    ("list_file", "photos"),
    [
        ("label.lst", "origin"),
        ("label/label.lst", "image"),
        ("data/label/label.lst", "data/image/origin"),
    ],
)
def test_list_and_photos_are_found_where_they_are_seen(tmp_path, list_file, photos):
    root = tmp_path / "root"
    write(root, list_file, row())
    write(root, f"{photos}/{TRAIN_PHOTO}", b"")
    kept, _ = rows_of(NAME, root, tmp_path / "index")
    assert kept[0]["image_path"] == f"{photos}/{TRAIN_PHOTO}"
    assert find_format(NAME).recognise(root) == f"it holds {list_file}"


def test_list_without_photos_is_refused_in_a_sentence(tmp_path):
    write(tmp_path, LIST, row())
    with pytest.raises(InputError, match="no folder of photos image/origin or origin or image"):
        open_dataset(NAME, tmp_path)


def test_manifest_has_no_photo_on_two_sides_and_every_face_has_a_crop(tmp_path):
    rows = [row(f"a{at // 2}.jpg", at % 2, (5 + at % 2, 10, 70, 80), label=3) for at in range(40)]
    photos = {f"a{at}.jpg": encoded(noise(at), "JPEG") for at in range(20)}
    root = expw(tmp_path / "root", rows, photos)
    _, manifest = built(root, tmp_path / "built", name=NAME, dev_share=0.3)
    sides = {}
    for one in manifest.to_pylist():
        sides.setdefault(one["image_path"], set()).add(one["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "dev", "test"}
    assert crop_statuses(open_dataset(NAME, root), tmp_path) == {"ok": 40}


_PIECES = [
    b" ",
    b"  ",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"..",
    b"/",
    b"x",
    b"nan",
    b"1e999",
    b"-5",
]


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(_PIECES), st.sampled_from([0, 1, 9])),
        max_size=9,
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_of_a_damaged_list_are_kept_or_rejected_and_all_are_counted(tmp_path, changes):
    data = bytearray("".join(f"{row(f'a{at}.jpg')}\n" for at in range(6)).encode())
    for at, piece, cut in changes:
        data[at : at + cut] = piece
    root = expw(tmp_path / "any", [])
    write(root, LIST, bytes(data))
    kept, _ = all_rows(open_dataset(NAME, root))
    assert changes or len(kept) == 6
