"""Challenger against champion: is it better on the same faces, and may it be promoted at all?

Knows of predictions, cards and groups; where models stand and who moves an alias is the business
of `champion.py` of the package.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.intervals import (
    LEAST_GROUPS,
    Estimate,
    Floats,
    Integers,
    group_strata,
    percentile_interval,
    resampled_totals,
    wilson_interval,
)
from fer_pipeline.core.metrics import confusion_matrix, macro_f1_of_labels
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.paired import PairedComparison, compare_paired

LEAST_PHOTOS = 20
"""Photos that a comparison needs: of fewer, bootstrap intervals are too narrow to trust."""

_CROP_FIELDS = ("side", "colour", "margin", "detect", "align")
"""The crop settings that change the pixels a model sees."""
_NAMED = 3


class Verdict(StrEnum):
    """What became of a version."""

    FIRST = "first"
    PROMOTED = "promoted"
    KEPT = "kept"
    REFUSED = "refused"
    BLOCKED = "blocked"
    BY_HAND = "promoted_by_hand"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True)
class Decision:
    """A verdict on a challenger, and why, as a sentence for people."""

    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Challenge:
    """Two models on the same faces; gains are challenger minus champion (-1 to 1).

    `accuracy` has the champion first; `left_out` counts faces that weren't compared since the
    champion was trained on them, `photos` the groups that were.
    """

    accuracy: PairedComparison
    champion_macro_f1: float
    challenger_macro_f1: float
    macro_f1_gain: Estimate
    faces: int
    photos: int
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "faces": self.faces,
            "photos": self.photos,
            "left_out": self.left_out,
            "champion_macro_f1": self.champion_macro_f1,
            "challenger_macro_f1": self.challenger_macro_f1,
            **self.macro_f1_gain.to_dict("macro_f1_gain"),
            "accuracy": self.accuracy.to_dict("champion", "challenger"),
        }


def compare_models(
    expression: Integers,
    champion: Integers,
    challenger: Integers,
    groups: NDArray[Any],
    *,
    classes_count: int,
    seed: int,
    resamples: int,
    left_out: int = 0,
) -> Challenge:
    """Compare what two models say of the same faces.

    Args:
        expression: int (n,), true class as a position 0..classes_count-1.
        champion: int (n,), the champion's predicted class, likewise.
        challenger: int (n,), the challenger's.
        groups: (n,), faces with an equal value are drawn together.
        classes_count: number of classes K.
        seed: of both bootstraps.
        resamples: number of bootstrap samples.
        left_out: number of faces that were left out beforehand, for the record.

    Accuracies are compared by McNemar's test and a paired bootstrap (`compare_paired`), macro-F1
    by a paired bootstrap of the same draw: whole groups, in the strata of `group_strata`,
    both models on each sample. Where samples don't vary, the ends lie as far off as the upper end
    of Wilson's interval of none of the groups. A class of fewer than `LEAST_GROUPS` groups hardly
    varies in samples, though it counts as much as any other: each widens both ends by what its
    groups leave open, see `_left_open`. Raises ValueError when lengths differ or there are no
    faces.
    """
    expression = np.asarray(expression, np.int64)
    if not expression.shape == champion.shape == challenger.shape == groups.shape:
        raise ValueError(
            f"two models of the same faces, got {len(expression)} labels, {len(groups)} groups, "
            f"{len(champion)} and {len(challenger)} predictions"
        )
    accuracy = compare_paired(
        champion == expression,
        challenger == expression,
        groups,
        seed=seed,
        resamples=resamples,
        strata=expression,
    )
    names, group = np.unique(groups, return_inverse=True)
    cells = classes_count**2
    counts = np.zeros((len(names), 2 * cells), np.int32)
    np.add.at(counts, (group, expression * classes_count + champion), 1)
    np.add.at(counts, (group, cells + expression * classes_count + challenger), 1)
    strata = group_strata(expression, group, len(names))
    totals = resampled_totals(counts, strata, seed=seed, resamples=resamples)
    shape = (resamples, classes_count, classes_count)
    samples = [
        macro_f1_of_labels(half.reshape(shape)) for half in (totals[:, :cells], totals[:, cells:])
    ]
    old, new = (
        float(macro_f1_of_labels(confusion_matrix(expression, predicted, classes_count)))
        for predicted in (champion, challenger)
    )
    low, high = percentile_interval(samples[1] - samples[0])
    if low == high:
        reach = wilson_interval(0, len(names))[1]
        low, high = max(-1.0, new - old - reach), min(1.0, new - old + reach)
    off = _left_open(champion == expression, challenger == expression, expression, groups)
    if len(off):
        # Independent parts of one difference: their ends add up in quadrature.
        off = np.vstack([off, np.maximum(0.0, [new - old - low, high - new + old])])
        below, above = np.linalg.norm(off, axis=0)
        low, high = max(-1.0, new - old - below), min(1.0, new - old + above)
    return Challenge(
        accuracy=accuracy,
        champion_macro_f1=old,
        challenger_macro_f1=new,
        macro_f1_gain=Estimate(new - old, float(low), float(high)),
        faces=len(expression),
        photos=len(names),
        left_out=left_out,
    )


def _left_open(
    old: NDArray[np.bool_], new: NDArray[np.bool_], expression: Integers, groups: NDArray[Any]
) -> Floats:
    """How far below and above the gain may lie by the classes of few groups, float (classes, 2).

    A class' gain in recall is the share of its groups that only the `new` model (n,) got right less
    that of only the `old` one. Each share is known as well as Wilson's interval says, a group being
    one observation, and the difference as well as the two intervals' ends. A class is one part of
    all in macro-F1, whose ends are taken to lie as far off as those of mean recall.
    """
    occurring = np.unique(expression)
    off = []
    for one in occurring:
        rows = expression == one
        count = len(np.unique(groups[rows]))
        if count >= LEAST_GROUPS:
            continue
        gained, lost = float((new & ~old)[rows].mean()), float((old & ~new)[rows].mean())
        least_gained, most_gained = wilson_interval(gained * count, count)
        least_lost, most_lost = wilson_interval(lost * count, count)
        gain = gained - lost
        ends = gain - (least_gained - most_lost), (most_gained - least_lost) - gain
        off.append(np.divide(ends, len(occurring)))
    return np.array(off, np.float64)


def too_few(photos: int, left_out: int) -> Decision | None:
    """The refusal of a comparison on fewer than `LEAST_PHOTOS` photos, None for enough."""
    if photos >= LEAST_PHOTOS:
        return None
    return Decision(
        Verdict.REFUSED,
        f"{photos} photos of the dev split can be compared{_left(left_out)}, and at least "
        f"{LEAST_PHOTOS} are needed: only a person can promote it",
    )


def decide(challenge: Challenge, least_gain: float) -> Decision:
    """Whether the challenger's gain in macro-F1 holds: its interval lies above `least_gain`."""
    few = too_few(challenge.photos, challenge.left_out)
    if few is not None:
        return few
    gain, left = challenge.macro_f1_gain, _left(challenge.left_out)
    figures = (
        f"macro-F1 {challenge.challenger_macro_f1:.3f} against the champion's "
        f"{challenge.champion_macro_f1:.3f} on {challenge.faces:,} dev faces{left}, difference "
        f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    )
    if gain.low > least_gain:
        return Decision(Verdict.PROMOTED, f"the gain holds: {figures}")
    if gain.high < 0:
        return Decision(Verdict.REFUSED, f"it is worse: {figures}")
    return Decision(
        Verdict.REFUSED,
        f"no gain that holds: {figures}, whose lower end has to lie above {least_gain:g}",
    )


