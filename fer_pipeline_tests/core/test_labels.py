import pytest

from fer_pipeline.core.labels import (
    CODES,
    NAMES,
    NOT_EXPRESSIONS,
    VOTE_NAMES,
    expression_name,
    known_aliases,
)


def test_codes_are_those_of_affectnet():
    assert [CODES[name] for name in ("Neutral", "Happiness", "Sadness", "Surprise")] == [0, 1, 2, 3]
    assert [CODES[name] for name in ("Fear", "Disgust", "Anger", "Contempt")] == [4, 5, 6, 7]
    assert [CODES[name] for name in NOT_EXPRESSIONS] == [8, 9, 10]
    assert len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_every_name_means_itself_in_any_case_and_spacing(name):
    for spelling in (name, name.upper(), f" {name.lower()} ", name.replace("-", "_")):
        assert expression_name(spelling) == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("happy", "Happiness"),
        ("Joy", "Happiness"),
        ("sad", "Sadness"),
        ("angry", "Anger"),
        ("surprised", "Surprise"),
        ("scared", "Fear"),
        ("no face", "No-Face"),
        ("NF", "No-Face"),
    ],
)
def test_common_words_are_known(alias, name):
    assert expression_name(alias) == name


@pytest.mark.parametrize("text", ["", "grumpy", "0", "3", "happyish", "-"])
def test_anything_else_is_unknown_and_never_guessed(text):
    assert expression_name(text) is None


def test_the_spellings_named_in_messages_are_all_accepted():
    spellings = known_aliases().split(", ")
    assert {expression_name(spelling) for spelling in spellings} == set(NAMES)


def test_votes_are_eight_expressions_then_unknown_and_no_face():
    assert (*NAMES[:8], "Unknown", "No-Face") == VOTE_NAMES
