"""Intervals: Wilson for a share, stratified cluster bootstrap for scores of counts.

What a score means lives in `metrics.py`; here is only how uncertain it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]

LEAST_GROUPS = 10
"""Groups of a class under which a bootstrap of its recall covers too little."""
UNVARYING = 1e-12
"""Bootstrap samples within it are one score but for rounding."""
_DRAWS_AT_ONCE = 4_000_000
"""Multinomial counts held at a time (32 MB), whatever the number of groups."""


@dataclass(frozen=True)
class Estimate:
    """A score (0 to 1) with the two ends of its interval."""

    value: float
    low: float
    high: float

    def to_dict(self, name: str) -> Mapping[str, float]:
        """`{name, name_low, name_high}`, for flat JSON and metric names."""
        ends = {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}
        # Plain floats: Dagster's metadata takes no other.
        return {key: float(value) for key, value in ends.items()}


def wilson_interval(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (E. B. Wilson, 1927, no continuity correction) of `k` out of `n`.

    Both are counts, or effective counts of rows that hang together. With n = 0 nothing is known
    and the interval is (0, 1). Raises ValueError when k is not in 0..n or the level not between
    0 and 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k has to lie in 0..n, got k={k}, n={n}")
    if not 0 < level < 1:
        raise ValueError(f"level has to lie between 0 and 1, got {level}")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    share = k / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) ** 0.5 / (1 + z2 / n)
    # The ends are 0 and 1 exactly for k = 0 and k = n; rounding must not say otherwise.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


def percentile_interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The two quantiles of `values` (float (resamples,)) that hold `level` between them."""
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _distinct_rows(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct rows of `rows` (m, c) and how often each occurs."""
    as_bytes = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, many = np.unique(as_bytes.ravel(), return_index=True, return_counts=True)
    return rows[first].astype(np.float64), many


def resampled_totals(
    counts: NDArray[Any], strata: NDArray[Any], *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """Sums of the groups' counts over `resamples` stratified bootstrap samples of groups.

    Groups are drawn with replacement, as many as there are, separately in each stratum (Davison
    and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.2 and 3.8). Groups of
    one stratum with equal counts are exchangeable, so the draw is a multinomial over distinct
    counts: the same distribution at a small part of the cost.

    Args:
        counts: number (groups, c), what each group adds.
        strata: (groups,), the stratum of each group.
        seed: of the draw.
        resamples: number of samples.

    Returns:
        float64 (resamples, c).
    """
    generator = np.random.default_rng(seed)
    totals = np.zeros((resamples, counts.shape[1]), np.float64)
    for label in np.unique(strata):
        kinds, many = _distinct_rows(counts[strata == label])
        drawn = int(many.sum())
        step = max(1, _DRAWS_AT_ONCE // len(kinds))
        for start in range(0, resamples, step):
            part = totals[start : start + step]
            part += generator.multinomial(drawn, many / drawn, size=len(part)) @ kinds
    return totals


def group_strata(labels: NDArray[Any], group: Integers, groups_count: int) -> NDArray[np.int64]:
    """The stratum of each group: that of its rows' label, or one for all groups of several labels.

    Where a group holds several labels, as a person does who shows every expression, none of them
    says what it has in common with another one. Strata by the label of one of its rows would split
    such groups by chance, into strata of few that hardly vary.

    Args:
        labels: (n,), what each row is.
        group: int (n,), which group it belongs to, 0..groups_count-1; none without a row.
        groups_count: number of groups.

    Returns:
        int64 (groups,).
    """
    _, label = np.unique(labels, return_inverse=True)
    least = np.full(groups_count, len(labels), np.int64)
    largest = np.full(groups_count, -1, np.int64)
    np.minimum.at(least, group, label)
    np.maximum.at(largest, group, label)
    return np.where(least == largest, least, -1)


def resampled_confusions(
    expression: Integers,
    predicted: Integers,
    classes_count: int,
    groups: NDArray[Any],
    *,
    seed: int,
    resamples: int,
) -> NDArray[np.int64]:
    """Confusion matrices of `resamples` stratified cluster-bootstrap samples.

    Whole groups are drawn, see `resampled_totals`, in the strata of `group_strata`.

    Args:
        expression: int (n,), true class as a position 0..classes_count-1.
        predicted: int (n,), predicted class, likewise.
        classes_count: number of classes K.
        groups: str (n,), rows with an equal value stand or fall together.
        seed: of the draw.
        resamples: number of samples.

    Returns:
        int64 (resamples, K, K), rows are true classes, columns predicted ones.
    """
    names, group = np.unique(groups, return_inverse=True)
    cells = classes_count**2
    counts = np.zeros((len(names), cells), np.int32)
    expression = np.asarray(expression, np.int64)
    np.add.at(counts, (group, expression * classes_count + predicted), 1)
    strata = group_strata(expression, group, len(names))
    totals = resampled_totals(counts, strata, seed=seed, resamples=resamples)
    return np.rint(totals).astype(np.int64).reshape(resamples, classes_count, classes_count)


def says_too_little(expression: Integers, right: NDArray[np.bool_], groups: NDArray[Any]) -> bool:
    """Whether samples say too little of the recall of some class.

    Its rows, `expression` (n,) and whether they are `right` (n,), are all right, all wrong, or of
    fewer than `LEAST_GROUPS` of `groups` (n,).
    """
    for one in np.unique(expression):
        rows = expression == one
        if (
            right[rows].all()
            or not right[rows].any()
            or len(np.unique(groups[rows])) < LEAST_GROUPS
        ):
            return True
    return False


def wilson_estimates(
    scores: Sequence[Any], expression: Integers, right: NDArray[np.bool_], groups: NDArray[Any]
) -> list[Estimate]:
    """Accuracy, balanced accuracy and macro-F1 with intervals made of Wilson's, see
    `metrics.evaluate_predictions`; a group counts as one observation.
    """

    def ends(rows: NDArray[np.bool_]) -> tuple[float, float]:
        count = len(np.unique(groups[rows]))
        return wilson_interval(float(right[rows].mean()) * count, count)

    accuracy, balanced, f1 = (float(score) for score in scores)
    off = []
    for one in np.unique(expression):
        rows = expression == one
        off.append(np.abs(np.subtract(ends(rows), right[rows].mean())))
    below, above = np.sqrt(np.square(off).sum(axis=0)) / len(off)
    low, high = max(0.0, balanced - below), min(1.0, balanced + above)
    return [
        Estimate(accuracy, *ends(np.full(len(right), True))),
        Estimate(balanced, float(low), float(high)),
        Estimate(f1, max(0.0, float(f1 + low - balanced)), min(1.0, float(f1 + high - balanced))),
    ]
