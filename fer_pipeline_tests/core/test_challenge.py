from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import accuracy_score, f1_score

from fer_pipeline.core.challenge import (
    LEAST_PHOTOS,
    Challenge,
    Verdict,
    compare_models,
    crop_objections,
    decide,
    label_objections,
    leak_objections,
    too_few,
)
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.paired import compare_paired

CLASSES = ("Neutral", "Happiness", "Sadness")
CARD = ModelCard("mood", CLASSES, CropSettings(), "listed", {})


def noisy(truth: np.ndarray, wrong: float, seed: int) -> np.ndarray:
    """Predictions that differ from the truth on about this share of the faces."""
    rng = np.random.default_rng(seed)
    other = (truth + rng.integers(1, 3, len(truth))) % 3
    return np.where(rng.random(len(truth)) < wrong, other, truth)


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, ...]:
    """Truth, champion, challenger and groups: 300 faces of 200 photos, classes unlike in size."""
    rng = np.random.default_rng(3)
    groups = np.sort(rng.integers(0, 200, 300))
    truth = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    return truth, noisy(truth, 0.4, 1), noisy(truth, 0.25, 2), groups.astype(str)


def compared(faces: tuple[np.ndarray, ...], resamples: int = 2000, **options: int) -> Challenge:
    truth, champion, challenger, groups = faces
    return compare_models(
        truth, champion, challenger, groups, classes_count=3, seed=0, resamples=resamples, **options
    )


def test_scores_equal_scikit_learn(faces):
    truth, champion, challenger, groups = faces
    found = compared(faces)
    old, new = (f1_score(truth, said, average="macro") for said in (champion, challenger))
    assert found.champion_macro_f1 == pytest.approx(old)
    assert found.challenger_macro_f1 == pytest.approx(new)
    assert found.macro_f1_gain.value == pytest.approx(new - old)
    assert found.accuracy.first.value == pytest.approx(accuracy_score(truth, champion))
    assert found.accuracy.second.value == pytest.approx(accuracy_score(truth, challenger))
    assert (found.faces, found.photos) == (300, len(set(groups)))


def test_interval_of_the_gain_equals_that_of_groups_drawn_one_by_one(faces):
    truth, champion, challenger, groups = faces
    found = compared(faces, resamples=20_000).macro_f1_gain
    names, first = np.unique(groups, return_index=True)
    members = [np.flatnonzero(groups == name) for name in names]
    strata = [np.flatnonzero(truth[first] == label) for label in range(3)]
    rng = np.random.default_rng(7)
    gains = []
    for _ in range(1000):
        drawn = np.concatenate([rng.choice(one, len(one)) for one in strata])
        rows = np.concatenate([members[group] for group in drawn])
        old, new = (
            f1_score(truth[rows], said[rows], average="macro") for said in (champion, challenger)
        )
        gains.append(new - old)
    assert_allclose([found.low, found.high], np.quantile(gains, [0.025, 0.975]), atol=0.012)


def test_accuracy_is_compared_pair_by_pair(faces):
    truth, champion, challenger, groups = faces
    expected = compare_paired(
        champion == truth, challenger == truth, groups, seed=0, resamples=2000, strata=truth
    )
    assert compared(faces).accuracy == expected


def test_pairing_makes_the_interval_narrower_than_two_models_apart(faces):
    truth, champion, _, groups = faces
    # All but a few faces are told alike: what both get wrong says nothing of their difference.
    almost = champion.copy()
    almost[:10] = truth[:10]
    paired = compared((truth, champion, almost, groups)).macro_f1_gain
    apart = compared((truth, champion, noisy(truth, 0.4, 9), groups)).macro_f1_gain
    assert (paired.high - paired.low) < 0.5 * (apart.high - apart.low)


