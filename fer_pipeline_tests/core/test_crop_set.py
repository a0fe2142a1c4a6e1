import json

import pytest

from fer_pipeline.core.crop import Status
from fer_pipeline.core.crop_set import (
    CROPS_LIST,
    faces_to_try_again,
    publish_crop_set,
    read_crop_set,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import manifest_hash
from fer_pipeline.core.worklist import WORK_LIST
from fer_pipeline_tests.core.crop_work import SETTINGS


def _publish(made, folder, shard_rows=7):
    shards = made.write(folder, shard_rows=shard_rows)
    return publish_crop_set(folder, made.manifest_folder, SETTINGS, shards[::-1])


def test_list_of_crops_is_read_back_as_it_was_published(made, folder):
    published = _publish(made, folder)
    found = read_crop_set(folder, verify=True)
    assert (found.content_hash, found.statuses) == (published.content_hash, published.statuses)
    assert found.manifest_hash == manifest_hash(made.manifest)
    assert found.statuses == {status.value: 18 * (status is Status.OK) for status in Status}
    assert found.faces == 18
    assert [path.name[:11] for path in found.paths] == ["shard-00000", "shard-00001", "shard-00002"]
    assert found.content_hash == json.loads((folder / CROPS_LIST).read_text())["content_hash"]


def test_list_of_crops_does_not_tell_how_they_came_about(made, folder):
    _publish(made, folder)
    first = (folder / CROPS_LIST).read_bytes()
    _publish(made, folder)
    assert (folder / CROPS_LIST).read_bytes() == first


def test_shards_that_no_longer_belong_are_deleted(made, folder):
    made.write(folder, shard_rows=4)
    crop_set = _publish(made, folder, shard_rows=9)
    names = {CROPS_LIST, WORK_LIST, *(path.name for path in crop_set.paths)}
    assert {path.name for path in folder.iterdir()} == names
    assert len(crop_set.paths) == 2


def test_verification_finds_one_changed_byte_and_names_the_file_and_the_remedy(made, folder):
    path = _publish(made, folder).paths[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    read_crop_set(folder)
    with pytest.raises(InputError, match=rf"{path.name} .*changed: materialize face_crops"):
        read_crop_set(folder, verify=True)
    _publish(made, folder)
    read_crop_set(folder, verify=True)


def test_missing_shard_and_missing_list_are_input_errors(made, folder):
    with pytest.raises(InputError, match=r"crops\.json is not there"):
        read_crop_set(folder)
    path = _publish(made, folder).paths[0]
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name} is missing"):
        read_crop_set(folder)


@pytest.mark.parametrize("data", [b"", b"\xff{", b"[]", b"{}", b'{"shards": [{"rows": 3}]}', b"3"])
def test_damaged_list_of_crops_is_an_input_error_that_names_it(made, folder, data):
    _publish(made, folder)
    (folder / CROPS_LIST).write_bytes(data)
    with pytest.raises(InputError, match=r"crops\.json is damaged: materialize face_crops again"):
        read_crop_set(folder)


@pytest.mark.parametrize("keep", [0, 40, -30])
def test_damaged_shard_is_an_input_error_that_names_it(made, folder, keep):
    crop_set = _publish(made, folder)
    path = crop_set.paths[1]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{path.name} is damaged: materialize face_crops again"):
        faces_to_try_again(made.dataset, made.manifest_folder, crop_set)


def test_photos_that_came_are_counted_until_they_are_cropped(made, folder, tmp_path):
    name = made.manifest["image_path"][0].as_py()
    (path,) = made.dataset.root.rglob(name)
    away = path.rename(tmp_path / path.name)
    first = _publish(made, folder)
    assert first.statuses["missing"] == 1
    assert faces_to_try_again(made.dataset, made.manifest_folder, first) == 0
    away.rename(path)
    assert faces_to_try_again(made.dataset, made.manifest_folder, first) == 1
    again = _publish(made, folder)
    assert again.statuses["missing"] == 0
    assert faces_to_try_again(made.dataset, made.manifest_folder, again) == 0


def test_photos_that_can_be_read_by_now_are_counted(made, folder, tmp_path):
    name = made.manifest["image_path"][0].as_py()
    (path,) = made.dataset.root.rglob(name)
    away = path.rename(tmp_path / path.name)
    path.mkdir()
    first = _publish(made, folder)
    assert first.statuses["unreadable"] == 1
    assert faces_to_try_again(made.dataset, made.manifest_folder, first) == 0
    path.rmdir()
    away.rename(path)
    assert faces_to_try_again(made.dataset, made.manifest_folder, first) == 1
    again = _publish(made, folder)
    assert again.statuses["unreadable"] == 0


def test_shards_of_a_run_that_was_planned_before_another_are_not_published(made, folder):
    older = made.write(folder, shard_rows=6)
    newer = _publish(made, folder, shard_rows=9)
    with pytest.raises(InputError, match=rf"{WORK_LIST} was written anew .* in a new run"):
        publish_crop_set(folder, made.manifest_folder, SETTINGS, older)
    assert read_crop_set(folder, verify=True).shards == newer.shards
