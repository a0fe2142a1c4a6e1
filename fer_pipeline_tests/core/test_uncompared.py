"""A photo that the manifest couldn't compare makes it anew when it comes, whatever came between."""

import pytest

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.affectnet import AffectNet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.uncompared import UNCOMPARED_FILE, check_none_came, photos_that_came
from fer_pipeline.core.worklist import plan_work, read_slice
from fer_pipeline_tests.core.crop_work import SETTINGS
from fer_pipeline_tests.core.small_release import (
    built,
    encoded,
    line,
    noise,
    write_list,
    write_photo,
)


@pytest.fixture
def lists(root):
    write_list(root, "manual_train", [line("1/a.jpg", expression=1), line("1/b.jpg", expression=1)])
    write_list(root, "manual_val", [line("2/a.jpg", expression=1)])
    write_photo(root, "2/a.jpg", encoded(noise()))
    return root


def test_photo_that_comes_after_the_manifest_is_counted_until_it_is_compared(lists, tmp_path):
    folder, dataset = tmp_path / "manifest", open_dataset("affectnet", lists)
    manifest = built(lists, tmp_path)[1]
    assert photos_that_came(dataset, folder) == 0
    write_photo(lists, "1/a.jpg", encoded(noise()))
    assert photos_that_came(dataset, folder) == 1
    with pytest.raises(InputError, match="1 photos came after class_manifest was made"):
        check_none_came(dataset, folder)
    rows = {row["image_path"]: row["split"] for row in manifest.to_pylist()}
    assert rows["1/a.jpg"] == "train"
    rows = {row["image_path"]: row["split"] for row in built(lists, tmp_path)[1].to_pylist()}
    assert rows["1/a.jpg"] == "excluded"
    assert photos_that_came(dataset, folder) == 0
    check_none_came(dataset, folder)


def test_empty_file_counts_when_it_is_filled(lists, tmp_path):
    write_photo(lists, "1/b.jpg", b"")
    built(lists, tmp_path)
    write_photo(lists, "1/b.jpg", encoded(noise()))
    assert photos_that_came(open_dataset("affectnet", lists), tmp_path / "manifest") == 1


def test_photo_too_large_to_be_read_is_compared_when_it_may_be(lists, tmp_path):
    write_photo(lists, "1/a.jpg", encoded(noise()))
    size = len(encoded(noise()))
    summary = built(lists, tmp_path, max_file_bytes=size - 1)[0]
    assert summary.identical_photos == 0
    folder, dataset = tmp_path / "manifest", open_dataset("affectnet", lists)
    assert photos_that_came(dataset, folder, size - 1) == 0
    assert photos_that_came(dataset, folder, size) == 2
    # Not for what can be read once and not the next time does a run stop.
    check_none_came(dataset, folder)
    assert built(lists, tmp_path, max_file_bytes=size)[0].identical_photos == 1


def test_photo_that_comes_once_the_work_is_planned_is_left_for_the_next_run(lists, tmp_path):
    built(lists, tmp_path)
    dataset, crops = open_dataset("affectnet", lists), tmp_path / "crops"
    crops.mkdir()
    (part,) = plan_work(dataset, tmp_path / "manifest", crops, SETTINGS, 10)
    write_photo(lists, "1/a.jpg", encoded(noise()))
    result = write_shard(dataset, *read_slice(crops, part.number), crops, SETTINGS)
    assert result.statuses["missing"] == 2


def test_photo_that_comes_while_the_manifest_is_made_counts_too(lists, tmp_path, monkeypatch):
    asked = AffectNet.photo_sizes

    def then_it_comes(dataset, photos):
        sizes = asked(dataset, photos)
        write_photo(lists, "1/a.jpg", encoded(noise()))
        return sizes

    monkeypatch.setattr(AffectNet, "photo_sizes", then_it_comes)
    built(lists, tmp_path)
    assert photos_that_came(open_dataset("affectnet", lists), tmp_path / "manifest") == 1


def test_damaged_list_of_them_is_named_and_one_that_was_never_made_is_none(lists, tmp_path):
    built(lists, tmp_path)
    dataset, path = open_dataset("affectnet", lists), tmp_path / "manifest" / UNCOMPARED_FILE
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=rf"{UNCOMPARED_FILE} is damaged: materialize class_mani"):
        photos_that_came(dataset, path.parent)
    path.unlink()
    assert photos_that_came(dataset, path.parent) == 0
