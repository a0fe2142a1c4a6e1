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
from fer_pipeline.core.paired import compare_paired
from fer_pipeline.core.people_model import ModelAgainstPeople
from fer_pipeline.core.report import ReportData, render_report
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
    report_data,
    served,
    shapes,
    without_maps,
)
from fer_pipeline_tests.core.test_report import Page


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


@pytest.fixture(scope="module")
def evaluation(data):
    return data.evaluation


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
