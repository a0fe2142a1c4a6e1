"""Slices are the faces they say, scored as the whole is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.metrics import evaluate_predictions, wilson_interval
from fer_pipeline.core.slices import face_subjects, score_slices, size_names
from fer_pipeline_tests.core.drawn_shapes import CLASSES, draw, make_manifest, write_shards


def predictions(n=200):
    generator = np.random.default_rng(0)
    expression = generator.integers(0, 3, n)
    probabilities = generator.dirichlet([1, 1, 1], n)
    return expression, probabilities, np.array([f"g{at // 2}" for at in range(n)], dtype=object)


def test_a_slice_has_the_scores_of_its_faces_alone():
    expression, probabilities, groups = predictions()
    subjects = {"Source": np.array(["b", "a"] * 100, dtype=object)}
    slices = score_slices(expression, probabilities, CLASSES, groups, subjects)
    assert [(one.subject, one.value, one.faces) for one in slices] == [
        ("Source", "a", 100),
        ("Source", "b", 100),
    ]
    alone = evaluate_predictions(
        expression[1::2], probabilities[1::2], CLASSES, groups[1::2], seed=3, resamples=100
    )
    assert slices[0].accuracy.value == alone.accuracy.value
    assert slices[0].balanced_accuracy == pytest.approx(alone.balanced_accuracy.value)
    # One face a group in this part: Wilson's interval itself.
    right = (probabilities[1::2].argmax(axis=1) == expression[1::2]).sum()
    low, high = wilson_interval(int(right), 100)
    assert (slices[0].accuracy.low, slices[0].accuracy.high) == pytest.approx((low, high))
    assert slices[0].accuracy.low < slices[0].accuracy.value < slices[0].accuracy.high


def test_rows_of_a_subject_add_up_to_all_faces():
    expression, probabilities, groups = predictions()
    sizes = size_names(np.random.default_rng(1).integers(10, 400, 200).astype(float))
    slices = score_slices(expression, probabilities, CLASSES, groups, {"Face size": sizes})
    assert sum(one.faces for one in slices) == 200
    right = sum(one.accuracy.value * one.faces for one in slices)
    assert right == pytest.approx((probabilities.argmax(axis=1) == expression).sum())


def test_subject_with_one_value_is_left_out():
    expression, probabilities, groups = predictions()
    same = np.full(200, "train", dtype=object)
    assert not score_slices(expression, probabilities, CLASSES, groups, {"List": same})


def test_values_of_any_name_have_a_place():
    expression, probabilities, groups = predictions(4)
    names = ["", " ", "² of two", "b"]
    subjects = {"List": np.array(names, dtype=object)}
    slices = score_slices(expression, probabilities, CLASSES, groups, subjects)
    assert sorted(one.value for one in slices) == sorted(names)


def test_slice_with_one_right_face_has_an_interval():
    expression, probabilities, groups = predictions(4)
    probabilities = np.eye(3)[expression]
    subjects = {"List": np.array(["one", "three", "three", "three"], dtype=object)}
    one = score_slices(expression, probabilities, CLASSES, groups, subjects)[0]
    assert (one.faces, one.accuracy.value, one.accuracy.high) == (1, 1.0, 1.0)
    assert one.accuracy.low < 0.5


def test_sizes_come_from_small_to_large():
    sides = np.array([31.9, 32, 63.9, 64, 127, 128, 255.5, 256, 4000, np.nan])
    names = size_names(sides)
    assert names.tolist() == [
        "under 32 px",
        *["32 to 63 px"] * 2,
        *["64 to 127 px"] * 2,
        *["128 to 255 px"] * 2,
        *["256 px and more"] * 2,
        "not known",
    ]
    expression, probabilities, groups = predictions(10)
    slices = score_slices(expression, probabilities, CLASSES, groups, {"Face size": names})
    wanted = ["under 32 px", "32 to 63 px", "64 to 127 px", "128 to 255 px", "256 px and more"]
    assert [one.value for one in slices] == [*wanted, "not known"]


def test_subjects_are_read_from_manifest_and_shards_in_the_order_of_the_faces(tmp_path):
    count = 30
    expressions = [CLASSES[at % 3] for at in range(count)]
    votes = [[9, 1, 0, 0, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None] * 10
    manifest = make_manifest(expressions, ["train", "test"] * (count // 2), votes)
    manifest = manifest.append_column("source", pa.array(["x", "x", "y"] * 10))
    manifest = manifest.append_column("list", pa.array(["auto", "manual"] * 15))
    generator = np.random.default_rng(0)
    paths = write_shards(
        tmp_path, manifest, [draw(name, generator) for name in expressions], rows_per_shard=8
    )
    for number, path in enumerate(paths):
        table = pq.read_table(path)
        place = number * 8 + np.arange(len(table))
        columns = {
            "box_width": 20.0 + place,
            "box_height": 100.0 + place,
            "photo_width": 20.0 + place,
            "photo_height": np.where(place < 10, 100.0 + place, 500),
            "score": np.where(place < 20, np.nan, np.where(place < 25, 0.95, 0.7)),
            "iou": np.where(place == 29, 0.1, np.nan),
        }
        for name, values in columns.items():
            column = pa.array(values, pa.float32(), from_pandas=True)
            table = table.append_column(name, column)
        pq.write_table(table, path)
    test = select_examples(paths, manifest, CLASSES, "test", "listed")
    subjects = face_subjects(test, manifest)
    place = np.array([int(name.removeprefix("face")) for name in test.face_id])
    assert place.tolist() == list(range(1, count, 2))
    assert subjects["Source"].tolist() == [["x", "x", "y"][at % 3] for at in place]
    assert set(subjects["List"]) == {"manual"}
    assert subjects["Face size"].tolist() == [
        "under 32 px" if at < 12 else "32 to 63 px" for at in place
    ]
    assert subjects["Face box"].tolist() == [
        "whole picture"
        if at < 10
        else "listed"
        if at < 20
        else "detected, score from 0.9"
        if at < 25
        else "detected, score under 0.9"
        if at < 29
        else "detected, away from the listed one (IoU under 0.5)"
        for at in place
    ]
    assert subjects["Agreement of annotators"].tolist() == [
        ["over 80% agree", "half or fewer agree", "no votes"][at % 3] for at in place
    ]
    assert "Annotation" not in subjects
