"""Curves of a classifier: risk against coverage, ROC and precision-recall of each class.

Pure functions of arrays; classes are positions 0..K-1. Drawn in `trust_figures.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.intervals import Floats, Integers

COVERAGES = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Shares of the faces that reports answer for."""

_STORED_POINTS = 50
"""Points of a curve that JSON keeps."""


@dataclass(frozen=True)
class RiskCoverage:
    """What is wrong among the surest faces, were only they answered.

    `risk` is float64 (n,), the expected share of errors among the k = 1..n surest faces: faces
    of equal confidence come in any order. `best_risk` is that of an order with every error last;
    an order by chance would have the share of all errors. The areas are their means (AURC).
    """

    risk: NDArray[np.float64]
    best_risk: NDArray[np.float64]

    @property
    def area(self) -> float:
        """The area under `risk`."""
        return float(self.risk.mean())

    @property
    def best_area(self) -> float:
        """The area under `best_risk`."""
        return float(self.best_risk.mean())

    @property
    def coverage(self) -> NDArray[np.float64]:
        """The share of the faces answered at each point of `risk`; float64 (n,)."""
        return np.arange(1, len(self.risk) + 1) / len(self.risk)

    @property
    def error(self) -> float:
        """The share of errors when every face is answered."""
        return float(self.risk[-1])

    def risk_at(self, coverage: float) -> float:
        """The share of errors among the surest `coverage` (above 0, at most 1) of the faces."""
        return float(self.risk[max(1, round(coverage * len(self.risk))) - 1])

    def to_dict(self) -> dict[str, Any]:
        """Areas, and the curve at a few points."""
        points = np.linspace(1 / _STORED_POINTS, 1, _STORED_POINTS).tolist()
        return {
            "area": self.area,
            "best_area": self.best_area,
            "risk": [[round(at, 4), self.risk_at(at)] for at in points],
        }


@dataclass(frozen=True)
class OneVsRest:
    """One class told from all others by its probability.

    Areas are None, and the curves empty, where the class has no faces or nothing else has.
    `average_precision` of a model that guesses is `prevalence`; `roc_area` is then 0.5.
    """

    name: str
    faces: int
    prevalence: float
    roc_area: float | None
    average_precision: float | None
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """The areas; the curves are drawn, not kept."""
        return {
            "name": self.name,
            "faces": self.faces,
            "prevalence": self.prevalence,
            "roc_area": self.roc_area,
            "average_precision": self.average_precision,
        }


def risk_coverage(confidence: Floats, right: NDArray[np.bool_]) -> RiskCoverage:
    """The risk-coverage curve and its area (Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty
    Estimation for Deep Neural Classifiers, 2019).

    Args:
        confidence: float (n,), high where the model is sure: the largest probability.
        right: bool (n,), whether the answer is right.

    Raises ValueError when lengths differ or there are no faces.
    """
    if len(confidence) != len(right) or not len(right):
        raise ValueError(f"{len(right)} answers need as many confidences and at least one face")
    levels, level = np.unique(-np.asarray(confidence), return_inverse=True)
    faces = np.cumsum(np.bincount(level, minlength=len(levels)))
    errors = np.cumsum(np.bincount(level, weights=~right, minlength=len(levels)))
    answered = np.arange(1, len(right) + 1)
    # Within a level any order is as likely as another, so expected errors grow evenly.
    risk = np.interp(answered, [0, *faces], [0, *errors]) / answered
    return RiskCoverage(risk, np.maximum(0, answered - int(right.sum())) / answered)


def one_vs_rest(
    expression: Integers, probabilities: Floats, classes: Sequence[str]
) -> tuple[OneVsRest, ...]:
    """ROC and precision-recall of each class against the others, by scikit-learn.

    The area under the precision-recall curve is average precision, which doesn't interpolate
    between its points (Davis and Goadrich, 2006).

    Args:
        expression: int (n,), true class as a position in `classes`.
        probabilities: float (n, K), columns in the order of `classes`.
        classes: K names.
    """
    return tuple(
        _one_vs_rest(name, np.asarray(expression) == place, probabilities[:, place])
        for place, name in enumerate(classes)
    )


def mean_area(found: Sequence[float | None]) -> float | None:
    """The mean of the areas that are defined; None where none is."""
    areas = [area for area in found if area is not None]
    return float(np.mean(areas)) if areas else None


def _one_vs_rest(name: str, positive: NDArray[np.bool_], score: Floats) -> OneVsRest:
    from sklearn.metrics import auc, precision_recall_curve, roc_curve

    faces, prevalence = int(positive.sum()), float(positive.mean())
    if faces in (0, len(positive)):
        none = np.empty(0)
        return OneVsRest(name, faces, prevalence, None, None, none, none, none, none)
    false_positive, true_positive, _ = roc_curve(positive, score)
    precision, recall, _ = precision_recall_curve(positive, score)
    return OneVsRest(
        name=name,
        faces=faces,
        prevalence=prevalence,
        roc_area=float(auc(false_positive, true_positive)),
        # Recall falls along the curve; its last point, recall 0, is by convention.
        average_precision=float(-(np.diff(recall) * precision[:-1]).sum()),
        false_positive_rate=false_positive,
        true_positive_rate=true_positive,
        recall=recall,
        precision=precision,
    )
