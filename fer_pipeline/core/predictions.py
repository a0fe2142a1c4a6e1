"""A file of predicted probabilities: what a model said of faces that it wasn't trained on.

Written where a model is scored on the locked test split, or out of fold; read where people, or
the labels themselves, are compared with it.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.tables import DAMAGED

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("face_id", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("expression", pa.string()),
        ("probability", pa.list_(pa.float32())),
    ]
)
"""`expression` is the label's class name; `probability` has the order of the metadata `classes`."""

_CLASSES = b"classes"
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Predictions:
    """Predicted probabilities of faces, each face once.

    `face_id`, `group_id` and `split` are str objects (n,), `expression` int64 (n,) the label as a
    position in `classes`, `probability` float32 (n, K) in the order of `classes`, rows sum to 1.
    Raises ValueError when they don't.
    """

    classes: tuple[str, ...]
    face_id: NDArray[np.object_]
    group_id: NDArray[np.object_]
    split: NDArray[np.object_]
    expression: NDArray[np.int64]
    probability: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse what is no set of predictions."""
        problem = _problem(self)
        if problem is not None:
            raise ValueError(problem)

    def __len__(self) -> int:
        """The number of faces."""
        return len(self.face_id)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Position in `classes` of the first of the largest probabilities; int64 (n,)."""
        best: NDArray[np.int64] = self.probability.argmax(axis=1).astype(np.int64)
        return best


def write_predictions(path: Location, predictions: Predictions) -> None:
    """Write predictions to one Parquet file, whole or not at all."""
    n, count = predictions.probability.shape
    names = np.array(predictions.classes, dtype=object)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * count)
    flat = pa.array(predictions.probability.astype(np.float32).ravel())
    columns = [
        *(
            pa.array(column, pa.string())
            for column in (
                predictions.face_id,
                predictions.group_id,
                predictions.split,
                names[predictions.expression],
            )
        ),
        pa.ListArray.from_arrays(offsets, flat),
    ]
    metadata = {_CLASSES: json.dumps(list(predictions.classes)).encode()}
    table = pa.Table.from_arrays(columns, schema=PREDICTIONS_SCHEMA.with_metadata(metadata))
    with published(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_predictions(path: Location) -> Predictions:
    """The predictions that stand in a file.

    Raises InputError when there is none, or the file is damaged or holds no predictions.
    """
    try:
        with pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as file:
            classes = tuple(json.loads((file.schema_arrow.metadata or {})[_CLASSES]))
            table = file.read(columns=PREDICTIONS_SCHEMA.names).cast(PREDICTIONS_SCHEMA)
        return _from_table(table, classes)
    except FileNotFoundError as error:
        raise InputError(
            f"there are no predictions at {path}: evaluate the stream's model again, which "
            "writes them"
        ) from error
    except (*DAMAGED, TypeError) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path} is damaged or holds no predictions ({said}): delete it and run the step "
            "that writes it again"
        ) from error


def _from_table(table: pa.Table, classes: tuple[str, ...]) -> Predictions:
    if not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no names")
    for name in table.column_names:
        if table[name].null_count:
            raise ValueError(f"a value of {name} is missing")
    position = {name: place for place, name in enumerate(classes)}
    names = table["expression"].to_pylist()
    unknown = set(names) - set(classes)
    if unknown:
        raise ValueError(f"{min(unknown)!r} is none of its classes")
    lists = table["probability"].combine_chunks()
    if not (np.diff(lists.offsets.to_numpy()) == len(classes)).all():
        raise ValueError(f"a row hasn't {len(classes)} probabilities")
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return Predictions(
        classes=classes,
        **{
            name: np.array(table[name].to_pylist(), dtype=object)
            for name in ("face_id", "group_id", "split")
        },
        expression=np.array([position[name] for name in names], np.int64),
        probability=flat.reshape(len(names), len(classes)),
    )


def _problem(found: Predictions) -> str | None:
    """Why these arrays are no predictions, or None."""
    n, count = len(found.face_id), len(found.classes)
    if count < 2 or len(set(found.classes)) < count:
        return f"{count} classes with {len(set(found.classes))} names"
    columns = (found.group_id, found.split, found.expression)
    if found.probability.shape != (n, count) or any(len(column) != n for column in columns):
        return f"{n} faces and {count} classes with probabilities {found.probability.shape}"
    if not n:
        return None
    if found.expression.min() < 0 or found.expression.max() >= count:
        return f"a label lies outside 0..{count - 1}"
    sums = found.probability.sum(axis=1, dtype=np.float64)
    bad = ~(np.abs(sums - 1) <= _SUM_TOLERANCE) | (found.probability < 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        return f"the probabilities of row {row} sum to {sums[row]:.4f} or one is negative"
    if len(set(found.face_id.tolist())) < n:
        return "a face occurs twice"
    return None
