"""The report of one model on one test split: one HTML file that needs nothing beside it.

Takes plain numbers and arrays, so it can be written for any model; where they come from is the
caller's business.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core import figures
from fer_pipeline.core.examination import Examination
from fer_pipeline.core.metrics import Estimate, Evaluation
from fer_pipeline.core.model_card import model_card
from fer_pipeline.core.near_copies import ALIKE, SIDE
from fer_pipeline.core.pages import render_page
from fer_pipeline.core.people_model import ModelAgainstPeople
from fer_pipeline.core.people_page import model_verdict, pictured
from fer_pipeline.core.png import image_png, png_as_data_uri
from fer_pipeline.core.report_details import detail_values
from fer_pipeline.core.report_words import calibration_words, champion_words, findings
from fer_pipeline.core.saliency import NEEDS_TENSORFLOW
from fer_pipeline.core.votes import FER_VOTES

SMALL_TEST = 500
"""Below this number of test faces the report warns that the intervals are wide."""

_CROP_SIDE = 112
_EMPTY_CROPS = np.zeros((0, 1, 1, 1), np.uint8)


@dataclass(frozen=True)
class WrongFaces:
    """Faces that were predicted wrongly, in the order shown.

    `crops` uint8 (n, h, w, c), grey or RGB; `true` and `predicted` n class names; `probability`
    n floats (0 to 1) of the predicted class. `suspected` counts the labels of the whole test split
    that confident learning takes for wrong, None where it wasn't asked, `suspected_here` those
    among these faces.
    """

    crops: NDArray[np.uint8] = field(default_factory=lambda: _EMPTY_CROPS)
    true: Sequence[str] = ()
    predicted: Sequence[str] = ()
    probability: Sequence[float] = ()
    suspected: int | None = None
    suspected_here: int = 0


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Attributes:
        stream: name of the stream.
        created: when the report was made, as text.
        evaluation: the model on the test split.
        linear: accuracy of the linear baseline on the same faces, or None when not computed.
        dataset: title of the data set.
        test_split: where the test faces come from ("validation list").
        manifest_rows: faces in the manifest.
        manifest_hash: content hash of the manifest.
        label_source: "listed" or "votes", with its rule for ties (see `votes.py`).
        vote_share: share of votes in the training targets of listed labels (0 to 1).
        votes: what the votes are called, see `votes.vote_words`.
        init: what people call the model that training started from, or None for none.
        init_known: whether all is known that the model in `init` has learned from.
        statuses: crop status to number of faces.
        splits: split to number of faces.
        duplicates_excluded: faces left out because the same photo is in another split.
        drawn: the faces are drawings, not photos of people.
        training_faces: faces of the stream that it was trained on, or None when not known.
        preset: training preset, with the values that replaced its own.
        parameters: weights of the network.
        epochs: epochs trained.
        seed: of the training.
        minutes: wall time of the training.
        history: a row an epoch, see `figures.training_curves`; may be empty.
        wrong: most confident errors.
        people: the model beside people on those test faces that people have labelled, or None.
        people_pictures: face_id to encoded picture, for faces on which they differ.
        details: all that was asked of the model beyond its scores, or None.
        mlflow_run_id: run that holds the model, or None.
        git_commit: commit of the code, or None.
    """

    stream: str
    created: str
    evaluation: Evaluation
    linear: Estimate | None
    dataset: str
    test_split: str
    manifest_rows: int
    manifest_hash: str
    label_source: str
    statuses: Mapping[str, int]
    splits: Mapping[str, int]
    duplicates_excluded: int
    drawn: bool
    preset: str
    parameters: int
    epochs: int
    seed: int
    minutes: float
    history: Sequence[Mapping[str, float]] = ()
    wrong: WrongFaces = field(default_factory=WrongFaces)
    people: ModelAgainstPeople | None = None
    people_pictures: Mapping[str, bytes] = field(default_factory=dict)
    details: Examination | None = None
    mlflow_run_id: str | None = None
    git_commit: str | None = None
    training_faces: int | None = None
    vote_share: float = 0.0
    votes: str = FER_VOTES
    init: str | None = None
    init_known: bool = True


