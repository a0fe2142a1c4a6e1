"""Near copies of test crops among all crops of a manifest."""

import numpy as np
import pytest

from fer_pipeline.core.crop import CropSettings, Status
from fer_pipeline.core.crop_set import CropSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.leaks import find_leaks
from fer_pipeline.core.near_copies import ALIKE, small_directions
from fer_pipeline.core.shards import ShardResult
from fer_pipeline_tests.core.drawn_shapes import CLASSES, make_manifest, write_shards
from fer_pipeline_tests.core.small_release import noise

SIDE = 48


def face(seed):
    """A smooth grey crop, another one for each seed."""
    return noise(seed, SIDE, SIDE)[..., :1].copy()


def crop_set(folder, images, statuses=None, rows_per_shard=20):
    """A crop set of these images, of which those of another status than ok have none."""
    manifest = make_manifest(
        [CLASSES[at % 3] for at in range(len(images))], ["train"] * len(images)
    )
    paths = write_shards(folder, manifest, images, statuses=statuses, rows_per_shard=rows_per_shard)
    rows = [
        min(rows_per_shard, len(images) - start) for start in range(0, len(images), rows_per_shard)
    ]
    counts = {status.value: 0 for status in Status}
    shards = [
        ShardResult(path.name, count, counts, "0" * 16, count)
        for path, count in zip(paths, rows, strict=True)
    ]
    return CropSet("0" * 16, CropSettings(side=SIDE), shards, folder)


def splits(test, train, dev=0, excluded=0):
    names = ["test"] * test + ["train"] * train + ["dev"] * dev + ["excluded"] * excluded
    return np.array(names, dtype=object)


def test_a_copy_is_found_in_training_and_in_dev_and_not_where_it_is_excluded(tmp_path):
    images = [face(seed) for seed in range(65)]
    images[12], images[57], images[63] = images[3], images[5][:, ::-1], images[7]
    found = find_leaks(crop_set(tmp_path, images), splits(10, 40, 10, 5), seed=0)
    assert found.test.tolist() == [3, 5]
    assert found.training.tolist() == [12, 57]
    assert found.correlation == pytest.approx([1, 1], abs=1e-3)
    assert (found.test_faces, found.training_faces) == (10, 50)


def test_of_several_copies_the_nearest_one_is_named(tmp_path):
    images = [face(seed) for seed in range(40)]
    worse = np.clip(
        images[0].astype(int) + np.random.default_rng(0).normal(0, 25, (SIDE, SIDE, 1)), 0, 255
    )
    images[9], images[30] = worse.astype(np.uint8), images[0]
    found = find_leaks(crop_set(tmp_path, images), splits(4, 36), seed=0)
    assert (found.test.tolist(), found.training.tolist()) == ([0], [30])


def test_correlation_is_that_of_numpy(tmp_path):
    images = [face(seed) for seed in range(20)]
    noisy = np.clip(
        images[2].astype(int) + np.random.default_rng(1).normal(0, 20, (SIDE, SIDE, 1)), 0, 255
    )
    images[15] = noisy.astype(np.uint8)
    found = find_leaks(crop_set(tmp_path, images), splits(5, 15), seed=0)
    one, other = (images[at].reshape(16, 3, 16, 3).mean(axis=(1, 3)).ravel() for at in (2, 15))
    expected = np.corrcoef(one, other)[0, 1]
    assert ALIKE <= expected < 0.9999
    assert found.correlation.tolist() == pytest.approx([expected], abs=1e-3)


def test_faces_without_a_crop_and_crops_without_contrast_are_no_copies(tmp_path):
    flat = np.full((SIDE, SIDE, 1), 90, np.uint8)
    images = [flat, face(1), face(2), flat, face(1), face(2), face(3)]
    statuses = ["ok", "ok", "missing", "ok", "unreadable", "ok", "ok"]
    found = find_leaks(crop_set(tmp_path, images, statuses), splits(3, 4), seed=0)
    assert len(found.test) == 0
    assert (found.test_faces, found.training_faces) == (2, 3)


def test_of_more_test_faces_than_pairs_allow_a_seeded_sample_is_compared(tmp_path):
    images = [face(seed) for seed in range(10)] * 2
    known = crop_set(tmp_path, images)
    part = find_leaks(known, splits(10, 10), seed=3, most_pairs=80)
    assert part.test_faces == len(part.test) == 4
    again = find_leaks(known, splits(10, 10), seed=3, most_pairs=80)
    assert np.array_equal(part.test, again.test)
    assert find_leaks(known, splits(10, 10), seed=3).test_faces == 10


def test_a_manifest_without_test_or_training_faces_has_no_leak(tmp_path):
    known = crop_set(tmp_path, [face(1)] * 4)
    for split in (splits(4, 0), splits(0, 4)):
        assert len(find_leaks(known, split, seed=0).test) == 0


def test_crops_of_another_manifest_are_refused(tmp_path):
    with pytest.raises(InputError, match="those of 4 faces, and the manifest has 3"):
        find_leaks(crop_set(tmp_path, [face(1)] * 4), splits(1, 2), seed=0)


def test_colour_crops_are_compared_in_grey():
    colour = noise(4, SIDE, SIDE)
    grey = np.repeat(
        (colour @ [0.299, 0.587, 0.114]).round().astype(np.uint8)[..., None], 3, axis=2
    )
    one, other = small_directions(np.stack([colour, grey]))
    assert one @ other == pytest.approx(1, abs=1e-3)
