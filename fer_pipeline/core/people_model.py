"""A model against people: who agrees more often with the labels, on the same faces.

Only faces that the model wasn't trained on: the locked test split, or predictions out of fold.
What people said comes from a study (`people.py`) or from votes (`people_votes.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import Share, share_of, share_of_groups
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.paired import PairedComparison, compare_paired
from fer_pipeline.core.predictions import Predictions

TEST, OUT_OF_FOLD = "test", "out_of_fold"
"""Kinds of predictions: of the locked test split, of training faces held out in turn."""

IN_WORDS: Mapping[str, str] = {
    TEST: "faces of the test split",
    OUT_OF_FOLD: "training faces that the model had not seen (out of fold)",
}


@dataclass(frozen=True)
class Panel:
    """What people said of faces, one row a face that somebody answered.

    `face_id` str (n,); `item` int64 (n,) of the study, -1 where there is none; `label` int64 (n,)
    position in `classes`; `counts` int64 (n, choices) how many people gave each answer, the
    classes first, then what names no class.
    """

    classes: tuple[str, ...]
    face_id: NDArray[np.object_]
    item: NDArray[np.int64]
    label: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class DifferingFace:
    """A face on which people and the model differ; `probability` is of the model's answer."""

    face_id: str
    item: int | None
    label: str
    people: str
    model: str
    probability: float


@dataclass(frozen=True)
class ClassComparison:
    """Recall of people and of the model on the decided faces of one class."""

    name: str
    people: Share
    model: Share


@dataclass(frozen=True)
class ModelAgainstPeople:
    """A model and people on the same faces, judged by the same labels.

    People's answer to a face is the one that most of them gave. Where several were given equally
    often, one is drawn: leaving such faces out would leave the hard ones out, and two people
    would seem never to err. One person, or two, so count as one; more are a panel.

    Attributes:
        kind: `TEST` or `OUT_OF_FOLD`.
        faces: answered by people and predicted by the model.
        tied: of these, faces whose answer was drawn.
        undecided: of these, faces whose answer names no class.
        relabelled: of these, faces whose label is another than the one the model was scored on;
            the label that people were compared with counts here.
        people: most people that answered one of these faces.
        one_person: every single answer on these faces that names a class.
        decided: people (first) and model (second) on faces whose answer names a class.
        everything: on all faces, undecided ones being wrong for people.
        by_class: recalls on the decided faces.
        differing: decided faces without a tie on which they differ, the model's surest answer
            first.
    """

    kind: str
    faces: int
    tied: int
    undecided: int
    relabelled: int
    people: int
    one_person: Share
    decided: PairedComparison | None
    everything: PairedComparison | None
    by_class: tuple[ClassComparison, ...]
    differing: tuple[DifferingFace, ...]

    @property
    def who(self) -> str:
        """What people's answer is, in words: three and more can outvote one another."""
        return "people" if self.people < 3 else "the majority of people"

    def scalars(self) -> dict[str, float]:
        """Every single figure under a flat name that begins with the kind."""
        found = {f"{self.kind}_faces": float(self.faces)}
        if self.decided is not None:
            pair = self.decided
            for name, share in (("people", pair.first), ("model", pair.second)):
                if share.estimate is not None:
                    found |= share.estimate.to_dict(f"{self.kind}_{name}_accuracy")
            found |= pair.difference.to_dict(f"{self.kind}_model_minus_people")
            found[f"{self.kind}_mcnemar_p"] = pair.mcnemar.p_value
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = {"decided": self.decided, "everything": self.everything}
        return {
            "kind": self.kind,
            "faces": self.faces,
            "tied": self.tied,
            "undecided": self.undecided,
            "relabelled": self.relabelled,
            "people": self.people,
            **self.one_person.to_dict("one_person"),
            **{
                name: None if pair is None else pair.to_dict("people", "model")
                for name, pair in pairs.items()
            },
            "by_class": [
                {
                    "class": one.name,
                    **one.people.to_dict("people"),
                    **one.model.to_dict("model"),
                }
                for one in self.by_class
            ],
            "differing": [dict(vars(face)) for face in self.differing],
        }


