import tracemalloc

import numpy as np
import pytest

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import fer2013, find_format, pixel_rows
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role
from fer_pipeline.core.datasets.rows import UNKNOWN_SPLIT
from fer_pipeline.core.decode import decode
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import NAMES
from fer_pipeline_tests.core.crop_work import CLASSES, Made
from fer_pipeline_tests.core.datasets.table_releases import (
    FER_HEADER,
    ICML_HEADER,
    fer_row,
    grey_faces,
    indexed_as,
    opened,
    write_fer2013,
    write_votes,
)

USAGES = ("Training", "Training", "PublicTest", "PrivateTest", "Training")


@pytest.fixture(scope="module")
def faces():
    return grey_faces(12)


def _index(root, tmp_path):
    dataset = opened("fer2013", root)
    return dataset, *indexed_as(dataset, tmp_path / "index")


@pytest.mark.parametrize("header", [FER_HEADER, ICML_HEADER])
def test_both_shapes_give_the_same_rows_and_pictures(tmp_path, faces, header):
    rows = [fer_row(at, faces[at], usage, header) for at, usage in enumerate(USAGES)]
    path = write_fer2013(tmp_path, rows, header)
    dataset, summary, kept, _ = _index(tmp_path, tmp_path)
    assert summary.rows_by_list == {"train": 3, "validation": 1, "test": 1}
    assert dataset.roles() == {"train": Role.TRAIN, "validation": Role.DEV, "test": Role.TEST}
    by_row = sorted((row["row"], NAMES[row["expression"]], row["list"]) for row in kept)
    assert by_row[0] == (1, "Anger", "train")
    assert by_row[2:4] == [(3, "Fear", "validation"), (4, "Happiness", "test")]
    photos = [("train", f"{path.name}#{number}") for number in (5, 1, 3, 2)]
    found = [decode(data)[..., 0] for data in dataset.read_photos(photos)]
    assert np.array_equal(np.stack(found), faces[[4, 0, 2, 1]])


def test_reading_labels_parses_no_pixels(tmp_path, faces, monkeypatch):
    write_fer2013(tmp_path, [fer_row(0, faces[0], "Training")])
    monkeypatch.setattr(fer2013, "grey_pixels", lambda *_: pytest.fail("pixels were parsed"))
    assert _index(tmp_path, tmp_path)[1].rows_indexed == 1


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        ("1 2 3", "3 pixels, not 2,304"),
        (" ".join(["7"] * 2305), "2,305 pixels"),
        (" ".join(["7"] * 2303 + ["256"]), "a pixel of 256"),
        (" ".join(["7"] * 2303 + ["9" * 30]), "more than 255"),
        (" ".join(["7"] * 2303 + ["-1"]), "aren't numbers"),
        (" ".join(["7"] * 2303 + ["1.5"]), "aren't numbers"),
        ("", "aren't numbers"),
    ],
)
def test_row_of_wrong_pixels_is_an_unreadable_photo(tmp_path, faces, pixels, reason):
    write_fer2013(tmp_path, [f"3,{pixels},Training", fer_row(4, faces[1], "Training")])
    dataset, _, kept, rejected = _index(tmp_path, tmp_path)
    photos = [(row["list"], row["image_path"]) for row in kept]
    bad, good = dataset.read_photos(photos)
    assert isinstance(bad, UnreadableError)
    assert reason in str(bad)
    assert isinstance(good, bytes)
    assert rejected == []


def test_rows_that_say_no_split_or_no_expression_are_rejected_with_the_reason(tmp_path):
    rows = [
        "3,1 2,Training",
        "3,1 2,training",
        "9,1 2,Training",
        ",1 2,PublicTest",
        "3,1 2",
        "3,,,",
    ]
    write_fer2013(tmp_path, rows)
    _, _, kept, rejected = _index(tmp_path, tmp_path)
    assert [row["row"] for row in kept] == [1]
    found = {row["row"]: (row["list"], row["reason"], row["value"]) for row in rejected}
    assert found == {
        2: ("train", UNKNOWN_SPLIT, "training"),
        3: ("train", UNKNOWN_LABEL, "9"),
        4: ("validation", "no_label", ""),
        5: ("train", "wrong_field_count", "3,1 2"),
        6: ("train", "wrong_field_count", "3,,,"),
    }


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n"])
def test_line_ends_blank_lines_a_mark_and_quotes_change_nothing(tmp_path, faces, end):
    lines = ['"emotion","pixels","Usage"', fer_row(3, faces[0], "Training")]
    lines += [fer_row('"6"', faces[1], '"PublicTest"')]
    (tmp_path / "fer2013.csv").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    dataset, _, kept, rejected = _index(tmp_path, tmp_path)
    assert [(NAMES[row["expression"]], row["list"]) for row in kept] == [
        ("Happiness", "train"),
        ("Neutral", "validation"),
    ]
    assert rejected == []
    found = list(dataset.read_photos([(row["list"], row["image_path"]) for row in kept]))
    assert np.array_equal(decode(found[1])[..., 0], faces[1])


