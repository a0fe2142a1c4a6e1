import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fer_pipeline.core.agreement import krippendorff_alpha
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.intervals import wilson_interval
from fer_pipeline.core.people import people_report
from fer_pipeline.core.people_model import OUT_OF_FOLD, TEST
from fer_pipeline.core.people_page import gallery_faces
from fer_pipeline.core.people_scores import answer_times
from fer_pipeline_tests.core.people_answers import (
    EVENLY,
    FIVE,
    answers_to,
    noisy_study,
    predictions_of,
    study_of,
)

OPTIONS = {"prevalence": EVENLY, "seed": 0, "resamples": 200}


def report(study, answers, predictions=None, **changes):
    return people_report(study, answers, predictions, **{**OPTIONS, **changes})


def thousand(agreeing: int = 693):
    """1,000 faces of five classes, of which `agreeing`, spread over the classes, get the label."""
    labels = [FIVE[at % 5] for at in range(1000)]
    said = [FIVE[(at + (at >= agreeing)) % 5] for at in range(1000)]
    study = study_of(labels)
    return study, answers_to(study, "Ada", said)


def test_693_of_1000_answers_are_the_study_of_the_notebooks():
    found = report(*thousand())
    agreement = found.decided.answers
    assert (agreement.count, agreement.of) == (693, 1000)
    assert_allclose((agreement.low, agreement.high), (0.664, 0.721), atol=5e-4)
    assert_allclose(found.implied.value, 0.83, atol=5e-3)
    assert not found.small
    assert found.alpha_annotators is None


def test_answers_that_name_no_class_are_counted_and_count_as_disagreement_too():
    study = study_of(["Neutral"] * 10)
    said = ["Neutral"] * 6 + ["Anger"] * 2 + ["unsure", "not a face"]
    found = report(study, answers_to(study, "Ada", said))
    assert (found.unsure, found.not_a_face, found.answers) == (1, 1, 10)
    assert (found.decided.answers.count, found.decided.answers.of) == (6, 8)
    assert (found.everything.answers.count, found.everything.answers.of) == (6, 10)
    assert found.confusion.tolist() == [[6, 0, 0, 0, 2, 1, 1]] + [[0] * 7] * 4


def test_means_of_recalls_are_balanced_or_weighted_as_classes_occur():
    study = study_of(["Neutral"] * 4 + ["Anger"] * 2 + ["Sadness"] * 2)
    said = ["Neutral"] * 3 + ["Anger"] + ["Anger", "Sadness"] + ["unsure"] * 2
    prevalence = {"Neutral": 60, "Anger": 20, "Sadness": 20}
    found = report(study, answers_to(study, "Ada", said), prevalence=prevalence)
    # Recalls 3/4 and 1/2 over decided answers; sadness has none, and 0 of 2 over all.
    assert found.decided.class_balanced.value == pytest.approx(0.625)
    assert found.decided.prevalence_weighted.value == pytest.approx((60 * 0.75 + 20 * 0.5) / 80)
    assert found.everything.class_balanced.value == pytest.approx(1.25 / 3)
    assert found.everything.prevalence_weighted.value == pytest.approx(0.55)
    absent = found.decided.by_class[FIVE.index("Sadness")]
    assert (absent.of, absent.value) == (0, None)
    neutral = found.decided.by_class[0]
    assert (neutral.low, neutral.high) == wilson_interval(3, 4)


def test_prevalence_of_classes_nobody_answered_gives_no_weighted_figure():
    study = study_of(["Neutral"] * 4)
    found = report(study, answers_to(study, "Ada", ["Neutral"] * 4), prevalence={"Anger": 1.0})
    assert found.decided.prevalence_weighted is None
    assert found.decided.class_balanced.value == 1


def test_means_have_intervals_that_hold_them_even_when_all_is_right():
    study, answers, _ = noisy_study(30, ["Ada"])
    noisy = report(study, answers).decided
    right = answers_to(study, "Ada", study.items["expression"].to_pylist())
    perfect = report(study, right).decided
    for found in (noisy, perfect):
        for mean in (found.class_balanced, found.prevalence_weighted, found.kappa):
            assert mean.low < mean.high
            assert mean.low <= mean.value <= mean.high
    assert perfect.class_balanced.value == 1


