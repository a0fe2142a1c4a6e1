"""Suspected wrong labels: faces ranked by how little a model that never saw them agrees.

Confident learning (Northcutt, Jiang and Chuang, 2021) by the package cleanlab, which is an extra.
The probabilities have to be out of fold (`out_of_fold.py`).
"""

import io
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fer_pipeline.core.cells import safe_cell
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.storage import Location

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
METHOD: Method = "self_confidence"
ADJUSTED = False
"""Method and adjustment that found most planted labels: see docs/people.md."""


def rank_label_issues(predictions: Predictions, manifest: pa.Table) -> "pd.DataFrame":
    """All faces of `predictions`, the most suspicious label first.

    Columns: face_id, list and image_path (of `manifest`), expression (the label it has),
    suggested (the likeliest class), quality (0 to 1, low is suspicious), rank (from 1), split,
    suspected (whether confident learning takes the label for wrong).

    Raises InputError when a face is not in the manifest.
    """
    import pandas as pd

    quality = label_quality(predictions)
    order = np.lexsort((predictions.face_id.astype(str), quality))
    ids = pa.array(predictions.face_id[order], pa.string())
    row = pc.index_in(ids, value_set=manifest["face_id"].combine_chunks())
    if row.null_count:
        lost = ids.filter(row.is_null())
        raise InputError(
            f"face {lost[0]} and {len(lost) - 1} more have predictions and are not in the "
            "manifest: materialize the label issues again"
        )
    photos = manifest.select(["list", "image_path"]).take(row)
    names = np.array(predictions.classes, dtype=object)
    return pd.DataFrame(
        {
            "face_id": predictions.face_id[order],
            "list": photos["list"].to_pylist(),
            "image_path": photos["image_path"].to_pylist(),
            "expression": names[predictions.expression[order]],
            "suggested": names[predictions.predicted[order]],
            "quality": quality[order],
            "rank": np.arange(1, len(order) + 1),
            "split": predictions.split[order],
            "suspected": suspected(predictions)[order],
        }
    )


def write_label_issues(path: Location, table: "pd.DataFrame") -> None:
    """Write the ranking as CSV; texts that a spreadsheet takes for formulas are made safe."""
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    safe = table.assign(**{name: table[name].map(safe_cell) for name in texts})
    text = io.StringIO(newline="")
    safe.to_csv(text, index=False, lineterminator="\n", float_format="%.6f")
    publish_bytes(path, text.getvalue().encode())


def label_quality(
    predictions: Predictions, method: Method = METHOD, *, adjusted: bool = ADJUSTED
) -> NDArray[np.float64]:
    """How well each label goes with the probabilities: (n,), 0 to 1.

    `adjusted` takes off how sure the model is of each class on the whole; not for
    `confidence_weighted_entropy`.
    """
    from cleanlab.rank import get_label_quality_scores

    labels, probability = _inputs(predictions)
    scores = get_label_quality_scores(
        labels, probability, method=method, adjust_pred_probs=adjusted
    )
    return np.asarray(scores, np.float64)


def suspected(predictions: Predictions) -> NDArray[np.bool_]:
    """Which labels confident learning takes for wrong: (n,), of estimated noise rates by class."""
    from cleanlab.filter import find_label_issues

    labels, probability = _inputs(predictions)
    # One job: forking a process in which a training framework has started threads can hang.
    found = find_label_issues(labels, probability, n_jobs=1)
    return np.asarray(found, bool)


def _inputs(predictions: Predictions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities of the classes that occur: cleanlab takes no class without faces."""
    present, labels = np.unique(predictions.expression, return_inverse=True)
    probability = predictions.probability[:, present].astype(np.float64)
    return labels, probability / np.maximum(probability.sum(axis=1, keepdims=True), 1e-12)
