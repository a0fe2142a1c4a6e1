"""Scores of people's answers against labels: shares, recalls, their means, time, beyond chance.

Plain arrays in, frozen dataclasses out; `people.py` puts them together for a study, and
`people_votes.py` for votes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import Share, kappa_estimate, share_of
from fer_pipeline.core.intervals import (
    LEAST_GROUPS,
    Estimate,
    Floats,
    percentile_interval,
    resampled_confusions,
)

PAUSE_SECONDS = 60
"""An answer that took longer was a pause and tells nothing of the pace."""


@dataclass(frozen=True)
class LabelAgreement:
    """Answers against labels, in one way of counting.

    `answers` is the share that agrees; `by_class` that of each class' faces (recall);
    `class_balanced` the mean of these recalls, `prevalence_weighted` their mean weighted with how
    often each class occurs. Means are over classes with answers, and None where there are none,
    or where no class with answers has a weight. `kappa` is Cohen's.
    """

    answers: Share
    by_class: tuple[Share, ...]
    class_balanced: Estimate | None
    prevalence_weighted: Estimate | None
    kappa: Estimate | None

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.answers.to_dict("agreement"),
            "by_class": [
                {"class": name, **share.to_dict("recall")}
                for name, share in zip(classes, self.by_class, strict=True)
            ],
            **{name: estimate_dict(value) for name, value in self.estimates().items()},
        }

    def estimates(self) -> dict[str, Estimate | None]:
        """What isn't a share of answers, by name."""
        return {
            "class_balanced": self.class_balanced,
            "prevalence_weighted": self.prevalence_weighted,
            "kappa": self.kappa,
        }


@dataclass(frozen=True)
class Times:
    """Seconds an answer took: median and quartiles, None where no answer was timed.

    Answers over `PAUSE_SECONDS` are `pauses`, answers without a time are `untimed`; neither is
    among the `timed`.
    """

    timed: int
    pauses: int
    untimed: int
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None


def estimate_dict(estimate: Estimate | None) -> dict[str, float] | None:
    """`{value, low, high}` for JSON."""
    return None if estimate is None else dict(vars(estimate))


def answer_times(milliseconds: NDArray[np.int64]) -> Times:
    """Times of answers, int64 (n,) milliseconds each; 0 where the time isn't known."""
    timed = timed_seconds(milliseconds)
    quartiles = np.quantile(timed, [0.25, 0.5, 0.75]).tolist() if len(timed) else [None] * 3
    return Times(
        timed=len(timed),
        pauses=int((milliseconds > 1000 * PAUSE_SECONDS).sum()),
        untimed=int((milliseconds <= 0).sum()),
        median=quartiles[1],
        lower_quartile=quartiles[0],
        upper_quartile=quartiles[2],
    )


def timed_seconds(milliseconds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds of the answers that were timed and are no pauses; float64 (m,)."""
    kept = (milliseconds > 0) & (milliseconds <= 1000 * PAUSE_SECONDS)
    return np.asarray(milliseconds[kept] / 1000, np.float64)


def label_agreement(
    label: NDArray[np.int64],
    answer: NDArray[np.int64],
    groups: NDArray[Any],
    classes: Sequence[str],
    categories: int,
    prevalence: Mapping[str, float],
    *,
    seed: int,
    resamples: int,
) -> LabelAgreement:
    """Score answers against the labels of the faces they are about.

    Args:
        label: int64 (n,), position in `classes`.
        answer: int64 (n,), position in `classes`, or from K to categories-1 for what is no class.
        groups: (n,), answers with an equal value hang together (same face, same photo).
        classes: K names.
        categories: number of different answers.
        prevalence: class to how often it occurs, in any unit.
        seed: of the bootstrap.
        resamples: number of bootstrap samples.
    """
    right = label == answer
    by_class = tuple(
        share_of(right[label == at], groups[label == at]) for at in range(len(classes))
    )
    samples = np.zeros((0, len(classes)))
    if len(label):
        confusions = resampled_confusions(
            label, answer, categories, groups, seed=seed, resamples=resamples
        )[:, : len(classes)]
        support = confusions.sum(axis=2)
        hits = np.diagonal(confusions, axis1=1, axis2=2)
        samples = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
    occurs = np.array([prevalence.get(name, 0.0) for name in classes], np.float64)
    groups_of = [len(np.unique(groups[label == at])) for at in range(len(classes))]
    return LabelAgreement(
        answers=share_of(right, groups),
        by_class=by_class,
        class_balanced=weighted_recall(by_class, groups_of, samples, np.ones(len(classes))),
        prevalence_weighted=weighted_recall(by_class, groups_of, samples, occurs),
        kappa=kappa_estimate(label, answer, categories, groups, seed=seed, resamples=resamples),
    )


def weighted_recall(
    by_class: Sequence[Share], groups_of: Sequence[int], samples: Floats, weights: Floats
) -> Estimate | None:
    """The weighted mean of recalls, over classes that have one.

    Args:
        by_class: K recalls.
        groups_of: of how many groups the answers on each class are.
        samples: float (resamples, K), recalls of bootstrap samples; NaN where undefined.
        weights: float (K,), in any unit.

    Where the answers on a class are all right, all wrong, or of fewer than `LEAST_GROUPS` groups,
    samples say too little of it: the interval is then made of those by class, see
    `metrics.evaluate_predictions`. None where no class with a recall has a weight.
    """
    known = np.array([share.value is not None for share in by_class])
    weights = np.where(known, weights, 0.0)
    if not weights.sum() > 0:
        return None
    weights = weights / weights.sum()
    low, recall, high = (
        np.array([getattr(share, end) or 0.0 for share in by_class])
        for end in ("low", "value", "high")
    )
    value = float(weights @ recall)
    if any(
        weight and (share.count in (0, share.of) or count < LEAST_GROUPS)
        for share, count, weight in zip(by_class, groups_of, weights, strict=True)
    ):
        below, above = (float(np.linalg.norm(weights * (recall - end))) for end in (low, high))
        return Estimate(value, max(0.0, value - below), min(1.0, value + above))
    there = ~np.isnan(samples)
    means = np.where(there, samples, 0) @ weights / np.maximum(there @ weights, 1e-12)
    return Estimate(value, *percentile_interval(means))
