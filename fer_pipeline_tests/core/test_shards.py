import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.crop import CropSettings, Status, prepare_face
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.shards import rows_per_group
from fer_pipeline_tests.core.crop_work import CLASSES, SETTINGS, Made
from fer_pipeline_tests.core.small_release import line, small_release, write_list


def _rows(folder, shards):
    tables = [pq.read_table(folder / shard.file_name) for shard in shards]
    return pa.concat_tables([table.replace_schema_metadata() for table in tables]).to_pylist()


def _made(shards):
    return [shard.made for shard in shards]


def test_shards_hold_every_manifest_face_in_order_with_its_crop(made, folder):
    rows = _rows(folder, made.write(folder))
    assert [row["face_id"] for row in rows] == made.manifest["face_id"].to_pylist()
    for row, listed in zip(rows, made.manifest.to_pylist(), strict=True):
        box = tuple(float(listed[f"face_{side}"]) for side in ("x", "y", "width", "height"))
        (data,) = made.dataset.read_photos([(listed["list"], listed["image_path"])])
        expected = prepare_face(data, box, SETTINGS).crop
        assert np.array_equal(np.frombuffer(row["crop"], np.uint8).reshape(24, 24, 1), expected)
        assert tuple(row[f"box_{side}"] for side in ("x", "y", "width", "height")) == box
        assert (row["photo_width"], row["photo_height"]) == (120, 100)
        assert row["stored_bytes"] == len(data)
        assert (row["status"], row["score"], row["iou"], row["reason"]) == ("ok", None, None, None)


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_metadata_says_how_the_bytes_of_a_crop_are_laid_out(made, folder, colour, channels):
    settings = CropSettings(side=20, colour=colour)
    (shard,) = made.write(folder, settings, shard_rows=99)
    schema = pq.read_schema(folder / shard.file_name)
    assert schema.field("crop").type == pa.binary(20 * 20 * channels)
    found = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert found["height"] == found["width"] == "20"
    assert found["channels"] == str(channels)
    assert found["colour"] == colour
    assert found["settings_hash"] == settings.hash


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((48, 48, 1), 256), ((48, 48, 3), 256), ((112, 112, 3), 55), ((512, 512, 3), 16)],
)
def test_row_group_holds_what_is_read_at_once(shape, rows):
    assert rows_per_group(shape) == rows


def test_shard_has_row_groups_of_that_many_rows(made, folder, monkeypatch):
    monkeypatch.setattr("fer_pipeline.core.shards._LEAST_ROWS", 4)
    monkeypatch.setattr("fer_pipeline.core.shards._GROUP_BYTES", 1)
    (shard,) = made.write(folder, shard_rows=99)
    metadata = pq.read_metadata(folder / shard.file_name)
    sizes = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert sizes == [4, 4, 4, 4, 2]


def test_drawn_release_has_a_status_for_every_face(drawn_release, tmp_path, folder):
    dataset = open_dataset("affectnet", drawn_release)
    drawn = Made(dataset, tmp_path, (*CLASSES, "Anger"))
    rows = _rows(folder, drawn.write(folder, shard_rows=60))
    assert len(rows) == drawn.manifest.num_rows
    statuses = [row["status"] for row in rows]
    # The damaged photos that every drawn release holds: empty, truncated and HTML; a lost one;
    # and a box out of the frame.
    found = [statuses.count(status) for status in ("unreadable", "missing", "bad_box")]
    assert found == [3, 1, 1]
    for row in rows:
        assert (row["crop"] is None) == (row["status"] != "ok")
        assert (row["reason"] is None) == (row["status"] not in ("unreadable", "missing"))
        assert (row["photo_width"] is None) == (row["status"] in ("unreadable", "missing"))


def test_rewritten_shard_is_the_same_bytes(made, folder, tmp_path):
    first, second = made.write(folder), made.write(tmp_path / "again")
    assert [shard.hash for shard in first] == [shard.hash for shard in second]
    for shard in first:
        again = tmp_path / "again" / shard.file_name
        assert (folder / shard.file_name).read_bytes() == again.read_bytes()


def test_unchanged_shard_is_carried_over_and_not_read_again(made, folder, monkeypatch):
    first = made.write(folder)
    assert _made(first) == [6, 6, 6]
    stamps = [(folder / shard.file_name).stat().st_mtime_ns for shard in first]
    monkeypatch.setattr(type(made.dataset), "read_photos", None)
    second = made.write(folder)
    assert second == [replace(shard, made=0) for shard in first]
    assert [(folder / shard.file_name).stat().st_mtime_ns for shard in second] == stamps


@pytest.mark.parametrize("change", [{"margin": 0.2}, {"detect": "always"}, {"side": 25}])
def test_other_settings_crop_every_face_anew(made, folder, change):
    made.write(folder)
    assert _made(made.write(folder, replace(SETTINGS, **change))) == [6, 6, 6]


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"face_x": 21, "face_id": "0123456789abcdef"}, 1),
        ({"image_path": "0/gone.png", "face_id": "0123456789abcdef"}, 1),
        ({"content_hash": "first seen"}, 0),
        ({"expression": 6, "split": "dev"}, 0),
    ],
)
def test_changed_row_makes_that_face_anew_and_no_other(made, folder, change, anew):
    made.write(folder)
    made.change(8, **change)
    assert _made(made.write(folder)) == [0, anew, 0]


