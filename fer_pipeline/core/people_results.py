"""What a report on people's answers holds, as numbers, tables and JSON.

How it is computed from a study and its answers is in `people.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_pipeline.core.agreement import ASSUMPTION, Share
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.people_model import ModelAgainstPeople
from fer_pipeline.core.people_scores import LabelAgreement, Times, estimate_dict
from fer_pipeline.core.study import SMALL_STUDY


@dataclass(frozen=True)
class AnnotatorScores:
    """One annotator's answers; `agreement` and `kappa` over answers that name a class."""

    name: str
    answers: int
    unsure: int
    not_a_face: int
    agreement: Share
    kappa: Estimate | None
    self_agreement: Share
    times: Times


@dataclass(frozen=True)
class PairScores:
    """Two annotators on the faces for which both named a class."""

    first: str
    second: str
    agreement: Share
    kappa: Estimate | None


@dataclass(frozen=True)
class PeopleReport:
    """Everything a study's answers say. First showings count, second ones only for self-agreement.

    Attributes:
        stream, study, kind, sample, label_source, manifest_hash, classes: of the study.
        choices: the classes and the two answers that name none.
        faces: of the study; `faces_answered` have an answer.
        answers: first showings answered, by all annotators; `repeats` second ones.
        unsure, not_a_face: of the answers.
        decided: against the labels, over answers that name a class.
        everything: over all answers, those that name no class being disagreement.
        confusion: int64 (K, K + 2), labels in rows, choices in columns.
        prevalence: share of each class in the test split, or whatever the caller gave.
        implied: ceiling that `decided` implies under `ASSUMPTION`; None for a study of suspects,
            whose faces were picked because their labels are doubted.
        alpha_with_label: Krippendorff's alpha, the label being one more annotator.
        alpha_annotators: the same among the annotators alone; None where no face has two.
        self_agreement: second showings answered as the first.
        times: seconds an answer took, second showings included.
        seconds: float64 (m,), these answers one by one, pauses left out.
        test_share: share of the study's faces that are of the test split.
        by_annotator, pairs: one for each annotator, and for each two of them.
        model: the model on the same faces, for each kind of predictions.
    """

    stream: str
    study: str
    kind: str
    sample: str
    created: str
    label_source: str
    manifest_hash: str
    classes: tuple[str, ...]
    choices: tuple[str, ...]
    faces: int
    faces_answered: int
    answers: int
    repeats: int
    unsure: int
    not_a_face: int
    decided: LabelAgreement
    everything: LabelAgreement
    confusion: NDArray[np.int64]
    prevalence: Mapping[str, float]
    implied: Estimate | None
    alpha_with_label: Estimate | None
    alpha_annotators: Estimate | None
    self_agreement: Share
    times: Times
    seconds: NDArray[np.float64]
    test_share: float
    by_annotator: tuple[AnnotatorScores, ...]
    pairs: tuple[PairScores, ...]
    model: tuple[ModelAgainstPeople, ...]
    seed: int
    resamples: int

    @property
    def small(self) -> bool:
        """Whether there are too few answers to say much."""
        return self.answers < SMALL_STUDY

    def scalars(self) -> dict[str, float]:
        """Every single figure that is defined, under a flat name."""
        found: dict[str, float] = {
            "answers": self.answers,
            "annotators": len(self.by_annotator),
            "faces_answered": self.faces_answered,
            "repeats": self.repeats,
            "unsure": self.unsure,
            "not_a_face": self.not_a_face,
            "test_share": self.test_share,
        }
        estimates = {
            "agreement": self.decided.answers.estimate,
            "agreement_all_answers": self.everything.answers.estimate,
            **self.decided.estimates(),
            "implied_ceiling": self.implied,
            "alpha_with_label": self.alpha_with_label,
            "alpha_annotators": self.alpha_annotators,
            "self_agreement": self.self_agreement.estimate,
        }
        for name, estimate in estimates.items():
            if estimate is not None:
                found |= estimate.to_dict(name)
        if self.times.median is not None:
            found["seconds_median"] = self.times.median
        for one in self.model:
            found |= one.scalars()
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        same = (
            "stream",
            "study",
            "kind",
            "sample",
            "created",
            "label_source",
            "manifest_hash",
            "faces",
            "faces_answered",
            "answers",
            "repeats",
            "unsure",
            "not_a_face",
            "test_share",
            "small",
            "seed",
            "resamples",
        )
        return {
            **{name: getattr(self, name) for name in same},
            "classes": list(self.classes),
            "choices": list(self.choices),
            "prevalence": dict(self.prevalence),
            "decided": self.decided.to_dict(self.classes),
            "everything": self.everything.to_dict(self.classes),
            "confusion": self.confusion.tolist(),
            "implied_ceiling": estimate_dict(self.implied),
            "implied_ceiling_assumes": ASSUMPTION,
            "alpha_with_label": estimate_dict(self.alpha_with_label),
            "alpha_annotators": estimate_dict(self.alpha_annotators),
            **self.self_agreement.to_dict("self_agreement"),
            "times": dict(vars(self.times)),
            "by_annotator": [
                {
                    "annotator": one.name,
                    "answers": one.answers,
                    "unsure": one.unsure,
                    "not_a_face": one.not_a_face,
                    **one.agreement.to_dict("agreement"),
                    "kappa": estimate_dict(one.kappa),
                    **one.self_agreement.to_dict("self_agreement"),
                    "times": dict(vars(one.times)),
                }
                for one in self.by_annotator
            ],
            "pairs": [
                {
                    "first": one.first,
                    "second": one.second,
                    **one.agreement.to_dict("agreement"),
                    "kappa": estimate_dict(one.kappa),
                }
                for one in self.pairs
            ],
            "model": [one.to_dict() for one in self.model],
        }

    def class_table(self) -> pd.DataFrame:
        """One row for each class: answers that name a class, recall with interval, prevalence."""
        return pd.DataFrame(
            [
                {
                    "class": name,
                    "answers": share.of,
                    "recall": share.value,
                    "recall low": share.low,
                    "recall high": share.high,
                    "recall, all answers": every.value,
                    "prevalence": self.prevalence.get(name),
                }
                for name, share, every in zip(
                    self.classes, self.decided.by_class, self.everything.by_class, strict=True
                )
            ]
        )

    def annotator_table(self) -> pd.DataFrame:
        """One row for each annotator."""
        return pd.DataFrame(
            [
                {
                    "annotator": one.name,
                    "answers": one.answers,
                    "agreement": one.agreement.value,
                    "agreement low": one.agreement.low,
                    "agreement high": one.agreement.high,
                    "kappa": None if one.kappa is None else one.kappa.value,
                    "self-agreement": one.self_agreement.value,
                    "unsure": one.unsure,
                    "not a face": one.not_a_face,
                    "median seconds": one.times.median,
                }
                for one in self.by_annotator
            ]
        )
