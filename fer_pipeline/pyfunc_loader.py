"""The logged model as MLflow loads and serves it: photos in, expressions out.

MLflow calls `_load_pyfunc`. Nothing of Dagster and nothing of training is needed here.
"""

import base64
import binascii
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline.core.crop import PreparedFace, prepare_face
from fer_pipeline.core.detect import Box
from fer_pipeline.core.model_file import load_model

if TYPE_CHECKING:
    import pandas as pd

IMAGE = "image"
BOX = ("x", "y", "width", "height")
MODEL_FILE = "model.keras"


class ExpressionModel:
    """Predicts the expression of one face in each photo."""

    def __init__(self, path: Path) -> None:
        """Load a model file; raises InputError when it is none."""
        self._model, self.card = load_model(path)

    def predict(self, data: "pd.DataFrame") -> "pd.DataFrame":
        """One row for each photo.

        `data` has the column `image` (encoded photo as bytes, or as base64 text) and, where the
        face box is known, x, y, width, height in pixels; without a box the best face is looked
        for, unless the model was trained on pictures that are faces already. Columns of the
        result: status, label, p_<class> for each class (NaN unless status is ok), x, y, width,
        height of the box used.
        """
        return self._table([self._face(row) for _, row in data.iterrows()])

    def _face(self, row: "pd.Series[Any]") -> PreparedFace:
        box, crop = _box(row), self.card.crop
        if box is not None and crop.detect == "whole":
            crop = replace(crop, detect="missing")
        return prepare_face(_image_bytes(row[IMAGE]), box, crop)

    def _table(self, faces: list[PreparedFace]) -> "pd.DataFrame":
        import pandas as pd

        classes = self.card.classes
        probabilities = np.full((len(faces), len(classes)), np.nan)
        seen = [place for place, face in enumerate(faces) if face.crop is not None]
        if seen:
            crops = np.stack([faces[place].crop for place in seen])  # type: ignore[misc]
            probabilities[seen] = np.asarray(self._model(crops, training=False))
        table = pd.DataFrame({"status": [face.status.value for face in faces]})
        labels: list[str | None] = [None] * len(faces)
        for place in seen:
            labels[place] = classes[int(probabilities[place].argmax())]
        table["label"] = labels
        for place, name in enumerate(classes):
            table[f"p_{name.lower()}"] = probabilities[:, place]
        boxes = [face.box or (np.nan,) * 4 for face in faces]
        for place, name in enumerate(BOX):
            table[name] = [box[place] for box in boxes]
        return table


def _load_pyfunc(path: str) -> ExpressionModel:
    """MLflow's entry point; `path` is the model file or the folder that holds it."""
    file = Path(path)
    return ExpressionModel(file / MODEL_FILE if file.is_dir() else file)


def _image_bytes(value: Any) -> bytes:
    """The photo's bytes; text is base64. What is neither ends as an unreadable photo."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return b""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def _box(row: "pd.Series[Any]") -> Box | None:
    if not all(name in row.index for name in BOX):
        return None
    import pandas as pd

    sides = [row[name] for name in BOX]
    if any(pd.isna(side) for side in sides):
        return None
    x, y, width, height = map(float, sides)
    return x, y, width, height
