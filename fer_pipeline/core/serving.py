"""A trained network made ready for use: mirror image, calibration, and its figures on dev.

Class bias and temperature are fitted on the dev split, never on the test split. How networks are
trained is in `train.py`, what is saved in `model_file.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.calibration import (
    calibration_scores,
    choose_temperature,
    fit_class_bias,
    with_temperature,
)
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.metrics import confusion_matrix, confusion_scores
from fer_pipeline.core.network import served_model, shift_logits
from fer_pipeline.core.train import predict

_SCORES = ("accuracy", "macro_f1", "nll", "ece")
FIGURES = tuple(f"dev_{name}" for name in _SCORES)
"""Names of `Served.figures`."""


@dataclass(frozen=True)
class Served:
    """A model as it is saved and used, and how it does on the examples its temperature fits."""

    model: Any
    """`keras.Model`, see `network.served_model`."""
    temperature: float
    unfitted: str | None
    """Why temperature and class bias were not fitted; None where they were."""
    accuracy: float
    macro_f1: float
    nll: float
    ece: float

    def figures(self) -> dict[str, float]:
        """The figures on dev by name."""
        return {f"dev_{name}": getattr(self, name) for name in _SCORES}


def scores_on(dev: Examples, probability: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Accuracy, macro-F1, NLL (nats) and ECE of `probability` (n, K), as `Served` names them."""
    confusion = confusion_matrix(dev.expression, probability.argmax(axis=1), probability.shape[1])
    accuracy, _, macro_f1 = confusion_scores(confusion)
    fit = calibration_scores(dev.expression, probability)
    values = (float(accuracy), float(macro_f1), fit.nll, fit.ece)
    return dict(zip(_SCORES, values, strict=True))


def make_ready(model: Any, dev: Examples, flip: bool, prior: Sequence[float]) -> Served:
    """`model`, with `flip` over the mirror image too, calibrated on `dev` where that tells how
    (see `calibration.choose_temperature`); the weights of its head change.

    A bias for each class is fitted first, on faces weighted so that the classes have the K
    shares `prior`, which the probabilities assume then (see `calibration.fit_class_bias`). The
    temperature then makes the probability of the chosen class fit how often it is the label:
    where targets are vote shares, the label that won counts. NLL and ECE are of the calibrated
    probabilities on the faces they were fitted on.
    """
    raw = predict(served_model(model, flip=flip), dev)
    chosen = choose_temperature(raw, dev.expression)
    if chosen.unfitted is None:
        bias = fit_class_bias(raw, dev.expression, _weights(dev, prior))
        shift_logits(model, bias)
        shifted = predict(served_model(model, flip=flip), dev)
        chosen = choose_temperature(shifted, dev.expression)
        if chosen.unfitted is None:
            raw = shifted
        else:
            shift_logits(model, -bias)
    return Served(
        model=served_model(model, chosen.value, flip),
        temperature=chosen.value,
        unfitted=chosen.unfitted,
        **scores_on(dev, with_temperature(raw, chosen.value)),
    )


def _weights(dev: Examples, prior: Sequence[float]) -> NDArray[np.float64] | None:
    """(n,) of each face, so that the classes have the shares `prior`, mean 1; None where no class
    of `dev` has a share."""
    counts = np.bincount(dev.expression, minlength=len(prior))
    weights: NDArray[np.float64] = np.asarray(prior, np.float64)[dev.expression]
    weights /= counts[dev.expression]
    total = weights.sum()
    return weights * (len(dev) / total) if total else None
