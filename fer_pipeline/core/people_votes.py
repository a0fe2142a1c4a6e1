"""FER+ votes as the answers of ten annotators: a human ceiling without a study.

Every voter against the majority of the others, single votes and the majority against the listed
labels. What the ten columns mean is defined in `labels.py`, sums over studies are in `people.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_pipeline.core.agreement import (
    ASSUMPTION,
    Share,
    alpha_estimate,
    implied_ceiling,
    leave_one_out,
    share_of_groups,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.intervals import Estimate, resampled_totals
from fer_pipeline.core.labels import VOTE_NAMES
from fer_pipeline.core.people_model import ModelAgainstPeople, Panel, compare_with_people
from fer_pipeline.core.people_scores import estimate_dict, weighted_recall
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.votes import EXPRESSIONS

OTHER, UNKNOWN, NOT_A_FACE = "other expression", "unknown", "not a face"
"""Votes for no class of the stream: another expression, FER+'s "unknown" and "NF"."""


@dataclass(frozen=True)
class VoteAgreement:
    """Answers against a standard, in two ways of counting.

    `decided` counts answers that name a class of the stream, `everything` all of them, the others
    being wrong; `by_class` is the recall of each class over decided answers, `class_balanced`
    and `prevalence_weighted` are its means. `confusion` int64 (K, K + 3) counts all answers:
    standard in rows, choices in columns. Intervals are over groups of faces.
    """

    decided: Share
    everything: Share
    by_class: tuple[Share, ...]
    class_balanced: Estimate | None
    prevalence_weighted: Estimate | None
    confusion: NDArray[np.int64]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.decided.to_dict("agreement"),
            **self.everything.to_dict("agreement_all_votes"),
            "class_balanced": estimate_dict(self.class_balanced),
            "prevalence_weighted": estimate_dict(self.prevalence_weighted),
            "by_class": [
                {"class": name, **share.to_dict("recall")}
                for name, share in zip(classes, self.by_class, strict=True)
            ],
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class VotesReport:
    """What the votes of a data set say of people.

    Attributes:
        stream, classes: of the stream.
        choices: the classes and what else a vote can be.
        faces: with votes; `without_votes` have none and are left out.
        votes: all votes.
        leave_one_out: every voter against the majority of the other voters of the face.
        without_majority: voters whose others tie, left out of it.
        outside: voters whose others chose no class of the stream, left out of it.
        single: every vote against the listed label.
        majority: the majority of each face against the listed label.
        tied: faces without a majority, left out of `majority`.
        alpha: Krippendorff's alpha among the voters, "unknown" and "not a face" being gaps.
        implied: ceiling that decided single votes imply under `ASSUMPTION`.
        prevalence: share of each class.
        model: the model against the majority, on the same faces.
    """

    stream: str
    classes: tuple[str, ...]
    choices: tuple[str, ...]
    faces: int
    without_votes: int
    votes: int
    leave_one_out: VoteAgreement
    without_majority: int
    outside: int
    single: VoteAgreement
    majority: VoteAgreement
    tied: int
    alpha: Estimate | None
    implied: Estimate | None
    prevalence: Mapping[str, float]
    model: tuple[ModelAgainstPeople, ...]
    seed: int
    resamples: int

    def scalars(self) -> dict[str, float]:
        """Every single figure that is defined, under a flat name."""
        found: dict[str, float] = {"faces_with_votes": self.faces, "votes": self.votes}
        estimates = {
            "leave_one_out": self.leave_one_out.decided.estimate,
            "leave_one_out_all_votes": self.leave_one_out.everything.estimate,
            "single_vote_agreement": self.single.decided.estimate,
            "single_vote_agreement_all_votes": self.single.everything.estimate,
            "majority_agreement": self.majority.decided.estimate,
            "votes_alpha": self.alpha,
            "votes_implied_ceiling": self.implied,
        }
        for name, estimate in estimates.items():
            if estimate is not None:
                found |= estimate.to_dict(name)
        for one in self.model:
            found |= {f"votes_{name}": value for name, value in one.scalars().items()}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        same = (
            "stream",
            "faces",
            "without_votes",
            "votes",
            "without_majority",
            "outside",
            "tied",
            "seed",
            "resamples",
        )
        parts = ("leave_one_out", "single", "majority")
        return {
            **{name: getattr(self, name) for name in same},
            "classes": list(self.classes),
            "choices": list(self.choices),
            "prevalence": dict(self.prevalence),
            **{name: getattr(self, name).to_dict(self.classes) for name in parts},
            "alpha": estimate_dict(self.alpha),
            "implied_ceiling": estimate_dict(self.implied),
            "implied_ceiling_assumes": ASSUMPTION,
            "model": [one.to_dict() for one in self.model],
        }

    def class_table(self) -> pd.DataFrame:
        """One row for each class: leave-one-out accuracy, and recalls against listed labels."""
        rows = []
        for at, name in enumerate(self.classes):
            alone, single = self.leave_one_out.by_class[at], self.single.by_class[at]
            rows.append(
                {
                    "class": name,
                    "leave-one-out": alone.value,
                    "leave-one-out low": alone.low,
                    "leave-one-out high": alone.high,
                    "votes": alone.of,
                    "single vote against label": single.value,
                    "majority against label": self.majority.by_class[at].value,
                }
            )
        return pd.DataFrame(rows)


