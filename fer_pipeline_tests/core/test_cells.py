import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.core.cells import plain_cell, safe_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_what_a_spreadsheet_takes_for_a_formula_begins_with_an_apostrophe(text):
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["", "Happiness", "1-2", "a=b", "Zoë"])
def test_other_texts_stay_as_they_are(text):
    assert safe_cell(text) == text


@pytest.mark.parametrize("text", ["", "'", "'quoted'", "O'Hara"])
def test_a_cell_that_was_never_made_safe_is_read_as_it_is(text):
    assert plain_cell(text) == text


@given(st.text() | st.from_regex(r"['=+@\t\r\n-]*a?", fullmatch=True))
def test_every_text_is_read_as_it_was_written(text):
    assert plain_cell(safe_cell(text)) == text
