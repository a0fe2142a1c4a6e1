import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import as_location
from fer_pipeline.core.study import (
    NOT_A_FACE,
    UNSURE,
    StudyThereError,
    checked_study_name,
    order_for,
    picture,
    read_study,
    sample_identity,
    studies_in,
    study_path,
)
from fer_pipeline_tests.core.people_answers import study_of
from fer_pipeline_tests.core.small_study import CLASSES, STREAM, publish, small_study
from fer_pipeline_tests.object_store import object_store


def test_a_study_is_read_as_it_was_published(tmp_path):
    published = small_study(tmp_path)
    read = read_study(published.path)
    assert read.items.equals(published.items)
    assert vars(read) | {"items": None} == vars(published) | {"items": None}
    assert (read.key, read.kind) == ("three_class/people", "people")
    assert read.choices == (*CLASSES, UNSURE, NOT_A_FACE)
    assert len(read) == 12 + 3


def test_each_item_has_its_own_pictures(tmp_path):
    study = small_study(tmp_path)
    for item in range(len(study)):
        assert picture(study.path, item, whole=True) == b"photo %d" % item
        assert picture(study.path, item, whole=False) == b"crop %d" % item
    for item in (-1, len(study)):
        with pytest.raises(IndexError, match=str(item)):
            picture(study.path, item, whole=True)


def test_one_picture_is_read_without_the_others(tmp_path):
    study = small_study(tmp_path, per_class=20)
    with pq.ParquetFile(study.path) as file:
        sizes = {file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)}
    assert max(sizes) == 8


def test_a_study_is_never_overwritten(tmp_path):
    study = small_study(tmp_path)
    before = study.path.read_bytes()
    with pytest.raises(StudyThereError, match=r"people\.parquet already.*another name"):
        small_study(tmp_path, per_class=3)
    assert study.path.read_bytes() == before
    assert [path.name for path in study.path.parent.iterdir()] == ["people.parquet"]


@pytest.mark.parametrize("links", [True, False])
def test_of_several_that_publish_at_once_one_wins_and_the_others_are_told(
    tmp_path, monkeypatch, links
):
    study = small_study(tmp_path / "made")
    if not links:

        def refuse(*_):
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    path = study_path(tmp_path, STREAM, "contested")

    def attempt(_):
        try:
            return publish(path, study.items)
        except StudyThereError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(16)))
    assert sum(not isinstance(result, StudyThereError) for result in results) == 1
    assert read_study(path).items.equals(study.items)
    assert [one.name for one in path.parent.iterdir()] == ["contested.parquet"]


def test_a_study_that_fails_half_made_leaves_nothing(tmp_path):
    items = small_study(tmp_path / "made").items
    path = study_path(tmp_path, STREAM, "half")
    with pytest.raises(ValueError, match="as many pictures"):
        publish(path, items, pictures=items.num_rows - 1)
    assert list(path.parent.iterdir()) == []


def test_the_share_of_test_faces_counts_each_face_once():
    splits = ("test", "dev", "train", "dev")
    study = study_of(["Anger"] * 4, repeat_of=[0, 1], splits=splits)
    assert study.test_share == 1 / 4


def test_the_identity_of_a_sample_changes_with_faces_repeats_and_kind(tmp_path):
    items = small_study(tmp_path).items
    identities = {
        sample_identity("people", items),
        sample_identity("suspects", items),
        sample_identity("people", items.slice(0, 5)),
        sample_identity("people", items.take([*range(12), 13, 12, 14])),
    }
    assert len(identities) == 4


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../people", "a/b", "a\\b", "-x", ".x", "a b", "é"),
        *("a\n", "a\0", "x" * 41, "<b>", "=1+1", "a%2fb"),
    ],
)
def test_a_name_that_is_a_path_or_markup_names_no_study(name, tmp_path):
    with pytest.raises(InputError, match="can't name a study"):
        checked_study_name(name)
    with pytest.raises(InputError, match="can't name a study"):
        study_path(tmp_path, STREAM, name)