def with_other_faces(decision: Decision) -> Decision:
    """The decision, with a word on a champion that made its choices on other dev faces.

    The challenger chose its epoch and calibration on the faces that both are compared on.
    """
    return replace(
        decision,
        why=f"{decision.why}; the champion made its choices on another manifest's dev faces, which "
        "favours the newer version a little",
    )


def with_unknown_start(decision: Decision, started: str, *, champion: bool = False) -> Decision:
    """The decision, with a word on a model that started from one that may have seen the dev faces.

    `started` is what people call that one; `champion` says that the champion started from it.
    """
    who, whose = ("the champion", "the champion's") if champion else ("it", "its")
    return replace(
        decision,
        why=f"{decision.why}; what the model {who} started from ({started}) was trained on isn't "
        f"known, so {whose} figures on dev may be of faces it has seen",
    )


def label_objections(card: ModelCard, classes: Sequence[str], whose: str) -> list[str]:
    """What keeps a model with another label order than `whose` from that place."""
    if card.classes == tuple(classes):
        return []
    return [f"its label order is {', '.join(card.classes)} and {whose} is {', '.join(classes)}"]


def crop_objections(card: ModelCard, crop: CropSettings, whose: str) -> list[str]:
    """What keeps a model that expects other crops than `whose` from that place."""
    other = [
        f"{name} {getattr(card.crop, name)}, not {getattr(crop, name)}"
        for name in _CROP_FIELDS
        if getattr(card.crop, name) != getattr(crop, name)
    ]
    return [f"its crop settings are others than {whose} ({'; '.join(other)})"] if other else []


def leak_objections(
    trained_on: Collection[str] | None,
    groups: NDArray[np.object_],
    split: NDArray[np.object_],
    two_sided: Sequence[str],
) -> list[str]:
    """What keeps a model from being judged fairly on a manifest.

    Args:
        trained_on: the groups that it was trained on; None where that isn't known.
        groups: str (n,), of today's manifest.
        split: str (n,), of today's manifest.
        two_sided: the groups of today's manifest that stand in more than one split.
    """
    found = []
    if two_sided:
        found.append(
            f"a leak: {len(two_sided):,} photos stand in two splits of the manifest "
            f"({_some(two_sided)})"
        )
    if trained_on is not None:
        held_out = set(groups[np.isin(split, ("dev", "test"))].tolist())
        seen = sorted(held_out & set(trained_on))
        if seen:
            found.append(
                f"a leak: it was trained on {len(seen):,} photos of today's dev and test splits "
                f"({_some(seen)})"
            )
    return found


def _left(faces: int) -> str:
    return f" ({faces:,} faces left out that the champion was trained on)" if faces else ""


def _some(groups: Sequence[str]) -> str:
    named = ", ".join(groups[:_NAMED])
    return f"group {named}, ..." if len(groups) > _NAMED else f"group {named}"