def test_equal_predictions_are_a_tie_with_an_interval_around_zero(faces):
    truth, champion, _, groups = faces
    found = compared((truth, champion, champion, groups))
    gain = found.macro_f1_gain
    assert gain.value == 0
    assert gain.low < 0 < gain.high
    assert found.accuracy.mcnemar.p_value == 1
    assert decide(found, 0).verdict == Verdict.REFUSED


def test_gain_that_samples_cannot_vary_still_has_an_interval():
    truth = np.repeat([0, 1, 2], 10)
    found = compared((truth, (truth + 1) % 3, truth, np.arange(30).astype(str)))
    assert found.macro_f1_gain.value == 1
    assert 0.8 < found.macro_f1_gain.low < 1


def of_seven(rare: int, wrong: float) -> tuple[np.ndarray, ...]:
    """Truth, champion, a challenger that tells the rare class too, and groups, of 500 faces."""
    truth = np.concatenate([np.arange(500 - rare) % 6, np.full(rare, 6)])
    rng = np.random.default_rng(4)
    champion = np.where(rng.random(500) < 0.3, (truth + 1) % 6, truth)
    champion[truth == 6] = 0
    challenger = np.where(rng.random(500) < wrong, champion, truth)
    return truth, champion, challenger, np.arange(500).astype(str)


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_few_faces_of_a_rare_class_do_not_decide(rare):
    truth, champion, better, groups = of_seven(rare, 0)
    alike_elsewhere = np.where(truth == 6, better, champion)
    found = compare_models(
        truth, champion, alike_elsewhere, groups, classes_count=7, seed=0, resamples=500
    )
    assert found.macro_f1_gain.value > 0.14
    assert decide(found, 0).verdict == Verdict.REFUSED
    # Nor may they say that a model is worse.
    turned = compare_models(
        truth, alike_elsewhere, champion, groups, classes_count=7, seed=0, resamples=500
    )
    assert turned.macro_f1_gain.high > 0
    assert turned.macro_f1_gain.high == pytest.approx(-found.macro_f1_gain.low)


def test_a_clear_gain_on_the_large_classes_is_promoted_beside_a_rare_one():
    truth, champion, better, groups = of_seven(1, 0)
    elsewhere = np.where(truth == 6, champion, better)
    found = compare_models(
        truth, champion, elsewhere, groups, classes_count=7, seed=0, resamples=500
    )
    assert decide(found, 0).verdict == Verdict.PROMOTED
    # One face that both models get wrong leaves open 0.79 of a seventh.
    assert 0.113 < found.macro_f1_gain.value - found.macro_f1_gain.low < 0.13


def test_ten_photos_of_a_class_are_enough_for_samples():
    truth, champion, better, groups = of_seven(10, 0)
    options = {"classes_count": 7, "seed": 0, "resamples": 500}
    ten = compare_models(truth, champion, better, groups, **options).macro_f1_gain
    groups[-1] = groups[-2]
    nine = compare_models(truth, champion, better, groups, **options).macro_f1_gain
    assert nine.value == ten.value
    assert nine.high - nine.low > 1.2 * (ten.high - ten.low)


def test_faces_of_one_photo_count_as_one(faces):
    truth, champion, challenger, _ = faces
    # The same faces ten times over, as faces of the same photos, say no more than once.
    groups = np.arange(300).astype(str)
    once = compared((truth, champion, challenger, groups)).macro_f1_gain
    often = compared(tuple(np.repeat(one, 10) for one in (truth, champion, challenger, groups)))
    assert often.photos == 300
    assert_allclose(
        [often.macro_f1_gain.low, often.macro_f1_gain.high], [once.low, once.high], atol=1e-12
    )


def test_models_of_other_faces_are_no_pair(faces):
    truth, champion, challenger, groups = faces
    with pytest.raises(ValueError, match="300 labels, 300 groups, 300 and 299"):
        compared((truth, champion, challenger[:-1], groups))


