import csv
import io
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.datasets import csv_rows
from fer_pipeline.core.datasets.csv_rows import count_lines, first_fields, read_text_rows
from fer_pipeline.core.errors import InputError

NAMES = ("a", "b", "c")


def _read(path, has_header=False):
    """Every row as (number, fields), malformed ones as (number, text), in order of number."""
    found = []
    for rows in read_text_rows(path, NAMES, has_header=has_header):
        assert rows.columns.column_names == list(NAMES)
        values = (list(row.values()) for row in rows.columns.to_pylist())
        found += zip(rows.rows, values, strict=True)
        found += rows.malformed
    return sorted(found, key=lambda item: item[0])


def _expected(data, has_header=False):
    """The rows, and how many there are; None where quotes are amiss."""
    text = data.decode("utf-8-sig", "replace")
    csv.field_size_limit(2**31 - 1)
    try:
        read = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [fields for fields in read if fields]
    except csv.Error:
        return None
    for fields in rows:
        lines = ",".join(fields).replace("\r", "\n").split("\n")
        if max((line.count(",") for line in lines[1:]), default=-1) >= len(rows[0]) - 1:
            return None
    numbered = [
        (number, fields if len(fields) == len(NAMES) else ",".join(fields))
        for number, fields in enumerate(rows, 0 if has_header else 1)
    ]
    return (numbered[1:] if has_header else numbered), len(rows)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and batches so small that a short file crosses many of their borders."""
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(csv_rows, "_SLOW_BATCH_ROWS", 5)


@pytest.fixture
def write(tmp_path):
    def write_file(data):
        path = tmp_path / "list.csv"
        path.write_bytes(data)
        return path

    return write_file


def test_header_is_no_row_and_rows_count_from_one(write):
    path = write(b"a,b,c\n1,2,3\n4,5,6\n")
    assert _read(path, has_header=True) == [(1, ["1", "2", "3"]), (2, ["4", "5", "6"])]


def test_cells_stay_text_and_null_is_no_missing_value_yet(write):
    assert _read(write(b"007,NULL,\n")) == [(1, ["007", "NULL", ""])]


def test_byte_order_mark_is_no_part_of_the_first_field(write):
    path = write(b"\xef\xbb\xbfa,b,c\r\n1,2,3\r\n")
    assert first_fields(path) == ["a", "b", "c"]
    assert _read(path) == [(1, ["a", "b", "c"]), (2, ["1", "2", "3"])]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_blank_lines_are_no_rows_whatever_ends_a_line(write, end):
    path = write(end.join([b"", b"1,2,3", b"", b"", b"4,5,6", b"", b""]))
    assert _read(path) == [(1, ["1", "2", "3"]), (2, ["4", "5", "6"])]
    assert count_lines(path) == 2
    assert first_fields(path) == ["1", "2", "3"]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n\n", b"\xef\xbb\xbf\r\n"])
def test_file_without_a_row_gives_none(write, data):
    path = write(data)
    assert _read(path) == []
    assert count_lines(path) == 0
    assert first_fields(path) is None


@pytest.mark.usefixtures("small_blocks")
def test_malformed_row_in_the_middle_of_a_large_file_keeps_every_number_exact(write):
    lines = [f"{number},x,y" for number in range(1, 201)]
    lines[119], lines[150] = "120,short", "151,one,too,many"
    path = write(("a,b,c\n" + "\n".join(lines)).encode())
    by_path = list(read_text_rows(path, NAMES, has_header=True))
    assert isinstance(by_path[0].rows, range)
    assert isinstance(by_path[-1].rows, list)
    found = _read(path, has_header=True)
    assert [number for number, _ in found] == list(range(1, 201))
    assert all(fields[0] == str(number) for number, fields in found if number not in (120, 151))
    assert found[119] == (120, "120,short")
    assert found[150] == (151, "151,one,too,many")


def test_malformed_row_beyond_the_first_real_block_is_found(write):
    row = b"1," + b"x" * 1000 + b",3\n"
    count = csv_rows._BLOCK_BYTES // len(row) + 50
    path = write(row * count + b"short\n" + row)
    found = 0
    malformed = []
    for rows in read_text_rows(path, NAMES, has_header=False):
        found += len(rows.rows)
        malformed += rows.malformed
    assert malformed == [(count + 1, "short")]
    assert found == count + 1


@pytest.mark.usefixtures("small_blocks")
def test_quoted_field_may_hold_commas_quotes_and_newlines(write):
    path = write(b'1,"a, ""b""\nc",3\n' + b"4,5,6\n" * 40 + b'7,"x\r\ny",9\n')
    found = _read(path)
    assert found[0] == (1, ["1", 'a, "b"\nc', "3"])
    assert found[-1] == (42, ["7", "x\r\ny", "9"])
    assert count_lines(path) == 42


@pytest.mark.usefixtures("small_blocks")
def test_plain_quotes_are_left_to_the_fast_reader(write, monkeypatch):
    monkeypatch.setattr(csv_rows, "_exact_batches", None)
    data = b"\xef\xbb\xbf" + b'"a",b,"c, d"\r\n1,"",3\n' * 50 + b'7,8,"9"'
    found = _read(write(data))
    assert [fields for _, fields in found[:2]] == [["a", "b", "c, d"], ["1", "", "3"]]
    assert found[-1] == (101, ["7", "8", "9"])


def _lines(changed):
    lines = [f"{number}.jpg,x,y" for number in range(1, 401)]
    for at, line in changed.items():
        lines[at - 1] = line
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({120: '"120.jpg,x,y'}, 120),
        ({120: '"120.jpg,x,y', 240: '"240.jpg,x,y'}, 120),
        ({120: '"120.jpg,x,y', 240: '240.jpg",x,y'}, 120),
        ({120: '120.jpg,x,"y', 121: '121.jpg,x,y"'}, 120),
        ({120: '120.jpg,x,"y', 240: '240.jpg",x,y'}, 120),
        ({1: '"1.jpg,x,y', 2: '2.jpg",x,y'}, 1),
        ({400: '400.jpg,x,"y'}, 400),
    ],
)
def test_stray_quote_names_its_line_instead_of_taking_rows_away(write, changed, line):
    path = write(_lines(changed))
    said = rf"list\.csv: the row that begins in line {line} has a quote too many"
    with pytest.raises(InputError, match=said):
        _read(path)
    with pytest.raises(InputError, match=said):
        count_lines(path)


def test_stray_quotes_within_one_real_block_are_seen(write):
    with pytest.raises(InputError, match="in line 120 has a quote too many"):
        _read(write(_lines({120: '"120.jpg,x,y', 240: '"240.jpg,x,y'})))


@pytest.mark.usefixtures("small_blocks")
def test_text_that_is_no_utf8_keeps_its_row_and_number(write):
    path = write(b"1,2,3\n" * 40 + b"4,\xff\xfe,6\n" + b"7,8,9\n")
    found = _read(path)
    assert found[40] == (41, ["4", "\N{REPLACEMENT CHARACTER}" * 2, "6"])
    assert found[41] == (42, ["7", "8", "9"])


def test_malformed_row_that_is_no_utf8_is_named_and_nothing_is_printed(write, capfd):
    assert _read(write(b"1,2,3\nx\xff\n4,5,6\n"))[1] == (2, "x\N{REPLACEMENT CHARACTER}")
    assert capfd.readouterr().err == ""


def test_nul_bytes_are_kept_as_they_are(write):
    path = write(b"1,\x00,3\n\x00\n4,5,6\n")
    assert _read(path) == [(1, ["1", "\x00", "3"]), (2, "\x00"), (3, ["4", "5", "6"])]


def test_huge_field_is_read(write):
    path = write(b"1,2\n1," + b"x" * 300_000 + b",3\n")
    assert [len(fields[1]) for _, fields in _read(path)[1:]] == [300_000]


def test_file_that_is_gone_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv"):
        list(read_text_rows(tmp_path / "gone.csv", NAMES, has_header=False))


_PIECES = [b"a", b"1", b"NULL", b",", b",", b"\n", b"\r\n", b"\r", b'"', b'""', b"\x00", b"\xff"]
_PIECES += [
    b" ",
    b"\xc3\xa9",
    b"a,b,c\n",
    b"a,b,c\r\n",
    b'"x\ny"',
    b"\xef\xbb\xbf",
    b"a,b,c\n" * 30,
]
_TOKENS = st.sampled_from(_PIECES)


@given(
    data=st.one_of(st.lists(_TOKENS, max_size=40).map(b"".join), st.binary(max_size=60)),
    has_header=st.booleans(),
    block=st.sampled_from([32, 100, 1 << 20]),
    batch=st.sampled_from([1, 3, 100]),
)
@example(data=b"a,b,c\n" * 30 + b"x\xff\n" + b"1,2,3\n", has_header=True, block=32, batch=3)
@example(data=b'1,2,3\n4,"5\n6,7,8\n', has_header=False, block=32, batch=1)
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_the_rows_that_an_exact_reader_finds(
    tmp_path, data, has_header, block, batch
):
    path = tmp_path / "list.csv"
    path.write_bytes(data)
    expected = _expected(data, has_header)
    with mock.patch.multiple(csv_rows, _BLOCK_BYTES=block, _SLOW_BATCH_ROWS=batch):
        if expected is None:
            for read in (_read, count_lines):
                with pytest.raises(InputError):
                    read(path)
            return
        assert _read(path, has_header) == expected[0]
    assert count_lines(path) == expected[1]
