"""Two raters of the same faces: who is right more often, and may that be chance?

Knows of right and wrong only; what was said, and by whom, is the caller's business.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import Share, share_of
from fer_pipeline.core.intervals import (
    Estimate,
    group_strata,
    percentile_interval,
    resampled_totals,
    wilson_interval,
)

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""
EXACT = "exact binomial"
CORRECTED = "chi-squared with continuity correction"


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two raters on the same faces.

    `only_first` and `only_second` count the discordant pairs, faces that one of the two got
    right. `statistic` is chi-squared with one degree of freedom, None where `method` is `EXACT`.
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    method: str
    statistic: float | None
    p_value: float


@dataclass(frozen=True)
class PairedComparison:
    """Two raters on the same faces: shares right, second minus first, and McNemar's test."""

    first: Share
    second: Share
    difference: Estimate
    mcnemar: McNemar
    groups: int
    resamples: int
    seed: int

    def to_dict(self, first: str, second: str) -> dict[str, Any]:
        """Plain values for JSON, with the two raters' names in the keys."""
        return {
            **self.first.to_dict(first),
            **self.second.to_dict(second),
            **self.difference.to_dict("difference"),
            "mcnemar": {
                "both_right": self.mcnemar.both_right,
                f"only_{first}_right": self.mcnemar.only_first,
                f"only_{second}_right": self.mcnemar.only_second,
                "both_wrong": self.mcnemar.both_wrong,
                "method": self.mcnemar.method,
                "statistic": self.mcnemar.statistic,
                "p_value": self.mcnemar.p_value,
            },
            "groups": self.groups,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """McNemar's test (1947), two-sided, of which of two raters is right more often.

    Args:
        first: bool (n,), whether the first was right on each face.
        second: bool (n,), whether the second was, on the same faces.

    Fewer than `EXACT_BELOW` discordant pairs are tested with the exact binomial distribution
    (the smaller tail doubled), more with chi-squared and Edwards's continuity correction (1948).
    Faces count as independent. Raises ValueError when lengths differ.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two raters of the same faces, got {first.shape} and {second.shape}")
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    discordant = only_first + only_second
    statistic = None
    if discordant < EXACT_BELOW:
        method = EXACT
        tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
        p_value = min(1.0, 2 * tail / 2**discordant)
    else:
        method = CORRECTED
        statistic = max(0, abs(only_first - only_second) - 1) ** 2 / discordant
        # The upper tail of chi-squared with one degree of freedom.
        p_value = math.erfc(math.sqrt(statistic / 2))
    return McNemar(
        both_right=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        both_wrong=int((~first & ~second).sum()),
        method=method,
        statistic=statistic,
        p_value=p_value,
    )


def compare_paired(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: NDArray[Any],
    *,
    seed: int,
    resamples: int,
    strata: NDArray[Any] | None = None,
) -> PairedComparison:
    """Compare two raters on the same faces.

    Args:
        first: bool (n,), whether the first was right on each face.
        second: bool (n,), whether the second was.
        groups: (n,), faces with an equal value are drawn together.
        seed: of the paired bootstrap.
        resamples: number of bootstrap samples.
        strata: (n,) labels, by which groups are drawn in the strata of `intervals.group_strata`;
            None for one.

    The interval of the difference (second minus first, -1 to 1) is a paired bootstrap over
    groups. Strata are for splits with many faces of each: those of one or two would hardly vary,
    and the interval would be too narrow. Where samples don't vary within strata, they are drawn
    without; where they don't vary then either (all faces have the same difference), the ends lie
    as far off as the upper end of Wilson's interval of none of the groups. Raises ValueError when
    lengths differ or there are no faces.
    """
    test = mcnemar(first, second)
    if not len(first) or len(groups) != len(first):
        raise ValueError(f"{len(first)} faces need as many groups and at least one face")
    names, group = np.unique(groups, return_inverse=True)
    gain = second.astype(np.int32) - first
    counts = np.zeros((len(names), 2), np.int32)
    np.add.at(counts, group, np.column_stack([np.ones_like(gain), gain]))
    labels = np.zeros(len(gain), int) if strata is None else strata
    stratum = group_strata(labels, group, len(names))
    totals = resampled_totals(counts, stratum, seed=seed, resamples=resamples)
    value = float(gain.mean())
    low, high = percentile_interval(totals[:, 1] / totals[:, 0])
    if low == high and strata is not None:
        return compare_paired(first, second, groups, seed=seed, resamples=resamples)
    if low == high:
        reach = wilson_interval(0, len(names))[1]
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return PairedComparison(
        first=share_of(first, groups),
        second=share_of(second, groups),
        difference=Estimate(value, low, high),
        mcnemar=test,
        groups=len(names),
        resamples=resamples,
        seed=seed,
    )
