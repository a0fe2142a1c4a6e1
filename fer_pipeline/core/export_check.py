"""Does an exported file say what the model says? Compared on faces before it is published.

A file of 32-bit numbers has to agree up to rounding; one of 8 bits is another model, and by how
much a worse one is told with an interval. What is written stands in `export.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import Share, share_of
from fer_pipeline.core.calibration import calibration_scores
from fer_pipeline.core.challenge import Challenge, compare_models

TOLERANCE = 1e-4
"""By how much a probability of a file of 32-bit numbers may differ from the model's."""


class DifferenceError(Exception):
    """An exported file doesn't say what its model says: its message is one sentence."""


@dataclass(frozen=True)
class Labels:
    """Labels of n faces: positions of their classes, int (n,), and their groups, str (n,)."""

    expression: NDArray[np.int64]
    groups: NDArray[Any]


@dataclass(frozen=True)
class Faces:
    """What an export is checked on, and what ranges of int8 values are taken from.

    `crops` uint8 (n, h, w, c) and `calibration` uint8 (m, h, w, c) are as the model's card says;
    none is in both, and without int8 the second may be empty. `labels` are those of `crops`, None
    for drawn faces. `origin` and `calibration_origin` say in words where they come from.
    """

    crops: NDArray[np.uint8]
    labels: Labels | None
    origin: str
    calibration: NDArray[np.uint8]
    calibration_origin: str


@dataclass(frozen=True)
class Scores:
    """Both on labelled faces: `paired` has the model first, `ece` is (model, file)."""

    paired: Challenge
    ece: tuple[float, float]

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values for JSON; differences are file minus model."""
        return {
            "accuracy": self.paired.accuracy.to_dict("model", "file"),
            "macro_f1": {
                "model": self.paired.champion_macro_f1,
                "file": self.paired.challenger_macro_f1,
                **self.paired.macro_f1_gain.to_dict("difference"),
            },
            "ece": {"model": self.ece[0], "file": self.ece[1]},
        }


@dataclass(frozen=True)
class Check:
    """How an exported file compares with its model on the same faces.

    `agreement` is the share of faces whose most probable class is the same.
    """

    faces: int
    origin: str
    largest_difference: float
    agreement: Share
    scores: Scores | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "faces": self.faces,
            "faces_are": self.origin,
            "largest_difference": self.largest_difference,
            **self.agreement.to_dict("same_label"),
            "scores": None if self.scores is None else self.scores.to_dict(),
        }


def check_export(
    name: str,
    model: NDArray[np.float32],
    file: NDArray[np.float32],
    faces: Faces,
    *,
    exact: bool,
    seed: int,
    resamples: int,
) -> Check:
    """Compare the probabilities (n, K) of a model and of the file made from it.

    `name` is the file's, `seed` and `resamples` are of the bootstrap of the differences. Raises
    DifferenceError when an `exact` file differs by more than `TOLERANCE`, or any has values that
    are no probabilities.
    """
    if file.shape != model.shape or not np.isfinite(file).all():
        raise DifferenceError(
            f"{name} isn't written: on {faces.origin} the file gives {file.shape} values that are "
            f"not all probabilities, and the model gives {model.shape}"
        )
    difference = float(np.abs(model.astype(np.float64) - file).max())
    if exact and not difference <= TOLERANCE:
        raise DifferenceError(
            f"{name} isn't written: a probability differs by {difference:.2g} from the model's on "
            f"{faces.origin}, and at most {TOLERANCE:g} is rounding"
        )
    labels, said, again = faces.labels, model.argmax(axis=1), file.argmax(axis=1)
    groups = np.arange(len(model)) if labels is None else labels.groups
    scores = None
    if labels is not None:
        paired = compare_models(
            labels.expression,
            said,
            again,
            groups,
            classes_count=model.shape[1],
            seed=seed,
            resamples=resamples,
        )
        before, after = (calibration_scores(labels.expression, one).ece for one in (model, file))
        scores = Scores(paired, (before, after))
    return Check(len(model), faces.origin, difference, share_of(said == again, groups), scores)
