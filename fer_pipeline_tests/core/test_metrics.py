import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.intervals import group_strata, resampled_confusions
from fer_pipeline.core.metrics import (
    calibration_bins,
    confusion_matrix,
    confusion_scores,
    evaluate_predictions,
    macro_f1_of_labels,
    most_confident_wrong,
    wilson_interval,
)

CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise")


def singletons(n: int) -> np.ndarray:
    return np.array([f"g{row}" for row in range(n)])


def random_case(n: int = 400, classes: int = 4, seed: int = 0):
    generator = np.random.default_rng(seed)
    expression = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes))
    logits[np.arange(n), expression] += 0.8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return expression, probabilities


def certain(predicted, classes: int) -> np.ndarray:
    return np.eye(classes)[np.asarray(predicted, int)]


def test_wilson_interval_of_693_in_1000_is_the_published_one():
    assert_allclose(wilson_interval(693, 1000), (0.664, 0.721), atol=5e-4)


@settings(deadline=None)
@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_equals_scipy(n, share, level):
    from scipy.stats import binomtest

    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(level, method="wilson")
    assert_allclose(wilson_interval(k, n, level), tuple(expected), atol=1e-9)


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_refuses_more_hits_than_trials():
    with pytest.raises(ValueError, match=r"0\.\.n"):
        wilson_interval(4, 3)


def test_scores_equal_scikit_learn():
    from sklearn import metrics as reference

    expression, probabilities = random_case()
    predicted = probabilities.argmax(axis=1)
    found = evaluate_predictions(expression, probabilities, CLASSES, singletons(400), seed=1)
    assert_allclose(found.accuracy.value, reference.accuracy_score(expression, predicted))
    assert_allclose(
        found.balanced_accuracy.value, reference.balanced_accuracy_score(expression, predicted)
    )
    assert_allclose(
        found.macro_f1.value, reference.f1_score(expression, predicted, average="macro")
    )
    assert_allclose(found.nll, reference.log_loss(expression, probabilities))
    assert_allclose(
        found.brier, reference.brier_score_loss(expression, probabilities, scale_by_half=False)
    )
    assert (found.confusion == reference.confusion_matrix(expression, predicted)).all()
    assert_allclose(
        found.confusion_normalised,
        reference.confusion_matrix(expression, predicted, normalize="true"),
    )
    expected = reference.precision_recall_fscore_support(expression, predicted)
    for column, name in zip(expected, ("precision", "recall", "f1", "support"), strict=True):
        assert_allclose([getattr(scores, name) for scores in found.by_class], column)


