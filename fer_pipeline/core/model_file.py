"""A trained model as one file: Keras' own .keras archive with a card of what it expects.

The label order and the crop settings travel inside the archive, so that a copied file can still
be scored and used for recognition.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published

_CARD = "fer_pipeline.json"


@dataclass(frozen=True)
class ModelCard:
    """What one must know to use a model file.

    `classes` are in the order of the outputs; `crop` is how its faces were prepared; `trained_on`
    tells where the model comes from (data set, preset, seed, manifest hash) as plain values.
    """

    stream: str
    classes: tuple[str, ...]
    crop: CropSettings
    label_source: str
    trained_on: Mapping[str, Any]


def save_model(model: Any, card: ModelCard, path: Path) -> None:
    """Write a Keras model and its card to `path` (.keras), whole or not at all."""
    with published(path) as temporary:
        whole = temporary.with_suffix(".keras")
        try:
            model.save(whole)
            with zipfile.ZipFile(whole, "a") as archive:
                archive.writestr(_CARD, json.dumps(asdict(card), indent=2, sort_keys=True))
            whole.replace(temporary)
        finally:
            whole.unlink(missing_ok=True)


def read_card(path: Path) -> ModelCard:
    """The card of a model file; raises InputError when `path` is no model of this pipeline."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = json.loads(archive.read(_CARD))
        return ModelCard(
            stream=stored["stream"],
            classes=tuple(stored["classes"]),
            crop=CropSettings(**stored["crop"]),
            label_source=stored["label_source"],
            trained_on=stored["trained_on"],
        )
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no model file of this pipeline (a .keras archive with {_CARD}): "
            "give one that a training run logged"
        ) from error


def load_model(path: Path) -> tuple[Any, ModelCard]:
    """The Keras model (input (n, side, side, channels) of 0..255, softmax output) and its card."""
    card = read_card(path)
    import keras

    try:
        return keras.models.load_model(path, compile=False), card
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} can't be loaded as a Keras model: {error}") from error