def test_second_showings_count_for_self_agreement_alone():
    study = study_of(["Neutral", "Anger", "Sadness", "Surprise"], repeat_of=[1, 2, 3])
    said = ["Neutral", "Neutral", "Sadness", None, "Neutral", "Anger", "Surprise"]
    found = report(study, answers_to(study, "Ada", said))
    assert (found.answers, found.repeats, found.faces, found.faces_answered) == (3, 3, 4, 3)
    assert found.decided.answers.count == 2
    # The third was never answered the first time.
    assert (found.self_agreement.count, found.self_agreement.of) == (1, 2)
    assert (found.self_agreement.low, found.self_agreement.high) == wilson_interval(1, 2)


def test_unsure_twice_is_the_same_answer_twice():
    study = study_of(["Neutral"], repeat_of=[0])
    found = report(study, answers_to(study, "Ada", ["unsure", "unsure"]))
    assert found.self_agreement.value == 1


def test_second_showings_of_one_annotator_are_not_held_against_anothers_first():
    study = study_of(["Neutral"], repeat_of=[0])
    answers = answers_to(study, "Ada", ["Neutral", "Neutral"]) + answers_to(
        study, "Bo", [None, "Anger"]
    )
    found = report(study, answers)
    assert (found.self_agreement.count, found.self_agreement.of) == (1, 1)


def test_pauses_and_answers_without_a_time_are_left_out_and_counted():
    found = answer_times(np.array([1000, 2000, 3000, 4000, 60_000, 60_001, 0]))
    assert (found.timed, found.pauses, found.untimed) == (5, 1, 1)
    assert (found.lower_quartile, found.median, found.upper_quartile) == (2, 3, 4)
    nothing = answer_times(np.array([0, 0]))
    assert (nothing.timed, nothing.median) == (0, None)


def test_two_annotators_are_compared_with_the_label_and_with_each_other():
    from sklearn.metrics import cohen_kappa_score

    study, answers, _ = noisy_study(40, ["Ada", "Bo"])
    found = report(study, answers)
    said = {
        name: {one.item: one.answer for one in answers if one.annotator == name and not one.repeat}
        for name in ("Ada", "Bo")
    }
    label = study.items["expression"].to_pylist()
    for one in found.by_annotator:
        kept = [item for item, answer in said[one.name].items() if answer in FIVE]
        expected = cohen_kappa_score(
            [label[item] for item in kept], [said[one.name][item] for item in kept]
        )
        assert one.kappa.value == pytest.approx(expected)
        assert one.agreement.of == len(kept)
    (pair,) = found.pairs
    both = [item for item in said["Ada"] if {said["Ada"][item], said["Bo"][item]} <= set(FIVE)]
    assert pair.agreement.of == len(both)
    assert pair.kappa.value == pytest.approx(
        cohen_kappa_score(*([one[item] for item in both] for one in said.values()))
    )
    counts = np.array(
        [
            [sum(one.get(item) == name for one in said.values()) for name in FIVE]
            for item in range(200)
        ]
    )
    assert found.alpha_annotators.value == pytest.approx(krippendorff_alpha(counts))
    answered = counts.any(axis=1)
    counts[answered, [FIVE.index(name) for name in np.array(label)[:200][answered]]] += 1
    assert found.alpha_with_label.value == pytest.approx(krippendorff_alpha(counts))


def test_two_annotators_of_the_same_faces_are_not_twice_the_evidence():
    study, one = thousand()
    two = one + answers_to(study, "Bo", [answer.answer for answer in one])
    alone, both = report(study, one).decided, report(study, two).decided
    assert both.answers.of == 2000
    assert_allclose(both.answers.low, alone.answers.low)
    assert_allclose(both.kappa.low, alone.kappa.low, atol=0.01)


def _by_recalls(by_class):
    """The interval of the mean of recalls that those of the classes make together."""
    shares = [share for share in by_class if share.of]
    below = np.linalg.norm([share.value - share.low for share in shares]) / len(shares)
    above = np.linalg.norm([share.high - share.value for share in shares]) / len(shares)
    mean = np.mean([share.value for share in shares])
    return mean - below, mean + above


def test_many_answers_on_three_faces_of_a_class_are_three_faces():
    study = study_of(["Neutral"] * 40 + ["Anger"] * 3)
    said = ["Neutral", "Anger"] * 20 + ["Anger", "Anger", "Neutral"]
    answers = [each for name in ("Ada", "Bo", "Cy", "Di") for each in answers_to(study, name, said)]
    found = report(study, answers).decided
    assert found.by_class[FIVE.index("Anger")].of == 12
    mean = found.class_balanced
    assert (mean.low, mean.high) == pytest.approx(_by_recalls(found.by_class))


