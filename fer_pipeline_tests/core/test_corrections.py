import csv
import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.core.corrections import (
    Correction,
    append_corrections,
    corrections_digest,
    read_corrections,
    resolved,
)
from fer_pipeline.core.errors import InputError

FACE, OTHER = "0123456789abcdef", "fedcba9876543210"
NUL = "A\0B"
WHEN = datetime(2026, 1, 31, 12, 30, 15, tzinfo=UTC)
LINE = Correction(FACE, "Happiness", "Sadness", "Ann", WHEN, "five_class/suspects")
HEAD = "face_id,old,new,who,when,study"
ROW = f"{FACE},Happiness,Sadness,Ann,2026-01-31T12:30:15+00:00,five_class/suspects"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "corrections.csv"


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_lines_are_read_as_they_were_added(path):
    assert append_corrections(path, [LINE]) == 1
    assert append_corrections(path, [replace(LINE, face_id=OTHER)]) == 1
    assert read_corrections(path) == [LINE, replace(LINE, face_id=OTHER)]
    assert path.read_text().splitlines()[:2] == [HEAD, ROW]
    assert sorted(file.name for file in path.parent.iterdir()) == ["corrections.csv"]


def test_a_line_that_is_there_is_not_added_again(path):
    assert append_corrections(path, [LINE, LINE]) == 1
    before = path.read_bytes()
    assert append_corrections(path, [LINE]) == 0
    assert path.read_bytes() == before


def test_without_a_file_there_are_no_corrections_and_no_digest(path):
    assert read_corrections(path) == []
    assert corrections_digest(path) == ""
    assert append_corrections(path, []) == 0
    assert not path.exists()


def test_digest_changes_with_the_file(path):
    append_corrections(path, [LINE])
    first = corrections_digest(path)
    append_corrections(path, [replace(LINE, face_id=OTHER)])
    assert len(first) == 16
    assert corrections_digest(path) != first


def test_other_spellings_byte_order_mark_and_blank_lines_are_read(path):
    _write(
        path, f"\ufeff{HEAD}\r\n\r\n{FACE},happy,no face,Ann,2026-01-31T13:30:15+01:00,s\r\n\r\n"
    )
    (line,) = read_corrections(path)
    assert (line.old, line.new) == ("Happiness", "No-Face")
    assert line.when == WHEN


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "row 1: the header has to be face_id,old"),
        ("face_id,old,new\n", "row 1: the header has to be"),
        (f"{ROW}\n", "row 1: the header has to be"),
        (f"{HEAD}\n{ROW},more\n", "row 2: 7 cells where there have to be 6"),
        (f"{HEAD}\n{ROW}\n{FACE}\n", "row 3: 1 cells"),
        (f"{HEAD}\n{ROW.replace(FACE, FACE.upper())}\n", "row 2: the face_id .* 16 hex digits"),
        (f"{HEAD}\n{ROW.replace(FACE, '../../etc')}\n", "16 hex digits"),
        (
            f"{HEAD}\n{ROW.replace('Sadness', 'Sorrow')}\n",
            "row 2: the new class 'Sorrow' is unknown",
        ),
        (f"{HEAD}\n{ROW.replace('Happiness', '1')}\n", "the old class '1' is unknown; .*No-Face"),
        (f"{HEAD}\n{ROW.replace('Sadness', 'happy')}\n", "old and new are both Happiness"),
        (f"{HEAD}\n{ROW.replace('Ann', '')}\n", "who has to be 1 to 200"),
        (f"{HEAD}\n{ROW.replace('Ann', 'A' * 201)}\n", "who has to be 1 to 200"),
        (f"{HEAD}\n{ROW.replace('Ann', NUL)}\n", "who has to be|NUL"),
        (
            f"{HEAD}\n{ROW.replace('Ann', chr(34) + 'A' + chr(10) + 'B' + chr(34))}\n",
            "who has to be",
        ),
        (f"{HEAD}\n{ROW.replace('+00:00', '')}\n", "isn't ISO 8601 with its zone"),
        (f"{HEAD}\n{ROW.replace('2026-01-31T', 'today ')}\n", "isn't ISO 8601"),
        (
            f"{HEAD}\n{ROW.replace('2026-01-31T12:30:15+00:00', '0001-01-01T00:00:00+14:00')}\n",
            "isn't ISO 8601",
        ),
        (f'{HEAD}\n"{ROW}\n', "row 2|row 3"),
        (f"{HEAD}\n".encode() + b"\xff\n", "row 2: not UTF-8 text"),
    ],
)
def test_a_wrong_line_is_named_with_file_row_and_remedy(path, text, says):
    _write(path, text)
    with pytest.raises(InputError, match=says) as raised:
        read_corrections(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert "; " in str(raised.value)


def test_the_last_line_of_a_face_counts_when_it_goes_on_from_the_one_before(path):
    later = replace(LINE, old="Sadness", new="Anger", who="Bo")
    append_corrections(path, [LINE, later])
    found = resolved(read_corrections(path))
    assert found == {FACE: replace(later, old="Happiness")}


def test_a_second_opinion_that_says_the_same_is_kept(path):
    append_corrections(path, [LINE, replace(LINE, who="Bo")])
    assert [line.who for line in read_corrections(path)] == ["Ann", "Bo"]


def test_lines_that_contradict_each_other_are_refused_with_both_rows(path):
    _write(path, f"{HEAD}\n{ROW}\n{ROW.replace('Sadness', 'Anger')}\n")
    with pytest.raises(InputError, match=r"row 3: .* contradicts .*row 2, which made it Sadness"):
        read_corrections(path)


def test_an_addition_that_contradicts_the_file_changes_nothing(path):
    append_corrections(path, [LINE])
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"contradicts .*corrections.csv, row 2"):
        append_corrections(path, [replace(LINE, face_id=OTHER), replace(LINE, new="Anger")])
    assert path.read_bytes() == before