def votes_report(
    votes: NDArray[Any],
    label: NDArray[np.integer[Any]],
    classes: Sequence[str],
    *,
    stream: str,
    face_id: NDArray[np.object_],
    groups: NDArray[np.object_],
    prevalence: Mapping[str, float],
    predictions: Mapping[str, Predictions] | None = None,
    seed: int,
    resamples: int,
) -> VotesReport:
    """Report what the votes on the faces of a stream say of people.

    Args:
        votes: int (n, 10), see `votes.vote_matrix`; zeros where a face has no votes.
        label: int (n,), listed class as a position in `classes`.
        classes: names of the stream's classes.
        stream: its name.
        face_id: str (n,).
        groups: str (n,), faces with an equal value are drawn together.
        prevalence: class to its share, for weighted figures.
        predictions: of the stream's model by kind, see `people_model.compare_with_people`.
        seed: of the bootstrap.
        resamples: bootstrap samples.

    Raises InputError when no face has votes.
    """
    voted = votes.sum(axis=1) > 0
    if not voted.any():
        raise InputError(
            f"no face of {stream} has votes: choose a data set with FER+ votes, or make a study "
            "and let people label it"
        )
    cast, choices = _by_choice(votes[voted], classes)
    listed = np.asarray(label[voted], np.int64)
    _, group = np.unique(groups[voted], return_inverse=True)
    count = len(classes)

    def agreement(counts: NDArray[np.int16]) -> VoteAgreement:
        return _agreement(counts, group, classes, prevalence, seed=seed, resamples=resamples)

    alone = leave_one_out(cast)
    outside = int(alone.confusions[:, count:].sum())
    said, clear = _majority(cast)
    rows = np.arange(len(cast))
    single, most = (np.zeros((len(cast), count, len(choices)), np.int16) for _ in range(2))
    single[rows, listed] = cast
    most[rows[clear], listed[clear], said[clear]] = 1
    against_label = agreement(single)
    rated = cast.copy()
    rated[:, [choices.index(UNKNOWN), choices.index(NOT_A_FACE)]] = 0
    panel = Panel(
        classes=tuple(classes),
        face_id=face_id[voted],
        item=np.full(len(cast), -1),
        label=listed,
        counts=cast,
    )
    return VotesReport(
        stream=stream,
        classes=tuple(classes),
        choices=choices,
        faces=len(cast),
        without_votes=int((~voted).sum()),
        votes=int(cast.sum()),
        leave_one_out=agreement(alone.confusions[:, :count]),
        without_majority=alone.without_majority,
        outside=outside,
        single=against_label,
        majority=agreement(most),
        tied=int((~clear).sum()),
        alpha=alpha_estimate(rated, group, listed, seed=seed, resamples=resamples),
        implied=implied_ceiling(against_label.decided, count),
        prevalence=dict(prevalence),
        model=compare_with_people(panel, predictions or {}, seed=seed, resamples=resamples),
        seed=seed,
        resamples=resamples,
    )


def _by_choice(
    votes: NDArray[Any], classes: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Votes for each class, another expression, unknown and no face: int64 (n, K + 3)."""
    own = [VOTE_NAMES.index(name) for name in classes]
    others = [at for at in range(EXPRESSIONS) if at not in own]
    columns = [
        *(votes[:, at] for at in own),
        votes[:, others].sum(axis=1),
        votes[:, VOTE_NAMES.index("Unknown")],
        votes[:, VOTE_NAMES.index("No-Face")],
    ]
    return np.column_stack(columns).astype(np.int64), (*classes, OTHER, UNKNOWN, NOT_A_FACE)


def _majority(cast: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The choice with most votes of each face, and whether it has no equal."""
    most = cast.max(axis=1)
    return cast.argmax(axis=1).astype(np.int64), (cast == most[:, None]).sum(axis=1) == 1


def _agreement(
    counts: NDArray[Any],
    group: NDArray[np.int64],
    classes: Sequence[str],
    prevalence: Mapping[str, float],
    *,
    seed: int,
    resamples: int,
) -> VoteAgreement:
    """Scores of counts (faces, K, K + 3), standard by choice; `group` int (faces,) from 0."""
    count = len(classes)
    at = np.arange(count)
    right = counts[:, at, at].astype(np.int64)
    decided = counts[:, :, :count].sum(axis=2, dtype=np.int64)
    everything = counts.sum(axis=(1, 2), dtype=np.int64)
    by_group = np.zeros((int(group.max()) + 1, 2 * count + 1), np.int32)
    np.add.at(by_group, group, np.column_stack([right, decided, everything]))
    rights, decideds = by_group[:, :count], by_group[:, count : 2 * count]
    by_class = tuple(share_of_groups(rights[:, one], decideds[:, one]) for one in at)
    totals = resampled_totals(
        by_group[:, : 2 * count], np.zeros(len(by_group), int), seed=seed, resamples=resamples
    )
    hits, support = totals[:, :count], totals[:, count:]
    samples = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
    occurs = np.array([prevalence.get(name, 0.0) for name in classes], np.float64)
    groups_of = np.count_nonzero(decideds, axis=0).tolist()
    return VoteAgreement(
        decided=share_of_groups(rights.sum(axis=1), decideds.sum(axis=1)),
        everything=share_of_groups(rights.sum(axis=1), by_group[:, -1]),
        by_class=by_class,
        class_balanced=weighted_recall(by_class, groups_of, samples, np.ones(count)),
        prevalence_weighted=weighted_recall(by_class, groups_of, samples, occurs),
        confusion=counts.sum(axis=0, dtype=np.int64),
    )