def test_test_share_is_of_the_faces_not_of_the_showings():
    study = study_of(["Neutral"] * 4, repeat_of=[0, 1], splits=["test", "test", "dev", "train"])
    assert report(study, []).test_share == 0.5


def test_doubted_labels_imply_no_ceiling():
    study = study_of(["Neutral", "Anger"] * 20, kind="suspects")
    found = report(study, answers_to(study, "Ada", ["Neutral", "Anger"] * 20))
    assert found.decided.answers.value == 1
    assert found.implied is None


def test_study_without_answers_gives_a_report_without_figures():
    found = report(*thousand()[:1], [])
    assert found.answers == 0
    assert found.small
    assert found.decided.answers.value is None
    assert set(found.scalars()) == {
        "answers",
        "annotators",
        "faces_answered",
        "repeats",
        "unsure",
        "not_a_face",
        "test_share",
    }
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("answers", "small"), [(99, True), (100, False)])
def test_fewer_than_100_answers_are_a_small_study(answers, small):
    study, given = thousand()
    assert report(study, given[:answers]).small is small


def test_dict_and_tables_hold_the_figures():
    study, answers, predicted = noisy_study(20, ["Ada", "Bo"])
    found = report(study, answers, {TEST: predicted})
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["decided"]["agreement"] == found.decided.answers.value
    assert stored["everything"]["agreement_of"] == found.answers
    assert stored["small"] is False
    assert "equally often" in stored["implied_ceiling_assumes"]
    assert stored["model"][0]["decided"]["mcnemar"]["p_value"] <= 1
    assert found.class_table()["answers"].sum() == found.decided.answers.of
    assert found.annotator_table()["answers"].tolist() == [100, 100]
    scalars = found.scalars()
    assert all(np.isfinite(list(scalars.values())))
    assert scalars["agreement"] == found.decided.answers.value
    assert scalars["implied_ceiling_low"] < scalars["implied_ceiling"]
    assert scalars["test_model_accuracy"] == found.model[0].decided.second.value


def test_report_repeats_for_a_seed():
    study, answers, predicted = noisy_study(20, ["Ada", "Bo"])
    first, again = (report(study, answers[::step], {TEST: predicted}) for step in (1, -1))
    assert first.to_dict() == again.to_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sample": "f" * 16}, "of the sample"),
        ({"study": "five_class/other"}, "of five_class/other"),
        ({"item": 7}, "isn't its item 7"),
        ({"face_id": "f" * 16}, "isn't its item 0"),
        ({"answer": "Joy"}, "none of its choices"),
    ],
)
def test_answer_to_something_else_is_refused(change, said):
    from dataclasses import replace

    study = study_of(["Neutral"] * 3)
    (answer,) = answers_to(study, "Ada", ["Neutral"])
    with pytest.raises(InputError, match=said):
        report(study, [replace(answer, **change)])


def test_same_answer_given_twice_is_refused():
    study = study_of(["Neutral"] * 3)
    with pytest.raises(InputError, match=r"'Ada' answered item 0 .* twice"):
        report(study, 2 * answers_to(study, "Ada", ["Neutral"]))


def test_model_is_compared_only_on_faces_that_people_answered_and_it_predicted():
    study = study_of(["Neutral", "Anger", "Sadness", "Surprise"])
    answers = answers_to(study, "Ada", ["Neutral", "Neutral", "unsure", None])
    predicted = predictions_of(study, ["Anger", "Anger", "Sadness"])
    (found,) = report(study, answers, {TEST: predicted}).model
    assert (found.faces, found.undecided, found.tied) == (3, 1, 0)
    pair = found.decided
    assert (pair.first.count, pair.second.count, pair.first.of) == (1, 1, 2)
    assert (pair.mcnemar.only_first, pair.mcnemar.only_second) == (1, 1)
    assert (found.everything.first.count, found.everything.second.count) == (1, 2)
    assert found.everything.first.of == 3


def test_faces_where_model_and_people_differ_are_listed_surest_first():
    study = study_of(["Neutral", "Anger", "Sadness"])
    answers = answers_to(study, "Ada", ["Neutral", "Neutral", "Sadness"])
    predicted = predictions_of(study, ["Anger", "Anger", "Sadness"])
    predicted.probability[1] = [0.05, 0.05, 0.05, 0.05, 0.8]
    people = report(study, answers, {TEST: predicted})
    (found,) = people.model
    listed = [(one.item, one.label, one.people, one.model) for one in found.differing]
    assert listed == [(1, "Anger", "Neutral", "Anger"), (0, "Neutral", "Neutral", "Anger")]
    assert found.differing[0].probability == pytest.approx(0.8)
    assert gallery_faces(people) == found.differing


