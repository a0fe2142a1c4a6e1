"""The report on an examined model: every subject has its place, its figures, and true words."""

import dataclasses
import json
import re

import numpy as np
import pytest

from fer_pipeline.core.calibration import CalibrationScores
from fer_pipeline.core.curves import risk_coverage
from fer_pipeline.core.evaluation import evaluate_examples
from fer_pipeline.core.examination import beside_champion, examine
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.model_card import (
    DRAWN_LICENCE,
    UNKNOWN_LICENCE,
    model_card,
    model_card_markdown,
    read_model_card,
)
from fer_pipeline.core.paired import compare_paired
from fer_pipeline.core.people_model import ModelAgainstPeople
from fer_pipeline.core.report import ReportData, WrongFaces, render_report
from fer_pipeline.core.report_details import detail_figures
from fer_pipeline.core.report_words import (
    calibration_words,
    champion_words,
    copies_words,
    findings,
)
from fer_pipeline.core.saliency import NEEDS_TENSORFLOW
from fer_pipeline_tests.core.drawn_shapes import CLASSES
from fer_pipeline_tests.core.examined import (
    CARD,
    TEST,
    examination,
    predictions,
    served,
    shapes,
    without_maps,
)
from fer_pipeline_tests.core.test_report import Page


@pytest.fixture(scope="module")
def evaluation():
    said = predictions()
    return evaluate_predictions(
        said.expression, said.probability, CLASSES, said.group_id, seed=0, resamples=100
    )


@pytest.fixture(scope="module")
def data(evaluation) -> ReportData:
    return ReportData(
        stream="three_class",
        created="1 May 2025",
        evaluation=evaluation,
        linear=None,
        dataset="affectnet",
        test_split="manual_val",
        manifest_rows=150,
        manifest_hash="0badcafe",
        label_source="listed",
        statuses={"ok": 150},
        splits={"train": 90, "test": TEST},
        duplicates_excluded=0,
        drawn=False,
        preset="tiny",
        parameters=1234,
        epochs=1,
        seed=3,
        minutes=0.1,
        wrong=WrongFaces(
            np.full((1, 16, 16, 1), 99, np.uint8),
            ("Sadness",),
            ("Happiness",),
            (0.9,),
            suspected=17,
            suspected_here=1,
        ),
        details=examination(),
    )


@pytest.fixture(scope="module")
def html(data) -> str:
    return render_report(data)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_subject_has_a_section_and_every_link_a_target(html):
    ids = set(re.findall(r'<section id="([^"]+)"', html))
    wanted = {"findings", "champion", "calibration", "separation", "parts", "damage", "maps"}
    assert wanted | {"cost", "card", "limits", "scores", "errors", "data", "model"} <= ids
    targets = re.findall(r'<a href="#([^"]+)"', html)
    assert targets
    assert set(targets) <= ids


def test_report_loads_nothing_and_stays_small(page, html):
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(html) < 1_500_000


def test_figures_stand_in_the_text(page):
    found = examination()
    for figure in (
        f"ECE, 15 equal bins {found.raw.ece:.3f} {found.calibrated.ece:.3f}",
        f"NLL, nats {found.raw.nll:.3f} {found.calibrated.nll:.3f}",
        f"Brier score {found.raw.brier:.3f} {found.calibrated.brier:.3f}",
        f"risk-coverage curve {found.risk.area:.3f}",
        f"50% {1 - found.risk.risk_at(0.5):.1%}",
        f"Mean over all damage: {found.robustness.mean_accuracy:.1%}",
        "1,234 weights, 1.2 MB",
        "confident learning takes 17 of the 60 test labels for wrong, 1 of these among them",
        f"Without near copies of training crops as well {TEST - 1}",
        "Network, 64 faces at once",
        "fer-x version 3",
        "What the champion was trained on isn't known",
        "Licence of the data AffectNet is given by its authors",
    ):
        assert figure in page.text, figure
    for one in found.slices:
        assert f"{one.value} {one.faces} {one.accuracy.value:.1%}" in page.text
    for one in found.by_class:
        assert (
            f"{one.name} {one.prevalence:.1%} {one.roc_area:.3f} {one.average_precision:.3f}"
            in page.text
        )


