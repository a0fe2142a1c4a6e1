import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.manifest import photos_of
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.worklist import crop_progress, plan_edges, plan_work, read_slice
from fer_pipeline_tests.core.crop_work import SETTINGS


@given(
    cost=st.lists(st.floats(1e-4, 10), min_size=1, max_size=300),
    shard_rows=st.integers(1, 400),
)
def test_slices_cover_every_face_once_and_none_is_too_long(cost, shard_rows):
    edges = plan_edges(np.array(cost), shard_rows)
    assert edges[0] == 0
    assert edges[-1] == len(cost)
    sizes = np.diff(edges)
    assert sizes.min() >= 1
    assert sizes.max() <= shard_rows


def test_slices_are_of_near_equal_work():
    cost = np.where(np.arange(40_000) < 10_000, 0.012, 0.001)
    edges = plan_edges(cost, 8192)
    work = np.add.reduceat(cost, edges[:-1])
    assert len(work) == 20
    assert np.diff(edges).max() <= 8192
    assert work.max() - work.min() <= 2 * cost.max()


def test_very_cheap_faces_that_stand_together_are_cut_and_the_others_stay_as_they_are():
    cost = np.full(480_000, 0.03)
    cost[300_000:330_000] = 0.0002
    edges = plan_edges(cost, 2000)
    sizes = np.diff(edges)
    assert sizes.max() <= 2000
    assert 240 <= len(sizes) <= 270
    others = np.diff(plan_edges(np.full(450_000, 0.03), 2000))
    assert np.median(sizes) == pytest.approx(np.median(others), abs=200)


def test_large_sets_with_cheap_faces_are_cut_in_no_time():
    cost = np.concatenate([np.full(300_000, 0.0125), np.full(36_000, 0.0002)])
    started = time.perf_counter()
    edges = plan_edges(cost, 300)
    assert time.perf_counter() - started < 5
    assert len(edges) < 1300
    assert np.diff(edges).max() <= 300


@pytest.mark.parametrize(
    ("faces", "seconds", "shards"),
    [(1000, 0.001, 1), (1000, 0.024, 2), (100_000, 0.0006, 4), (1_000_000, 0.0014, 64)],
)
def test_little_work_is_not_cut_up_and_much_is_shared_evenly(faces, seconds, shards):
    assert len(plan_edges(np.full(faces, seconds), 32_768)) - 1 == shards


def test_work_list_holds_each_slice_of_the_manifest(made, folder):
    parts = plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 7)
    listed = made.manifest.to_pylist()
    for part in parts:
        chosen, faces = read_slice(folder, part.number)
        assert chosen == part
        names = [name for name in faces.column_names if name != "stored_bytes"]
        expected = [{n: row[n] for n in names} for row in listed[part.start : part.stop]]
        assert faces.select(names).to_pylist() == expected
        sizes = made.dataset.photo_sizes(photos_of(faces))
        assert faces["stored_bytes"].to_pylist() == sizes.tolist()


def test_crops_larger_than_a_worker_should_hold_make_smaller_shards(made, folder):
    large = CropSettings(side=3000, colour="rgb")
    parts = plan_work(made.dataset, made.manifest_folder, folder, large, 8192)
    assert max(part.rows for part in parts) * 3000 * 3000 * 3 <= 64 * 2**20
    assert sum(part.rows for part in parts) == 18


def test_slices_name_the_older_shards_that_hold_their_faces(made, folder):
    first = made.write(folder, shard_rows=6)
    parts = plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 9)
    names = [shard.file_name for shard in first]
    assert [part.older for part in parts] == [tuple(names[:2]), tuple(names[1:])]


def test_progress_counts_the_shards_that_are_there(made, folder):
    parts = plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 6)
    before = crop_progress(folder)
    assert (before.done, before.total, before.made) == (0, 18, 0)
    assert str(before) == "0% of 18 faces"
    write_shard(made.dataset, *read_slice(folder, 0), folder, SETTINGS)
    after = crop_progress(folder)
    assert (after.done, after.total, after.made) == (6, 18, 6)
    assert re.fullmatch(r"33% of 18 faces, [\d,]+ faces/s, \d+:\d\d left", str(after))
    plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 6)
    again = crop_progress(folder)
    assert (again.done, again.made, len(parts)) == (6, 0, 3)


def test_slice_of_a_longer_list_that_was_replaced_is_an_input_error(made, folder):
    plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 6)
    plan_work(made.dataset, made.manifest_folder, folder, SETTINGS, 9)
    with pytest.raises(InputError, match=r"was written anew since this run was planned"):
        read_slice(folder, 2)