def verdict(accuracy: Estimate, majority_accuracy: float, linear: Estimate | None) -> str:
    """One sentence: does the interval of the accuracy clear the baselines?

    A baseline is cleared when the low end of the interval lies above the baseline's own
    accuracy on the same faces.
    """
    bars = {"the majority class": majority_accuracy}
    if linear is not None:
        bars["the linear model on pixels"] = linear.value

    def listed(kept: Callable[[float], bool]) -> str:
        return " and ".join(f"{name} ({bar:.1%})" for name, bar in bars.items() if kept(bar))

    cleared = listed(lambda bar: bar < accuracy.low)
    reached = listed(lambda bar: accuracy.low <= bar <= accuracy.high)
    better = listed(lambda bar: bar > accuracy.high)
    interval = f"{accuracy.low:.1%} to {accuracy.high:.1%}"
    if cleared and not reached and not better:
        return f"The whole interval, {interval}, lies above {cleared}."
    clauses = []
    if cleared:
        clauses.append(f"lies above {cleared}")
    if reached:
        clauses.append(f"does not clear {reached}")
    if better:
        clauses.append(f"lies below {better}")
    return f"The interval, {interval}, {', but '.join(clauses)}."


@dataclass(frozen=True)
class _Bar:
    name: str
    value: float
    low: float | None
    high: float | None
    kind: str


def _bars(report: ReportData) -> list[_Bar]:
    found = report.evaluation
    accuracy, linear = found.accuracy, report.linear
    bars = [_Bar("This model", accuracy.value, accuracy.low, accuracy.high, "model")]
    if linear is not None:
        bars.append(
            _Bar("Linear model on pixels", linear.value, linear.low, linear.high, "baseline")
        )
    share = found.majority_accuracy
    bars.append(_Bar(f"Majority class ({found.majority_class})", share, None, None, "baseline"))
    raters = []
    if report.details is not None and report.details.champion is not None:
        beside = report.details.champion
        raters.append((beside.name[:1].upper() + beside.name[1:], beside.comparison.first))
    if report.people is not None and report.people.decided is not None:
        raters.append(("People", report.people.decided.first))
    for name, rater in raters:
        if rater.value is not None:
            where = "" if rater.of == found.n else f", on {rater.of:,} of these faces"
            bars.append(_Bar(name + where, rater.value, rater.low, rater.high, "baseline"))
    return bars


def _pictures(report: ReportData, drawn: Mapping[str, bytes]) -> dict[str, str]:
    found = report.evaluation
    made = {
        "confusion": drawn.get("confusion")
        or figures.confusion_heatmap(found.confusion, found.classes),
        "recall": drawn.get("recall") or figures.recall_bars(found.by_class),
    }
    if report.details is None:
        made["reliability"] = figures.reliability_diagram(found.calibration, found.ece)
    if report.history:
        made["curves"] = figures.training_curves(report.history)
    return {name: png_as_data_uri(png) for name, png in made.items()}


def render_report(report: ReportData, drawn: Mapping[str, bytes] | None = None) -> str:
    """The report as one HTML document: inline style, inline PNGs, no script, no request.

    It follows the reader's light or dark setting and prints. Every text is escaped. `drawn` are
    figures as PNG, by the names of `Scored.figures` and `detail_figures`, that need not be drawn
    once more.
    """
    drawn = drawn or {}
    wrong = report.wrong
    gallery = [
        {
            "uri": png_as_data_uri(image_png(crop, _CROP_SIDE)),
            "true": true,
            "predicted": guess,
            "probability": share,
        }
        for crop, true, guess, share in zip(
            wrong.crops, wrong.true, wrong.predicted, wrong.probability, strict=True
        )
    ]
    found, people, details = report.evaluation, report.people, report.details
    return render_page(
        "report.html.j2",
        report=report,
        found=found,
        bars=_bars(report),
        verdict=verdict(found.accuracy, found.majority_accuracy, report.linear),
        pictures=_pictures(report, drawn),
        gallery=gallery,
        people=people,
        people_verdict=None if people is None else model_verdict(people),
        differing=[] if people is None else pictured(people.differing, report.people_pictures),
        wrong_count=int(found.n - np.trace(found.confusion)),
        largest_cell=max(1, int(found.confusion.max())),
        confusion=found.confusion.tolist(),
        small=found.n < SMALL_TEST,
        small_limit=SMALL_TEST,
        uniform_nll=float(np.log(len(found.classes))),
        card=model_card(report),
        **_detailed(found, details, drawn),
    )


def _detailed(
    found: Evaluation, details: Examination | None, drawn: Mapping[str, bytes]
) -> dict[str, Any]:
    """What the sections on an examination need; nothing where there is none."""
    if details is None:
        return {"details": None}
    beside = details.champion
    return {
        "details": details,
        "more": detail_values(details, drawn),
        "findings": findings(found, details),
        "calibration_words": calibration_words(details),
        "champion_words": None if beside is None else champion_words(beside),
        "no_gradients": NEEDS_TENSORFLOW,
        "alike": ALIKE,
        "alike_side": SIDE,
    }
