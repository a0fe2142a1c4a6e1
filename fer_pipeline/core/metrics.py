"""Scores of a classifier on one test split, as pure functions of arrays.

Conventions, everywhere in this module:
- classes are positions 0..K-1 in `classes` (the order of the model's outputs), not AffectNet
  codes;
- the predicted class is the first of the largest probabilities;
- a confusion matrix has the true class in rows and the predicted class in columns;
- recall of a class without support, precision of a class never predicted and F1 of a class
  that is neither are undefined: None, and outside every mean;
- balanced accuracy is the mean recall over classes with support; macro-F1 the mean F1 over
  classes that occur as true or predicted, as scikit-learn has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.intervals import (
    UNVARYING,
    Estimate,
    Floats,
    Integers,
    percentile_interval,
    resampled_confusions,
    says_too_little,
    wilson_estimates,
    wilson_interval,
)

__all__ = [
    "CALIBRATION_BINS",
    "LEVEL",
    "CalibrationBin",
    "ClassScores",
    "Estimate",
    "Evaluation",
    "brier_score",
    "calibration_bins",
    "confusion_matrix",
    "confusion_scores",
    "evaluate_predictions",
    "expected_calibration_error",
    "most_confident_wrong",
    "negative_log_likelihood",
    "normalise_rows",
    "wilson_interval",
]

CALIBRATION_BINS = 15
"""Equal-width bins of the top probability, each open on the left and closed on the right."""

LEVEL = 0.95
"""Level of every interval."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; None where a score is undefined.

    `recall_low` and `recall_high` are a Wilson interval over rows: rows of one group count as
    independent, so the interval is too narrow where groups are large.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Rows whose top probability lies in (low, high]; means are None in an empty bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """All scores of one model on one test split; see the module docstring for conventions.

    `confusion` is int64 (K, K), `confusion_normalised` float64 (K, K) with rows that sum to 1
    (NaN in the row of a class without support). `nll` is in nats, `brier` the multi-class sum
    of squares (0 to 2), `ece` over `CALIBRATION_BINS` equal-width bins. `majority_accuracy` is
    the share of `majority_class`, the largest class of this split.
    """

    classes: tuple[str, ...]
    n: int
    groups: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    majority_class: str
    majority_accuracy: float
    by_class: tuple[ClassScores, ...]
    confusion: NDArray[np.int64]
    confusion_normalised: NDArray[np.float64]
    calibration: tuple[CalibrationBin, ...]
    ece: float
    nll: float
    brier: float
    resamples: int
    seed: int

    def scalars(self) -> dict[str, float]:
        """Every single figure under a flat name, as MLflow and the command line want them."""
        return {
            "n": self.n,
            **self.accuracy.to_dict("accuracy"),
            **self.balanced_accuracy.to_dict("balanced_accuracy"),
            **self.macro_f1.to_dict("macro_f1"),
            "majority_accuracy": self.majority_accuracy,
            "ece": self.ece,
            "nll": self.nll,
            "brier": self.brier,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts: what `json.dumps` takes, NaN as None."""
        rows = [
            [None if np.isnan(share) else float(share) for share in row]
            for row in self.confusion_normalised
        ]
        return {
            **self.scalars(),
            "classes": list(self.classes),
            "groups": self.groups,
            "majority_class": self.majority_class,
            "by_class": [dict(vars(scores)) for scores in self.by_class],
            "confusion": self.confusion.tolist(),
            "confusion_normalised": rows,
            "calibration": [dict(vars(one)) for one in self.calibration],
            "interval_level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def confusion_matrix(
    expression: Integers, predicted: Integers, classes_count: int
) -> NDArray[np.int64]:
    """Counts, int64 (K, K), of true class (rows) by predicted class (columns)."""
    # Labels may come as int8, which K * K overflows.
    cell = np.asarray(expression, np.int64) * classes_count + predicted
    cells = np.bincount(cell, minlength=classes_count**2)
    return cells.reshape(classes_count, classes_count).astype(np.int64)


def normalise_rows(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Each row of `confusion` (K, K) divided by its sum; NaN where the sum is 0."""
    support = confusion.sum(axis=1, keepdims=True).astype(np.float64)
    return confusion / np.where(support > 0, support, np.nan)


def confusion_scores(
    confusion: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy, balanced accuracy and macro-F1 of confusion matrices (..., K, K), each (...)."""
    confusion = np.asarray(confusion, np.float64)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    either = support + confusion.sum(axis=-2)
    recall = right / np.where(support > 0, support, 1)
    f1 = 2 * right / np.where(either > 0, either, 1)
    return (
        right.sum(axis=-1) / support.sum(axis=-1),
        recall.sum(axis=-1) / (support > 0).sum(axis=-1),
        f1.sum(axis=-1) / (either > 0).sum(axis=-1),
    )


def macro_f1_of_labels(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Macro-F1 of confusion matrices (..., K, K) over the classes that occur as labels, (...).

    For choices: by `confusion_scores` a class without a label counts with an F1 of 0 as soon as one
    row is taken for it, which is a whole K-th for one row.
    """
    confusion = np.asarray(confusion, np.float64)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(axis=-1)
    either = support + confusion.sum(axis=-2)
    f1 = 2 * right / np.where(either > 0, either, 1)
    there = support > 0
    mean: NDArray[np.float64] = np.where(there, f1, 0).sum(axis=-1) / there.sum(axis=-1)
    return mean


def calibration_bins(
    confidence: Floats, right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> tuple[CalibrationBin, ...]:
    """Reliability of top probabilities (Guo et al., On Calibration of Modern Neural Networks).

    Args:
        confidence: float (n,), the largest probability of each row.
        right: bool (n,), whether the predicted class is the true one.
        bins: number of equal-width bins over (0, 1].
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confidences = np.bincount(place, weights=confidence, minlength=bins)
    rights = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        CalibrationBin(
            low=at / bins,
            high=(at + 1) / bins,
            count=int(counts[at]),
            confidence=float(confidences[at] / counts[at]) if counts[at] else None,
            accuracy=float(rights[at] / counts[at]) if counts[at] else None,
        )
        for at in range(bins)
    )


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean distance of accuracy and confidence over filled bins, weighted by their rows (0 to 1).

    Raises ZeroDivisionError when every bin is empty.
    """
    rows = sum(one.count for one in bins)
    return sum(
        one.count / rows * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )


def negative_log_likelihood(expression: Integers, probabilities: Floats) -> float:
    """Mean of -log p of the true class, in nats; a probability of 0 counts as float64's epsilon."""
    true = probabilities[np.arange(len(expression)), expression]
    return float(-np.log(np.maximum(true, np.finfo(np.float64).eps)).mean())


def brier_score(expression: Integers, probabilities: Floats) -> float:
    """Multi-class Brier score (0 to 2): mean over rows of the sum of squared distances."""
    truth = np.eye(probabilities.shape[1])[expression]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def most_confident_wrong(
    expression: Integers, probabilities: Floats, limit: int
) -> NDArray[np.int64]:
    """Rows predicted wrongly, the highest top probability first, at most `limit`; int64 (m,)."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != expression)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order][:limit].astype(np.int64)


def evaluate_predictions(
    expression: Integers,
    probabilities: Floats,
    classes: Sequence[str],
    groups: NDArray[Any],
    *,
    seed: int,
    resamples: int = 2000,
) -> Evaluation:
    """Score predicted probabilities against labels.

    Intervals of accuracy, balanced accuracy and macro-F1 are percentiles of a stratified
    cluster bootstrap (`intervals.resampled_confusions`). Where samples of accuracy don't vary (a
    model that is always right, say), its interval is Wilson's over groups. A class whose rows are
    all right, or all wrong, or of fewer than `LEAST_GROUPS` groups, hardly varies in samples
    either, though little is known of it and it counts as much as any other: balanced accuracy then
    has the interval that Wilson's of the recalls make together (Zou and Donner, Construction of
    confidence limits about effect measures, 2008), and macro-F1 ends as far off as those.

    Args:
        expression: int (n,), true class as a position in `classes`.
        probabilities: float (n, K), columns in the order of `classes`, rows sum to 1 (+-0.001).
        classes: K names.
        groups: str (n,), group of each row (same photo, same person).
        seed: of the bootstrap.
        resamples: number of bootstrap samples.

    Raises:
        InputError: there are no rows.
        ValueError: shapes do not fit, a class is out of range, probabilities are none.
    """
    if len(expression) == 0:
        raise InputError(
            "The test split holds no face to score; check the statuses of the crops and give a "
            "data set whose test list names readable photos of the stream's classes."
        )
    expression = np.asarray(expression, np.int64)
    probabilities = np.asarray(probabilities, np.float64)
    _check(expression, probabilities, classes, groups)
    predicted = probabilities.argmax(axis=1)
    right = predicted == expression
    confusion = confusion_matrix(expression, predicted, len(classes))
    samples = resampled_confusions(
        expression, predicted, len(classes), groups, seed=seed, resamples=resamples
    )
    scores, drawn = confusion_scores(confusion), confusion_scores(samples)
    of_few = says_too_little(expression, right, groups)
    estimates = [
        Estimate(float(value), *percentile_interval(values, LEVEL))
        if np.ptp(values) > UNVARYING and not (mean_of_classes and of_few)
        else by_wilson
        for value, values, by_wilson, mean_of_classes in zip(
            scores,
            drawn,
            wilson_estimates(scores, expression, right, groups),
            (False, True, True),
            strict=True,
        )
    ]
    calibration = calibration_bins(probabilities.max(axis=1), right)
    majority = int(confusion.sum(axis=1).argmax())
    return Evaluation(
        classes=tuple(classes),
        n=len(expression),
        groups=len(np.unique(groups)),
        accuracy=estimates[0],
        balanced_accuracy=estimates[1],
        macro_f1=estimates[2],
        majority_class=classes[majority],
        majority_accuracy=float(confusion[majority].sum() / len(expression)),
        by_class=_class_scores(confusion, classes),
        confusion=confusion,
        confusion_normalised=normalise_rows(confusion),
        calibration=calibration,
        ece=expected_calibration_error(calibration),
        nll=negative_log_likelihood(expression, probabilities),
        brier=brier_score(expression, probabilities),
        resamples=resamples,
        seed=seed,
    )


def _check(
    expression: Integers,
    probabilities: Floats,
    classes: Sequence[str],
    groups: NDArray[Any],
) -> None:
    n, count = len(expression), len(classes)
    if probabilities.shape != (n, count) or len(groups) != n or expression.ndim != 1:
        raise ValueError(
            f"{n} rows and {count} classes need probabilities of shape {(n, count)} and {n} "
            f"groups, got {probabilities.shape} and {len(groups)}"
        )
    if expression.min() < 0 or expression.max() >= count:
        raise ValueError(f"a true class lies outside 0..{count - 1}")
    sums = probabilities.sum(axis=1)
    bad = ~(np.abs(sums - 1) <= 1e-3) | (probabilities < 0).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"probabilities of row {row} are not a distribution: they sum to {sums[row]:.4f}, "
            f"the smallest is {probabilities[row].min():.4f}"
        )


def _class_scores(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScores, ...]:
    scores = []
    for at, name in enumerate(classes):
        right, support = int(confusion[at, at]), int(confusion[at].sum())
        predicted = int(confusion[:, at].sum())
        low, high = wilson_interval(right, support, LEVEL)
        scores.append(
            ClassScores(
                name=name,
                support=support,
                predicted=predicted,
                precision=right / predicted if predicted else None,
                recall=right / support if support else None,
                recall_low=low if support else None,
                recall_high=high if support else None,
                f1=2 * right / (support + predicted) if support + predicted else None,
            )
        )
    return tuple(scores)
