"""The logged model as MLflow loads and serves it: photos in, expressions out.

MLflow calls `_load_pyfunc`. Nothing of Dagster and nothing of training is needed here.
"""

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_pipeline.core.crop import Status
from fer_pipeline.core.detect import Box
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.recogniser import Reading, Recogniser

if TYPE_CHECKING:
    import pandas as pd

IMAGE = "image"
BOX = ("x", "y", "width", "height")
MODEL_FILE = "model.keras"


class ExpressionModel:
    """Predicts the expression of one face in each photo."""

    def __init__(self, path: Path) -> None:
        """Load a model file; raises InputError when it is none."""
        self._recogniser = Recogniser.load(path)

    @property
    def card(self) -> ModelCard:
        """What the model is and how its faces are cropped."""
        return self._recogniser.card

    def predict(self, data: "pd.DataFrame") -> "pd.DataFrame":
        """One row for each photo.

        `data` has the column `image` (encoded photo as bytes, or as base64 text) and, where the
        face box is known, x, y, width, height in pixels; without a box the largest face is read.
        A model that was trained on pictures that are faces already takes pictures of up to 64
        pixels a side as such. Columns of the result: status, label, p_<class> for each class
        (NaN unless status is ok), x, y, width, height of the box used.
        """
        import pandas as pd

        images = [_image_bytes(value) for value in data[IMAGE]]
        boxes = [_box(row) for _, row in data.iterrows()]
        readings = self._recogniser.read_many(
            images, boxes=[None if box is None else [box] for box in boxes]
        )
        rows = [self._row(reading) for reading in readings]
        classes = [f"p_{name.lower()}" for name in self.card.classes]
        return pd.DataFrame(rows, columns=["status", "label", *classes, *BOX])

    def _row(self, reading: Reading) -> tuple[str | float | None, ...]:
        unknown = float("nan")
        if not reading.faces:
            status = Status.NO_FACE if reading.reason is None else Status.UNREADABLE
            return status.value, None, *[unknown] * (len(self.card.classes) + len(BOX))
        face = reading.faces[0]
        known = face.probabilities or {}
        shares = [known.get(name, unknown) for name in self.card.classes]
        return face.status.value, face.label, *shares, *face.box


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
