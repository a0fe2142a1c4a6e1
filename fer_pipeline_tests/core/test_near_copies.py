"""Test faces that training has too are found, whatever was done to the copy; others are not."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.core import near_copies
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.near_copies import find_training_copies, nearly_equal
from fer_pipeline.core.splits import COPY_OF_TEST
from fer_pipeline_tests.core.drawn_shapes import CLASSES, make_manifest, write_shards

SIDE = 48


def face(seed, channels=1):
    """Smooth noise, as unlike any other as photos are."""
    noise = np.random.default_rng(seed).normal(0, 1, (6, 6, channels)).astype(np.float32)
    picture = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).reshape(SIDE, SIDE, -1)
    return np.clip(128 + 45 * picture, 0, 255).astype(np.uint8)


def jpeg(crop):
    return cv2.imdecode(cv2.imencode(".jpg", crop, [1, 40])[1], 0)[..., None]


COPIES = {
    "the same": lambda crop: crop,
    "encoded anew": jpeg,
    "mirrored": lambda crop: crop[:, ::-1],
    "brighter and flatter": lambda crop: (crop * 0.6 + 80).astype(np.uint8),
    "cut by a pixel": lambda crop: np.roll(crop, 1, axis=1),
    "smaller once": lambda crop: cv2.resize(cv2.resize(crop, (24, 24)), (SIDE, SIDE))[..., None],
}


def examples(folder, test, training):
    """Test and training examples of these crops."""
    images = [*test, *training]
    expressions = [CLASSES[at % 3] for at in range(len(images))]
    manifest = make_manifest(expressions, ["test"] * len(test) + ["train"] * len(training))
    manifest = manifest.append_column("reason", pa.nulls(len(images), pa.string()))
    shards = write_shards(folder, manifest, images, rows_per_shard=20)
    parts = (
        select_examples(shards, manifest, CLASSES, name, "listed") for name in ("test", "train")
    )
    return *parts, manifest


@pytest.mark.parametrize("copied", list(COPIES))
def test_a_changed_copy_of_a_test_face_is_found(tmp_path, copied):
    test = [face(seed) for seed in range(12)]
    training = [face(seed) for seed in range(100, 140)]
    training[7] = COPIES[copied](test[3])
    found = find_training_copies(*examples(tmp_path, test, training), seed=0)
    assert np.flatnonzero(found.near).tolist() == [3]
    assert not found.listed.any()
    assert found.to_dict() == {
        "listed": 0,
        "near": 1,
        "either": 1,
        "training_faces_compared": 40,
    }


def test_crops_without_contrast_are_no_copies_of_one_another(tmp_path):
    flat = np.full((SIDE, SIDE, 1), 90, np.uint8)
    test, training, _ = examples(tmp_path, [flat, face(1)], [flat, face(2)])
    assert not nearly_equal(test, training, np.arange(2)).any()


def test_photos_that_the_manifest_took_out_of_training_count_as_listed(tmp_path):
    crops = [face(seed) for seed in range(6)]
    manifest = make_manifest([CLASSES[at % 3] for at in range(6)], ["test"] * 3 + ["train"] * 3)
    group = pa.array(["a", "b", "c", "a", "x", "b"])
    manifest = manifest.set_column(manifest.schema.get_field_index("group_id"), "group_id", group)
    split = pa.array(["test", "test", "test", "excluded", "train", "excluded"])
    manifest = manifest.set_column(manifest.schema.get_field_index("split"), "split", split)
    # The second is left out for its two labels and was in no list of training.
    reason = pa.array([None, None, None, COPY_OF_TEST, None, "conflicting_label"])
    manifest = manifest.append_column("reason", reason)
    shards = write_shards(tmp_path, manifest, crops)
    test, training = (
        select_examples(shards, manifest, CLASSES, name, "listed") for name in ("test", "train")
    )
    found = find_training_copies(test, training, manifest, seed=0)
    assert found.listed.tolist() == [True, False, False]
    assert found.either.tolist() == [True, False, False]


def test_no_more_training_faces_are_compared_than_the_cap(tmp_path, monkeypatch):
    monkeypatch.setattr(near_copies, "TRAINING_CAP", 10)
    parts = examples(tmp_path, [face(1)], [face(seed) for seed in range(50, 80)])
    assert find_training_copies(*parts, seed=0).compared == 10


def test_faces_that_are_drawn_are_whole_runs_of_neighbours(monkeypatch):
    monkeypatch.setattr(near_copies, "TRAINING_CAP", 1000)
    drawn = near_copies._drawn(5000, seed=1)
    runs = drawn.reshape(-1, 256)
    assert (np.diff(runs, axis=1) == 1).all()
    assert len(set(drawn.tolist())) == len(drawn) <= 1000
    assert not np.array_equal(drawn, near_copies._drawn(5000, seed=2))
