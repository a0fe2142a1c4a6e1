import pytest

from fer_pipeline.app.labelling import Pace
from fer_pipeline.app.words import pace_words, place_words, plain


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (20, "12 a minute, under a minute left"),
        (70, "12 a minute, about 1 min left"),
        (3590, "12 a minute, about 1 h 0 min left"),
        (8100, "12 a minute, about 2 h 15 min left"),
    ],
)
def test_pace_is_said_with_the_time_left(seconds, expected):
    assert pace_words(Pace(12.3, seconds)) == expected


def test_places_count_from_one_with_thousands_apart():
    assert place_words(30, 1050) == "31 of 1,050"
    assert pace_words(None) == ""


def test_markup_in_names_is_shown_as_typed():
    assert plain("<b>*a*</b> [x](y) :+1: $z$") == (r"\<b\>\*a\*\<\/b\> \[x\]\(y\) \:\+1\: \$z\$")
    assert plain("Zoë Müller 3") == "Zoë Müller 3"