def test_a_line_without_end_is_one_rejected_row_and_the_next_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_rows, "_LONGEST_ROW", 100)
    monkeypatch.setattr(pixel_rows, "_BLOCK_BYTES", 64)
    write_fer2013(tmp_path, ["3,1,Training", f"3,{'1 ' * 400},PublicTest", "4,2 3,PrivateTest"])
    dataset, _, kept, rejected = _index(tmp_path, tmp_path)
    assert [(row["row"], row["reason"]) for row in rejected] == [(2, "wrong_field_count")]
    assert [(row["row"], row["list"]) for row in kept] == [(1, "train"), (3, "test")]
    assert "2 pixels" in str(next(dataset.read_photos([("test", "fer2013.csv#3")])))


def test_memory_holds_no_more_than_a_few_blocks_of_the_file(tmp_path, faces):
    row = fer_row(3, faces[0], "Training")
    size = write_fer2013(tmp_path, [row] * 2000).stat().st_size
    dataset = opened("fer2013", tmp_path)
    tracemalloc.start()
    try:
        assert len(dataset.rows) == 2000
        assert dataset.count_rows("train") == 2000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 14e6
    assert peak < size / 2


def test_sizes_are_known_without_reading_a_picture_and_other_rows_are_missing(tmp_path, faces):
    path = write_fer2013(tmp_path, [fer_row(0, faces[0], "Training")])
    dataset = opened("fer2013", tmp_path)
    photos = [("train", f"fer2013.csv#{number}") for number in (1, 2, 0, "x")]
    pictures = list(dataset.read_photos(photos))
    assert dataset.photo_sizes(photos).tolist() == [len(pictures[0]), -1, -1, -1]
    assert pictures[1:] == [None, None, None]
    assert dataset.stored_sizes(photos[:1]).tolist() == [path.stat().st_size]
    assert isinstance(next(dataset.read_photos(photos, max_bytes=100)), UnreadableError)


@pytest.mark.parametrize(
    "header", ["0,1 2,Training", "emotion,pixels", "emotion,emotion,Usage,pixels"]
)
def test_header_without_the_three_columns_is_an_input_error(tmp_path, header):
    (tmp_path / "fer2013.csv").write_text(f"{header}\n3,1 2,Training\n")
    with pytest.raises(InputError, match=r"fer2013\.csv, row 1: the header must name"):
        opened("fer2013", tmp_path)


def test_file_as_long_as_the_official_lists_is_called_by_the_name(tmp_path, monkeypatch):
    write_fer2013(tmp_path / "fer2013", [f"3,1,{usage}" for usage in USAGES])
    assert opened("fer2013", tmp_path).title == "fer2013"
    rows = {"train": 3, "validation": 1, "test": 1}
    monkeypatch.setattr(fer2013, "OFFICIAL_ROWS", rows)
    assert opened("fer2013", tmp_path).title == "FER2013"


def test_file_alone_is_recognised_and_votes_beside_it_make_it_ferplus(tmp_path):
    write_fer2013(tmp_path, ["3,1,Training"])
    assert "fer2013.csv" in find_format("fer2013").recognise(tmp_path)
    assert find_format("ferplus").recognise(tmp_path) is None
    write_votes(tmp_path, [("Training", "", [10] + [0] * 9)])
    assert find_format("fer2013").recognise(tmp_path) is None
    assert "fer2013new.csv" in find_format("ferplus").recognise(tmp_path)


def test_crops_come_out_whole_and_equal_pictures_stand_on_one_side(tmp_path, faces):
    codes = {"Neutral": 6, "Happiness": 3, "Sadness": 4, "Surprise": 5}
    usages = ["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 3
    rows = [
        fer_row(codes[CLASSES[at % 4]], faces[at % 9], usage) for at, usage in enumerate(usages)
    ]
    write_fer2013(tmp_path, rows)
    made = Made(opened("fer2013", tmp_path), tmp_path / "made")
    excluded = [row["image_path"] for row in made.manifest.to_pylist() if row["reason"]]
    # Rows 10 and 11 of the test list show what rows 1 and 2 show.
    assert {"fer2013.csv#1", "fer2013.csv#2"} <= set(excluded)
    crops = tmp_path / "crops"
    settings = CropSettings(side=48, detect="whole")
    shards = made.write(crops, settings, shard_rows=100)
    assert sum(shard.statuses["ok"] for shard in shards) == len(rows)


def test_real_files_are_read(real_data, tmp_path):
    _, summary, kept, _ = _index(real_data / "fer2013-csv", tmp_path)
    assert (summary.rows_indexed, len({row["list"] for row in kept})) == (600, 3)
    dataset = opened("fer2013", real_data / "fer2013-icml")
    pictures = dataset.read_photos([("train", f"icml_face_data.csv#{at}") for at in range(1, 151)])
    assert all(decode(data).shape == (48, 48, 3) for data in pictures)
