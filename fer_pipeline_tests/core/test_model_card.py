"""The model card: where its model comes from, what it is good for, and its figures."""

import dataclasses

import pytest

from fer_pipeline.core.model_card import (
    DRAWN_LICENCE,
    UNKNOWN_LICENCE,
    model_card,
    model_card_markdown,
    read_model_card,
)
from fer_pipeline.core.report import ReportData, render_report
from fer_pipeline_tests.core.examined import examination, report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


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