def test_without_champion_gradients_or_slices_the_report_is_whole(data):
    bare = dataclasses.replace(without_maps(), champion=None, slices=())
    text = Page(render_report(dataclasses.replace(data, details=bare))).text
    assert "champion" not in text.lower()
    assert NEEDS_TENSORFLOW in text
    assert "All test faces are alike in what is known of them" in text


def test_champion_and_people_stand_beside_the_model_at_the_top(data):
    champion = examination().champion.comparison.first
    right = np.arange(20) < 13
    decided = compare_paired(right, right[::-1], np.arange(20), seed=0, resamples=50)
    people = ModelAgainstPeople(
        kind="test",
        faces=20,
        tied=0,
        undecided=0,
        relabelled=0,
        people=1,
        one_person=decided.first,
        decided=decided,
        everything=decided,
        by_class=(),
        differing=(),
    )
    headline = Page(render_report(dataclasses.replace(data, people=people))).text.partition(
        "In short"
    )[0]
    assert f"Fer-x version 3 {champion.value:.1%}" in headline
    assert "People, on 20 of these faces 65.0%" in headline


def test_report_without_an_examination_has_its_card_and_no_empty_sections(data):
    html = render_report(dataclasses.replace(data, details=None))
    assert 'id="card"' in html
    assert 'id="calibration"' in html
    assert not re.search(r'id="(findings|damage|maps|cost|parts)"', html)


def test_hostile_names_in_slices_and_champions_are_escaped(data):
    name = "<script>alert(1)</script>"
    found = examination()
    hostile = dataclasses.replace(
        found,
        slices=tuple(dataclasses.replace(one, value=name) for one in found.slices),
        champion=dataclasses.replace(found.champion, name=name),
        by_class=tuple(dataclasses.replace(one, name="$\\frac{") for one in found.by_class),
    )
    page = Page(render_report(dataclasses.replace(data, details=hostile)))
    assert "script" not in page.tags
    assert page.text.count(name) >= 3


@pytest.mark.filterwarnings("error::UserWarning:fer_pipeline.core.trust_figures")
@pytest.mark.parametrize("wanted", ["one face", "one class", "a class of one face"])
def test_odd_test_splits_are_examined_and_reported(data, wanted):
    manifest, training, test = shapes()
    ones = np.flatnonzero(test.expression == 1)
    rows = {
        "one face": ones[:1],
        "one class": ones,
        "a class of one face": np.append(ones, np.flatnonzero(test.expression == 0)[0]),
    }[wanted]
    test = dataclasses.replace(
        test,
        **{
            name: value[rows] for name, value in vars(test).items() if isinstance(value, np.ndarray)
        },
    )
    model = served()[1]
    scored = evaluate_examples(model, CLASSES, training, test, seed=0, resamples=50)
    details = examine(
        model,
        CARD,
        scored.predictions,
        test,
        training,
        manifest,
        photos=[],
        model_bytes=1,
        champion=beside_champion(
            "x", scored.predictions.probability, scored.predictions, None, seed=0, resamples=50
        ),
        seed=0,
        resamples=50,
    )
    json.dumps([scored.to_dict(), details.to_dict()], allow_nan=False)
    assert np.isfinite(list(details.scalars().values())).all()
    text = Page(
        render_report(dataclasses.replace(data, evaluation=scored.evaluation, details=details))
    ).text
    assert "nan" not in text.lower().split()
    assert "No photo of a test face could be read" in text


def test_every_chart_is_a_png():
    figures = detail_figures(examination())
    assert set(figures) == {
        "reliability_before_after",
        "risk_coverage",
        "roc",
        "precision_recall",
        "robustness",
    }
    assert all(png.startswith(b"\x89PNG\r\n\x1a\n") for png in figures.values())


