import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.crop_set import publish_crop_set
from fer_pipeline.core.datasets import open_dataset, open_datasets
from fer_pipeline.core.datasets.base import (
    Role,
    carved_lists,
    cropped_faces,
    kinds_of_votes,
    votes_of_people,
)
from fer_pipeline.core.datasets.mixed import MixedDataSet, source_names
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import build_index, count_kept_and_rejected, lists_stamp
from fer_pipeline.core.labels import VOTE_NAMES
from fer_pipeline.core.manifest import build_manifest, manifest_hash, photos_of, read_manifest
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.splits import groups_on_two_sides
from fer_pipeline.core.votes import vote_words
from fer_pipeline.core.worklist import plan_work, read_slice
from fer_pipeline_tests.core.datasets.tree_releases import affectnet_plus
from fer_pipeline_tests.core.parquet_faces import face, write_split
from fer_pipeline_tests.core.small_release import (
    encoded,
    index_rows,
    line,
    noise,
    write_list,
    write_photo,
)

CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger")


@pytest.fixture
def release(tmp_path):
    """An AffectNet-like release: four training faces, two of validation, one row rejected."""
    root = tmp_path / "release"
    train = [line(f"1/{name}.png", expression=name % 4) for name in range(4)]
    write_list(root, "manual_train", [*train, line("1/x.png", expression="rage")])
    write_list(root, "manual_val", [line(f"1/{name}.png", expression=1) for name in (4, 5)])
    for name in range(6):
        write_photo(root, f"1/{name}.png", encoded(noise(name)))
    return root


@pytest.fixture
def faces(tmp_path):
    """FER2013-like faces in train and validation files."""
    root = tmp_path / "faces"
    write_split(root, "train", [3, 4, 5, None])
    write_split(root, "validation", [3, 6])
    return root


def _mixed(release, faces):
    return open_datasets([("affectnet", release), ("hf-parquet", faces)])


def _manifest(dataset, folder, **options):
    build_index(dataset, folder / "index")
    given = {"label_source": "listed", "dev_share": 0.0, "seed": 0}
    summary = build_manifest(
        dataset, folder / "index", folder / "manifest", CLASSES, **(given | options)
    )
    return summary, read_manifest(folder / "manifest")


def _crops(dataset, manifest_folder, folder, settings):
    """Status and crop of each face of a manifest."""
    parts = plan_work(dataset, manifest_folder, folder, settings, 4)
    shards = [
        write_shard(dataset, *read_slice(folder, part.number), folder, settings) for part in parts
    ]
    crop_set = publish_crop_set(folder, manifest_folder, settings, shards)
    tables = [pa.parquet.read_table(path) for path in crop_set.paths]
    rows = pa.concat_tables(tables).to_pylist()
    return {row["face_id"]: (row["status"], row["crop"]) for row in rows}


def test_one_data_set_alone_is_no_mixture(release):
    alone = open_datasets([("affectnet", release)])
    assert not isinstance(alone, MixedDataSet)
    assert (alone.name, list(alone.lists())) == ("affectnet", ["manual_train", "manual_val"])
    assert alone.parts() == (alone,)
    assert alone.part_of("manual_val") is alone


def test_lists_stand_side_by_side_with_the_roles_they_have_alone(release, faces):
    mixed = _mixed(release, faces)
    assert mixed.name == "affectnet + hf-parquet"
    assert mixed.roles() == {
        "affectnet:manual_train": Role.TRAIN,
        "affectnet:manual_val": Role.TEST,
        "hf-parquet:train": Role.TRAIN,
        "hf-parquet:validation": Role.TEST,
    }
    assert list(mixed.lists()) == list(mixed.roles())
    assert [mixed.count_rows(name) for name in mixed.lists()] == [5, 2, 4, 2]


def test_votes_of_people_are_told_from_soft_labels_row_by_row(tmp_path):
    plus = affectnet_plus(tmp_path / "plus")
    votes = [[0, 9, 1, 0, 0, 0, 0, 0, 0, 0], None]
    write_split(tmp_path / "fer", "train", [3, 4], votes=votes, vote_columns=VOTE_NAMES)
    mixed = open_datasets([("affectnet-plus", plus), ("hf-parquet", tmp_path / "fer")])
    rows = pa.concat_tables([batch.kept for batch in mixed.batches()])
    assert kinds_of_votes(mixed, rows) == {True, False}
    assert vote_words(kinds_of_votes(mixed, rows)) == "FER+ votes and soft labels"
    of_people = votes_of_people(mixed, rows)
    assert of_people.drop_columns(["votes"]).equals(rows.drop_columns(["votes"]))
    assert of_people["votes"].to_pylist() == [None] * 9 + votes
    alone = rows.slice(0, 9)
    assert vote_words(kinds_of_votes(mixed, alone)) == "soft labels"
    assert kinds_of_votes(mixed, rows.slice(10)) == set()
    assert votes_of_people(mixed, rows.slice(9)).equals(rows.slice(9))


