"""What the annotators of a study decided together of each face, and which labels that corrects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fer_pipeline.core.answers import Answer
from fer_pipeline.core.corrections import MOST_CHARACTERS, Correction
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import NOT_A_FACE, UNSURE, Study

_NO_FACE = "No-Face"
"""What `labels.py` calls a picture without a face."""


@dataclass(frozen=True)
class Verdicts:
    """Every face that was answered, once: `corrections` and the counts add up to them.

    `confirmed` faces keep their label by majority; `unsure` are those whose majority is unsure;
    `undecided` have no majority, or one of too few annotators.
    """

    corrections: Sequence[Correction]
    confirmed: int
    unsure: int
    undecided: int


def verdicts(
    study: Study,
    answers: Sequence[Answer],
    votes: int = 1,
    earlier: Sequence[Correction] = (),
) -> Verdicts:
    """Decide by majority: more than half of a face's annotators, and at least `votes` of them.

    An annotator who answered both showings of a face differently has no vote on it. A correction
    carries the names of those who agree and the time of their last answer. Where more answers
    changed what this study said in `earlier`, it goes on from there, back to the label too. Raises
    InputError for a study whose labels are FER+ votes, which nobody can correct one by one.
    """
    if study.label_source != "listed":
        raise InputError(
            f"the labels of {study.key} are {study.label_source}, not listed ones, and can't be "
            "corrected face by face: run with --label-source listed, then draw another study"
        )
    by_face: dict[str, dict[str, list[Answer]]] = {}
    for answer in answers:
        by_face.setdefault(answer.face_id, {}).setdefault(answer.annotator, []).append(answer)
    label_of = dict(
        zip(study.items["face_id"].to_pylist(), study.items["expression"].to_pylist(), strict=True)
    )
    last = {line.face_id: line for line in earlier}
    corrections: list[Correction] = []
    counts = {"confirmed": 0, "unsure": 0, "undecided": 0}
    for face, given in by_face.items():
        chosen = _majority(given, votes)
        if chosen is None:
            counts["undecided"] += 1
            continue
        if chosen == UNSURE:
            counts["unsure"] += 1
            continue
        new = _NO_FACE if chosen == NOT_A_FACE else chosen
        old, before = label_of[face], last.get(face)
        if before is not None and before.study == study.key:
            old = before.old if new == before.new != label_of[face] else before.new
        if new == old:
            counts["confirmed"] += 1
        else:
            agreeing = {who: said for who, said in given.items() if _vote(said) == chosen}
            corrections.append(
                Correction(
                    face_id=face,
                    old=old,
                    new=new,
                    who=_names(sorted(agreeing)),
                    when=max(answer.answered_at for said in agreeing.values() for answer in said),
                    study=study.key,
                )
            )
    return Verdicts(corrections, **counts)


def _majority(given: dict[str, list[Answer]], votes: int) -> str | None:
    cast = Counter(vote for vote in map(_vote, given.values()) if vote is not None)
    if not cast:
        return None
    chosen, count = cast.most_common(1)[0]
    return chosen if count >= votes and 2 * count > cast.total() else None


def _vote(said: Sequence[Answer]) -> str | None:
    """What an annotator says of a face, None where both showings differ."""
    different = {answer.answer for answer in said}
    return different.pop() if len(different) == 1 else None


def _names(names: Sequence[str]) -> str:
    """The names in one text; the number of those for whom a cell has no room."""
    kept, text = len(names), ", ".join(names)
    while len(text) > MOST_CHARACTERS:
        kept -= 1
        text = f"{', '.join(names[:kept])} and {len(names) - kept} more"
    return text