def test_findings_name_the_weakest_class_the_copies_and_the_champion(evaluation):
    said = " ".join(findings(evaluation, examination()))
    recalls = {one.name: one.recall for one in evaluation.by_class}
    weakest = min(recalls, key=recalls.get)
    assert f"weakest at {weakest} ({recalls[weakest]:.2f} of 20)" in said
    assert "Without the 1 test face whose photo training lists have too, or of which" in said
    assert "fer-x version 3" in said


def damaged(**accuracy):
    """The examination with these accuracies under a kind of damage, undamaged ones elsewhere."""
    found = examination()
    scores = tuple(
        dataclasses.replace(one, accuracy=accuracy.get(one.kind, found.robustness.clean))
        for one in found.robustness.damaged
    )
    worse = dataclasses.replace(found.robustness, damaged=scores)
    return dataclasses.replace(found, robustness=worse)


def test_findings_name_the_damage_that_hurts_most_if_any_does(evaluation):
    said = " ".join(findings(evaluation, damaged(noise=0.1, blur=0.2)))
    assert "noise hurts most: 33.3% becomes 10.0% at severity 3 of 5" in said
    said = " ".join(findings(evaluation, damaged()))
    assert "no kind of damage tried costs accuracy (33.3% undamaged)" in said


def test_nothing_is_said_of_the_surest_half_of_a_model_without_errors(evaluation):
    surest = "Answering only for the surest half"
    assert surest in " ".join(findings(evaluation, examination()))
    right = risk_coverage(np.linspace(0.9, 0.5, TEST), np.full(TEST, True))
    perfect = dataclasses.replace(examination(), risk=right)
    assert surest not in " ".join(findings(evaluation, perfect))


def with_ece(ece, temperature, unfitted=None, by_chance=0.01):
    scores = CalibrationScores(ece, 1.0, 0.5, examination().calibrated.bins)
    return dataclasses.replace(
        examination(),
        calibrated=scores,
        temperature=temperature,
        unfitted=unfitted,
        ece_by_chance=by_chance,
    )


def test_calibration_is_praised_up_to_three_hundredths_only():
    assert "can be taken at their word" in calibration_words(with_ece(0.03, 2.0))
    assert "take them with care" in calibration_words(with_ece(0.031, 2.0))
    assert "temperature 2.00, fitted on dev" in calibration_words(with_ece(0.031, 2.0))
    assert "(ECE; no temperature was fitted)" in calibration_words(with_ece(0.01, 1.0))
    said = calibration_words(with_ece(0.01, 1.0, "13 dev faces are too few"))
    assert "(ECE; no temperature was fitted: 13 dev faces are too few)" in said


def test_calibration_that_few_faces_cannot_tell_from_perfect_is_said_to_be_so():
    said = calibration_words(with_ece(0.08, 2.0, by_chance=0.11))
    assert "may be chance: perfect ones are off by up to 0.110 there" in said
    assert "take them with care" in calibration_words(with_ece(0.12, 2.0, by_chance=0.11))


NONE_SHOWN = "No difference from fer-x version 3 is shown: +2.0 points"


@pytest.mark.parametrize(
    ("difference", "p_value", "expected"),
    [
        (Estimate(0.02, 0.01, 0.03), 0.01, "It is 2.0 points of accuracy better than fer-x"),
        (Estimate(-0.02, -0.03, -0.01), 0.01, "2.0 points of accuracy worse than fer-x"),
        (Estimate(0.02, -0.01, 0.05), 0.01, NONE_SHOWN),
        (Estimate(0.02, 0.01, 0.03), 0.06, NONE_SHOWN),
    ],
)
def test_words_on_the_champion_follow_interval_and_test(difference, p_value, expected):
    beside = examination().champion
    mcnemar = dataclasses.replace(beside.comparison.mcnemar, p_value=p_value)
    comparison = dataclasses.replace(beside.comparison, difference=difference, mcnemar=mcnemar)
    assert expected in champion_words(dataclasses.replace(beside, comparison=comparison))