def test_every_row_is_indexed_as_alone_but_for_the_name_of_its_list(release, faces, tmp_path):
    mixed = _mixed(release, faces)
    summary = build_index(mixed, tmp_path / "mixed")
    rows = index_rows(tmp_path / "mixed")
    alone = []
    for name, root in (("affectnet", release), ("hf-parquet", faces)):
        build_index(open_dataset(name, root), tmp_path / name)
        alone += [{**row, "list": f"{name}:{row['list']}"} for row in index_rows(tmp_path / name)]
    assert rows == alone
    assert {row["source"] for row in rows} == {"affectnet", "hf-parquet"}
    assert summary.rows_by_source == {
        "affectnet": {"rows_indexed": 6, "rows_rejected": 1},
        "hf-parquet": {"rows_indexed": 5, "rows_rejected": 1},
    }
    assert count_kept_and_rejected(tmp_path / "mixed") == {
        "affectnet:manual_train": (4, 1, True),
        "affectnet:manual_val": (2, 0, True),
        "hf-parquet:train": (3, 1, True),
        "hf-parquet:validation": (2, 0, True),
    }


def test_faces_keep_their_ids_groups_and_sides_in_a_mixture(release, faces, tmp_path):
    summary, manifest = _manifest(_mixed(release, faces), tmp_path / "mixed", dev_share=0.5)
    chosen = ["face_id", "group_id", "split", "source"]
    alone = [
        _manifest(open_dataset(name, root), tmp_path / name, dev_share=0.5)[1].select(chosen)
        for name, root in (("affectnet", release), ("hf-parquet", faces))
    ]
    assert manifest.select(chosen).equals(pa.concat_tables(alone))
    assert summary.rows_by_source["affectnet"]["test"] == 2
    assert summary.rows_by_source["hf-parquet"]["test"] == 2
    assert sum(sum(counts.values()) for counts in summary.rows_by_source.values()) == summary.rows


def test_a_photo_of_two_data_sets_stands_on_one_side(release, faces, tmp_path):
    shared, other = face(7), face(8)
    write_split(faces, "train", [1, 3, 4], images=[shared, other, face(9)])
    for name, data in (("4", shared), ("2", other)):
        write_photo(release, f"1/{name}.png", data)
    summary, manifest = _manifest(_mixed(release, faces), tmp_path)
    rows = {(row["source"], row["image_path"]): row for row in manifest.to_pylist()}
    tested = rows["affectnet", "1/4.png"]
    copy = rows["hf-parquet", "data/train.parquet#0"]
    assert (tested["split"], copy["split"]) == ("test", "excluded")
    assert (copy["reason"], copy["group_id"]) == ("copy_of_test_photo", tested["group_id"])
    # Two training copies may both train, but stand or fall together.
    pair = rows["affectnet", "1/2.png"], rows["hf-parquet", "data/train.parquet#1"]
    assert {row["split"] for row in pair} == {"train"}
    assert len({row["group_id"] for row in pair}) == 1
    assert summary.identical_photos == 2
    groups, split = (np.array(manifest[name].to_pylist()) for name in ("group_id", "split"))
    assert groups_on_two_sides(groups, split) == []


def test_dev_is_carved_only_of_data_sets_that_bring_none(release, faces, tmp_path):
    write_split(faces, "test", [2, 3])
    mixed = _mixed(release, faces)
    assert carved_lists(mixed) == {"affectnet:manual_train"}
    manifest = _manifest(mixed, tmp_path, dev_share=0.9)[1].to_pandas()
    sides = manifest.groupby(["list", "split"]).size()
    assert sides["hf-parquet:validation", "dev"] == 2
    assert sides["hf-parquet:train", "train"] == 3
    assert sides["affectnet:manual_train", "dev"] >= 1


def test_photos_are_read_in_any_order_and_measured_as_alone(release, faces):
    mixed = _mixed(release, faces)
    photos = [
        ("hf-parquet:train", "data/train.parquet#2"),
        ("affectnet:manual_train", "1/0.png"),
        ("hf-parquet:validation", "data/validation.parquet#0"),
        ("affectnet:manual_val", "1/5.png"),
        ("affectnet:manual_val", "1/gone.png"),
        ("hf-parquet:train", "data/train.parquet#0"),
    ]
    parts = [open_dataset("affectnet", release), open_dataset("hf-parquet", faces)]
    own = [(name.partition(":")[2], path) for name, path in photos]
    of = [parts[int(name.startswith("hf"))] for name, _ in photos]
    read = [next(iter(part.read_photos([photo]))) for part, photo in zip(of, own, strict=True)]
    assert list(mixed.read_photos(photos)) == read
    assert read[4] is None
    for question in ("photo_sizes", "stored_sizes"):
        alone = [
            int(getattr(part, question)([photo])[0]) for part, photo in zip(of, own, strict=True)
        ]
        assert getattr(mixed, question)(photos).tolist() == alone
    assert len({mixed.photo_key(photo) for photo in photos}) == len(photos)
    refused = list(mixed.read_photos(photos[:2], max_bytes=10))
    assert [isinstance(data, UnreadableError) for data in refused] == [True, True]


