import os
import sys
from pathlib import Path

import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import faces_are_cropped, find_format
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import lists_digest
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.storage import as_location
from fer_pipeline_tests.core.crop_work import Made
from fer_pipeline_tests.core.datasets.table_releases import indexed_as, opened, write_pictures


def _index(root, tmp_path, **options):
    dataset = opened("folders", root, **options)
    return dataset, *indexed_as(dataset, tmp_path / "index")


def _labels(rows):
    return {row["image_path"]: NAMES[row["expression"]] for row in rows}


def test_label_is_the_folder_name_and_not_its_place_among_the_others(tmp_path):
    # In alphabetical order these four are not in the order of any table of numbers.
    write_pictures(
        tmp_path / "root",
        ["train/joy/1.png", "train/Angry/1.png", "train/ surprised /1.png", "train/sad/1.png"],
    )
    kept = _index(tmp_path / "root", tmp_path)[2]
    assert _labels(kept) == {
        "train/joy/1.png": "Happiness",
        "train/Angry/1.png": "Anger",
        "train/ surprised /1.png": "Surprise",
        "train/sad/1.png": "Sadness",
    }


@pytest.mark.parametrize("word", ["val", "Valid", "VALIDATION", "dev"])
def test_splits_are_known_by_their_words_in_any_case(tmp_path, word):
    write_pictures(
        tmp_path / "root", ["Train/happy/1.png", f"{word}/happy/1.png", "test/happy/1.png"]
    )
    dataset, summary, kept, _ = _index(tmp_path / "root", tmp_path)
    assert summary.rows_by_list == {"train": 1, "validation": 1, "test": 1}
    assert dataset.roles()["validation"] == Role.DEV
    assert next(row for row in kept if row["list"] == "validation")["image_path"].startswith(word)


def test_without_splits_photos_are_dealt_by_their_path_and_stay_when_more_come(tmp_path):
    root = tmp_path / "root"
    write_pictures(root, [f"{name}/{at}.png" for name in ("happy", "sad") for at in range(40)])
    dealt = {row["image_path"]: row["list"] for row in _index(root, tmp_path)[2]}
    assert 4 < sum(name == "test" for name in dealt.values()) < 32
    write_pictures(root, ["anger/new.png"])
    again = {row["image_path"]: row["list"] for row in _index(root, tmp_path)[2]}
    assert dealt.items() <= again.items()


def test_what_is_no_picture_is_a_rejected_row_that_says_why(tmp_path):
    root = tmp_path / "root"
    names = ["train/happy/1.png", "train/happy/Thumbs.db", "train/happy/notes.txt"]
    names += ["train/happy/.DS_Store", "train/happy/deep/2.png", "train/3.png", "README.md"]
    write_pictures(root, [*names, "extra/4.png", "test/sad/5.PNG", "test/sad/6"])
    _, summary, kept, rejected = _index(root, tmp_path)
    assert {row["image_path"] for row in kept} == {"train/happy/1.png", "test/sad/5.PNG"}
    assert {row["value"]: row["reason"] for row in rejected} == {
        "README.md": "not_a_picture",
        "extra": "unknown_split",
        "train/3.png": "no_label",
        "train/happy/.DS_Store": "hidden_file",
        "train/happy/Thumbs.db": "not_a_picture",
        "train/happy/deep": "nested_folder",
        "train/happy/notes.txt": "not_a_picture",
        "test/sad/6": "not_a_picture",
    }
    assert summary.rows_read == 10