def test_no_words_on_copies_where_there_are_none(evaluation):
    found = examination().copies
    none = dataclasses.replace(
        found, found=dataclasses.replace(found.found, near=np.zeros(TEST, bool))
    )
    assert copies_words(evaluation, dataclasses.replace(examination(), copies=none)) == ""


def test_card_tells_of_drawings_and_of_terms_that_are_not_known(data):
    def licence(**changes):
        return dict(model_card(dataclasses.replace(data, **changes)))["Licence of the data"]

    assert licence(drawn=True) == [DRAWN_LICENCE]
    assert licence(dataset="somebody's") == [UNKNOWN_LICENCE]
    assert "challenge" in licence(dataset="affectnet + FER2013")[0]
    assert "signed agreement" in licence(dataset="affectnet + FER2013")[0]
    assert licence(dataset="affectnet + affectnet-2") == licence(dataset="affectnet")
    mixed = licence(dataset="affectnet + somebody's")[0]
    assert mixed.endswith(f"somebody's: {UNKNOWN_LICENCE}")


def test_card_tells_what_the_stream_was_trained_on(data):
    def words(**changes):
        return dict(model_card(dataclasses.replace(data, **changes)))["Data"]

    assert words(training_faces=71)[0].startswith("Trained on 71 faces of affectnet, labels")
    assert words(training_faces=None)[0].startswith("Trained on affectnet, labels")
    assert len(words(drawn=False)) == len(words(drawn=True)) + 1
    assert "votes" not in words()[0]
    mixed = words(vote_share=0.25)[0]
    assert "FER+ votes mixed into the training targets with a share of 0.25; tested" in mixed
    soft = words(vote_share=0.25, votes="soft labels")[0]
    assert ", soft labels mixed into the training targets" in soft
    assert "labels by the majority of FER+ votes; tested" in words(label_source="votes")[0]
    soft = words(label_source="votes:first", votes="soft labels")[0]
    assert "labels by the largest share of soft labels, ties by the first" in soft


def test_card_and_report_tell_what_training_started_from_and_that_its_faces_are_not_known(data):
    def told(**changes):
        changed = dataclasses.replace(data, **changes)
        return " ".join(dict(model_card(changed))["Data"]), render_report(changed)

    for words in told():
        assert "Training started from" not in words
    for words in told(init="models:/fer-mood/3"):
        assert "Training started from the weights of models:/fer-mood/3." in words
    for words in told(init="starter", init_known=False):
        assert "Training started from the weights of starter; what that model was trained" in words
        assert "may be of faces it has seen." in words


def test_card_and_report_say_that_no_temperature_was_fitted_and_why(data):
    def told(**changes):
        details = dataclasses.replace(examination(), **changes)
        changed = dataclasses.replace(data, details=details)
        return " ".join(dict(model_card(changed))["Figures"]), render_report(changed)

    card, html = told(temperature=1.0, unfitted="13 dev faces are too few, 50 are needed")
    assert "No temperature was fitted: 13 dev faces are too few, 50 are needed." in card
    assert "No temperature was fitted." in html
    assert "was fitted on the dev split" not in html
    card, html = told(temperature=0.5)
    assert "No temperature" not in card + html
    assert "was fitted on the dev split" in html


def test_card_is_markdown_with_the_figures_and_the_warning(data):
    card = model_card(data)
    text = model_card_markdown(card, "Expression model three_class")
    assert list(read_model_card(text).items()) == card
    assert text.startswith("# Expression model three_class\n\n## What it is\n\n- ")
    assert "Expression is not emotion" in text
    found = data.evaluation
    assert f"Accuracy {found.accuracy.value:.3f} ({found.accuracy.low:.3f} to" in text
    assert f"ECE {found.ece:.3f}" in text