def test_stopping_early_stops_the_readers_of_all_data_sets(release, faces, monkeypatch):
    mixed = _mixed(release, faces)
    stopped = []
    for part in mixed.parts():

        def read(photos, _max_bytes, name=part.name):
            try:
                yield from (b"" for _ in photos)
            finally:
                stopped.append(name)

        monkeypatch.setattr(part, "read_photos", read)
    two = [("affectnet:manual_train", "1/0.png"), ("hf-parquet:train", "data/train.parquet#0")]
    reading = mixed.read_photos(two * 3)
    next(reading)
    next(reading)
    assert stopped == []
    reading.close()
    assert stopped == ["affectnet", "hf-parquet"]


def test_cropped_pictures_are_taken_whole_beside_photos_with_boxes(release, faces, tmp_path):
    mixed = _mixed(release, faces)
    assert not mixed.faces_are_cropped
    names = ["hf-parquet:train", "affectnet:manual_val", "hf-parquet:train"]
    assert cropped_faces(mixed, names).tolist() == [True, False, True]
    _, manifest = _manifest(mixed, tmp_path / "mixed")
    settings = CropSettings(side=48, colour="grey")
    found = _crops(mixed, tmp_path / "mixed/manifest", tmp_path / "mixed/crops", settings)
    assert len(found) == manifest.num_rows
    assert {status for status, _ in found.values()} == {"ok"}
    for name, root, detect in (("affectnet", release, "missing"), ("hf-parquet", faces, "whole")):
        alone = open_dataset(name, root)
        _manifest(alone, tmp_path / name)
        own = CropSettings(side=48, colour="grey", detect=detect)
        crops = _crops(alone, tmp_path / name / "manifest", tmp_path / name / "crops", own)
        assert crops
        assert {face_id: found[face_id] for face_id in crops} == crops


def test_photos_of_the_manifest_are_those_of_its_lists(release, faces, tmp_path):
    mixed = _mixed(release, faces)
    _, manifest = _manifest(mixed, tmp_path)
    for data in mixed.read_photos(photos_of(manifest)):
        assert isinstance(data, bytes)
        Image.open(io.BytesIO(data)).verify()


def test_two_data_sets_of_one_format_keep_their_faces_apart(faces, tmp_path):
    other = tmp_path / "more"
    write_split(other, "train", [3, 4, 5, 6])
    mixed = open_datasets([("hf-parquet", faces), ("hf-parquet", other)])
    assert [part.name for part in mixed.parts()] == ["hf-parquet", "hf-parquet-2"]
    assert mixed.title == mixed.name == "hf-parquet + hf-parquet-2"
    _, manifest = _manifest(mixed, tmp_path / "mixed")
    ids = manifest["face_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 9
    alone = _manifest(open_dataset("hf-parquet", faces), tmp_path / "alone")[1]
    assert ids[:5] == alone["face_id"].to_pylist()


def test_sources_are_named_by_format_and_counted_from_the_second():
    assert source_names(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


def test_a_change_in_either_data_set_changes_the_stamp_of_the_lists(release, faces):
    before = lists_stamp(_mixed(release, faces))
    assert lists_stamp(_mixed(release, faces)) == before
    write_split(faces, "validation", [3, 6, 1])
    between = lists_stamp(_mixed(release, faces))
    write_list(release, "manual_val", [line("1/4.png")])
    assert len({before, between, lists_stamp(_mixed(release, faces))}) == 3


def test_order_of_the_data_sets_decides_the_address_and_no_face(release, faces, tmp_path):
    one = _mixed(release, faces)
    turned = open_datasets([("hf-parquet", faces), ("affectnet", release)])
    assert one.address != turned.address
    first, second = (_manifest(d, tmp_path / d.name)[1] for d in (one, turned))
    columns = ["face_id", "group_id", "split"]
    rows = [sorted(map(str, manifest.select(columns).to_pylist())) for manifest in (first, second)]
    assert rows[0] == rows[1]
    assert manifest_hash(first) != manifest_hash(second)


def test_the_same_data_set_twice_is_an_input_error_that_names_it(faces):
    with pytest.raises(InputError, match=r"hf-parquet at .*faces is given twice"):
        open_datasets([("hf-parquet", faces), ("hf-parquet", faces)])


def test_one_data_set_at_two_addresses_is_an_input_error_that_names_both(faces, tmp_path):
    (tmp_path / "link").symlink_to(faces)
    for other, named in ((faces / "data", faces / "data"), (tmp_path / "link", faces)):
        with pytest.raises(InputError, match=rf"at {faces} is given twice, .* to {named} too"):
            open_datasets([("hf-parquet", faces), ("hf-parquet", other)])


def test_a_list_that_no_data_set_has_is_an_input_error_with_the_lists(release, faces):
    with pytest.raises(InputError, match=r"no list 'train': the lists are affectnet:manual_train"):
        _mixed(release, faces).part_of("train")
