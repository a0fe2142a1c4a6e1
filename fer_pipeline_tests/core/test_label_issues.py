import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.label_issues import (
    METHODS,
    label_quality,
    rank_label_issues,
    suspected,
    write_label_issues,
)
from fer_pipeline.core.predictions import Predictions

CLASSES = ("Neutral", "Happiness", "Sadness")
WRONG = [5, 17, 40, 41, 77]


def _predictions(count=90, wrong=WRONG, classes=CLASSES):
    """A model that is right, if not sure, and labels of which some are wrong."""
    rng = np.random.default_rng(2)
    truth = np.arange(count) % len(classes)
    score = rng.normal(0, 0.3, (count, len(classes)))
    score[np.arange(count), truth] += 2
    probability = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    expression = truth.copy()
    expression[wrong] = (truth[wrong] + 1) % len(classes)
    ids = np.array([f"{at:016x}" for at in range(count)], dtype=object)
    split = np.array(["train", "dev"] * (count // 2), dtype=object)
    return Predictions(classes, ids, ids, split, expression, probability.astype(np.float32))


def _manifest(predictions, path="photos/a.jpg"):
    ids = predictions.face_id.tolist()[::-1]
    paths = [f"{path}{face}" for face in ids]
    return pa.table({"face_id": ids, "list": ["manual_train"] * len(ids), "image_path": paths})


@pytest.mark.parametrize("method", METHODS)
def test_wrong_labels_come_first_whatever_the_method(method):
    order = np.argsort(label_quality(_predictions(), method))
    assert set(order[: len(WRONG)]) == set(WRONG)


def test_the_ranking_tells_of_each_face_what_is_suspected():
    predictions = _predictions()
    table = rank_label_issues(predictions, _manifest(predictions))
    assert table.columns.tolist() == [
        *("face_id", "list", "image_path", "expression", "suggested"),
        *("quality", "rank", "split", "suspected"),
    ]
    assert sorted(table["face_id"]) == predictions.face_id.tolist()
    assert table["rank"].tolist() == list(range(1, 91))
    assert table["quality"].is_monotonic_increasing
    assert table["quality"].between(0, 1).all()
    top = table.head(len(WRONG))
    assert top["suspected"].any()
    assert not table["suspected"][len(WRONG) :].any()
    for row in top.itertuples():
        at = int(row.face_id, 16)
        assert at in WRONG
        assert row.suggested == CLASSES[at % 3]
        assert row.expression == CLASSES[predictions.expression[at]]
        assert row.image_path == f"photos/a.jpg{row.face_id}"
        assert row.split == predictions.split[at]


def test_confident_learning_suspects_wrong_labels_alone():
    wrong = list(range(5, 900, 18))
    found = np.flatnonzero(suspected(_predictions(900, wrong)))
    assert set(found) <= set(wrong)
    assert len(found) > len(wrong) / 2


def test_faces_of_equal_quality_stand_in_the_order_of_their_ids():
    predictions = _predictions()
    same = Predictions(
        CLASSES,
        predictions.face_id[::-1],
        predictions.group_id,
        predictions.split,
        np.arange(90) % 3,
        np.full((90, 3), 1 / 3, np.float32),
    )
    table = rank_label_issues(same, _manifest(predictions))
    assert table["face_id"].tolist() == sorted(table["face_id"])


def test_a_class_that_no_face_has_changes_nothing():
    wide = _predictions()
    probability = np.insert(wide.probability, 1, 0.0, axis=1)
    expression = np.where(wide.expression > 0, wide.expression + 1, 0)
    classes = ("Neutral", "Fear", "Happiness", "Sadness")
    wider = Predictions(classes, wide.face_id, wide.group_id, wide.split, expression, probability)
    assert np.allclose(label_quality(wider), label_quality(wide))
    assert np.array_equal(suspected(wider), suspected(wide))


def test_a_face_that_the_manifest_lacks_is_wrong_input():
    predictions = _predictions()
    with pytest.raises(InputError, match="and 1 more have predictions and are not in the manifest"):
        rank_label_issues(predictions, _manifest(predictions).slice(2))


def test_the_file_holds_the_table_and_no_formula(tmp_path):
    predictions = _predictions()
    table = rank_label_issues(predictions, _manifest(predictions, path="=cmd|' /C calc'!A0"))
    write_label_issues(tmp_path / "label_issues.csv", table)
    read = pd.read_csv(tmp_path / "label_issues.csv", dtype={"face_id": str})
    assert read["face_id"].tolist() == table["face_id"].tolist()
    assert read["rank"].tolist() == table["rank"].tolist()
    assert read["suspected"].tolist() == table["suspected"].tolist()
    assert np.allclose(read["quality"], table["quality"], atol=1e-6)
    assert all(path.startswith("'=cmd") for path in read["image_path"])