def test_model_with_its_classes_in_another_order_is_the_same_model():
    study, answers, predicted = noisy_study(20, ["Ada"])
    turned = type(predicted)(
        classes=predicted.classes[::-1],
        face_id=predicted.face_id,
        group_id=predicted.group_id,
        split=predicted.split,
        expression=4 - predicted.expression,
        probability=predicted.probability[:, ::-1],
    )
    one, other = (report(study, answers, {TEST: given}).model for given in (predicted, turned))
    assert one == other


def test_each_kind_of_predictions_is_compared_by_itself():
    study = study_of(["Neutral"] * 4)
    answers = answers_to(study, "Ada", ["Neutral"] * 4)
    predicted = predictions_of(study, ["Anger"] * 2)
    held_out = predictions_of(study, ["Neutral"] * 3, split="train")
    found = report(study, answers, {TEST: predicted, OUT_OF_FOLD: held_out}).model
    assert [(one.kind, one.faces) for one in found] == [("test", 2), ("out_of_fold", 3)]
    elsewhere = predictions_of(study_of(["Neutral"] * 9, splits=["dev"] * 9), ["Anger"] * 9)
    elsewhere.face_id[:] = [f"other{at}" for at in range(9)]
    assert report(study, answers, {TEST: elsewhere}).model == ()


def test_predictions_of_training_faces_are_no_test_predictions():
    study = study_of(["Neutral"] * 4)
    trained_on = predictions_of(study, ["Neutral"] * 4, split="train")
    with pytest.raises(InputError, match="another split"):
        report(study, answers_to(study, "Ada", ["Neutral"] * 4), {TEST: trained_on})


def test_predictions_of_other_classes_are_refused():
    study = study_of(["Neutral"] * 4)
    three = predictions_of(study, ["Neutral"] * 4, classes=("Neutral", "Happiness", "Fear"))
    with pytest.raises(InputError, match="people chose from Neutral, Happiness, Sadness"):
        report(study, answers_to(study, "Ada", ["Neutral"] * 4), {TEST: three})


def test_two_people_who_disagree_are_not_left_out_of_the_comparison():
    # Each of the two is right on 70%, by chance; where they agree they nearly always are.
    generator = np.random.default_rng(0)
    labels = [FIVE[at % 5] for at in range(2000)]
    study = study_of(labels)
    answers = []
    for name in ("Ada", "Bo"):
        wrong = [FIVE[(at + generator.integers(1, 5)) % 5] for at in range(2000)]
        right = generator.random(2000) < 0.7
        said = [
            label if ok else other for label, other, ok in zip(labels, wrong, right, strict=True)
        ]
        answers += answers_to(study, name, said)
    predicted = predictions_of(study, labels)
    (found,) = report(study, answers, {TEST: predicted}).model
    assert found.tied > 700
    assert found.decided.first.value == pytest.approx(0.7, abs=0.03)
    assert found.one_person.value == pytest.approx(0.7, abs=0.02)
    assert found.one_person.of == 4000
    # A drawn answer is nobody's in particular, and not shown as what people said.
    both = {
        first.face_id
        for first, second in zip(answers[:2000], answers[2000:], strict=True)
        if first.answer == second.answer
    }
    assert found.differing
    assert {one.face_id for one in found.differing} <= both


def test_three_people_count_as_the_panel_that_they_are():
    study = study_of(["Neutral", "Anger"])
    said = (["Neutral", "Anger"], ["Neutral", "Neutral"], ["Sadness", "Neutral"])
    answers = [
        answer
        for name, one in zip("ABC", said, strict=True)
        for answer in answers_to(study, name, one)
    ]
    (found,) = report(study, answers, {TEST: predictions_of(study, ["Neutral", "Anger"])}).model
    assert (found.tied, found.decided.first.count, found.decided.second.count) == (0, 1, 2)
    assert (found.one_person.count, found.one_person.of) == (3, 6)
    assert found.who == "the majority of people"


def test_faces_relabelled_since_the_model_was_scored_are_counted():
    study = study_of(["Neutral", "Anger"])
    predicted = predictions_of(study, ["Neutral", "Anger"])
    predicted.expression[1] = 0
    answers = answers_to(study, "Ada", ["Neutral", "Anger"])
    (found,) = report(study, answers, {TEST: predicted}).model
    assert found.relabelled == 1
    assert found.decided.second.count == 2
