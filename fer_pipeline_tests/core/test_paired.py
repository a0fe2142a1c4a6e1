import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fer_pipeline.core.paired import CORRECTED, EXACT, compare_paired, mcnemar


def pairs(both_right: int, only_first: int, only_second: int, both_wrong: int):
    counts = (both_right, only_first, only_second, both_wrong)
    first = np.repeat([True, True, False, False], counts)
    return first, np.repeat([True, False, True, False], counts)


def singletons(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


def test_approval_ratings_of_agresti_differ():
    # Agresti, Categorical Data Analysis: 794 approve twice, 150 and 86 once, 570 never; the
    # uncorrected statistic is 17.36, with the correction (63^2 / 236) 16.82.
    found = mcnemar(*pairs(794, 150, 86, 570))
    assert (found.only_first, found.only_second) == (150, 86)
    assert (found.both_right, found.both_wrong) == (794, 570)
    assert found.method == CORRECTED
    assert found.statistic == pytest.approx(63**2 / 236)
    assert_allclose(found.p_value, 4.1e-5, rtol=0.02)


def test_few_discordant_pairs_are_tested_exactly():
    # Nine to one of ten coins: 2 * (1 + 10) / 1024.
    found = mcnemar(*pairs(30, 9, 1, 5))
    assert found.method == EXACT
    assert found.statistic is None
    assert found.p_value == pytest.approx(22 / 1024)


@pytest.mark.parametrize(("discordant", "method"), [(24, EXACT), (25, CORRECTED)])
def test_25_discordant_pairs_are_enough_for_chi_squared(discordant, method):
    assert mcnemar(*pairs(0, 5, discordant - 5, 0)).method == method


@settings(max_examples=200)
@given(only_first=st.integers(0, 60), only_second=st.integers(0, 60))
def test_p_value_equals_scipy(only_first, only_second):
    from scipy import stats

    found = mcnemar(*pairs(3, only_first, only_second, 2))
    discordant = only_first + only_second
    if found.method == EXACT:
        expected = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    else:
        expected = stats.chi2.sf(max(0, abs(only_first - only_second) - 1) ** 2 / discordant, 1)
    assert_allclose(found.p_value, expected, rtol=1e-9)
    swapped = mcnemar(*pairs(3, only_second, only_first, 2))
    assert swapped.p_value == found.p_value


def test_equal_raters_differ_by_nothing():
    assert mcnemar(*pairs(10, 0, 0, 10)).p_value == 1
    assert mcnemar(*pairs(10, 40, 40, 10)).p_value == 1


def test_raters_of_different_faces_are_refused():
    with pytest.raises(ValueError, match="same faces"):
        mcnemar(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(ValueError, match="at least one face"):
        compare_paired(*pairs(0, 0, 0, 0), singletons(0), seed=0, resamples=10)


def test_difference_is_second_minus_first_with_its_interval():
    first, second = pairs(300, 80, 40, 80)
    found = compare_paired(first, second, singletons(500), seed=0, resamples=4000)
    assert (found.first.value, found.second.value) == (0.76, 0.68)
    assert found.difference.value == pytest.approx(-0.08)
    # Normal approximation of a paired difference.
    half = 1.96 * np.sqrt((120 / 500 - 0.08**2) / 500)
    assert_allclose(
        (found.difference.low, found.difference.high), (-0.08 - half, -0.08 + half), atol=0.004
    )
    again = compare_paired(first, second, singletons(500), seed=0, resamples=4000)
    assert again.difference == found.difference


def test_copies_of_faces_do_not_narrow_the_interval():
    first, second = pairs(60, 20, 10, 10)
    options = {"seed": 0, "resamples": 4000}
    once = compare_paired(first, second, singletons(100), **options).difference
    many = np.repeat(first, 4), np.repeat(second, 4)
    aware = compare_paired(*many, np.repeat(singletons(100), 4), **options).difference
    blind = compare_paired(*many, singletons(400), **options).difference
    assert_allclose(aware.high - aware.low, once.high - once.low, rtol=0.08)
    assert_allclose(blind.high - blind.low, (once.high - once.low) / 2, rtol=0.08)


def test_difference_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        first = generator.random(150) < 0.7
        second = np.where(generator.random(150) < 0.5, first, generator.random(150) < 0.6)
        found = compare_paired(first, second, singletons(150), seed=trial, resamples=300)
        hits += found.difference.low <= -0.05 <= found.difference.high
    assert 0.9 <= hits / 200 <= 0.99


@pytest.mark.parametrize(("counts", "value"), [((20, 0, 0, 20), 0), ((0, 0, 40, 0), 1)])
def test_unvarying_difference_still_has_an_interval(counts, value):
    found = compare_paired(*pairs(*counts), singletons(40), seed=0, resamples=50).difference
    assert found.value == value
    assert found.low == pytest.approx(value - 0.0876, abs=1e-3)
    assert found.high == pytest.approx(min(1, value + 0.0876), abs=1e-3)


def test_raters_that_differ_by_class_alone_have_an_interval():
    # Each always says one class: drawn by class, samples of the difference are all alike.
    first = np.repeat([True, False, False], 20)
    second = np.repeat([False, True, False], 20)
    options = {"seed": 0, "resamples": 400}
    found = compare_paired(
        first, second, singletons(60), strata=np.repeat([0, 1, 2], 20), **options
    )
    assert found.difference.low < -0.1 < 0.1 < found.difference.high
    assert found == compare_paired(first, second, singletons(60), **options)


def test_two_faces_of_one_photo_do_not_settle_a_difference():
    found = compare_paired(
        np.array([True, False]),
        np.array([True, True]),
        np.array(["photo", "photo"]),
        seed=0,
        resamples=20,
    ).difference
    assert (found.value, found.high) == (0.5, 1.0)
    assert found.low < 0


def test_dict_is_strict_json_with_the_raters_names():
    found = compare_paired(*pairs(5, 3, 1, 1), singletons(10), seed=0, resamples=20)
    stored = json.loads(json.dumps(found.to_dict("people", "model"), allow_nan=False))
    assert stored["people"] == 0.8
    assert stored["model_count"] == 6
    assert stored["mcnemar"]["only_people_right"] == 3
    assert stored["mcnemar"]["method"] == "exact binomial"