@settings(deadline=None)
@given(
    pairs=hnp.arrays(np.int8, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(0, 4))
)
def test_means_equal_scikit_learn_when_classes_are_absent(pairs):
    from sklearn import metrics as reference

    true, predicted = pairs.T
    accuracy, balanced, macro = confusion_scores(confusion_matrix(true, predicted, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_allclose(balanced, reference.balanced_accuracy_score(true, predicted))
        assert_allclose(
            macro, reference.f1_score(true, predicted, average="macro", zero_division=0)
        )
    assert_allclose(accuracy, (true == predicted).mean())


def test_labels_stored_as_int8_do_not_overflow():
    true = np.full(3, 11, np.int8)
    confusion = confusion_matrix(true, true, 12)
    assert confusion[11, 11] == 3
    sampled = resampled_confusions(true, true, 12, singletons(3), seed=0, resamples=2)
    assert (sampled[:, 11, 11] == 3).all()


def test_expected_calibration_error_of_a_hand_made_case():
    # Two filled bins: 0.62 sure and half right (gap 0.12), 0.92 sure and all right (gap 0.08).
    probabilities = np.array([[0.62, 0.38]] * 2 + [[0.92, 0.08]] * 2)
    found = evaluate_predictions(
        np.array([0, 1, 0, 0]), probabilities, ("a", "b"), singletons(4), seed=0
    )
    assert_allclose(found.ece, 0.5 * 0.12 + 0.5 * 0.08)
    assert [one.count for one in found.calibration if one.count] == [2, 2]


def test_calibration_bins_are_closed_on_the_right():
    bins = calibration_bins(np.array([0.2, 0.2000001, 1.0]), np.array([True, False, True]), 5)
    assert [one.count for one in bins] == [1, 1, 0, 0, 1]
    assert bins[2].accuracy is None


def test_class_without_support_has_no_recall_and_stays_out_of_the_mean():
    expression = np.array([0, 0, 1, 1])
    found = evaluate_predictions(
        expression, certain([0, 0, 1, 0], 3), ("a", "b", "c"), singletons(4), seed=0
    )
    absent = found.by_class[2]
    assert (absent.support, absent.precision, absent.recall, absent.f1) == (0, None, None, None)
    assert absent.recall_low is None
    assert_allclose(found.balanced_accuracy.value, 0.75)
    assert np.isnan(found.confusion_normalised[2]).all()


def test_class_never_predicted_has_no_precision_but_an_f1_of_zero():
    found = evaluate_predictions(
        np.array([0, 1]), certain([0, 0], 2), ("a", "b"), singletons(2), seed=0
    )
    assert found.by_class[1].precision is None
    assert found.by_class[1].f1 == 0
    assert found.by_class[1].recall == 0


def test_majority_is_the_largest_class_of_the_split():
    found = evaluate_predictions(
        np.array([1, 1, 1, 0]), certain([0, 0, 0, 0], 2), ("a", "b"), singletons(4), seed=0
    )
    assert (found.majority_class, found.majority_accuracy) == ("b", 0.75)


def test_empty_split_is_wrong_input():
    with pytest.raises(InputError, match="no face to score"):
        evaluate_predictions(
            np.zeros(0, int), np.zeros((0, 2)), ("a", "b"), np.zeros(0, str), seed=0
        )


@pytest.mark.parametrize("row", [[0.5, 0.4], [1.2, -0.2], [np.nan, 0.5]])
def test_rows_that_are_no_distribution_are_refused(row):
    with pytest.raises(ValueError, match="row 1 are not a distribution"):
        evaluate_predictions(
            np.array([0, 1]), np.array([[0.5, 0.5], row]), ("a", "b"), singletons(2), seed=0
        )


@pytest.mark.parametrize("codes", [[0, 6], [-1, 0]])
def test_true_class_out_of_range_is_refused(codes):
    with pytest.raises(ValueError, match="outside"):
        evaluate_predictions(np.array(codes), certain([0, 1], 2), ("a", "b"), singletons(2), seed=0)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shape"):
        evaluate_predictions(
            np.array([0, 1]), certain([0, 1], 3), ("a", "b"), singletons(2), seed=0
        )


def test_interval_of_singleton_groups_is_close_to_wilson():
    expression = np.zeros(300, int)
    predicted = np.r_[np.zeros(210, int), np.ones(90, int)]
    found = evaluate_predictions(
        expression, certain(predicted, 2), ("a", "b"), singletons(300), seed=3
    )
    low, high = wilson_interval(210, 300)
    assert_allclose((found.accuracy.low, found.accuracy.high), (low, high), atol=0.012)


def test_interval_is_wider_when_rows_repeat_within_groups():
    expression, probabilities = random_case(n=120)
    once = evaluate_predictions(expression, probabilities, CLASSES, singletons(120), seed=0)
    many = (np.repeat(expression, 9), np.repeat(probabilities, 9, axis=0))
    blind = evaluate_predictions(*many, CLASSES, singletons(120 * 9), seed=0)
    aware = evaluate_predictions(*many, CLASSES, np.repeat(singletons(120), 9), seed=0)
    width = [found.accuracy.high - found.accuracy.low for found in (once, blind, aware)]
    # Nine copies of a row carry what one row carries: grouped, the interval is the old one.
    assert_allclose(width[2], width[0], rtol=0.1)
    assert_allclose(width[1], width[0] / 3, rtol=0.15)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        right = generator.random(150) < 0.7
        estimate = evaluate_predictions(
            np.zeros(150, int),
            certain(~right, 2),
            ("a", "b"),
            singletons(150),
            seed=trial,
            resamples=400,
        ).accuracy
        hits += estimate.low <= 0.7 <= estimate.high
    assert 0.90 <= hits / 200 <= 0.99


def test_resamples_keep_the_number_of_groups_of_each_class():
    expression, probabilities = random_case()
    sampled = resampled_confusions(
        expression, probabilities.argmax(axis=1), 4, singletons(400), seed=0, resamples=50
    )
    assert (sampled.sum(axis=2) == np.bincount(expression)).all()
    assert len(np.unique(np.trace(sampled, axis1=1, axis2=2))) > 5


def test_resamples_have_the_spread_of_a_plain_bootstrap():
    generator = np.random.default_rng(2)
    groups = generator.integers(0, 80, 300)
    expression = groups % 2
    predicted = generator.integers(0, 2, 300)
    fast = resampled_confusions(
        expression, predicted, 2, groups.astype(str), seed=0, resamples=4000
    )
    members = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    strata = [np.unique(groups[expression == label]) for label in (0, 1)]
    plain = []
    for _ in range(1000):
        drawn = np.concatenate([generator.choice(stratum, len(stratum)) for stratum in strata])
        rows = np.concatenate([members[group] for group in drawn])
        plain.append(confusion_matrix(expression[rows], predicted[rows], 2))
    assert_allclose(fast.mean(axis=0), np.mean(plain, axis=0), rtol=0.05)
    assert_allclose(fast.std(axis=0), np.std(plain, axis=0), rtol=0.15)


@pytest.mark.parametrize("right", [True, False])
def test_perfect_or_hopeless_scores_still_have_an_interval(right):
    expression = np.repeat([0, 1], [40, 10])
    predicted = expression if right else 1 - expression
    found = evaluate_predictions(
        expression, certain(predicted, 2), ("a", "b"), singletons(50), seed=0
    )
    low, high = wilson_interval(50 * right, 50)
    assert_allclose((found.accuracy.low, found.accuracy.high), (low, high))
    for mean in (found.balanced_accuracy, found.macro_f1):
        assert mean.high - mean.low > high - low


def test_a_model_that_always_says_the_same_has_an_interval():
    # Drawn by class, its samples are all alike.
    expression = np.repeat([0, 1, 2], 20)
    found = evaluate_predictions(
        expression, certain(np.zeros(60, int), 3), CLASSES[:3], singletons(60), seed=0
    )
    assert (found.accuracy.low, found.accuracy.high) == wilson_interval(20, 60)
    always, never = wilson_interval(20, 20), wilson_interval(0, 20)
    assert_allclose(found.balanced_accuracy.low, always[0] / 3)
    assert_allclose(found.balanced_accuracy.high, (1 + 2**0.5 * never[1]) / 3)
    assert found.macro_f1.low < found.macro_f1.value < found.macro_f1.high


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), seed=st.integers(0, 1000))
def test_every_interval_holds_its_value_or_is_near_it(n, seed):
    expression, probabilities = random_case(n=n, seed=seed)
    found = evaluate_predictions(
        expression, probabilities, CLASSES, singletons(n), seed=seed, resamples=200
    )
    for estimate in (found.accuracy, found.balanced_accuracy):
        assert 0 <= estimate.low <= estimate.value + 0.05
        assert estimate.value - 0.05 <= estimate.high <= 1