@pytest.mark.parametrize("name", ["a", "people", "round-2", "2030.01_b", "x" * 40])
def test_letters_digits_dots_and_dashes_name_a_study(name):
    assert checked_study_name(name) == name


def test_a_study_that_is_not_there_names_the_command_that_lists_them(tmp_path):
    with pytest.raises(InputError, match=r"no study at .*gone\.parquet.*study list"):
        read_study(study_path(tmp_path, STREAM, "gone"))


def test_every_single_damaged_byte_is_noticed_or_harmless(tmp_path):
    study = small_study(tmp_path)
    whole = study.path.read_bytes()
    noticed = 0
    for at in range(0, len(whole), 37):
        study.path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read = read_study(study.path)
            same = read.items.equals(study.items) and read.sample == study.sample
            pictures = [picture(study.path, item, whole=True) for item in range(len(study))]
            assert same
            assert pictures == [b"photo %d" % item for item in range(len(study))]
        except InputError:
            noticed += 1
    assert noticed > 20


@pytest.mark.parametrize("size", [0, 1, 4, 100, 3000])
def test_a_truncated_study_is_damaged(tmp_path, size):
    study = small_study(tmp_path)
    study.path.write_bytes(study.path.read_bytes()[:size])
    with pytest.raises(InputError, match="damaged or no study"):
        studies_in(tmp_path)


def test_any_other_parquet_file_is_no_study(tmp_path):
    study = small_study(tmp_path)
    pq.write_table(study.items, study.path)
    with pytest.raises(InputError, match="doesn't say of what it is the study"):
        read_study(study.path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "exam"}, "unknown kind 'exam'"),
        ({"sample": "0" * 16}, "its items were changed"),
        ({"classes": ["Happiness"]}, "is no class of it"),
        ({"seed": None}, "'seed'"),
    ],
)
def test_a_study_whose_description_was_changed_is_refused(tmp_path, change, problem):
    study = small_study(tmp_path)
    table = pq.read_table(study.path)
    about = json.loads(table.schema.metadata[b"study"]) | change
    if change == {"seed": None}:
        del about["seed"]
    changed = table.replace_schema_metadata({b"study": json.dumps(about)})
    pq.write_table(changed, study.path)
    with pytest.raises(InputError, match=problem):
        read_study(study.path)


def test_a_study_moved_to_another_name_or_stream_is_refused(tmp_path):
    study = small_study(tmp_path)
    for place in (study_path(tmp_path, STREAM, "other"), study_path(tmp_path, "mood", "people")):
        place.parent.mkdir(exist_ok=True)
        shutil.copy(study.path, place)
        with pytest.raises(InputError, match="is the study three_class/people under another name"):
            read_study(place)


def test_all_studies_are_listed_by_their_keys(tmp_path):
    assert studies_in(tmp_path / "nothing") == []
    for name in ("b", "a"):
        small_study(tmp_path, name)
    assert [study.key for study in studies_in(tmp_path)] == ["three_class/a", "three_class/b"]


def test_annotators_see_the_items_in_orders_of_their_own(tmp_path):
    study = small_study(tmp_path, per_class=40)
    orders = [order_for(study, name) for name in ("ann", "ann", "bob")]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(len(study)))
    place = {item: at for at, item in enumerate(orders[0])}
    repeats = study.items["repeat_of"].to_pylist()
    gaps = [place[again] - place[first] for again, first in enumerate(repeats) if first is not None]
    assert len(gaps) == 30
    assert min(gaps) >= 20


def test_a_study_in_an_object_store_is_published_once_and_read(tmp_path, monkeypatch):
    with object_store() as address:
        folder = as_location(f"{address}/home/studies")
        local = small_study(tmp_path)
        path = study_path(folder, STREAM, "people")
        publish(path, local.items)
        assert [study.key for study in studies_in(folder)] == ["three_class/people"]
        assert picture(path, 9, whole=False) == b"crop 9"
        # Another process has published it since this one looked.
        monkeypatch.setattr("fer_pipeline.core.study.is_file", lambda _: False)
        with pytest.raises(StudyThereError):
            publish(path, local.items.slice(0, 3))
        assert read_study(path).items.equals(local.items)
