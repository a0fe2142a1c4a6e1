import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.predictions import (
    PREDICTIONS_SCHEMA,
    Predictions,
    read_predictions,
    write_predictions,
)

CLASSES = ("Neutral", "Happiness", "Sadness")


def made(n: int = 5) -> Predictions:
    generator = np.random.default_rng(0)
    return Predictions(
        classes=CLASSES,
        face_id=np.array([f"{at:016x}" for at in range(n)], dtype=object),
        group_id=np.array([f"group{at // 2}" for at in range(n)], dtype=object),
        split=np.array(["test", "dev"] * n, dtype=object)[:n],
        expression=generator.integers(0, 3, n),
        probability=generator.dirichlet([1, 1, 1], n).astype(np.float32),
    )


def rows(predictions: Predictions) -> pa.Table:
    return pa.table(
        {
            "face_id": pa.array(predictions.face_id),
            "group_id": pa.array(predictions.group_id),
            "split": pa.array(predictions.split),
            "expression": pa.array([CLASSES[at] for at in predictions.expression]),
            "probability": pa.array(predictions.probability.tolist(), pa.list_(pa.float32())),
        }
    )


def stored(path, table: pa.Table, classes=CLASSES):
    pq.write_table(table.replace_schema_metadata({"classes": json.dumps(classes)}), path)
    return path


@pytest.mark.parametrize("n", [0, 1, 5, 3000])
def test_predictions_are_read_as_they_were_written(tmp_path, n):
    path = tmp_path / "reports" / "predictions.parquet"
    write_predictions(path, made(n))
    found, expected = read_predictions(path), made(n)
    assert found.classes == CLASSES
    assert len(found) == n
    for name in ("face_id", "group_id", "split", "expression", "probability"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()
        assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_file_has_the_agreed_columns_and_metadata(tmp_path):
    path = tmp_path / "predictions.parquet"
    write_predictions(path, made())
    table = pq.read_table(path)
    assert table.schema.names == ["face_id", "group_id", "split", "expression", "probability"]
    assert table.schema.types == PREDICTIONS_SCHEMA.types
    assert json.loads(table.schema.metadata[b"classes"]) == list(CLASSES)
    assert table.replace_schema_metadata(None).equals(rows(made()))
    assert list(tmp_path.iterdir()) == [path]


def test_predicted_class_is_the_first_of_the_largest():
    probability = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], np.float32)
    assert replace(made(2), probability=probability).predicted.tolist() == [1, 0]


def test_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(InputError, match=r"no predictions at .*none\.parquet: evaluate"):
        read_predictions(tmp_path / "none.parquet")


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_damaged_file_is_named_with_its_remedy(tmp_path, kept):
    path = tmp_path / "predictions.parquet"
    write_predictions(path, made(500))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"predictions\.parquet is damaged .*delete it"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["split"]), "split"),
        (lambda t: t.set_column(3, "expression", pa.array(["Joy"] * 5)), "'Joy' is none"),
        (lambda t: t.set_column(0, "face_id", pa.array(["a"] * 5)), "a face occurs twice"),
        (lambda t: t.set_column(1, "group_id", pa.nulls(5, pa.string())), "group_id is missing"),
        (lambda t: t.set_column(4, "probability", pa.array([[1.0]] * 5)), "hasn't 3"),
        (lambda t: t.set_column(4, "probability", pa.array([[0.5] * 3] * 5)), "sum to 1.5"),
        (lambda t: t.set_column(4, "probability", pa.array([[2.0, -1.0, 0]] * 5)), "negative"),
        (
            lambda t: t.set_column(4, "probability", pa.array([[float("nan")] * 3] * 5)),
            "sum to nan",
        ),
    ],
)
def test_file_of_something_else_is_refused_with_the_reason(tmp_path, change, said):
    path = stored(tmp_path / "predictions.parquet", change(rows(made())))
    with pytest.raises(InputError, match=said):
        read_predictions(path)


@pytest.mark.parametrize("classes", [[], ["a"], ["a", "a", "b"], [1, 2, 3], "abc", 7, {"a": 1}])
def test_file_with_other_classes_is_refused(tmp_path, classes):
    path = stored(tmp_path / "predictions.parquet", rows(made()), classes)
    with pytest.raises(InputError, match="holds no predictions"):
        read_predictions(path)


def test_file_without_classes_is_refused(tmp_path):
    path = tmp_path / "predictions.parquet"
    pq.write_table(rows(made()), path)
    with pytest.raises(InputError, match="holds no predictions"):
        read_predictions(path)


@pytest.mark.parametrize(
    "change",
    [
        {"expression": np.array([0, 1, 2, 3, 0])},
        {"expression": np.array([0, 1])},
        {"group_id": np.array(["a"], dtype=object)},
        {"probability": np.full((5, 2), 0.5, np.float32)},
        {"probability": np.full((5, 3), 0.5, np.float32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match=r"label|faces|sum"):
        replace(made(), **change)
