"""How far raters agree: with given labels, with one another, and beyond chance.

Pure functions of counts and positions; who the raters are and what they were shown lives in
`people.py` and `people_votes.py`, tests of one rater against another in `paired.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.intervals import (
    UNVARYING,
    Estimate,
    Integers,
    group_strata,
    percentile_interval,
    resampled_confusions,
    resampled_totals,
    wilson_interval,
)
from fer_pipeline.core.metrics import confusion_matrix

ASSUMPTION = (
    "the list and a person are each right equally often, independently of one another, and err "
    "evenly over the other classes"
)
"""Under which `implied_accuracy` holds."""


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with Wilson's 95% interval; `value` is None for none of none."""

    count: int
    of: int
    value: float | None
    low: float
    high: float

    @property
    def estimate(self) -> Estimate | None:
        """The share without its counts; None where there are none."""
        return None if self.value is None else Estimate(self.value, self.low, self.high)

    def to_dict(self, name: str) -> Mapping[str, float | None]:
        """`{name, name_low, name_high, name_count, name_of}`."""
        return {
            name: self.value,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
            f"{name}_count": self.count,
            f"{name}_of": self.of,
        }


def share_of(right: NDArray[np.bool_], groups: NDArray[Any]) -> Share:
    """The share of true values in `right` (n,), where rows of one of `groups` (n,) hang together.

    See `share_of_groups`.
    """
    _, group = np.unique(groups, return_inverse=True)
    return share_of_groups(np.bincount(group, weights=right), np.bincount(group))


def share_of_groups(count: NDArray[Any], of: NDArray[Any]) -> Share:
    """The share of `count` (groups,) among `of` (groups,), both summed over groups.

    Several answers on one face say less than as many answers on as many faces. Wilson's interval
    is taken over the effective number of rows: their number divided by the design effect, which
    is how much more the groups' counts vary than those of independent rows would (Kish, Survey
    Sampling, 1965, section 8.2; never below 1). Of few groups that is taken for too little, since
    the mean is their own: with G / (G - 1) it is not, as long as more rows than groups are left.
    One row a group gives Wilson's interval itself. Where all rows are right, or none, the groups
    count as the rows, and one group as one row.
    """
    rows, right = int(of.sum()), int(count.sum())
    if not rows:
        return Share(0, 0, None, 0.0, 1.0)
    value = right / rows
    plain = rows * value * (1 - value)
    some = int(np.count_nonzero(of))
    if plain > 0 and some > 1:
        effect = max(1.0, float(((count - value * of) ** 2).sum()) / plain)
        effective = max(rows / effect * (some - 1) / some, min(float(some), rows / effect))
    else:
        effective = float(some)
    return Share(right, rows, value, *wilson_interval(value * effective, effective))


def cohens_kappa(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Cohen's kappa (1960) of confusion matrices (..., K, K), shape (...).

    NaN where a matrix is empty or chance alone would give full agreement.
    """
    confusion = np.asarray(confusion, np.float64)
    total = confusion.sum(axis=(-2, -1))
    some = np.where(total > 0, total, 1)
    observed = np.trace(confusion, axis1=-2, axis2=-1) / some
    expected = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1) / some**2
    room = 1 - expected
    defined = (total > 0) & (room > 1e-12)
    return np.where(defined, (observed - expected) / np.where(defined, room, 1), np.nan)


def kappa_estimate(
    first: Integers,
    second: Integers,
    categories: int,
    groups: NDArray[Any],
    *,
    seed: int,
    resamples: int,
) -> Estimate | None:
    """Cohen's kappa of two raters, with a bootstrap interval over groups; None if undefined.

    Args:
        first: int (n,), what the first rater said, 0..categories-1; strata of the bootstrap.
        second: int (n,), what the second said of the same.
        categories: number of categories.
        groups: (n,), rows with an equal value are drawn together.
        seed: of the bootstrap.
        resamples: number of bootstrap samples.

    Where samples don't vary (the two always agree, or one says the same of everything), the ends
    are those of Wilson's interval of the agreement, at the same agreement by chance.
    """
    confusion = confusion_matrix(first, second, categories)
    value = float(cohens_kappa(confusion))
    if np.isnan(value):
        return None
    samples = cohens_kappa(
        resampled_confusions(first, second, categories, groups, seed=seed, resamples=resamples)
    )
    samples = samples[~np.isnan(samples)]
    if len(samples) and np.ptp(samples) > UNVARYING:
        return Estimate(value, *percentile_interval(samples))
    chance = float(confusion.sum(axis=0) @ confusion.sum(axis=1)) / confusion.sum() ** 2
    agreement = share_of(first == second, groups)
    low, high = ((end - chance) / (1 - chance) for end in (agreement.low, agreement.high))
    return Estimate(value, low, high)


def rating_counts(unit: Integers, category: Integers, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Counts int64 (units, categories) of single ratings.

    Args:
        unit: int (n,), what was rated, 0..units-1.
        category: int (n,), what it was said to be; a negative one is a gap and isn't counted.
        shape: numbers of units and of categories.
    """
    counts = np.zeros(shape, np.int64)
    rated = np.asarray(category) >= 0
    np.add.at(counts, (np.asarray(unit)[rated], np.asarray(category)[rated]), 1)
    return counts


def krippendorff_alpha(counts: NDArray[Any]) -> float | None:
    """Krippendorff's alpha for nominal ratings, any number of raters, with gaps.

    Args:
        counts: int (units, categories), how many raters put each unit in each category. Units
            with fewer than two ratings say nothing of agreement and are left out.

    Returns:
        1 for full agreement, 0 for what chance gives; None where no unit has two ratings or all
        ratings are of one category (Krippendorff, Content Analysis, chapter 11).
    """
    value = float(_alpha(_alpha_parts(counts).sum(axis=0)))
    return None if np.isnan(value) else value


def alpha_estimate(
    counts: NDArray[Any],
    groups: NDArray[Any],
    strata: NDArray[Any],
    *,
    seed: int,
    resamples: int,
) -> Estimate | None:
    """`krippendorff_alpha` with a bootstrap interval over groups of units; None if undefined.

    Args:
        counts: int (units, categories).
        groups: (units,), units with an equal value are drawn together.
        strata: (units,) labels, by which groups are drawn in the strata of
            `intervals.group_strata`.
        seed: of the bootstrap.
        resamples: number of bootstrap samples.

    Where samples don't vary, as where raters always agree or there is one group, the ends are what
    alpha would be at those of Wilson's interval of disagreeing groups.
    """
    value = krippendorff_alpha(counts)
    if value is None:
        return None
    names, group = np.unique(groups, return_inverse=True)
    parts = np.zeros((len(names), counts.shape[1] + 1))
    np.add.at(parts, group, _alpha_parts(counts))
    stratum = group_strata(strata, group, len(names))
    samples = _alpha(resampled_totals(parts, stratum, seed=seed, resamples=resamples))
    samples = samples[~np.isnan(samples)]
    if len(samples) and np.ptp(samples) > UNVARYING:
        return Estimate(value, *percentile_interval(samples))
    of = parts.sum(axis=0)[1:]
    expected = 1 - float((of**2).sum() / of.sum() ** 2)
    rated = int((parts[:, 1:].sum(axis=1) > 0).sum())
    disagreeing = min(1.0, max(0.0, (1 - value) * expected))
    low, high = wilson_interval(disagreeing * rated, rated)
    return Estimate(value, 1 - high / expected, 1 - low / expected)


def _alpha_parts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """What each unit adds: its agreeing pairs, weighted, and its ratings; (units, 1 + K)."""
    counts = np.asarray(counts, np.float64)
    ratings = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1) / np.maximum(ratings - 1, 1)
    parts = np.column_stack([agreeing, counts])
    parts[ratings < 2] = 0
    return parts


