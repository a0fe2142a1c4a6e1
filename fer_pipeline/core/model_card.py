"""The model card: what a model is, what it is for and not for, and the figures behind that.

After Mitchell et al., Model Cards for Model Reporting (2019). The same words stand in the report
and in a Markdown file that goes with the model.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.report_words import unfitted_words
from fer_pipeline.core.votes import FER_VOTES, of_votes, ties_of

if TYPE_CHECKING:
    from fer_pipeline.core.report import ReportData

_FER2013 = (
    "FER2013 was collected from web searches for a challenge (Goodfellow et al., 2013) and "
    "names no licence; the rights in the photos are their owners'. FER+ votes are under the "
    "MIT licence."
)

LICENCES: Mapping[str, str] = {
    "affectnet": (
        "AffectNet is given by its authors (Mollahosseini, Hasani and Mahoor) on a signed "
        "agreement, for research that is not commercial. A model trained on it falls under "
        "what you agreed to."
    ),
    "FER2013": _FER2013,
    "fer2013": _FER2013,
    "ferplus": _FER2013,
}
"""What is known of the terms of a data set, by its title."""

_TIES: Mapping[str, str] = {
    "leave_out": "",
    "listed": ", ties by the listed label",
    "first": ", ties by the first of the expressions",
}

UNKNOWN_LICENCE = "Not known here: ask those who gave you the data before you pass the model on."
DRAWN_LICENCE = "The faces were drawn by a program; no person is in them."

_WHO = (
    "Who the people in the pictures are (age, sex, skin colour, place) is not recorded, so how "
    "scores differ between groups of people was not measured."
)

NOT_MEANT_FOR = (
    "Expression is not emotion: the model names what a face looks like to "
    "annotators, not what the person feels, thinks or intends.",
    "Decisions about people (hiring, teaching, health, credit, policing, lie "
    "detection): a name for a facial movement is no ground for any of them, and in "
    "some places inferring emotions at work or in schools is against the law.",
)

Card = list[tuple[str, list[str]]]
"""Headings, each with its sentences."""


def model_card(report: "ReportData") -> Card:
    """The card of the model that a report is on."""
    found, details = report.evaluation, report.details
    trained = "" if report.training_faces is None else f"{report.training_faces:,} faces of "
    tracked = f" MLflow run {report.mlflow_run_id}." if report.mlflow_run_id else ""
    numbers = [
        f"Accuracy {_between(found.accuracy)}, balanced accuracy "
        f"{_between(found.balanced_accuracy)}, macro-F1 {_between(found.macro_f1)} on "
        f"{found.n:,} test faces (95% intervals); always saying {found.majority_class} would "
        f"give {found.majority_accuracy:.3f}.",
        f"Calibration: ECE {found.ece:.3f}, NLL {found.nll:.3f} nats, Brier score "
        f"{found.brier:.3f}.",
    ]
    if details is not None:
        if details.temperature == 1:
            numbers.append(f"{unfitted_words(details).capitalize()}.")
        without = details.copies.without_any
        if without.accuracy is not None and details.copies.found.either.any():
            numbers.append(
                f"Without test faces that training or its lists have a copy of (near copies were "
                f"looked for among {details.copies.found.compared:,} training faces): accuracy "
                f"{_between(without.accuracy)} on {without.faces:,} faces."
            )
        numbers.append(
            f"Accuracy on {details.robustness.faces:,} test faces damaged in six ways at five "
            f"severities: {details.robustness.mean_accuracy:.3f} on average, "
            f"{details.robustness.clean:.3f} undamaged."
        )
    return [
        (
            "What it is",
            [
                f"A network that names the expression of one cropped face as one of "
                f"{', '.join(found.classes)}, with a probability for each.",
                f"Preset {report.preset}; {report.parameters:,} weights"
                + (f", {details.model_bytes / 1e6:.1f} MB" if details is not None else "")
                + f", {report.epochs} epochs, seed {report.seed}.{tracked}",
            ],
        ),
        (
            "Meant for",
            [
                "Research and teaching, sorting and searching pictures one has the right to use, "
                "and a first label that a person then checks.",
            ],
        ),
        (
            "Not meant for",
            [*NOT_MEANT_FOR],
        ),
        (
            "Data",
            [
                f"Trained on {trained}{report.dataset}"
                + (", drawn by a program" if report.drawn else "")
                + f", labels {_labels(report)}; tested on {report.test_split}. "
                f"Manifest {report.manifest_hash}.",
                *([] if report.init is None else [_start(report)]),
                *([] if report.drawn else [_WHO]),
            ],
        ),
        ("Licence of the data", [_licence(report)]),
        ("Figures", numbers),
    ]


def model_card_markdown(card: Card, title: str) -> str:
    """The card as one Markdown text."""
    parts = [f"# {title}"]
    for heading, sentences in card:
        parts += [f"## {heading}", "\n".join(f"- {sentence}" for sentence in sentences)]
    return "\n\n".join(parts) + "\n"


def read_model_card(text: str) -> dict[str, list[str]]:
    """The sentences of a card's Markdown by heading, as `model_card_markdown` writes them."""
    card: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            card[line.removeprefix("## ")] = sentences = []
        elif line.startswith("- ") and card:
            sentences.append(line.removeprefix("- "))
    return card


def _licence(report: "ReportData") -> str:
    if report.drawn:
        return DRAWN_LICENCE
    # A mixture of data sets is named after its parts, the second of one title with a number.
    parts = report.dataset.split(" + ")
    terms = []
    for part in parts:
        known = [words for name, words in LICENCES.items() if re.fullmatch(rf"{name}(-\d+)?", part)]
        terms += known or [UNKNOWN_LICENCE if len(parts) == 1 else f"{part}: {UNKNOWN_LICENCE}"]
    return " ".join(dict.fromkeys(terms))


def _labels(report: "ReportData") -> str:
    if of_votes(report.label_source):
        most = "majority" if report.votes == FER_VOTES else "largest share"
        return f"by the {most} of {report.votes}" + _TIES[ties_of(report.label_source)]
    share = report.vote_share
    votes = f", {report.votes} mixed into the training targets with a share of {share:g}"
    return "as the lists have them" + (votes if share else "")


def _start(report: "ReportData") -> str:
    start = f"Training started from the weights of {report.init}"
    if report.init_known:
        return f"{start}."
    return (
        f"{start}; what that model was trained on isn't known, so the figures here and on dev may "
        "be of faces it has seen."
    )


def _between(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
