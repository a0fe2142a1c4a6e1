"""Temperature, prior and calibration scores have the answers that theory and scikit-learn give."""

import numpy as np
import pytest

from fer_pipeline.core.calibration import (
    LEAST_FACES,
    TEMPERATURES,
    calibration_scores,
    choose_temperature,
    ece_by_chance,
    fit_class_bias,
    fit_temperature,
    with_prior,
    with_temperature,
)


def drawn_world(seed, n=20_000, classes=5):
    """Probabilities that are true by construction, and classes drawn from them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, classes))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = (truth.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return truth, np.minimum(drawn, classes - 1)


@pytest.mark.parametrize("sharpened", [0.4, 1.0, 2.5])
def test_temperature_of_a_model_that_is_too_sure_is_found(sharpened):
    truth, drawn = drawn_world(1)
    said = with_temperature(truth, 1 / sharpened)
    fitted = fit_temperature(said, drawn)
    assert fitted == pytest.approx(sharpened, rel=0.03)
    after = with_temperature(said, fitted)
    assert calibration_scores(drawn, after).ece < 0.012
    assert np.abs(after - truth).max() < 0.03


def test_calibration_of_probabilities_that_are_true_has_its_known_scores():
    truth, drawn = drawn_world(2, n=50_000)
    found = calibration_scores(drawn, truth)
    assert found.ece < 0.01
    assert found.nll == pytest.approx(-(truth * np.log(truth)).sum(axis=1).mean(), abs=0.02)
    assert found.brier == pytest.approx((1 - (truth**2).sum(axis=1)).mean(), abs=0.01)


def test_a_model_too_sure_by_a_fifth_has_an_ece_of_a_fifth():
    drawn = np.array([0] * 60 + [1] * 40)
    said = np.tile([0.8, 0.2], (100, 1))
    assert calibration_scores(drawn, said).ece == pytest.approx(0.2)
    assert fit_temperature(said, drawn) == pytest.approx(np.log(4) / np.log(1.5), rel=1e-4)


def test_fitted_temperature_is_the_slope_that_scikit_learn_fits():
    # With two classes 1 / T is the only coefficient of a logistic regression without intercept.
    from sklearn.linear_model import LogisticRegression

    truth, drawn = drawn_world(3, n=4000, classes=2)
    said = with_temperature(truth, 0.5)
    log_odds = np.log(said[:, 1:] / said[:, :1])
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(log_odds, drawn)
    assert 1 / fit_temperature(said, drawn) == pytest.approx(model.coef_.item(), rel=1e-4)


def test_ece_by_chance_is_what_perfect_probabilities_stay_below():
    few = [drawn_world(seed, n=60) for seed in range(40)]
    limits = [ece_by_chance(truth.max(axis=1), seed=0) for truth, _ in few]
    found = [calibration_scores(drawn, truth).ece for truth, drawn in few]
    assert 35 <= sum(ece <= limit for ece, limit in zip(found, limits, strict=True)) <= 40
    assert np.mean(limits) > 0.1
    many = drawn_world(0, n=20_000)[0].max(axis=1)
    assert ece_by_chance(many, seed=0) < 0.02
    assert ece_by_chance(many, seed=0) == ece_by_chance(many, seed=0)


def test_answers_that_are_said_to_be_certain_leave_no_room_for_chance():
    assert ece_by_chance(np.ones(20), seed=0) == 0


def test_nll_and_brier_equal_scikit_learn():
    from sklearn.metrics import brier_score_loss, log_loss

    truth, drawn = drawn_world(5, n=500, classes=3)
    found = calibration_scores(drawn, truth)
    assert found.nll == pytest.approx(log_loss(drawn, truth))
    truth, drawn = drawn_world(5, n=500, classes=2)
    # scikit-learn's score of two classes counts one of them.
    assert calibration_scores(drawn, truth).brier == pytest.approx(
        2 * brier_score_loss(drawn, truth[:, 1])
    )


def test_shares_as_targets_pull_the_temperature_up():
    truth, _ = drawn_world(6, n=3000)
    said = with_temperature(truth, 0.5)
    one_hot = np.eye(5)[truth.argmax(axis=1)]
    assert fit_temperature(said, truth) == pytest.approx(2, rel=1e-3)
    assert fit_temperature(said, one_hot) == fit_temperature(said, truth.argmax(axis=1))
    assert fit_temperature(said, one_hot) < 1


def test_rows_without_weight_do_not_count():
    truth, drawn = drawn_world(7, n=2000)
    wrong = (drawn + 1) % 5
    both = np.concatenate([truth, truth])
    weight = np.repeat([1.0, 0.0], 2000)
    fitted = fit_class_bias(both, np.concatenate([drawn, wrong]), weight)
    np.testing.assert_allclose(fitted, fit_class_bias(truth, drawn), atol=1e-4)


def test_a_class_of_one_heavy_row_or_none_keeps_its_probabilities():
    # The probabilities are true; class 4 occurs once, or never, and weighs as much as the others.
    truth, drawn = drawn_world(11, n=2000)
    common = np.flatnonzero(drawn < 4)
    (rare,) = np.flatnonzero(drawn == 4)[:1]
    without = fit_class_bias(truth[common], drawn[common])
    rows = np.append(common, rare)
    weight = np.ones(len(rows))
    weight[-1] = 400
    with_one = fit_class_bias(truth[rows], drawn[rows], weight)
    assert without[4] - without[:4].mean() == pytest.approx(0, abs=0.3)
    assert abs(with_one[4] - with_one[:4].mean()) < 0.75


def test_a_dev_split_without_an_error_gives_the_smallest_temperature():
    said = np.array([[0.7, 0.3], [0.1, 0.9]])
    assert fit_temperature(said, np.array([0, 1])) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(said, np.array([1, 0])) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_the_temperature_of_few_faces_is_not_taken_for_a_measurement():
    # The model is right as often as it says; 13 drawn faces would make it twice as sure, or half.
    truth, drawn = drawn_world(9, n=40 * 13)
    fits = [fit_temperature(truth[i : i + 13], drawn[i : i + 13]) for i in range(0, 520, 13)]
    assert max(fits) > 2
    assert min(fits) < 0.5
    chosen = choose_temperature(truth[:13], drawn[:13])
    assert chosen.value == 1
    assert chosen.unfitted == "13 dev faces are too few, 50 are needed"


def test_the_temperature_of_enough_faces_is_the_fitted_one():
    truth, drawn = drawn_world(10, n=LEAST_FACES)
    said = with_temperature(truth, 0.5)
    chosen = choose_temperature(said, drawn)
    assert chosen.unfitted is None
    assert chosen.value == fit_temperature(said, drawn) != 1
    assert choose_temperature(said[1:], drawn[1:]).value == 1


@pytest.mark.parametrize(
    ("named", "why"),
    [
        (lambda truth: truth.argmax(axis=1), "hardly an error"),
        (lambda truth: truth.argmin(axis=1), "say nothing of the classes"),
    ],
)
def test_a_bound_is_no_temperature(named, why):
    truth, _ = drawn_world(11, n=400)
    for sureness in (1, 20):
        said = with_temperature(truth, 1 / sureness)
        chosen = choose_temperature(said, named(truth))
        assert chosen.value == 1
        assert why in chosen.unfitted
        assert "400 dev faces" in chosen.unfitted


def test_one_error_among_many_faces_is_enough_to_fit_a_temperature():
    truth, _ = drawn_world(12, n=400)
    labels = truth.argmax(axis=1)
    labels[0] = truth[0].argsort()[-2]
    chosen = choose_temperature(truth, labels)
    assert chosen.unfitted is None
    assert TEMPERATURES[0] < chosen.value < 1


def test_a_probability_of_zero_gives_a_finite_answer():
    said = np.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]], np.float32)
    assert np.isfinite(fit_temperature(said, np.array([1, 1])))
    assert np.isfinite(with_temperature(said, 0.1)).all()


def test_temperature_keeps_the_order_and_can_be_undone():
    truth, _ = drawn_world(8, n=200)
    flatter = with_temperature(truth, 3.0)
    assert (flatter.argsort(axis=1) == truth.argsort(axis=1)).all()
    assert flatter.max() < truth.max()
    np.testing.assert_allclose(with_temperature(flatter, 1 / 3), truth, atol=1e-12)
    np.testing.assert_allclose(flatter.sum(axis=1), 1)


def test_prior_correction_gives_the_posterior_of_the_new_prior():
    # Two Gaussians of unit variance at -1 and 1: Bayes' rule has a closed form.
    points = np.linspace(-3, 3, 61)
    likelihood = np.exp(-0.5 * (points[:, None] - [-1, 1]) ** 2)

    def posterior(prior):
        joint = likelihood * prior
        return joint / joint.sum(axis=1, keepdims=True)

    balanced = posterior([0.5, 0.5])
    corrected = with_prior(balanced, [0.5, 0.5], [0.9, 0.1])
    np.testing.assert_allclose(corrected, posterior([0.9, 0.1]), atol=1e-12)
    np.testing.assert_allclose(with_prior(corrected, [9, 1], [1, 1]), balanced, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: with_temperature(np.array([[0.5, 0.5]]), 0.0), "above 0"),
        (lambda: with_temperature(np.zeros((0, 2)), 1.0), "n above 0"),
        (lambda: fit_temperature(np.array([[0.5, 0.5]]), np.array([0, 1])), "targets"),
        (lambda: fit_class_bias(np.array([[0.5, 0.5]]), np.array([0]), np.zeros(1)), "weights"),
        (lambda: with_prior(np.array([[0.5, 0.5]]), [1.0, 0.0], [0.5, 0.5]), "trained prior"),
        (lambda: with_prior(np.array([[0.5, 0.5]]), [0.5, 0.5], [1.0]), "a prior"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def _shifted(n, bias, temperature=2.0):
    """Labels drawn from known probabilities, and what a biased, too sure model says of them."""
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(n, 3))
    truth = np.exp(logits)
    truth /= truth.sum(axis=1, keepdims=True)
    drawn = (generator.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    said = np.exp(logits * temperature - bias)
    return said / said.sum(axis=1, keepdims=True), drawn


def test_class_bias_of_a_model_is_found_and_taken_back():
    bias = np.array([1.0, 0.0, -1.0])
    said, drawn = _shifted(100_000, bias)
    found = fit_class_bias(said, drawn)
    np.testing.assert_allclose(found, bias, atol=0.05)
    mended = np.exp(np.log(said) + found)
    assert fit_temperature(mended / mended.sum(axis=1, keepdims=True), drawn) == pytest.approx(
        2, rel=0.03
    )


def test_class_bias_agrees_with_the_logistic_regression_of_scikit_learn():
    # Without a bound on the bias it is a regression on one feature a row and class: here two
    # classes, whose log odds are the feature.
    from sklearn.linear_model import LogisticRegression

    said, drawn = _shifted(20_000, np.array([0.7, 0.0, 9.0]))
    kept = drawn < 2
    pair = said[kept, :2] / said[kept, :2].sum(axis=1, keepdims=True)
    odds = np.log(pair[:, 1] / pair[:, 0])
    model = LogisticRegression(C=np.inf).fit(odds[:, None], drawn[kept])
    bias = fit_class_bias(pair, drawn[kept])
    expected = model.intercept_.item() / model.coef_.item()
    assert bias[1] - bias[0] == pytest.approx(expected, abs=0.01)


def test_class_bias_of_few_faces_is_drawn_to_nothing():
    bias = np.array([1.0, 0.0, -1.0])
    few = [np.abs(fit_class_bias(*_shifted(n, bias, 1.0))).max() for n in (5, 50, 20_000)]
    assert few[0] < few[1] < few[2]
    assert few[2] == pytest.approx(1, abs=0.05)


def test_class_bias_by_weights_is_that_of_other_class_shares():
    said, drawn = _shifted(50_000, np.zeros(3), 1.0)
    shares = np.array([0.6, 0.3, 0.1])
    weight = (shares / (np.bincount(drawn) / len(drawn)))[drawn]
    bias = fit_class_bias(said, drawn, weight)
    expected = np.log(shares) - np.log(np.bincount(drawn) / len(drawn))
    np.testing.assert_allclose(bias, expected - expected.mean(), atol=0.05)