def test_intervals_repeat_for_a_seed_and_change_with_it():
    expression, probabilities = random_case()
    first, again, other = (
        evaluate_predictions(expression, probabilities, CLASSES, singletons(400), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.to_dict() == again.to_dict()
    assert first.macro_f1 != other.macro_f1


def test_dict_is_strict_json_and_holds_the_figures():
    expression = np.array([0, 1, 1])
    found = evaluate_predictions(
        expression, certain([0, 1, 0], 3), ("a", "b", "c"), singletons(3), seed=0
    )
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert_allclose(stored["accuracy"], 2 / 3)
    assert stored["accuracy_low"] <= stored["accuracy"] <= stored["accuracy_high"]
    assert stored["confusion_normalised"][2] == [None, None, None]
    assert stored["by_class"][0]["precision"] == 0.5
    assert stored["majority_accuracy"] == pytest.approx(2 / 3)


def test_most_confident_errors_come_first():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert most_confident_wrong(np.array([0, 0, 0, 1]), probabilities, 5).tolist() == [2, 1]
    assert most_confident_wrong(np.array([0, 0, 0, 1]), probabilities, 1).tolist() == [2]


def test_a_class_of_two_faces_leaves_balanced_accuracy_as_uncertain_as_its_recall():
    generator = np.random.default_rng(3)
    expression = np.repeat([0, 1, 2], [200, 200, 2])
    predicted = np.where(generator.random(402) < 0.8, expression, (expression + 1) % 3)
    predicted[-2:] = [2, 0]
    found = evaluate_predictions(
        expression, certain(predicted, 3), CLASSES[:3], singletons(402), seed=0
    )
    low, high = wilson_interval(1, 2)
    assert found.balanced_accuracy.high - found.balanced_accuracy.low > (high - low) / 3
    assert found.macro_f1.high - found.macro_f1.low > (high - low) / 3
    assert found.accuracy.high - found.accuracy.low < 0.1


def test_groups_of_several_classes_are_drawn_from_all_of_them():
    labels = np.array(["a", "a", "b", "a", "b", "b"])
    strata = group_strata(labels, np.array([0, 0, 1, 2, 2, 3]), 4)
    assert strata.tolist() == [0, 1, -1, 1]
    # Persons who show every class: what differs is how well each is read.
    persons, classes = 24, 6
    expression = np.tile(np.arange(classes), persons)
    right = np.repeat(np.arange(persons) % 2 == 0, classes)
    groups = np.repeat(singletons(persons), classes)
    # The first row's class would put the twelve that are read rightly into one stratum.
    order = np.concatenate([np.roll(np.arange(classes), at % 2) for at in range(persons)])
    order += np.repeat(np.arange(persons) * classes, classes)
    confusions = resampled_confusions(
        expression[order],
        np.where(right, expression, (expression + 1) % classes)[order],
        classes,
        groups,
        seed=0,
        resamples=500,
    )
    accuracy = np.trace(confusions, axis1=1, axis2=2) / (persons * classes)
    assert np.std(accuracy) == pytest.approx((0.25 / persons) ** 0.5, rel=0.15)


def test_a_class_without_a_label_does_not_count_in_choices():
    confusion = np.array([[8, 1, 1], [0, 10, 0], [0, 0, 0]])
    by_labels = float(macro_f1_of_labels(confusion))
    assert by_labels == pytest.approx((16 / 18 + 20 / 21) / 2)
    assert float(confusion_scores(confusion)[2]) == pytest.approx(by_labels * 2 / 3)
