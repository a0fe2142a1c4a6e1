"""Risk-coverage, ROC and precision-recall have the values that counting by hand gives."""

import itertools
import json

import numpy as np
import pytest

from fer_pipeline.core.curves import mean_area, one_vs_rest, risk_coverage


def test_risk_is_the_share_of_errors_among_the_surest():
    found = risk_coverage(np.array([0.9, 0.5, 0.8, 0.6]), np.array([True, False, True, False]))
    np.testing.assert_allclose(found.risk, [0, 0, 1 / 3, 2 / 4])
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    assert found.area == pytest.approx((1 / 3 + 1 / 2) / 4)
    np.testing.assert_array_equal(found.best_risk, found.risk)
    assert found.best_area == found.area
    assert found.error == 0.5
    assert found.risk_at(0.75) == pytest.approx(1 / 3)


def test_faces_of_equal_confidence_count_as_in_the_mean_over_their_orders():
    confidence = np.array([0.9, 0.7, 0.7, 0.7, 0.4])
    right = np.array([True, False, True, True, False])
    areas = []
    for order in itertools.permutations(range(1, 4)):
        wrong = ~right[[0, *order, 4]]
        areas.append((np.cumsum(wrong) / np.arange(1, 6)).mean())
    assert risk_coverage(confidence, right).area == pytest.approx(np.mean(areas))


def test_area_of_a_model_whose_confidence_says_nothing_is_its_error():
    generator = np.random.default_rng(0)
    right = generator.random(20_000) < 0.7
    assert risk_coverage(generator.random(20_000), right).area == pytest.approx(0.3, abs=0.02)
    assert risk_coverage(np.full(20_000, 0.5), right).area == pytest.approx(1 - right.mean())


def test_errors_last_give_the_best_area():
    right = np.random.default_rng(1).random(500) < 0.6
    found = risk_coverage(right.astype(float), right)
    error = 1 - right.mean()
    # Geifman, Uziel and El-Yaniv's closed form for many faces.
    assert found.best_area == pytest.approx(error + (1 - error) * np.log(1 - error), abs=2e-3)
    assert risk_coverage(np.linspace(1, 0, 500), np.sort(right)[::-1]).area == pytest.approx(
        found.best_area
    )


def test_risk_needs_faces_and_as_many_confidences():
    with pytest.raises(ValueError, match="at least one face"):
        risk_coverage(np.empty(0), np.empty(0, bool))
    with pytest.raises(ValueError, match="as many"):
        risk_coverage(np.ones(2), np.ones(3, bool))


def test_roc_area_is_the_share_of_pairs_in_the_right_order():
    from scipy.stats import mannwhitneyu

    generator = np.random.default_rng(2)
    expression = generator.integers(0, 3, 400)
    probabilities = generator.dirichlet([1, 1, 1], 400).round(2) + np.eye(3)[expression] * 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    for place, found in enumerate(one_vs_rest(expression, probabilities, ("a", "b", "c"))):
        score, positive = probabilities[:, place], expression == place
        pairs = mannwhitneyu(score[positive], score[~positive]).statistic
        assert found.roc_area == pytest.approx(pairs / (positive.sum() * (~positive).sum()))
        assert found.faces == positive.sum()


def test_average_precision_is_the_mean_precision_at_each_hit():
    expression = np.array([1, 0, 1, 0, 1])
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = one_vs_rest(expression, np.column_stack([1 - score, score]), ("other", "wanted"))[1]
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert found.prevalence == pytest.approx(0.6)
    assert found.roc_area == pytest.approx(3 / 6)


def test_areas_equal_scikit_learn_with_ties_and_without():
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(5)
    expression = generator.integers(0, 3, 300)
    for digits in (1, 15):
        probabilities = generator.dirichlet([1, 1, 1], 300).round(digits)
        for place, found in enumerate(one_vs_rest(expression, probabilities, ("a", "b", "c"))):
            positive, score = expression == place, probabilities[:, place]
            assert found.roc_area == pytest.approx(roc_auc_score(positive, score))
            expected = average_precision_score(positive, score)
            assert found.average_precision == pytest.approx(expected)


def test_class_without_faces_has_no_area_and_is_outside_the_mean():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = one_vs_rest(np.array([0, 1]), probabilities, ("a", "b", "c"))
    assert (found[2].roc_area, found[2].average_precision, len(found[2].recall)) == (None, None, 0)
    assert mean_area([one.roc_area for one in found]) == 1.0
    assert mean_area([None]) is None
    assert json.loads(json.dumps([one.to_dict() for one in found]))[2]["roc_area"] is None


def test_stored_curve_is_short_and_ends_at_the_error():
    right = np.random.default_rng(3).random(1000) < 0.6
    found = risk_coverage(np.linspace(1, 0, 1000), right)
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["risk"][-1] == [1.0, pytest.approx(found.error)]
    assert len(stored["risk"]) == 50
