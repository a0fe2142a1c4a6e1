import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.crop import CropSettings, Status, prepare_face
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import build_index
from fer_pipeline.core.manifest import build_manifest, manifest_hash, read_manifest
from fer_pipeline.core.shards import (
    CROPS_LIST,
    Slice,
    faces_to_try_again,
    plan_slices,
    publish_crop_set,
    read_crop_set,
    write_shard,
)
from fer_pipeline_tests.core.small_release import small_release

CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise")
SETTINGS = CropSettings(side=24)


def _manifest(dataset, folder, classes=CLASSES):
    build_index(dataset, folder / "index")
    build_manifest(
        dataset,
        folder / "index",
        folder / "manifest",
        classes,
        label_source="listed",
        dev_share=0.3,
        seed=0,
    )
    return read_manifest(folder / "manifest")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    dataset = small_release(folder / "release")
    return dataset, _manifest(dataset, folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "crops"


def _write(made, folder, settings=SETTINGS, shard_rows=7):
    dataset, manifest = made
    slices = plan_slices(manifest.num_rows, shard_rows)
    return [write_shard(dataset, manifest, part, folder, settings) for part in slices]


def test_slices_cover_every_row_once_and_differ_by_one_at_most():
    for rows, shard_rows in ((1, 10), (10, 10), (11, 10), (18, 7), (1000, 33)):
        slices = plan_slices(rows, shard_rows)
        covered = [row for part in slices for row in range(part.start, part.stop)]
        assert covered == list(range(rows))
        sizes = [part.stop - part.start for part in slices]
        assert max(sizes) <= shard_rows
        assert max(sizes) - min(sizes) <= 1
    assert [part.file_name for part in plan_slices(9, 5)] == [
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]
    assert plan_slices(0, 5) == [Slice(0, 0, 0)]


def test_shards_hold_every_manifest_face_in_order_with_its_crop(made, folder):
    dataset, manifest = made
    shards = _write(made, folder)
    tables = [pq.read_table(folder / shard.file_name) for shard in shards]
    rows = pa.concat_tables([table.replace_schema_metadata() for table in tables]).to_pylist()
    assert [row["face_id"] for row in rows] == manifest["face_id"].to_pylist()
    for row, listed in zip(rows, manifest.to_pylist(), strict=True):
        box = tuple(float(listed[f"face_{side}"]) for side in ("x", "y", "width", "height"))
        (data,) = dataset.read_photos([(listed["list"], listed["image_path"])])
        expected = prepare_face(data, box, SETTINGS).crop
        assert np.array_equal(np.frombuffer(row["crop"], np.uint8).reshape(24, 24, 1), expected)
        assert tuple(row[side] for side in ("x", "y", "width", "height")) == box
        assert (row["status"], row["score"], row["iou"], row["reason"]) == ("ok", None, None, None)


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_metadata_says_how_the_bytes_of_a_crop_are_laid_out(made, folder, colour, channels):
    settings = CropSettings(side=20, colour=colour)
    (shard,) = _write(made, folder, settings, shard_rows=99)
    schema = pq.read_schema(folder / shard.file_name)
    assert schema.field("crop").type == pa.binary(20 * 20 * channels)
    found = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert found["height"] == found["width"] == "20"
    assert found["channels"] == str(channels)
    assert found["colour"] == colour
    assert found["settings_hash"] == settings.hash


def test_drawn_release_has_a_status_for_every_face(drawn_release, tmp_path, folder):
    dataset = open_dataset("affectnet", drawn_release)
    manifest = _manifest(dataset, tmp_path, (*CLASSES, "Anger"))
    shards = _write((dataset, manifest), folder, shard_rows=60)
    statuses = publish_crop_set(folder, manifest, SETTINGS, shards).statuses
    assert sum(statuses.values()) == manifest.num_rows
    assert set(statuses) == {status.value for status in Status}
    # The damaged photos that every drawn release holds: empty, truncated and HTML; a lost one;
    # and a box out of the frame.
    assert (statuses["unreadable"], statuses["missing"], statuses["bad_box"]) == (3, 1, 1)
    columns = ["status", "crop", "reason"]
    for shard in shards:
        for row in pq.read_table(folder / shard.file_name, columns=columns).to_pylist():
            assert (row["crop"] is None) == (row["status"] != "ok")
            assert (row["reason"] is None) == (row["status"] not in ("unreadable", "missing"))


def test_rewritten_shard_is_the_same_bytes(made, folder, tmp_path):
    first, second = _write(made, folder), _write(made, tmp_path / "again")
    assert [shard.hash for shard in first] == [shard.hash for shard in second]
    for shard in first:
        again = tmp_path / "again" / shard.file_name
        assert (folder / shard.file_name).read_bytes() == again.read_bytes()


def test_unchanged_shard_is_carried_over_and_not_read_again(made, folder, monkeypatch):
    first = _write(made, folder)
    assert not any(shard.carried_over for shard in first)
    stamps = [(folder / shard.file_name).stat().st_mtime_ns for shard in first]
    monkeypatch.setattr(type(made[0]), "read_photos", None)
    second = _write(made, folder)
    assert [replace(shard, carried_over=False) for shard in second] == first
    assert all(shard.carried_over for shard in second)
    assert [(folder / shard.file_name).stat().st_mtime_ns for shard in second] == stamps


@pytest.mark.parametrize("change", [{"margin": 0.2}, {"detect": "always"}, {"side": 25}])
def test_other_settings_rewrite_every_shard(made, folder, change):
    _write(made, folder)
    again = _write(made, folder, replace(SETTINGS, **change))
    assert not any(shard.carried_over for shard in again)


@pytest.mark.parametrize("column", ["face_x", "content_hash", "image_path"])
def test_changed_row_rewrites_its_shard_and_no_other(made, folder, column):
    dataset, manifest = made
    _write(made, folder)
    rows = manifest.to_pylist()
    rows[8][column] = {"face_x": 21, "content_hash": "other", "image_path": "0/gone.png"}[column]
    changed = pa.Table.from_pylist(rows, schema=manifest.schema)
    again = _write((dataset, changed), folder)
    assert [shard.carried_over for shard in again] == [True, False, True]


def test_photo_that_comes_later_rewrites_its_shard(folder, tmp_path):
    dataset = small_release(tmp_path / "release")
    manifest = _manifest(dataset, tmp_path)
    (path,) = dataset.root.rglob(manifest["image_path"][0].as_py().rpartition("/")[2])
    away = path.rename(tmp_path / path.name)
    first = publish_crop_set(folder, manifest, SETTINGS, _write((dataset, manifest), folder))
    assert first.statuses["missing"] >= 1
    assert faces_to_try_again(dataset, manifest, first) == 0
    away.rename(path)
    assert faces_to_try_again(dataset, manifest, first) >= 1
    again = publish_crop_set(folder, manifest, SETTINGS, _write((dataset, manifest), folder))
    assert not again.shards[0].carried_over
    assert again.statuses["missing"] < first.statuses["missing"]
    assert faces_to_try_again(dataset, manifest, again) == 0


def test_label_and_split_of_a_row_are_no_reason_to_crop_again(made, folder):
    dataset, manifest = made
    _write(made, folder)
    rows = [{**row, "expression": 6, "split": "dev"} for row in manifest.to_pylist()]
    again = _write((dataset, pa.Table.from_pylist(rows, schema=manifest.schema)), folder)
    assert all(shard.carried_over for shard in again)


def test_photos_of_another_root_are_cropped_anew(made, folder, tmp_path):
    _write(made, folder)
    other = small_release(tmp_path / "elsewhere")
    assert not any(shard.carried_over for shard in _write((other, made[1]), folder))


def test_truncated_empty_or_foreign_shard_is_rewritten(made, folder):
    first = _write(made, folder)
    path = folder / first[1].file_name
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], b"", b"not parquet at all", whole[4:]):
        path.write_bytes(damaged)
        again = _write(made, folder)
        assert [shard.carried_over for shard in again] == [True, False, True]
        assert path.read_bytes() == whole


