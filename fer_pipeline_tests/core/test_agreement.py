import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from fer_pipeline.core.agreement import (
    Share,
    alpha_estimate,
    cohens_kappa,
    implied_accuracy,
    implied_ceiling,
    kappa_estimate,
    krippendorff_alpha,
    leave_one_out,
    rating_counts,
    share_of,
    share_of_groups,
)
from fer_pipeline.core.intervals import wilson_interval
from fer_pipeline.core.metrics import confusion_matrix


def singletons(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


def noisy_pair(n: int, classes: int, right: float, seed: int):
    """Labels, and answers that are right with probability `right`, else of any class."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, n)
    answer = np.where(generator.random(n) < right, label, generator.integers(0, classes, n))
    return label, answer


def ratings_with_gaps(raters: int, units: int, categories: int, seed: int) -> np.ndarray:
    """Ratings (raters, units) around a true category; -1 where a rater gave none."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, categories, units)
    guess = generator.integers(0, categories, (raters, units))
    ratings = np.where(generator.random((raters, units)) < 0.6, truth, guess)
    return np.where(generator.random((raters, units)) < 0.3, -1, ratings)


def counts_of(ratings: np.ndarray, categories: int) -> np.ndarray:
    unit = np.broadcast_to(np.arange(ratings.shape[1]), ratings.shape)
    return rating_counts(unit.ravel(), ratings.ravel(), (ratings.shape[1], categories))


def test_693_of_1000_agree_in_0_664_to_0_721():
    share = share_of(np.arange(1000) < 693, singletons(1000))
    assert (share.count, share.of, share.value) == (693, 1000, 0.693)
    assert_allclose((share.low, share.high), (0.664, 0.721), atol=5e-4)
    assert_allclose((share.low, share.high), wilson_interval(693, 1000))


def test_nine_answers_to_each_face_say_no_more_than_one_if_they_are_the_same():
    right = np.arange(200) < 130
    once = share_of(right, singletons(200))
    nine = share_of(np.repeat(right, 9), np.repeat(singletons(200), 9))
    assert (nine.value, nine.of) == (once.value, 1800)
    assert_allclose((nine.low, nine.high), (once.low, once.high))


def test_answers_that_do_not_hang_together_count_each():
    right = np.random.default_rng(0).random(4000) < 0.7
    faces = np.repeat(singletons(1000), 4)
    grouped, plain = share_of(right, faces), wilson_interval(int(right.sum()), 4000)
    assert_allclose((grouped.low, grouped.high), plain, atol=0.004)
    assert grouped.low <= plain[0] + 1e-12
    assert grouped.high >= plain[1] - 1e-12


def test_interval_of_grouped_answers_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    hits = {"grouped": 0, "plain": 0}
    for _ in range(400):
        # Hard and easy faces: answers of one face are alike.
        ease = generator.choice([0.4, 0.9], 120)
        right = generator.random((120, 5)) < ease[:, None]
        grouped = share_of_groups(right.sum(axis=1), np.full(120, 5))
        low, high = wilson_interval(int(right.sum()), 600)
        hits["grouped"] += grouped.low <= 0.65 <= grouped.high
        hits["plain"] += low <= 0.65 <= high
    assert 0.92 <= hits["grouped"] / 400 <= 0.98
    assert hits["plain"] < hits["grouped"]


@pytest.mark.parametrize("right", [True, False])
def test_share_of_all_or_none_counts_faces_as_rows(right):
    share = share_of(np.full(40, right), np.repeat(singletons(10), 4))
    assert_allclose((share.low, share.high), wilson_interval(10 * right, 10))


def test_share_of_nothing_is_not_known():
    share = share_of(np.zeros(0, bool), singletons(0))
    assert share == Share(0, 0, None, 0.0, 1.0)
    assert share.estimate is None


@settings(max_examples=200)
@given(
    pairs=hnp.arrays(
        np.int64, st.tuples(st.integers(1, 80), st.just(2)), elements=st.integers(0, 4)
    )
)
def test_kappa_equals_scikit_learn(pairs):
    from sklearn.metrics import cohen_kappa_score

    first, second = pairs.T
    found = float(cohens_kappa(confusion_matrix(first, second, 5)))
    if len(np.unique(pairs)) == 1:
        assert np.isnan(found)
    else:
        assert_allclose(found, cohen_kappa_score(first, second), atol=1e-12)


def test_kappa_of_a_textbook_table():
    # Two readers and 50 proposals: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no; 0.7 against 0.5.
    assert_allclose(cohens_kappa(np.array([[20, 5], [10, 15]])), 0.4)


def test_kappas_of_many_tables_are_those_of_each():
    tables = np.random.default_rng(0).integers(0, 9, (7, 4, 4))
    assert_allclose(cohens_kappa(tables), [float(cohens_kappa(one)) for one in tables])
    assert np.isnan(cohens_kappa(np.zeros((2, 3, 3)))).all()


def test_kappa_interval_covers_the_truth_about_as_often_as_it_says():
    # Answers right with 0.6, else of any of four classes: kappa is 0.6.
    hits = 0
    for trial in range(150):
        label, answer = noisy_pair(200, 4, 0.6, trial)
        found = kappa_estimate(label, answer, 4, singletons(200), seed=trial, resamples=300)
        hits += found.low <= 0.6 <= found.high
    assert 0.89 <= hits / 150 <= 0.99


def test_kappa_of_full_agreement_still_has_an_interval():
    label = np.repeat([0, 1], 25)
    found = kappa_estimate(label, label, 2, singletons(50), seed=0, resamples=100)
    # Chance agrees on half: the low end of 50 of 50, rescaled.
    assert_allclose(
        (found.value, found.low, found.high), (1, 2 * wilson_interval(50, 50)[0] - 1, 1)
    )


def test_kappa_of_a_rater_who_always_says_the_same_is_zero_with_an_interval():
    label = np.repeat([0, 1], 25)
    found = kappa_estimate(label, np.zeros(50, int), 2, singletons(50), seed=0, resamples=100)
    assert found.value == 0
    low, high = wilson_interval(25, 50)
    assert_allclose((found.low, found.high), (2 * low - 1, 2 * high - 1))


def test_kappa_is_not_defined_for_one_class_or_no_answer():
    same = np.zeros(9, int)
    options = {"seed": 0, "resamples": 10}
    assert kappa_estimate(same, same, 3, singletons(9), **options) is None
    assert kappa_estimate(same[:0], same[:0], 3, singletons(0), **options) is None


@settings(max_examples=200)
@given(raters=st.integers(2, 6), units=st.integers(2, 40), seed=st.integers(0, 10_000))
def test_alpha_equals_the_krippendorff_package_with_gaps(raters, units, seed):
    import krippendorff

    ratings = ratings_with_gaps(raters, units, 4, seed)
    counts = counts_of(ratings, 4)
    found = krippendorff_alpha(counts)
    paired = counts[counts.sum(axis=1) >= 2]
    if (paired.sum(axis=0) > 0).sum() < 2:
        assert found is None
    else:
        expected = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
        assert_allclose(found, expected, atol=1e-12)
        given_gaps = np.where(ratings < 0, np.nan, ratings)
        assert_allclose(
            found,
            krippendorff.alpha(reliability_data=given_gaps, level_of_measurement="nominal"),
            atol=1e-12,
        )


def test_alpha_of_krippendorffs_own_example():
    # Four observers, twelve units, gaps; nominal alpha is given as 0.743.
    gap = -1
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
            [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
        ]
    )
    assert_allclose(krippendorff_alpha(counts_of(ratings, 6)), 0.743, atol=5e-4)