def test_folder_that_names_no_expression_is_an_unknown_label_of_each_photo(tmp_path):
    write_pictures(tmp_path / "root", ["happy/1.png", "grumpy/1.png", "grumpy/2.png"])
    rejected = _index(tmp_path / "root", tmp_path)[3]
    assert [(row["reason"], row["value"]) for row in rejected] == [(UNKNOWN_LABEL, "grumpy")] * 2


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/happy/1.png", "sad/1.png"], "holds train, which is a split, beside sad"),
        (["val/happy/1.png", "dev/happy/1.png"], "dev and val|val and dev"),
        (["data/train/happy/1.png"], r"\(seen: data\): give --root the folder"),
        (["train/1/1.png", "train/2/1.png"], r"\(seen: 1, 2\): give --root"),
    ],
)
def test_another_or_a_mixed_layout_is_an_input_error_that_says_what_was_seen(
    tmp_path, paths, message
):
    write_pictures(tmp_path, paths)
    with pytest.raises(InputError, match=message):
        opened("folders", tmp_path)
    assert find_format("folders").recognise(tmp_path) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_name_that_is_no_text_is_a_rejected_row(tmp_path):
    write_pictures(tmp_path / "root", ["happy/1.png"])
    (tmp_path / "root" / "happy" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    rejected = _index(tmp_path / "root", tmp_path)[3]
    assert [row["reason"] for row in rejected] == ["unsafe_path"]


@pytest.mark.parametrize("split", ["", "train/"])
def test_home_beside_the_classes_is_no_part_of_the_data(tmp_path, split):
    root = tmp_path / "root"
    write_pictures(root, [f"{split}{name}/{at}.png" for name in ("happy", "sad") for at in "123"])
    before = _index(root, tmp_path)
    home = root / "fer-home"
    (home / "index").mkdir(parents=True)
    for name in ("run.lock", "settings.toml", "1.png", "index/file_list_index.parquet"):
        (home / name).write_bytes(b"")
    # The one that was opened before the home was made, and one that is opened now.
    for dataset in (before[0], opened("folders", root)):
        kept, rejected = indexed_as(dataset, tmp_path / "again")[1:]
        assert (kept, rejected) == before[2:]
        assert home not in {place for places in dataset.lists().values() for place in places}


def test_link_to_itself_is_a_row_that_stops_nothing(tmp_path):
    root = tmp_path / "root"
    write_pictures(root, ["train/happy/1.png", "train/sad/1.png"])
    for place in ("train/happy/loop", "train/loop", "loop"):
        (root / place).symlink_to(Path(place).name)
    _, _, kept, rejected = _index(root, tmp_path)
    assert len(kept) == 2
    assert [row["reason"] for row in rejected] == ["not_a_picture"] * 3
    assert find_format("folders").recognise(root)


def test_a_new_photo_changes_the_digest_of_the_lists(tmp_path):
    write_pictures(tmp_path, ["train/happy/1.png", "test/happy/1.png"])
    before = lists_digest(opened("folders", tmp_path))
    assert lists_digest(opened("folders", tmp_path)) == before
    write_pictures(tmp_path, ["test/happy/2.png"])
    assert lists_digest(opened("folders", tmp_path)) != before


def test_two_folders_of_expressions_are_recognised(tmp_path):
    write_pictures(tmp_path, ["train/happy/1.png"])
    assert find_format("folders").recognise(tmp_path) is None
    write_pictures(tmp_path, ["train/sad/1.png"])
    assert "train/happy" in find_format("folders").recognise(tmp_path)


def test_option_says_whether_pictures_are_faces_already(tmp_path):
    write_pictures(tmp_path, ["happy/1.png"])
    assert opened("folders", tmp_path).faces_are_cropped
    assert not opened("folders", tmp_path, cropped="no").faces_are_cropped
    assert faces_are_cropped("folders", {"csv.cropped": "no"})
    assert not faces_are_cropped("folders", {"folders.cropped": "no"})
    with pytest.raises(InputError, match=r"folders\.cropped takes yes or no, not 'maybe'"):
        opened("folders", tmp_path, cropped="maybe")


def test_in_a_store_rows_and_photos_are_as_on_this_machine(tmp_path):
    root, store = tmp_path / "root", as_location("memory://folders/here")
    paths = ["train/happy/1.png", "train/happy/x.txt", "test/sad/2.png", "train/3.png"]
    write_pictures(root, paths)
    for path in paths:
        store.fs.pipe(f"{store.path}/{path}", (root / path).read_bytes())
    try:
        found = []
        for place in (root, store):
            dataset, _, kept, rejected = _index(place, tmp_path)
            photos = [(row["list"], row["image_path"]) for row in kept]
            found.append((kept, rejected, list(dataset.read_photos(photos))))
        assert found[0] == found[1]
    finally:
        store.fs.rm("/folders", recursive=True)


def test_crops_are_pictures_as_a_whole_or_made_anew_when_they_are_said_to_be_photos(tmp_path):
    root = tmp_path / "root"
    write_pictures(root, [f"{name}/{at}.png" for name in ("happy", "sad") for at in range(4)])
    made = Made(opened("folders", root), tmp_path / "made", ("Happiness", "Sadness"))
    # As in a mixture with photos, whose crop settings are the same whatever the option says.
    settings = CropSettings(side=24)
    first = made.write(tmp_path / "crops", settings, shard_rows=100)
    assert [shard.statuses for shard in first] == [{"ok": 8}]
    made.dataset = opened("folders", root, cropped="no")
    again = made.write(tmp_path / "crops", settings, shard_rows=100)
    assert [shard.statuses for shard in again] == [{"no_face": 8}]
