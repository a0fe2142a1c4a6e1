import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.app.keys import PAUSE, UNDO, keys_for
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.study import NOT_A_FACE, UNSURE
from fer_pipeline.streams import STREAMS


def test_keys_of_the_five_classes_are_those_that_the_documentation_names():
    assert keys_for(STREAMS["five_class"]) == {
        "Neutral": "n",
        "Happiness": "h",
        "Sadness": "s",
        "Surprise": "p",
        "Anger": "a",
        UNSURE: "u",
        NOT_A_FACE: "x",
    }


@given(st.permutations(NAMES[:8]), st.integers(2, 8))
def test_no_two_answers_share_a_key_in_any_stream(names, count):
    keys = keys_for(names[:count])
    assert list(keys) == [*names[:count], UNSURE, NOT_A_FACE]
    taken = [*keys.values(), UNDO, PAUSE, "c", "r"]
    assert len(set(taken)) == len(taken)


def test_classes_without_a_free_letter_get_digits_and_too_many_are_refused():
    names = [
        "".join(letters) for letters in itertools.islice(itertools.product("uxz", repeat=3), 11)
    ]
    assert list(keys_for(names[:10]).values())[:10] == list("1234567890")
    with pytest.raises(ValueError, match="no key"):
        keys_for(names)
