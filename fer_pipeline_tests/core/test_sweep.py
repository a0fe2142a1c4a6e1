import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.sweep import Compared, Trained, ranked, read_tries

SMOKE = PRESETS["smoke"]


def _compared(name, *scores):
    trained = [
        Trained(seed, "run", None if score is None else {"dev_macro_f1": score}, was_there=False)
        for seed, score in enumerate(scores)
    ]
    (tried,) = [one for one in read_tries([name], SMOKE, 0.0) if one.name == name]
    return Compared(tried, trained)


def test_the_preset_itself_is_tried_first():
    (only,) = read_tries([], SMOKE, 0.25)
    assert (only.name, only.preset, only.vote_share) == ("preset", SMOKE, 0.25)


def test_a_word_makes_one_try_of_all_its_values():
    _, one, other = read_tries(["flip_at_test=true,ema=0.9", "vote_share=0.5"], SMOKE, 0.0)
    assert one.name == "ema=0.9,flip_at_test=true"
    assert (one.preset.recipe.ema, one.preset.recipe.flip_at_test) == (0.9, True)
    assert one.vote_share == 0
    assert (other.preset, other.vote_share) == (SMOKE, 0.5)


def test_a_given_length_holds_for_every_try_without_its_own():
    preset, plain, longer = read_tries(["ema=0.9", "max_epochs=9"], SMOKE, 0.0, epochs=2)
    assert {one.preset.recipe.max_epochs for one in (preset, plain)} == {2}
    assert {one.preset.recipe.min_epochs for one in (preset, plain, longer)} == {2}
    assert longer.preset.recipe.max_epochs == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emma=0.9"], "--try emma=0.9: 'emma' can't be tried, choose from .*vote_share"),
        (["ema=2"], "--try ema=2: ema=2 doesn't fit"),
        (["vote_share=2"], "vote_share=2 doesn't fit: it takes a number from 0 to 1"),
        (["vote_share=many"], "vote_share=many doesn't fit"),
        (["ema"], "isn't written as name=value"),
        (["ema=0.9", "ema=0.90"], "--try ema=0.90 is the same as ema=0.9"),
        (["ema=0"], "--try ema=0 is the same as preset"),
    ],
)
def test_wrong_tries_are_one_clear_sentence(words, message):
    with pytest.raises(InputError, match=message):
        read_tries(words, SMOKE, 0.0)


def test_the_best_mean_macro_f1_comes_first_and_what_diverged_last():
    tries = [
        _compared("ema=0.5", 0.5, 0.5),
        _compared("ema=0.1", 0.9, None),
        _compared("ema=0.2", 0.2, 0.9),
    ]
    assert [one.tried.name for one in ranked(tries)] == ["ema=0.2", "ema=0.5", "ema=0.1"]


def test_mean_and_spread_are_over_the_seeds():
    one = _compared("ema=0.5", 0.2, 0.4, 0.6)
    assert one.mean("dev_macro_f1") == pytest.approx(0.4)
    assert one.spread("dev_macro_f1") == pytest.approx(0.2)
    assert _compared("ema=0.5", 0.2).spread("dev_macro_f1") is None
    assert _compared("ema=0.5", 0.2, None).mean("dev_macro_f1") is None
