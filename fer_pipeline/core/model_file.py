"""A trained model as one file: Keras' own .keras archive with a card of what it expects.

The label order and the crop settings travel inside the archive, so that a copied file can still
be scored and used for recognition.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published

MODEL_ADDRESSES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""What the names of models begin with that MLflow is asked about."""

CARD = "fer_pipeline.json"
"""Name of the card in the archive."""


@dataclass(frozen=True)
class ModelCard:
    """What one must know to use a model file.

    `classes` are in the order of the outputs; `crop` is how its faces were prepared; `trained_on`
    tells where the model comes from (data set, preset, seed, manifest hash) as plain values.
    Cards that were written before a field existed are read with its default.
    """

    stream: str
    classes: tuple[str, ...]
    crop: CropSettings
    label_source: str
    trained_on: Mapping[str, Any]
    temperature: float = 1.0
    """What the model divides its logits by; it is part of the file, see `served_model`."""
    flip: bool = False
    """Whether the model averages its logits over a crop and the crop's mirror image."""
    training_prior: tuple[float, ...] | None = None
    """Class shares that training effectively saw (after sampling and weights); None: not known."""
    prior: tuple[float, ...] | None = None
    """Class shares that the probabilities were fitted to assume; None: not known."""
    unfitted: str | None = None
    """Why temperature and class bias were not fitted; None where they were, or isn't known."""


def save_model(model: Any, card: ModelCard, path: Path) -> None:
    """Write a Keras model and its card to `path` (.keras), whole or not at all."""
    with published(path) as temporary:
        whole = temporary.with_suffix(".keras")
        try:
            model.save(whole)
            with zipfile.ZipFile(whole, "a") as archive:
                archive.writestr(CARD, json.dumps(asdict(card), indent=2, sort_keys=True))
            whole.replace(temporary)
        finally:
            whole.unlink(missing_ok=True)


def read_card(path: Path) -> ModelCard:
    """The card of a model file; raises InputError when `path` is no model of this pipeline."""
    try:
        with zipfile.ZipFile(path) as archive:
            return card_of(json.loads(archive.read(CARD)))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no model file of this pipeline (a .keras archive with {CARD}): "
            "give one that a training run logged"
        ) from error


def card_of(stored: Mapping[str, Any]) -> ModelCard:
    """The card that was stored as `dataclasses.asdict` gives it.

    Raises KeyError, TypeError or ValueError when the values are no card's.
    """
    return ModelCard(
        stream=stored["stream"],
        classes=tuple(stored["classes"]),
        crop=CropSettings(**stored["crop"]),
        label_source=stored["label_source"],
        trained_on=stored["trained_on"],
        temperature=float(stored.get("temperature", 1.0)),
        flip=bool(stored.get("flip", False)),
        training_prior=_shares(stored.get("training_prior")),
        prior=_shares(stored.get("prior")),
        unfitted=stored.get("unfitted"),
    )


def without_paths(card: ModelCard) -> ModelCard:
    """The card as it may leave this machine: of a file that training started from only the name."""
    init = card.trained_on.get("init")
    if init is None:
        return card
    return replace(card, trained_on={**card.trained_on, "init": without_path(init)})


def without_path(model: str) -> str:
    """What a model may be called elsewhere: of a file on this machine only its name."""
    return model if model.startswith(MODEL_ADDRESSES) else Path(model).name


def load_model(path: Path) -> tuple[Any, ModelCard]:
    """The Keras model (input (n, side, side, channels) of 0..255, softmax output) and its card."""
    card = read_card(path)
    import keras

    try:
        return keras.models.load_model(path, compile=False), card
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} can't be loaded as a Keras model: {error}") from error


def _shares(stored: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if stored is None else tuple(float(share) for share in stored)