def challenge(low: float, high: float, photos: int = 500, left_out: int = 0) -> Challenge:
    truth = np.arange(3).repeat(20)
    made = compared((truth, truth, truth, np.arange(60).astype(str)), resamples=100)
    gain = Estimate((low + high) / 2, low, high)
    return replace(made, macro_f1_gain=gain, photos=photos, left_out=left_out)


@pytest.mark.parametrize(
    ("low", "high", "least_gain", "verdict", "words"),
    [
        (0.01, 0.05, 0.0, Verdict.PROMOTED, "the gain holds"),
        (0.0, 0.05, 0.0, Verdict.REFUSED, "no gain that holds"),
        (-0.02, 0.05, 0.0, Verdict.REFUSED, "no gain that holds"),
        (-0.05, -0.01, 0.0, Verdict.REFUSED, "it is worse"),
        (0.01, 0.05, 0.01, Verdict.REFUSED, "lower end has to lie above 0.01"),
        (0.011, 0.05, 0.01, Verdict.PROMOTED, "the gain holds"),
    ],
)
def test_gain_has_to_hold_at_the_lower_end_of_its_interval(low, high, least_gain, verdict, words):
    decision = decide(challenge(low, high), least_gain)
    assert decision.verdict == verdict
    assert words in decision.why
    assert f"({low:+.3f} to {high:+.3f})" in decision.why


def test_gain_on_a_handful_of_photos_is_refused():
    decision = decide(challenge(0.2, 0.4, photos=LEAST_PHOTOS - 1), 0)
    assert decision.verdict == Verdict.REFUSED
    assert "19 photos of the dev split can be compared, and at least 20" in decision.why
    assert decide(challenge(0.2, 0.4, photos=LEAST_PHOTOS), 0).verdict == Verdict.PROMOTED
    assert too_few(LEAST_PHOTOS, 3) is None


def test_faces_left_out_are_told_of():
    assert "(1,234 faces left out" in decide(challenge(0.1, 0.2, left_out=1234), 0).why
    assert "(1,234 faces left out" in decide(challenge(0.1, 0.2, 5, left_out=1234), 0).why


@pytest.mark.parametrize(
    "classes", [("Happiness", "Neutral", "Sadness"), CLASSES[:2], (*CLASSES, "Fear")]
)
def test_other_classes_or_another_order_are_an_objection(classes):
    (objection,) = label_objections(CARD, classes, "the stream's")
    assert objection == (
        "its label order is Neutral, Happiness, Sadness and the stream's is " + ", ".join(classes)
    )
    assert label_objections(CARD, CLASSES, "the stream's") == []


def test_crop_settings_that_change_pixels_are_an_objection():
    other = CropSettings(side=112, colour="rgb")
    (objection,) = crop_objections(CARD, other, "the crops'")
    assert objection == (
        "its crop settings are others than the crops' (side 48, not 112; colour grey, not rgb)"
    )
    # How many pixels a photo may have changes no crop.
    assert crop_objections(CARD, CropSettings(max_pixels=10**9), "the crops'") == []


SPLIT = np.array(["train", "dev", "test", "excluded"], dtype=object)
GROUPS = np.array(["a", "b", "c", "b"], dtype=object)


@pytest.mark.parametrize("group", ["b", "c"])
def test_training_on_held_out_photos_is_a_leak(group):
    (objection,) = leak_objections({"a", group, "gone"}, GROUPS, SPLIT, [])
    assert objection == (
        "a leak: it was trained on 1 photos of today's dev and test splits (group " + group + ")"
    )


def test_training_on_the_training_split_is_no_leak():
    assert leak_objections({"a", "gone"}, GROUPS, SPLIT, []) == []
    assert leak_objections(None, GROUPS, SPLIT, []) == []


def test_photos_on_two_sides_of_the_manifest_are_a_leak():
    (objection,) = leak_objections(None, GROUPS, SPLIT, ["p", "q", "r", "s"])
    assert objection == (
        "a leak: 4 photos stand in two splits of the manifest (group p, q, r, ...)"
    )
