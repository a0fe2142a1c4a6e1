from dataclasses import replace
from datetime import timedelta

import pytest

from fer_pipeline.core.corrections import append_corrections, read_corrections
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import NOT_A_FACE, UNSURE
from fer_pipeline.core.study_verdicts import verdicts
from fer_pipeline_tests.core.small_study import START, answer_to


@pytest.fixture
def item(study):
    """A happy face that is shown once."""
    twice = study.items["repeat_of"].to_pylist()
    labels = study.items["expression"].to_pylist()
    return next(at for at in range(12) if labels[at] == "Happiness" and at not in twice)


def _said(study, item, *answers):
    """What ann, bob and so on answered to one item, a minute apart."""
    return [
        answer_to(study, item, text, annotator=who, answered_at=START + timedelta(minutes=at))
        for at, (who, text) in enumerate(zip(("ann", "bob", "cy", "dan"), answers, strict=False))
    ]


def _summary(found):
    new = [correction.new for correction in found.corrections]
    return new, found.confirmed, found.unsure, found.undecided


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["Sadness"], (["Sadness"], 0, 0, 0)),
        (["Happiness"], ([], 1, 0, 0)),
        ([UNSURE], ([], 0, 1, 0)),
        ([NOT_A_FACE], (["No-Face"], 0, 0, 0)),
        (["Sadness", "Surprise"], ([], 0, 0, 1)),
        (["Sadness", "Happiness"], ([], 0, 0, 1)),
        (["Sadness", UNSURE], ([], 0, 0, 1)),
        (["Sadness", "Sadness", UNSURE], (["Sadness"], 0, 0, 0)),
        (["Sadness", "Sadness", "Happiness", UNSURE], ([], 0, 0, 1)),
        ([UNSURE, UNSURE, "Sadness"], ([], 0, 1, 0)),
        (["Happiness", "Happiness", "Sadness"], ([], 1, 0, 0)),
    ],
)
def test_more_than_half_of_the_annotators_decide(study, item, answers, expected):
    assert _summary(verdicts(study, _said(study, item, *answers))) == expected


def test_fewer_annotators_than_asked_for_decide_nothing(study, item):
    answers = _said(study, item, "Sadness", "Sadness")
    assert _summary(verdicts(study, answers, votes=2)) == (["Sadness"], 0, 0, 0)
    assert _summary(verdicts(study, answers, votes=3)) == ([], 0, 0, 1)
    assert _summary(verdicts(study, answers[:1], votes=2)) == ([], 0, 0, 1)


def test_a_correction_says_who_agreed_when_and_where(study, item):
    answers = _said(study, item, "Sadness", "Happiness", "Sadness")
    (correction,) = verdicts(study, answers).corrections
    assert (correction.face_id, correction.old) == (answers[0].face_id, "Happiness")
    assert (correction.who, correction.study) == ("ann, cy", "three_class/people")
    assert correction.when == START + timedelta(minutes=2)


def test_an_annotator_who_contradicts_himself_has_no_vote(study):
    first = study.items["repeat_of"][12].as_py()
    wrong = next(name for name in study.classes if name != study.items["expression"][12].as_py())
    steady = [answer_to(study, at, wrong) for at in (first, 12)]
    assert _summary(verdicts(study, steady)) == ([wrong], 0, 0, 0)
    torn = [steady[0], replace(steady[1], answer=UNSURE)]
    assert _summary(verdicts(study, torn)) == ([], 0, 0, 1)


def test_corrections_are_taken_by_the_file_once(study, item, tmp_path):
    path = tmp_path / "corrections.csv"
    other = next(at for at in range(12) if study.items["expression"][at].as_py() == "Sadness")
    answers = _said(study, item, "Sadness", "Sadness") + _said(study, other, NOT_A_FACE)
    found = verdicts(study, answers).corrections
    assert append_corrections(path, found) == 2
    assert append_corrections(path, verdicts(study, answers).corrections) == 0
    assert read_corrections(path) == list(found)


def test_many_names_leave_room_for_one_another(study, item):
    answers = [answer_to(study, item, "Sadness", annotator=f"{at:040}") for at in range(30)]
    (correction,) = verdicts(study, answers).corrections
    assert correction.who.endswith(" and 26 more")
    assert len(correction.who) <= 200


def test_votes_are_not_corrected_face_by_face(study, item):
    with pytest.raises(InputError, match="can't be corrected face by face"):
        verdicts(replace(study, label_source="votes"), _said(study, item, "Sadness"))


def test_later_answers_change_what_the_study_said_back_to_the_label_too(study, item, tmp_path):
    path = tmp_path / "corrections.csv"

    def corrected(*answers):
        found = verdicts(study, _said(study, item, *answers), earlier=read_corrections(path))
        append_corrections(path, found.corrections)
        return [(one.old, one.new) for one in read_corrections(path)], found.confirmed

    first = [("Happiness", "Sadness")]
    second = [*first, ("Sadness", "Surprise")]
    third = [*second, ("Surprise", "Happiness")]
    assert corrected("Sadness") == (first, 0)
    assert corrected("Sadness", "Happiness") == (first, 0)
    assert corrected("Sadness", "Surprise", "Surprise") == (second, 0)
    assert corrected("Sadness", "Surprise", "Surprise") == (second, 0)
    assert corrected("Happiness", "Surprise", "Happiness") == (third, 0)
    assert corrected("Happiness", "Surprise", "Happiness") == (third, 1)


def test_what_another_study_said_is_not_changed_unseen(study, item, tmp_path):
    path = tmp_path / "corrections.csv"
    (other,) = verdicts(study, _said(study, item, "Sadness")).corrections
    append_corrections(path, [replace(other, study="three_class/other")])
    found = verdicts(study, _said(study, item, "Surprise"), earlier=read_corrections(path))
    with pytest.raises(InputError, match="contradicts"):
        append_corrections(path, found.corrections)