def compare_with_people(
    panel: Panel, predictions: Mapping[str, Predictions], *, seed: int, resamples: int
) -> tuple[ModelAgainstPeople, ...]:
    """The model against people for each kind of predictions that has a face of the panel.

    `predictions` maps `TEST` and `OUT_OF_FOLD` to predictions. Raises InputError when they are
    of other classes than the panel's, or those of the test hold faces of another split.
    """
    found = []
    for kind, one in predictions.items():
        if kind not in IN_WORDS:
            raise ValueError(f"unknown kind of predictions {kind!r}: {', '.join(IN_WORDS)}")
        if sorted(one.classes) != sorted(panel.classes):
            raise InputError(
                f"the {kind} predictions are of {', '.join(one.classes)} and people chose from "
                f"{', '.join(panel.classes)}: evaluate a model of these classes, or make a new "
                "study"
            )
        if kind == TEST and set(one.split.tolist()) - {"test"}:
            raise InputError(
                "the test predictions hold faces of another split, on which a model may have "
                "been trained: evaluate the model again, which writes them anew"
            )
        row_of = {face: row for row, face in enumerate(one.face_id.tolist())}
        rows = np.array([row_of.get(face, -1) for face in panel.face_id.tolist()], np.int64)
        if (rows >= 0).any():
            found.append(_compare(kind, panel, one, rows, seed=seed, resamples=resamples))
    return tuple(found)


def _compare(
    kind: str,
    panel: Panel,
    predictions: Predictions,
    rows: NDArray[np.int64],
    *,
    seed: int,
    resamples: int,
) -> ModelAgainstPeople:
    here = np.flatnonzero(rows >= 0)
    rows = rows[here]
    place = {name: at for at, name in enumerate(panel.classes)}
    to_panel = np.array([place[name] for name in predictions.classes])
    model = to_panel[predictions.predicted[rows]]
    label, counts = panel.label[here], panel.counts[here]
    most = counts == counts.max(axis=1, keepdims=True)
    tied = most.sum(axis=1) > 1
    people = (most * np.random.default_rng(seed).random(counts.shape)).argmax(axis=1)
    groups = predictions.group_id[rows]
    decided = people < len(panel.classes)

    def paired(kept: NDArray[np.bool_]) -> PairedComparison | None:
        if not kept.any():
            return None
        return compare_paired(
            (people == label)[kept],
            (model == label)[kept],
            groups[kept],
            seed=seed,
            resamples=resamples,
        )

    by_class = []
    for at, name in enumerate(panel.classes):
        of = decided & (label == at)
        by_class.append(
            ClassComparison(
                name,
                share_of((people == label)[of], groups[of]),
                share_of((model == label)[of], groups[of]),
            )
        )
    surest = predictions.probability[rows].max(axis=1)
    differing = np.flatnonzero(decided & ~tied & (people != model))
    differing = differing[np.argsort(-surest[differing], kind="stable")]
    return ModelAgainstPeople(
        kind=kind,
        faces=len(here),
        tied=int(tied.sum()),
        undecided=int((~decided).sum()),
        relabelled=int((to_panel[predictions.expression[rows]] != label).sum()),
        people=int(counts.sum(axis=1).max()),
        one_person=_one_person(counts[:, : len(panel.classes)], label, groups),
        decided=paired(decided),
        everything=paired(np.ones_like(decided)),
        by_class=tuple(by_class),
        differing=tuple(
            _differing(panel, here[at], int(people[at]), int(model[at]), float(surest[at]))
            for at in differing
        ),
    )


def _one_person(
    counts: NDArray[np.int64], label: NDArray[np.int64], groups: NDArray[np.object_]
) -> Share:
    _, group = np.unique(groups, return_inverse=True)
    right = counts[np.arange(len(label)), label]
    return share_of_groups(
        np.bincount(group, weights=right), np.bincount(group, weights=counts.sum(axis=1))
    )


def _differing(panel: Panel, at: int, people: int, model: int, sure: float) -> DifferingFace:
    item = int(panel.item[at])
    return DifferingFace(
        face_id=str(panel.face_id[at]),
        item=item if item >= 0 else None,
        label=panel.classes[panel.label[at]],
        people=panel.classes[people],
        model=panel.classes[model],
        probability=sure,
    )