def test_photo_of_another_content_is_cropped_anew(made, folder):
    made.change(8, content_hash="one")
    made.write(folder)
    made.change(8, content_hash="another")
    assert _made(made.write(folder)) == [0, 1, 0]


def test_shards_with_carried_over_faces_are_those_of_a_fresh_run(made, folder, tmp_path):
    before = made.write(folder)
    rows = [line(f"{n % 3}/{n:03d}.png", (20, 10, 70, 80), expression=n % 4) for n in range(9)]
    # One row less and one new first row: every slice begins and ends elsewhere.
    write_list(made.dataset.root, "manual_train", [line("0/000.png", (5, 5, 60, 60)), *rows[2:]])
    made.make()
    after = made.write(folder, shard_rows=5)
    assert sum(_made(after)) == 1
    fresh = made.write(tmp_path / "fresh", shard_rows=5)
    assert sum(_made(fresh)) == sum(shard.rows for shard in fresh) == 16
    assert [shard.hash for shard in after] == [shard.hash for shard in fresh]
    assert not {shard.file_name for shard in before} & {shard.file_name for shard in after}


def test_photos_of_another_root_are_cropped_anew(made, folder, tmp_path):
    made.write(folder)
    # The same names and sizes, and so the same face ids, as chance may have it.
    other = Made(small_release(tmp_path / "elsewhere"), tmp_path)
    assert _made(other.write(folder)) == [6, 6, 6]
    made.make()
    assert _made(made.write(folder)) == [0, 0, 0]


def test_photo_that_came_later_is_cropped_and_no_other(made, folder, tmp_path):
    name = made.manifest["image_path"][0].as_py()
    (path,) = made.dataset.root.rglob(name)
    away = path.rename(tmp_path / path.name)
    assert made.write(folder)[0].statuses == {"missing": 1, "ok": 5}
    away.rename(path)
    again = made.write(folder)
    assert again[0].statuses == {"ok": 6}
    assert _made(again) == [1, 0, 0]


def test_photo_that_could_not_be_read_is_tried_again(made, folder):
    name = made.manifest["image_path"][0].as_py()
    (path,) = made.dataset.root.rglob(name)
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    first = made.write(folder)
    assert first[0].statuses == {"unreadable": 1, "ok": 5}
    assert _made(made.write(folder)) == [1, 0, 0]
    path.rmdir()
    path.write_bytes(data)
    assert made.write(folder)[0].statuses == {"ok": 6}


def test_truncated_empty_or_foreign_shard_is_rewritten(made, folder):
    first = made.write(folder)
    path = folder / first[1].file_name
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], b"", b"not parquet at all", whole[4:]):
        path.write_bytes(damaged)
        assert _made(made.write(folder)) == [0, 6, 0]
        assert path.read_bytes() == whole


def test_byte_changed_among_the_crops_is_noticed_and_the_shard_rewritten(made, folder):
    first = made.write(folder)
    path = folder / first[0].file_name
    whole = path.read_bytes()
    chunk = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).names.index("crop"))
    start = chunk.data_page_offset
    for at in np.linspace(start + 60, start + chunk.total_compressed_size - 1, 25).astype(int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert _made(made.write(folder)) == [6, 0, 0]
        assert path.read_bytes() == whole


def test_faces_of_a_damaged_older_shard_are_made_anew(made, folder):
    first = made.write(folder)
    (folder / first[1].file_name).write_bytes(b"not parquet at all")
    made.change(8, face_x=21, face_id="0123456789abcdef")
    assert _made(made.write(folder)) == [0, 6, 0]


def test_progress_tells_faces_done_and_to_do(made, folder):
    told = []
    made.write(folder, shard_rows=9, on_faces=lambda *done: told.append(done))
    assert told == [(done, 9) for done in range(1, 10)] * 2


def test_real_photos_end_in_four_statuses(real_data, tmp_path, folder):
    dataset = open_dataset("affectnet", real_data / "affectnet-layout")
    (*shards,) = Made(dataset, tmp_path, (*CLASSES, "Anger")).write(folder, shard_rows=600)
    found = {status.value: 0 for status in Status}
    for shard in shards:
        for status, count in shard.statuses.items():
            found[status] += count
    assert {name: count for name, count in found.items() if count} == {
        "ok": 1100,
        "missing": 1,
        "unreadable": 3,
        "too_small": 1,
    }
    assert json.dumps(found)


def test_shard_with_any_byte_changed_is_refused_or_read_as_it_was_and_never_an_error(made, folder):
    (shard,) = made.write(folder, shard_rows=99)
    path = folder / shard.file_name
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    # The footer, which no checksum protects, is most of the last bytes.
    for at in generator.integers(max(0, len(whole) - 4_000), len(whole), 150).tolist():
        changed = bytearray(whole)
        changed[at] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        (again,) = made.write(folder, shard_rows=99)
        refused += again.made > 0
        assert again.rows == shard.rows
        assert again.statuses == shard.statuses
        path.write_bytes(whole)
    assert refused > 50