def test_byte_changed_among_the_crops_is_noticed_and_the_shard_rewritten(made, folder):
    first = _write(made, folder)
    path = folder / first[0].file_name
    whole = path.read_bytes()
    chunk = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).names.index("crop"))
    start = chunk.data_page_offset
    for at in np.linspace(start + 60, start + chunk.total_compressed_size - 1, 25).astype(int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        again = _write(made, folder)
        assert [shard.carried_over for shard in again] == [False, True, True]
        assert path.read_bytes() == whole


def test_progress_tells_faces_done_and_to_do(made, folder):
    dataset, manifest = made
    told = []
    write_shard(
        dataset, manifest, Slice(0, 2, 5), folder, SETTINGS, lambda *done: told.append(done)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_list_of_crops_is_read_back_as_it_was_published(made, folder):
    shards = _write(made, folder)
    published = publish_crop_set(folder, made[1], SETTINGS, shards[::-1])
    found = read_crop_set(folder, verify=True)
    assert found == published
    assert found.manifest_hash == manifest_hash(made[1])
    assert found.statuses == {status.value: 18 * (status is Status.OK) for status in Status}
    assert [path.name for path in found.paths] == [shard.file_name for shard in shards]
    assert found.content_hash == json.loads((folder / CROPS_LIST).read_text())["content_hash"]


def test_shards_that_no_longer_belong_are_deleted(made, folder):
    _write(made, folder, shard_rows=4)
    shards = _write(made, folder, shard_rows=9)
    publish_crop_set(folder, made[1], SETTINGS, shards)
    assert sorted(path.name for path in folder.iterdir()) == [
        CROPS_LIST,
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]


def test_verification_finds_one_changed_byte_and_names_the_file_and_the_remedy(made, folder):
    publish_crop_set(folder, made[1], SETTINGS, _write(made, folder))
    path = folder / "shard-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    read_crop_set(folder)
    with pytest.raises(InputError, match=r"shard-00001\.parquet .*changed: materialize face_crops"):
        read_crop_set(folder, verify=True)
    publish_crop_set(folder, made[1], SETTINGS, _write(made, folder))
    read_crop_set(folder, verify=True)


def test_missing_shard_and_missing_list_are_input_errors(made, folder):
    with pytest.raises(InputError, match=r"crops\.json is not there"):
        read_crop_set(folder)
    publish_crop_set(folder, made[1], SETTINGS, _write(made, folder))
    (folder / "shard-00000.parquet").unlink()
    with pytest.raises(InputError, match=r"shard-00000\.parquet is missing"):
        read_crop_set(folder)


def test_real_photos_end_in_four_statuses(real_data, tmp_path, folder):
    dataset = open_dataset("affectnet", real_data / "affectnet-layout")
    manifest = _manifest(dataset, tmp_path, (*CLASSES, "Anger"))
    shards = _write((dataset, manifest), folder, shard_rows=600)
    statuses = publish_crop_set(folder, manifest, SETTINGS, shards).statuses
    assert {name: count for name, count in statuses.items() if count} == {
        "ok": 1100,
        "missing": 1,
        "unreadable": 3,
        "too_small": 1,
    }