def test_an_addition_names_the_row_that_it_contradicts_in_the_file_as_it_is(path):
    _write(path, f"{HEAD}\n\n{ROW}\n")
    with pytest.raises(InputError, match=r"contradicts .*corrections.csv, row 3"):
        append_corrections(path, [replace(LINE, new="Anger")])


def test_a_wrong_addition_changes_nothing(path):
    with pytest.raises(InputError, match="the new class 'Sorrow' is unknown"):
        append_corrections(path, [LINE, replace(LINE, face_id=OTHER, new="Sorrow")])
    with pytest.raises(InputError, match="with its zone"):
        append_corrections(path, [replace(LINE, when=datetime(2026, 1, 1))])
    assert not path.exists()


def test_names_that_look_like_formulas_are_safe_in_a_spreadsheet_and_come_back(path):
    named = replace(LINE, who="=HYPERLINK(1)", study="@SUM(A1)")
    append_corrections(path, [named])
    with path.open(newline="") as file:
        cells = list(csv.reader(file))[1]
    assert cells[3] == "'=HYPERLINK(1)"
    assert cells[5] == "'@SUM(A1)"
    assert read_corrections(path) == [named]


@given(
    who=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=200),
    moment=st.datetimes(
        datetime(1970, 1, 1),
        datetime(2100, 1, 1),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))]),
    ),
)
def test_any_name_and_time_come_back(tmp_path_factory, who, moment):
    path = tmp_path_factory.mktemp("any") / "corrections.csv"
    line = replace(LINE, who=who, when=moment)
    append_corrections(path, [line])
    assert read_corrections(path) == [line]


def _add_many(path, first):
    for number in range(first, first + 25):
        append_corrections(path, [replace(LINE, face_id=f"{number:016x}")])


def test_two_processes_that_add_at_once_lose_no_line(path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(path, first)) for first in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    faces = [line.face_id for line in read_corrections(path)]
    assert len(faces) == len(set(faces)) == 50
