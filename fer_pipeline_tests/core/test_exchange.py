import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.answers import checked_annotator
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.exchange import (
    HEADER,
    MAX_BYTES,
    OWN_COLUMNS,
    read_answers_csv,
    write_answers_csv,
)
from fer_pipeline_tests.core.small_study import answer_to, refused, small_study


def _label(study, item):
    return study.items["expression"][item].as_py()


def _notebook(study, path, items=range(5), **cells):
    """A file as the notebooks write it: every answer is right."""
    rows = [f"{item},{_label(study, item)},{_label(study, item)},True" for item in items]
    text = "\n".join([",".join(HEADER), *rows]) + "\n"
    for old, new in cells.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_the_file_begins_with_the_columns_of_the_notebooks(study, tmp_path):
    answers = [answer_to(study, item) for item in (0, 14)]
    assert write_answers_csv(tmp_path / "out.csv", study, answers) == 2
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Image Index", "True Label", "User Label", "Match", *OWN_COLUMNS]
    labels = [_label(study, 0), _label(study, 14)]
    assert [row[:4] for row in rows[1:]] == [
        ["0", labels[0], "Happiness", str(labels[0] == "Happiness")],
        ["14", labels[1], "Happiness", str(labels[1] == "Happiness")],
    ]
    assert [row[8] for row in rows[1:]] == ["False", "True"]


def _is_name(text):
    try:
        return checked_annotator(text) == text
    except InputError:
        return False


names = (st.text(max_size=40) | st.from_regex(r"['=+@-]*a", fullmatch=True)).filter(_is_name)
times = st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_answers_are_read_exactly_as_they_were_written(study, tmp_path, data):
    keys = st.tuples(names, st.integers(0, len(study) - 1))
    answers = [
        answer_to(
            study,
            item,
            data.draw(st.sampled_from(study.choices)),
            annotator=name,
            milliseconds=data.draw(st.integers(0, 10**9 - 1)),
            shown_order=data.draw(st.integers(0, 10**9 - 1)),
            answered_at=data.draw(times),
        )
        for name, item in data.draw(st.lists(keys, min_size=1, max_size=8, unique=True))
    ]
    write_answers_csv(tmp_path / "out.csv", study, answers)
    assert read_answers_csv(tmp_path / "out.csv", study) == answers


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "'=1"])
def test_a_name_that_is_a_formula_is_no_formula_in_the_file(study, tmp_path, name):
    answers = [answer_to(study, 0, annotator=name)]
    write_answers_csv(tmp_path / "out.csv", study, answers)
    with (tmp_path / "out.csv").open(newline="") as file:
        row = list(csv.reader(file))[1]
    assert not [cell for cell in row if cell[:1] in "=+-@\t\r"]
    assert read_answers_csv(tmp_path / "out.csv", study) == answers


def test_a_file_of_the_notebooks_is_read_with_the_name_of_who_answered(study, tmp_path):
    path = _notebook(study, tmp_path / "in.csv", [3, 0, 14])
    before = datetime.now(UTC)
    answers = read_answers_csv(path, study, " ann ")
    assert [(one.annotator, one.item, one.shown_order) for one in answers] == [
        ("ann", 3, 0),
        ("ann", 0, 1),
        ("ann", 14, 2),
    ]
    assert [one.answer for one in answers] == [_label(study, item) for item in (3, 0, 14)]
    assert [one.repeat for one in answers] == [False, False, True]
    assert {one.milliseconds for one in answers} == {0}
    assert all(before <= one.answered_at < before + timedelta(minutes=1) for one in answers)
    with pytest.raises(InputError, match="--annotator"):
        read_answers_csv(path, study)


def test_other_spellings_a_byte_order_mark_and_spreadsheet_line_ends_are_read(study, tmp_path):
    item = next(item for item in range(12) if _label(study, item) == "Happiness")
    text = f"{','.join(HEADER)}\r\n\r\n{item},happy,HAPPY,TRUE\r\n"
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_answers_csv(tmp_path / "in.csv", study, "ann")[0].answer == "Happiness"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("unsure", "unsure"),
        ("Uncertain", "unsure"),
        ("Not a face", "not a face"),
        ("No-Face", "not a face"),
        ("sad", "Sadness"),
    ],
)
def test_answers_that_name_no_class_are_read(study, tmp_path, said, answer):
    item = next(item for item in range(12) if _label(study, item) == "Surprise")
    path = tmp_path / "in.csv"
    path.write_text(f"{','.join(HEADER)}\n{item},Surprise,{said},False\n")
    assert read_answers_csv(path, study, "ann")[0].answer == answer