def _alpha(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Alpha from sums of `_alpha_parts`, (..., 1 + K) to (...); NaN where undefined."""
    agreeing, of = totals[..., 0], totals[..., 1:]
    ratings = of.sum(axis=-1)
    observed = ratings - agreeing
    expected = (ratings**2 - (of**2).sum(axis=-1)) / np.maximum(ratings - 1, 1)
    defined = expected > 0
    return np.where(defined, 1 - observed / np.where(defined, expected, 1), np.nan)


def implied_accuracy(agreement: float, classes: int) -> float | None:
    """How often two equally good, independent labellers are right, from how often they agree.

    Solves agreement = a^2 + (1 - a)^2 / (classes - 1) for the larger root; see `ASSUMPTION`. It
    is also the best a perfect model can score against one of the two. None below 1 / classes,
    the least agreement that two such labellers can have. Raises ValueError for fewer than two
    classes or an agreement outside 0..1.
    """
    if classes < 2:
        raise ValueError(f"agreement by chance needs two classes, got {classes}")
    if not 0 <= agreement <= 1:
        raise ValueError(f"an agreement lies between 0 and 1, got {agreement}")
    square = (classes - 1) * (classes * agreement - 1)
    # Rounding must not take the root away from an agreement of exactly 1 / classes.
    if square < -1e-12:
        return None
    return float(1 + max(0.0, square) ** 0.5) / classes


def implied_ceiling(agreement: Share, classes: int) -> Estimate | None:
    """`implied_accuracy` of an agreement and of the ends of its interval.

    None where the agreement has no solution; a low end without one is 1 / classes.
    """
    if agreement.value is None:
        return None
    value = implied_accuracy(agreement.value, classes)
    high = implied_accuracy(agreement.high, classes)
    if value is None or high is None:
        return None
    return Estimate(value, implied_accuracy(agreement.low, classes) or 1 / classes, high)


@dataclass(frozen=True)
class LeaveOneOut:
    """Every voter against the majority of the others.

    `confusions` int16 (units, K, K) counts the voters of each unit: rows are the majority of the
    others, columns what the voter said. `without_majority` counts voters whose others tie, or
    who are alone.
    """

    confusions: NDArray[np.int16]
    without_majority: int


def leave_one_out(votes: NDArray[Any]) -> LeaveOneOut:
    """Take every vote of `votes` int (units, K) out in turn and compare it with the rest.

    There are at least two categories. The cost doesn't grow with the number of voters: those of
    one category of a unit have the same others.
    """
    votes = np.asarray(votes, np.int16)
    units, categories = votes.shape
    confusions = np.zeros((units, categories, categories), np.int16)
    without = 0
    for category in range(categories):
        rows = np.flatnonzero(votes[:, category])
        cast = votes[rows, category]
        others = votes[rows].copy()
        others[:, category] -= 1
        most = others.max(axis=1, initial=0)
        clear = (others == most[:, None]).sum(axis=1) == 1
        confusions[rows[clear], others[clear].argmax(axis=1), category] = cast[clear]
        without += int(cast[~clear].sum())
    return LeaveOneOut(confusions, without)