def test_alpha_needs_pairs_and_two_categories():
    assert krippendorff_alpha(np.array([[1, 0], [0, 1]])) is None
    assert krippendorff_alpha(np.array([[2, 0], [3, 0]])) is None
    assert krippendorff_alpha(np.zeros((0, 3), int)) is None


def test_alpha_interval_covers_the_truth_about_as_often_as_it_says():
    # Three raters, each right with 0.7, else of any of four classes: alpha tends to 0.49.
    hits = 0
    for trial in range(150):
        generator = np.random.default_rng(trial)
        truth = generator.integers(0, 4, 150)
        guess = generator.integers(0, 4, (3, 150))
        counts = counts_of(np.where(generator.random((3, 150)) < 0.7, truth, guess), 4)
        found = alpha_estimate(counts, singletons(150), truth, seed=trial, resamples=300)
        hits += found.low <= 0.49 <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_alpha_of_full_agreement_still_has_an_interval():
    counts = np.repeat(np.array([[3, 0], [0, 3]]), 20, axis=0)
    found = alpha_estimate(counts, singletons(40), counts.argmax(axis=1), seed=0, resamples=50)
    assert found.value == found.high == 1
    # Half of all pairs would differ by chance.
    assert_allclose(found.low, 1 - 2 * wilson_interval(0, 40)[1])


def test_alpha_of_one_group_has_an_interval():
    counts = counts_of(ratings_with_gaps(4, 60, 3, 1), 3)
    found = alpha_estimate(counts, np.zeros(60, int), np.zeros(60, int), seed=0, resamples=50)
    assert found.low < found.value < found.high


