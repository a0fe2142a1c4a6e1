"""A study's answers as a report: agreement, raters, time, implied ceiling, model against people.

Only computes; what a report holds is in `people_results.py`, its figures in `people_figures.py`,
its page in `people_page.py`. Data sets that bring the votes of annotators need no study:
`people_votes.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import (
    Share,
    alpha_estimate,
    implied_ceiling,
    kappa_estimate,
    rating_counts,
    share_of,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.people_model import Panel, compare_with_people
from fer_pipeline.core.people_results import AnnotatorScores, PairScores, PeopleReport
from fer_pipeline.core.people_scores import answer_times, label_agreement, timed_seconds
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.study import NOT_A_FACE, UNSURE, Study

if TYPE_CHECKING:
    from fer_pipeline.core.answers import Answer


@dataclass(frozen=True)
class _Answers:
    """Answers as arrays, one row an answer: int64 (n,) each; `item` and `first` are items."""

    annotator: NDArray[np.int64]
    item: NDArray[np.int64]
    first: NDArray[np.int64]
    choice: NDArray[np.int64]
    milliseconds: NDArray[np.int64]

    @property
    def repeated(self) -> NDArray[np.bool_]:
        return np.not_equal(self.item, self.first)

    def where(self, kept: NDArray[np.bool_]) -> "_Answers":
        return _Answers(*(column[kept] for column in vars(self).values()))


def people_report(
    study: Study,
    answers: Sequence["Answer"],
    predictions: Mapping[str, Predictions] | None = None,
    *,
    prevalence: Mapping[str, float],
    seed: int,
    resamples: int,
) -> PeopleReport:
    """Report what the answers of a study say; none at all is a report without figures.

    Args:
        study: the study.
        answers: of any annotators.
        predictions: of the stream's model by kind, see `people_model.compare_with_people`.
        prevalence: class to its share of the manifest's test split, for weighted figures.
        seed: of every bootstrap.
        resamples: bootstrap samples of each.

    Raises InputError when an answer doesn't fit the study, or predictions don't.
    """
    names = sorted({answer.annotator for answer in answers})
    found = _as_arrays(study, answers, names)
    place = {name: at for at, name in enumerate(study.classes)}
    label = np.array([place[name] for name in study.items["expression"].to_pylist()], np.int64)
    groups = np.array(study.items["group_id"].to_pylist(), dtype=object)
    count = len(study.classes)
    drawn = {"seed": seed, "resamples": resamples}

    firsts = found.where(~found.repeated)
    named = firsts.where(firsts.choice < count)
    decided, everything = (
        label_agreement(
            label[part.item],
            part.choice,
            groups[part.item],
            study.classes,
            len(study.choices),
            prevalence,
            **drawn,
        )
        for part in (named, firsts)
    )
    confusion = rating_counts(label[firsts.item], firsts.choice, (count, len(study.choices)))
    ratings = rating_counts(named.item, named.choice, (len(study), count))
    # The label is one more annotator of the faces that somebody answered.
    seen = np.unique(named.item)
    labelled = ratings.copy()
    labelled[seen, label[seen]] += 1
    is_first = study.items["repeat_of"].is_null().to_numpy(zero_copy_only=False)
    splits = np.array(study.items["split"].to_pylist(), dtype=object)[is_first]
    chosen = rating_counts(firsts.item, firsts.choice, (len(study), len(study.choices)))
    return PeopleReport(
        stream=study.stream,
        study=study.name,
        kind=study.kind,
        sample=study.sample,
        created=study.created,
        label_source=study.label_source,
        manifest_hash=study.manifest_hash,
        classes=study.classes,
        choices=study.choices,
        faces=int(is_first.sum()),
        faces_answered=int(chosen.any(axis=1).sum()),
        answers=len(firsts.item),
        repeats=int(found.repeated.sum()),
        unsure=_choices(study, firsts, UNSURE),
        not_a_face=_choices(study, firsts, NOT_A_FACE),
        decided=decided,
        everything=everything,
        confusion=confusion,
        prevalence=dict(prevalence),
        implied=implied_ceiling(decided.answers, count) if study.kind == "people" else None,
        alpha_with_label=alpha_estimate(labelled, groups, label, **drawn),
        alpha_annotators=alpha_estimate(ratings, groups, label, **drawn),
        self_agreement=_self_agreement(found, groups),
        times=answer_times(found.milliseconds),
        seconds=timed_seconds(found.milliseconds),
        test_share=float((splits == "test").mean()),
        by_annotator=tuple(
            _annotator(study, found.where(found.annotator == at), name, label, groups, **drawn)
            for at, name in enumerate(names)
        ),
        pairs=tuple(
            _pair(study, named, (one, other), names, groups, **drawn)
            for one, other in combinations(range(len(names)), 2)
        ),
        model=compare_with_people(_panel(study, chosen, label), predictions or {}, **drawn),
        **drawn,
    )


def _as_arrays(study: Study, answers: Sequence["Answer"], names: Sequence[str]) -> _Answers:
    """The answers as arrays, checked against the study."""
    faces = study.items["face_id"].to_pylist()
    first_of = [
        item if first is None else first
        for item, first in enumerate(study.items["repeat_of"].to_pylist())
    ]
    choices = {name: at for at, name in enumerate(study.choices)}
    annotators = {name: at for at, name in enumerate(names)}
    rows = []
    for one in answers:
        problem = None
        if (one.study, one.sample) != (study.key, study.sample):
            problem = f"of the sample {one.sample} of {one.study}"
        elif not 0 <= one.item < len(faces) or faces[one.item] != one.face_id:
            problem = f"of the face {one.face_id}, which isn't its item {one.item}"
        elif one.answer not in choices:
            problem = f"{one.answer!r}, which is none of its choices"
        if problem is not None:
            raise InputError(
                f"an answer of {one.annotator!r} to item {one.item} doesn't fit the study "
                f"{study.key}: it is {problem}; import the answers of this study again"
            )
        rows.append(
            (
                annotators[one.annotator],
                one.item,
                first_of[one.item],
                choices[one.answer],
                one.milliseconds,
            )
        )
    twice = [pair for pair, many in Counter((row[0], row[1]) for row in rows).items() if many > 1]
    if twice:
        raise InputError(
            f"{names[twice[0][0]]!r} answered item {twice[0][1]} of the study {study.key} twice: "
            "give each answer once"
        )
    return _Answers(*np.array(rows, np.int64).reshape(-1, 5).T)


def _choices(study: Study, answers: _Answers, choice: str) -> int:
    return int((answers.choice == study.choices.index(choice)).sum())


def _self_agreement(answers: _Answers, groups: NDArray[np.object_]) -> Share:
    """Second showings answered as the first, among those of which both were answered."""
    before = {
        (annotator, item): choice
        for annotator, item, choice in zip(
            answers.annotator.tolist(), answers.item.tolist(), answers.choice.tolist(), strict=True
        )
    }
    again = answers.where(answers.repeated)
    earlier = np.array(
        [
            before.get(one, -1)
            for one in zip(again.annotator.tolist(), again.first.tolist(), strict=True)
        ],
        np.int64,
    )
    both = earlier >= 0
    return share_of((earlier == again.choice)[both], groups[again.item][both])


def _annotator(
    study: Study,
    answers: _Answers,
    name: str,
    label: NDArray[np.int64],
    groups: NDArray[np.object_],
    *,
    seed: int,
    resamples: int,
) -> AnnotatorScores:
    firsts = answers.where(~answers.repeated)
    named = firsts.where(firsts.choice < len(study.classes))
    truth, of = label[named.item], groups[named.item]
    return AnnotatorScores(
        name=name,
        answers=len(firsts.item),
        unsure=_choices(study, firsts, UNSURE),
        not_a_face=_choices(study, firsts, NOT_A_FACE),
        agreement=share_of(named.choice == truth, of),
        kappa=kappa_estimate(
            truth, named.choice, len(study.classes), of, seed=seed, resamples=resamples
        ),
        self_agreement=_self_agreement(answers, groups),
        times=answer_times(answers.milliseconds),
    )


def _pair(
    study: Study,
    named: _Answers,
    pair: tuple[int, int],
    names: Sequence[str],
    groups: NDArray[np.object_],
    *,
    seed: int,
    resamples: int,
) -> PairScores:
    first, second = (named.where(named.annotator == at) for at in pair)
    items, one, other = np.intersect1d(
        first.item, second.item, assume_unique=True, return_indices=True
    )
    said = first.choice[one], second.choice[other]
    return PairScores(
        first=names[pair[0]],
        second=names[pair[1]],
        agreement=share_of(said[0] == said[1], groups[items]),
        kappa=kappa_estimate(
            *said, len(study.classes), groups[items], seed=seed, resamples=resamples
        ),
    )


def _panel(study: Study, chosen: NDArray[np.int64], label: NDArray[np.int64]) -> Panel:
    """What most people said of each face that somebody answered.

    `chosen` int64 (items, choices) counts the answers to first showings.
    """
    items = np.flatnonzero(chosen.any(axis=1))
    return Panel(
        classes=study.classes,
        face_id=np.array(study.items["face_id"].to_pylist(), dtype=object)[items],
        item=items.astype(np.int64),
        label=label[items],
        counts=chosen[items],
    )
