import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from fer_pipeline.core import synthetic
from fer_pipeline.core.drawing import DrawnPhoto
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.synthetic import Release, is_drawn, write_release
from fer_pipeline.core.synthetic_files import LIST_FILES, PHOTO_ROOTS, PhotoFolder, Row

FIVE = [CODES[name] for name in ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")]
SMALL = 120


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write_release(tmp_path_factory.mktemp("drawn") / "release", photos=SMALL, seed=5)


def _rows(release: Release, list_name: str) -> list[list[str]]:
    text = (release.root / LIST_FILES[list_name]).read_text(encoding="utf-8-sig")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    return rows[1:] if rows[0][0] == "subDirectory_filePath" else rows


def _rows_of(release: Release, path: str) -> list[list[str]]:
    return [row for name in LIST_FILES for row in _rows(release, name) if row[0] == path]


def _file(release: Release, trap: str) -> Path:
    path = release.traps[trap]
    files = [release.root / root / path for root in PHOTO_ROOTS.values()]
    return next((file for file in files if file.exists()), files[0])


def _digests(root: Path) -> Mapping[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file()
    }


def test_counts_say_what_is_on_disk(release: Release) -> None:
    pictures = [
        file
        for file in release.root.rglob("*")
        if file.is_file() and file.suffix not in (".csv", ".json")
    ]
    assert len(pictures) == release.photos
    assert release.photos >= SMALL
    assert release.rows == sum(release.rows_by_list.values())
    for list_name, count in release.rows_by_list.items():
        assert len(_rows(release, list_name)) == count


@pytest.mark.parametrize("photos", [60, SMALL])
def test_every_class_of_five_is_in_training_and_validation(
    photos: int, release: Release, tmp_path: Path
) -> None:
    if photos != SMALL:
        release = write_release(tmp_path / "tiny", photos=photos)
    for list_name, least in (("manual_train", 4), ("manual_val", 2)):
        found = Counter(row[6] for row in _rows(release, list_name) if len(row) == 9)
        assert all(found[str(code)] >= least for code in FIVE)


def test_default_size_has_the_shares_of_a_release() -> None:
    plan = Counter(synthetic._plan(1200))
    lists = Counter(list_name for list_name, _ in plan.elements())
    assert lists == {"manual_train": 660, "manual_val": 240, "auto": 300}
    assert all(plan["manual_train", name] >= 30 for name in NAMES[:8])
    assert all(plan["manual_val", name] == 30 for name in NAMES[:8])
    assert plan["manual_train", "Happiness"] > 3 * plan["manual_train", "Disgust"]


def test_a_readable_row_has_136_landmark_numbers_and_feelings_in_range(release: Release) -> None:
    checked = 0
    for list_name in LIST_FILES:
        for row in _rows(release, list_name):
            if len(row) < 9 or row[0] == "NULL":
                continue
            checked += 1
            assert len([float(part) for part in row[5].split(";")]) == 136
            feelings = [float(row[7]), float(row[8])]
            if int(row[6]) in (8, 9, 10):
                assert feelings == [-2, -2]
            else:
                assert all(-1 <= value <= 1 for value in feelings)
    assert checked > SMALL


def test_codes_8_to_10_are_listed(release: Release) -> None:
    for list_name in ("manual_train", "auto"):
        found = {row[6] for row in _rows(release, list_name) if len(row) == 9}
        assert {"8", "9", "10"} <= found


def test_about_30_percent_of_the_automatic_labels_are_wrong_and_no_manual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = DrawnPhoto(
        np.zeros((64, 64, 3), np.uint8), (5, 5, 40, 40), np.zeros((68, 2), np.float32)
    )
    monkeypatch.setattr(synthetic, "draw_photo", lambda *_: blank)
    ordinary = synthetic._ordinary
    wrong: dict[str, list[bool]] = {}

    def recorded(
        rng: np.random.Generator, folder: PhotoFolder, list_name: str, expression: str
    ) -> Row:
        row = ordinary(rng, folder, list_name, expression)
        wrong.setdefault(list_name, []).append(row.expression != CODES[expression])
        return row

    monkeypatch.setattr(synthetic, "_ordinary", recorded)
    write_release(tmp_path / "release", photos=1200)
    assert 0.22 < np.mean(wrong["auto"]) < 0.38
    assert not any(wrong["manual_train"] + wrong["manual_val"])


def test_validation_list_has_no_header(release: Release) -> None:
    first = (release.root / LIST_FILES["manual_val"]).read_text().partition(",")[0]
    assert first.endswith(".jpg")


def test_automatic_list_has_a_byte_order_mark_and_crlf(release: Release) -> None:
    data = (release.root / LIST_FILES["auto"]).read_bytes()
    assert data.startswith(b"\xef\xbb\xbfsubDirectory_filePath")
    assert data.count(b"\r\n") == data.count(b"\n") > 1


def test_training_list_ends_with_a_blank_line(release: Release) -> None:
    assert (release.root / LIST_FILES["manual_train"]).read_bytes().endswith(b"\n\n")


def test_zero_byte_and_missing_photos_are_listed(release: Release) -> None:
    assert _file(release, "zero_byte").stat().st_size == 0
    assert not _file(release, "missing").exists()
    assert _rows_of(release, release.traps["zero_byte"])
    assert _rows_of(release, release.traps["missing"])


def test_truncated_photo_opens_and_does_not_load(release: Release) -> None:
    with (
        Image.open(_file(release, "truncated")) as image,
        pytest.raises(OSError, match="truncated"),
    ):
        image.load()


def test_html_page_poses_as_a_photo(release: Release) -> None:
    with pytest.raises(UnidentifiedImageError):
        Image.open(_file(release, "html"))


@pytest.mark.parametrize(
    ("trap", "extension", "kind", "mode"),
    [
        ("png_named_jpg", ".jpg", "PNG", "RGB"),
        ("jpg_upper_case", ".JPG", "JPEG", "RGB"),
        ("bmp", ".bmp", "BMP", "RGB"),
        ("tif", ".tif", "TIFF", "RGB"),
        ("cmyk", ".jpg", "JPEG", "CMYK"),
    ],
)
def test_rare_formats_are_what_they_should_be(
    release: Release, trap: str, extension: str, kind: str, mode: str
) -> None:
    file = _file(release, trap)
    assert file.suffix == extension
    with Image.open(file) as image:
        assert (image.format, image.mode) == (kind, mode)


def test_boxes_are_absent_negative_cut_and_outside(release: Release) -> None:
    def box(trap: str) -> list[int]:
        return [int(value) for value in _rows_of(release, release.traps[trap])[0][1:5]]

    assert box("box_minus_one") == [-1, -1, -1, -1]
    assert box("negative_width")[2] < 0 < box("negative_width")[3]
    left, _, width, _ = box("box_partly_outside")
    assert -width < left < 0
    with Image.open(_file(release, "box_outside")) as image:
        assert box("box_outside")[0] > image.width


def test_a_photo_with_two_faces_is_listed_with_two_boxes(release: Release) -> None:
    rows = _rows_of(release, release.traps["two_faces"])
    assert len({tuple(row[1:5]) for row in rows}) == len(rows) == 2


def test_rows_are_repeated_and_contradicted(release: Release) -> None:
    repeated = _rows_of(release, release.traps["repeated_row"])
    assert len(repeated) == 3
    assert repeated[0] == repeated[1] == repeated[2]
    one, other = _rows_of(release, release.traps["two_labels"])
    assert one[1:5] == other[1:5]
    assert one[6] != other[6]


def test_test_photos_are_in_training_too_by_path_and_by_content(release: Release) -> None:
    path = release.traps["photo_in_both_lists"]
    for list_name in ("manual_train", "manual_val"):
        assert path in {row[0] for row in _rows(release, list_name)}
    copy = _file(release, "copy_in_both_lists")
    tested = {row[0] for row in _rows(release, "manual_val")}
    assert release.traps["copy_in_both_lists"] not in tested
    photos = release.root / PHOTO_ROOTS["manual_val"]
    assert copy.read_bytes() in {(photos / path).read_bytes() for path in tested}


def test_rows_that_cannot_be_read_are_there(release: Release) -> None:
    training, auto = _rows(release, "manual_train"), _rows(release, "auto")
    assert ["NULL"] * 9 in training
    assert any(len(row) == 5 for row in training)
    assert any(row[6:7] == ["11"] for row in training)
    assert any(row[1] == "12px" for row in auto)


def test_the_unsafe_path_leads_to_a_photo_that_exists(release: Release) -> None:
    (unsafe,) = (row[0] for row in _rows(release, "manual_train") if row[0].startswith(".."))
    photos = release.root / PHOTO_ROOTS["manual_train"]
    outside = (photos / unsafe).resolve()
    assert outside.is_file()
    assert not outside.is_relative_to(photos)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one = write_release(tmp_path / "one", photos=60, seed=9)
    two = write_release(tmp_path / "two", photos=60, seed=9)
    other = write_release(tmp_path / "other", photos=60, seed=10)
    assert _digests(one.root) == _digests(two.root)
    assert _digests(one.root).keys() != _digests(other.root).keys()


def test_shuffled_labels_keep_photos_and_class_counts(tmp_path: Path) -> None:
    plain = write_release(tmp_path / "plain", photos=60)
    mixed = write_release(tmp_path / "mixed", photos=60, shuffle_labels=True)
    lists = {*LIST_FILES.values(), "release.json"}
    one, other = (
        {name: value for name, value in _digests(release.root).items() if name not in lists}
        for release in (plain, mixed)
    )
    assert one == other
    before = {row[0]: row[6] for row in _rows(plain, "manual_val")}
    after = {row[0]: row[6] for row in _rows(mixed, "manual_val")}
    assert before.keys() == after.keys()
    assert before != after
    assert Counter(before.values()) == Counter(after.values())


def test_a_standing_release_is_returned_without_drawing(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    first = write_release(tmp_path / "r", photos=60, on_progress=lambda *at: calls.append(at))
    assert calls[-1] == (60, 60)
    assert len(calls) == 60
    calls.clear()
    again = write_release(tmp_path / "r", photos=60, on_progress=lambda *at: calls.append(at))
    assert again == first
    assert calls == []


def test_another_release_or_folder_in_the_place_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path / "r", photos=60)
    with pytest.raises(InputError, match="delete it or name another folder"):
        write_release(tmp_path / "r", photos=61)
    with pytest.raises(InputError, match="delete it or name another folder"):
        write_release(tmp_path / "r", photos=60, shuffle_labels=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match="is not a drawn release"):
        write_release(tmp_path / "mine", photos=60)
    (tmp_path / "r" / "release.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        write_release(tmp_path / "r", photos=60)


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_release(tmp_path / "r", photos=60, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead, living = tmp_path / ".r.partial-4194999", tmp_path / f".r.partial-{os.getppid()}"
    for folder in (dead, living):
        folder.mkdir()
    write_release(tmp_path / "r", photos=60)
    assert not dead.exists()
    assert living.exists()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    release = write_release(tmp_path / "r", photos=60)
    assert json.loads((release.root / "release.json").read_text())["settings"]["photos"] == 60


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask for 60 or more"):
        write_release(tmp_path / "r", photos=59)


def test_a_drawn_release_is_told_from_other_folders(release: Release, tmp_path: Path) -> None:
    assert is_drawn(release.root)
    assert not is_drawn(tmp_path)
    for text in ("[]", "{", '{"settings": {}}'):
        (tmp_path / "release.json").write_text(text)
        assert not is_drawn(tmp_path)