def test_a_share_of_one_group_is_known_as_well_as_from_one_row():
    one = share_of(np.arange(100) < 70, np.zeros(100, int))
    assert (one.low, one.high) == wilson_interval(0.7, 1)
    two = share_of(np.arange(100) < 70, np.arange(100) // 50)
    assert one.low < two.low < two.high < one.high


def test_faces_of_one_group_are_drawn_together():
    counts = counts_of(ratings_with_gaps(4, 60, 3, 1), 3)
    many = np.repeat(counts, 9, axis=0)
    strata = np.zeros(540, int)
    options = {"seed": 0, "resamples": 2000}
    blind = alpha_estimate(many, singletons(540), strata, **options)
    aware = alpha_estimate(many, np.repeat(singletons(60), 9), strata, **options)
    assert_allclose((aware.high - aware.low) / (blind.high - blind.low), 3, rtol=0.15)


def test_ratings_are_counted_and_gaps_are_not():
    counts = rating_counts(np.array([0, 0, 2, 1]), np.array([1, 1, 0, -1]), (3, 2))
    assert counts.tolist() == [[0, 2], [0, 0], [1, 0]]


def test_agreement_of_0_693_at_five_classes_implies_0_83():
    assert_allclose(implied_accuracy(0.693, 5), 0.828, atol=5e-4)
    ceiling = implied_ceiling(share_of(np.arange(1000) < 693, singletons(1000)), 5)
    assert_allclose((ceiling.low, ceiling.value, ceiling.high), (0.809, 0.828, 0.846), atol=2e-3)


@given(accuracy=st.floats(0.5, 1), classes=st.integers(2, 11))
def test_implied_accuracy_undoes_the_agreement_that_it_gives(accuracy, classes):
    agreement = accuracy**2 + (1 - accuracy) ** 2 / (classes - 1)
    assert_allclose(implied_accuracy(agreement, classes), accuracy, atol=1e-6)


def test_two_labellers_of_the_implied_accuracy_agree_that_often():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, 200_000)

    def labelled():
        wrong = (truth + generator.integers(1, 5, len(truth))) % 5
        return np.where(generator.random(len(truth)) < 0.83, truth, wrong)

    agreement = float((labelled() == labelled()).mean())
    assert_allclose(implied_accuracy(agreement, 5), 0.83, atol=0.005)


def test_agreement_below_chance_implies_nothing():
    assert implied_accuracy(0.19, 5) is None
    assert implied_accuracy(0.2, 5) == pytest.approx(0.2)
    assert implied_accuracy(1.0, 5) == 1
    assert implied_ceiling(Share(10, 100, 0.1, 0.05, 0.17), 5) is None
    assert implied_ceiling(Share(0, 0, None, 0.0, 1.0), 5) is None


def test_low_end_below_chance_is_chance():
    ceiling = implied_ceiling(Share(25, 100, 0.25, 0.18, 0.34), 5)
    assert ceiling.low == 0.2
    assert ceiling.low < ceiling.value < ceiling.high


@pytest.mark.parametrize(("agreement", "classes"), [(0.5, 1), (1.1, 5), (-0.1, 5)])
def test_implied_accuracy_of_nonsense_is_refused(agreement, classes):
    with pytest.raises(ValueError, match=r"classes|agreement"):
        implied_accuracy(agreement, classes)


def test_every_voter_is_compared_with_the_majority_of_the_others():
    # Eight to two: each of the eight agrees, each of the two does not. Three to three: the
    # others of anyone are three to two against him.
    found = leave_one_out(np.array([[8, 2, 0], [3, 0, 3], [1, 1, 0]]))
    assert found.confusions[0].tolist() == [[8, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert found.confusions[1].tolist() == [[0, 0, 3], [0, 0, 0], [3, 0, 0]]
    assert found.confusions[2].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert found.without_majority == 0


def test_voters_whose_others_tie_or_are_nobody_are_counted():
    # Two to one: each of the two leaves a tie behind. A lone voter has no others.
    found = leave_one_out(np.array([[2, 1], [0, 1], [0, 0]]))
    assert found.without_majority == 3
    assert found.confusions.sum(axis=(1, 2)).tolist() == [1, 0, 0]
    assert found.confusions[0, 0, 1] == 1


@settings(max_examples=60)
@given(
    votes=hnp.arrays(np.int16, st.tuples(st.integers(1, 6), st.just(4)), elements=st.integers(0, 6))
)
def test_leave_one_out_equals_taking_out_one_voter_after_the_other(votes):
    found = leave_one_out(votes)
    without = 0
    for unit, row in enumerate(votes):
        expected = np.zeros((4, 4), int)
        for vote in np.repeat(np.arange(4), row):
            others = row.copy()
            others[vote] -= 1
            best = np.flatnonzero(others == others.max())
            if others.max() > 0 and len(best) == 1:
                expected[best[0], vote] += 1
            else:
                without += 1
        assert found.confusions[unit].tolist() == expected.tolist()
    assert found.without_majority == without
