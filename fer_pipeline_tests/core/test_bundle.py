import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_pipeline.core.batches import crop_batches
from fer_pipeline.core.bundle import read_task, unpack_bundle, write_bundle
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import load_images, select_examples
from fer_pipeline_tests.core.bundle_work import bundle_of, task, whole_recipe
from fer_pipeline_tests.core.drawn_shapes import CLASSES, draw, make_manifest, write_shards


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A bundle and what was put in."""
    path = tmp_path_factory.mktemp("bundle") / "shapes.bundle"
    return path, *bundle_of(path, whole_recipe())


FIELDS = ("target", "weight", "expression", "face_id", "group_id")


def test_examples_come_back_as_they_were(packed, tmp_path):
    path, wanted, *splits = packed
    found = unpack_bundle(path, tmp_path)
    assert found.task == wanted == read_task(path)
    assert found.init is None
    for ours, theirs in zip(splits, (found.training, found.dev), strict=True):
        for name in FIELDS:
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert np.array_equal(load_images(ours), load_images(theirs))
        assert theirs.image_shape == ours.image_shape
        # Batches are dealt by row groups: those are the same, and so is the order of an epoch.
        options = {"shuffle": True, "pool_bytes": len(ours) * 64, "sampling": "balanced"}
        here, there = (crop_batches(each, 16, **options) for each in (ours, theirs))
        assert all(
            np.array_equal(here.indices(number), there.indices(number))
            for number in range(len(here))
        )


def test_soft_targets_colour_and_shuffled_examples_come_back(tmp_path):
    rng = np.random.default_rng(2)
    names = [CLASSES[i % 3] for i in range(60)]
    votes = [list(rng.integers(0, 5, 10)) for _ in names]
    manifest = make_manifest(names, ["train"] * 40 + ["dev"] * 20, votes=votes)
    images = [draw(name, rng, channels=3) for name in names]
    shards = write_shards(tmp_path / "crops", manifest, images, rows_per_shard=15)
    training = select_examples(shards, manifest, CLASSES, "train", "listed", 0.5)
    dev = select_examples(shards, manifest, CLASSES, "dev", "listed")
    order = rng.permutation(len(training))
    arrays = ("shard_index", "row", *FIELDS)
    mixed = replace(training, **{name: getattr(training, name)[order] for name in arrays})
    plain = task(whole_recipe())
    crop = CropSettings(side=16, colour="rgb", detect="whole")
    coloured = replace(plain, card=replace(plain.card, crop=crop))
    write_bundle(tmp_path / "colour.bundle", coloured, mixed, dev, None)
    found = unpack_bundle(tmp_path / "colour.bundle", tmp_path / "out").training
    assert not np.array_equal(found.target, np.eye(3)[found.expression])
    for name in FIELDS:
        assert np.array_equal(getattr(mixed, name), getattr(found, name)), name
    assert np.array_equal(load_images(mixed), load_images(found))


def test_model_to_start_from_travels(packed, tmp_path):
    _, _, training, dev = packed
    init = tmp_path / "start.keras"
    init.write_bytes(b"a model")
    path = tmp_path / "init.bundle"
    write_bundle(path, task(whole_recipe(), init="0" * 16), training, dev, init)
    found = unpack_bundle(path, tmp_path / "out")
    assert found.init.read_bytes() == b"a model"


def test_the_same_task_and_faces_make_the_same_bytes_at_any_time(packed, tmp_path):
    path, *what = packed
    write_bundle(tmp_path / "again.bundle", *what, None)
    assert (tmp_path / "again.bundle").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_tasks_that_differ_say_where():
    one = task(whole_recipe()).needs()
    other = task(whole_recipe(learning_rate=0.5), seed=4).needs()
    assert {name for name in one if one[name] != other[name]} == {"recipe.learning_rate", "seed"}
    assert one == task(whole_recipe()).within(5.0).needs()


def _rewritten(path, change):
    """The bundle with another description."""
    copied = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copied, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "description.json":
                values = json.loads(data)
                change(values)
                data = json.dumps(values).encode()
            target.writestr(name, data)
    return copied.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(version=2), "of version 2, and this fer_pipeline reads version 1"),
        (lambda it: it.update(kind="result"), "is no bundle but a result"),
        (lambda it: it.pop("program"), "is damaged, or no bundle at all"),
        (lambda it: it.pop("task"), "is damaged, or no bundle at all"),
        (lambda it: it["task"]["preset"]["recipe"].update(luck=7), "no bundle at all .*luck"),
        (lambda it: it["task"]["card"].update(crop={"side": 48}), "crops of fixed_size_binary"),
        (lambda it: it["faces"].update(dev=7), "120 faces in dev"),
    ],
)
def test_other_descriptions_are_one_sentence(packed, tmp_path, change, message):
    path = tmp_path / "other.bundle"
    path.write_bytes(_rewritten(packed[0], change))
    with pytest.raises(InputError, match=message):
        unpack_bundle(path, tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY", b"<html>404</html>" * 99])
def test_foreign_files_are_one_sentence(tmp_path, data):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"photo.jpg is damaged, or no bundle .*give a file"):
        read_task(path)
    with pytest.raises(InputError, match="is not there"):
        read_task(tmp_path / "nothing")


@given(st.data())
@settings(max_examples=40)
def test_changed_bytes_are_seen_or_harmless(packed, tmp_path_factory, data):
    path, wanted, training, _ = packed
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("changed")
    changed = folder / "changed.bundle"
    changed.write_bytes(whole)
    try:
        found = unpack_bundle(changed, folder / "out")
    except InputError:
        return
    assert found.task == wanted
    assert np.array_equal(load_images(found.training), load_images(training))
    assert np.array_equal(found.training.target, training.target)
