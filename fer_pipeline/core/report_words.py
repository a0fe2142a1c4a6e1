"""What a report says in sentences: the findings a reader should leave with, from the figures.

Every sentence is true of the figures beside it; which one is said depends on them alone.
"""

from collections.abc import Sequence

import numpy as np

from fer_pipeline.core.examination import BesideChampion, Examination
from fer_pipeline.core.metrics import Evaluation
from fer_pipeline.core.slices import Slice

WELL_CALIBRATED = 0.03
"""ECE up to which probabilities are called fit to be used as they are."""

_SIGNIFICANT = 0.05
_LEAST_FACES = 30
_LEAST_GROUPS = 5
"""Faces that a part of the test split needs to be named as the weakest."""


def findings(evaluation: Evaluation, details: Examination) -> list[str]:
    """The report in a few sentences, the most useful first."""
    said = [_classes(evaluation), calibration_words(details), _surest(details)]
    said += [_weakest(evaluation, details.slices), copies_words(evaluation, details)]
    said.append(_damage(details))
    if details.champion is not None:
        said.insert(0, champion_words(details.champion))
    return [sentence for sentence in said if sentence]


def champion_words(beside: BesideChampion) -> str:
    """How the model does beside the champion, and whether that may be chance.

    It tells of a difference only where both its interval and McNemar's test do.
    """
    found = beside.comparison
    gap = found.difference
    points = f"{abs(gap.value) * 100:.1f} points"
    interval = f"{gap.low * 100:+.1f} to {gap.high * 100:+.1f}"
    if gap.low <= 0 <= gap.high or found.mcnemar.p_value >= _SIGNIFICANT:
        return (
            f"No difference from {beside.name} is shown: {gap.value * 100:+.1f} points of "
            f"accuracy ({interval})."
        )
    word = "better" if gap.value > 0 else "worse"
    return f"It is {points} of accuracy {word} than {beside.name} ({interval})."


def calibration_words(details: Examination) -> str:
    """Whether its probabilities can be taken at their word."""
    after, before, chance = details.calibrated.ece, details.raw.ece, details.ece_by_chance
    fit = f"Its probabilities are off by {after:.3f} on average: take them with care"
    if after <= WELL_CALIBRATED:
        fit = (
            "On faces like these its probabilities can be taken at their word: they are off by "
            f"{after:.3f} on average"
        )
    elif after <= chance:
        fit = (
            f"Its probabilities are off by {after:.3f} on average, which on so few faces may be "
            f"chance: perfect ones are off by up to {chance:.3f} there"
        )
    if details.temperature == 1:
        return f"{fit} (ECE; {unfitted_words(details)})."
    return (
        f"{fit} (ECE after temperature {details.temperature:.2f}, fitted on dev; {before:.3f} "
        "before)."
    )


def unfitted_words(details: Examination) -> str:
    """That the model has no fitted temperature, and why not where that is known."""
    why = f": {details.unfitted}" if details.unfitted else ""
    return f"no temperature was fitted{why}"


def copies_words(evaluation: Evaluation, details: Examination) -> str:
    """What test faces that training or its lists have too do to the accuracy; "" for none."""
    copies, without = details.copies.found, details.copies.without_any
    count = int(copies.either.sum())
    if not count:
        return ""
    if without.accuracy is None:
        return (
            "Training or its lists have a copy of every test face: how the model does on other "
            "faces isn't seen here."
        )
    gap = 100 * (without.accuracy.value - evaluation.accuracy.value)
    faces = "face" if count == 1 else "faces"
    return (
        f"Without the {count:,} test {faces} whose photo training lists have too, or of which "
        f"training has a near copy, accuracy is {without.accuracy.value:.1%} ({gap:+.1f} points)."
    )


def _classes(evaluation: Evaluation) -> str:
    shown = [one for one in evaluation.by_class if one.recall is not None]
    if len(shown) < 2:
        return ""
    best = max(shown, key=lambda one: one.recall or 0.0)
    weakest = min(shown, key=lambda one: one.recall or 0.0)
    if best.recall == weakest.recall:
        return ""
    words = (
        f"Best at {best.name} (recall {best.recall:.2f} of {best.support:,}), weakest at "
        f"{weakest.name} ({weakest.recall:.2f} of {weakest.support:,})"
    )
    row = evaluation.confusion[evaluation.classes.index(weakest.name)].copy()
    row[evaluation.classes.index(weakest.name)] = 0
    if not row.any():
        return words + "."
    taken = evaluation.classes[int(row.argmax())]
    return f"{words}, which is taken for {taken} in {row.max() / weakest.support:.0%} of cases."


def _surest(details: Examination) -> str:
    half = 1 - details.risk.risk_at(0.5)
    if details.risk.error in (0, 1):
        return ""
    return (
        f"Answering only for the surest half of the faces it would be right in {half:.1%} "
        f"instead of {1 - details.risk.error:.1%}."
    )


def _weakest(evaluation: Evaluation, slices: Sequence[Slice]) -> str:
    """The part of the test faces that is worse than all of them beyond its interval."""
    low = [
        one
        for one in slices
        if one.faces >= _LEAST_FACES
        and one.groups >= _LEAST_GROUPS
        and one.accuracy.high < evaluation.accuracy.value
    ]
    if not low:
        return ""
    one = min(low, key=lambda part: part.accuracy.value)
    return (
        f"Weakest part: {one.subject.lower()} “{one.value}”, {one.accuracy.value:.1%} of "
        f"{one.faces:,} faces ({one.accuracy.low:.1%} to {one.accuracy.high:.1%})."
    )


def _damage(details: Examination) -> str:
    found = details.robustness
    kind = found.worst_kind
    middle = found.of(kind)[2].accuracy
    mean = float(np.mean([one.accuracy for one in found.of(kind)]))
    if mean >= found.clean:
        return (
            "Averaged over its severities, no kind of damage tried costs accuracy "
            f"({found.clean:.1%} undamaged)."
        )
    return (
        f"Of the damage tried, {kind} hurts most: {found.clean:.1%} becomes {middle:.1%} at "
        f"severity 3 of 5 (mean of all five {mean:.1%})."
    )