_refused = partial(refused, read_answers_csv, annotator="ann")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("15,{0},{0},True", ("row 3", "'15'", "0 to 14", "another study")),
        ("-1,{0},{0},True", ("row 3", "'-1'")),
        ("one,{0},{0},True", ("row 3", "'one'")),
        ("٣,{0},{0},True", ("row 3",)),
        ("1e3,{0},{0},True", ("row 3",)),
        ("99999999999999999999,{0},{0},True", ("row 3",)),
        ("0,Contempt,{0},False", ("row 3", "labelled 'Contempt'", "another study")),
        ("0,,{0},False", ("row 3", "''")),
        ("0,{0},Fear,False", ("row 3", "'Fear'", "Happiness, Sadness, Surprise, unsure")),
        ("0,{0},<b>,False", ("row 3", "'<b>'")),
        ("0,{0},,False", ("row 3", "''")),
        ("0,{0},{0},False", ("row 3", "Match")),
        ("0,{0},unsure,yes", ("row 3", "'yes'")),
        ("1,{1},{1},True", ("row 3", "again", "row 2")),
        ("0,{0},{0}", ("row 3", "3 cells")),
        ("0,{0},{0},True,x", ("row 3", "5 cells")),
        ('0,{0},"{0},True', ("row 3", "no CSV")),
        ("0,{0},\0,True", ("row 3",)),
        # Too long for a cell, or no answer: the limit is the process'.
        ("0,{0}," + "x" * 200_000 + ",True", ()),
    ],
)
def test_one_wrong_row_refuses_the_file_and_is_named(study, tmp_path, row, words):
    path = tmp_path / "in.csv"
    labels = _label(study, 0), _label(study, 1)
    lines = [",".join(HEADER), f"1,{labels[1]},{labels[1]},True", row.format(*labels)]
    path.write_text("\n".join(lines) + "\n")
    _refused(path, study, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("header",)),
        (b"\xef\xbb\xbf \n", ("header",)),
        (b"Image Index,True Label,User Label,Match\n", ("no answer",)),
        (b"Image,True Label,User Label,Match\n0,a,b,c\n", ("header", "Image Index,True Label")),
        (b"Image Index;True Label;User Label;Match\n", ("header",)),
        (b"Image Index,True Label,User Label,Match,Face\n", ("header", "Annotator")),
        (b"\xff\xfeI\0m\0", ("not UTF-8",)),
        (b"Image Index,True Label,User Label,Match\n0,\xe9,b,c\n", ("not UTF-8",)),
        (b"\0" * 100, ("header",)),
        (b"PK\x03\x04", ("header",)),
    ],
)
def test_a_file_that_is_no_csv_of_answers_is_told_what_it_should_be(
    study, tmp_path, content, words
):
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    _refused(path, study, *words)


def test_a_file_that_is_not_there_or_too_large_is_named(study, tmp_path):
    _refused(tmp_path / "gone.csv", study, "No such file")
    _refused(tmp_path, study, "can't be read")
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    _refused(huge, study, "50,000,000 bytes")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Face", "0" * 16, ("shows the face", "another study")),
        ("Repeat", "True", ("repeat: 'True'",)),
        ("Repeat", "", ("repeat: ''",)),
        ("Annotator", "a\x1bb", ("row 2", "can't name an annotator")),
        ("Annotator", "bob", ("answer of 'bob', not of 'ann'", "--annotator")),
        ("Milliseconds", "-5", ("Milliseconds", "'-5'")),
        ("Milliseconds", "1.5", ("Milliseconds",)),
        ("Shown Order", "10000000000", ("Shown Order",)),
        ("Answered", "yesterday", ("'yesterday'", "2030-01-31T12:00:00+00:00")),
        ("Answered", "2030-01-31T12:00:00", ("2030-01-31T12:00:00+00:00",)),
        ("Answered", "0001-01-01T00:00:00+14:00", ("0001-01-01",)),
    ],
)
def test_our_own_columns_are_checked_too(study, tmp_path, column, value, words):
    path = tmp_path / "in.csv"
    first = next(item for item in range(1, 12) if _label(study, item) != "Happiness")
    write_answers_csv(path, study, [answer_to(study, first)])
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][rows[0].index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    _refused(path, study, *words)


def test_a_file_of_another_sample_is_refused_by_its_faces(study, tmp_path):
    other = small_study(tmp_path, per_class=5)
    answers = [answer_to(other, item) for item in range(len(other))]
    write_answers_csv(tmp_path / "out.csv", other, answers)
    _refused(tmp_path / "out.csv", study, "another study")


def test_an_unnamed_row_takes_the_name_that_is_given(study, tmp_path):
    path = tmp_path / "in.csv"
    write_answers_csv(path, study, [replace(answer_to(study, 0), annotator="bob")])
    path.write_text(path.read_text().replace("bob", ""))
    assert read_answers_csv(path, study, "ann")[0].annotator == "ann"
    _refused(path, study, "can't name an annotator", annotator=None)
