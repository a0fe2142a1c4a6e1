"""Rows of a large CSV list as text columns, every row counted and none skipped.

The fast path is pyarrow's streaming reader. It can't say where a malformed row stood, and a stray
quote makes one cell of thousands of its rows. So at the first malformed row, at quotes that aren't
plainly around cells of one line, or at text that isn't UTF-8, reading goes on with Python's csv
module, which is strict and names lines.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, file_size, open_binary

# Small enough for the processor's cache, large enough that a block's overhead is nothing.
_BLOCK_BYTES = 4 << 20
_SLOW_BATCH_ROWS = 20_000
_AROUND_CELLS = np.frombuffer(b",\r\n", np.uint8)
_LINE_END = re.compile(r"\r\n|\r|\n")

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class TextRows:
    """Consecutive well-formed rows as string columns, and the malformed rows found among them.

    `rows` are the numbers (data rows of the file, from 1) of the rows of `columns`;
    `malformed` holds (number, text) of rows with another number of fields.
    """

    columns: pa.Table
    rows: Sequence[int] | range
    malformed: Sequence[tuple[int, str]]


def first_fields(path: Location) -> list[str] | None:
    """The fields of the first row that isn't blank, byte-order mark apart; None when empty.

    Raises InputError when the file can't be opened or read.
    """
    with _open_text(path) as stream:
        return next(_rows_of(stream, path), None)


def read_text_rows(
    path: Location, names: Sequence[str], *, has_header: bool, only: Sequence[str] | None = None
) -> Iterator[TextRows]:
    """Every data row of a CSV file of columns `names` as text; blank lines are no rows.

    `only` says which of the columns are wanted (default: all). Row numbers don't depend on it.
    A cell in quotes may hold line ends. Raises InputError when the file can't be opened or read, or
    a quote is never closed or seems to hold whole rows.
    """
    done = 0
    wanted = [name for name in names if only is None or name in only]
    try:
        for table in ahead(_fast_batches(path, names, wanted, has_header=has_header)):
            yield TextRows(table, range(done + 1, done + table.num_rows + 1), ())
            done += table.num_rows
        return
    except pa.ArrowInvalid:
        pass
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    for rows in _exact_batches(path, names, has_header=has_header, skip=done):
        chosen = [at for at, name in enumerate(names) if name in wanted]
        yield TextRows(rows.columns.select(chosen), rows.rows, rows.malformed)


def rows_one_by_one(path: Location) -> Iterator[list[str]]:
    """The fields of every row, header and malformed rows too, as Python's csv module reads them.

    Raises InputError as `read_text_rows` does.
    """
    with _open_text(path) as stream:
        yield from _rows_of(stream, path)


def ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; while one is used, the next is made in another thread."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def count_lines(path: Location) -> int:
    """The lines of a file that aren't blank; of rows, where a quoted field may span lines.

    Raises InputError as `read_text_rows` does.
    """
    with open_binary(path) as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            stream.seek(0)
        lines = quotes = 0
        for line in stream:
            text = line.rstrip(b"\r\n")
            # A carriage return alone ends a line too.
            lines += sum(map(bool, text.split(b"\r"))) if b"\r" in text else bool(text)
            quotes += b'"' in line
    if not quotes:
        return lines
    with _open_text(path) as stream:
        return sum(1 for _ in _rows_of(stream, path))


def _fast_batches(
    path: Location, names: Sequence[str], wanted: Sequence[str], *, has_header: bool
) -> Iterator[pa.Table]:
    if not file_size(path):
        return
    reader = pa_csv.open_csv(
        pa.PythonFile(_PlainQuotes(open_binary(path)), mode="r"),
        read_options=pa_csv.ReadOptions(column_names=list(names), block_size=_BLOCK_BYTES),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
            include_columns=wanted,
        ),
    )
    header_pending = has_header
    for batch in reader:
        table = pa.Table.from_batches([batch])
        if header_pending and table.num_rows:
            table = table.slice(1)
            header_pending = False
        if table.num_rows:
            yield table


class _PlainQuotes:
    """A binary stream that pyarrow reads as long as every cell in quotes begins and ends in a line.

    So that none of them can hold a row, and both readers take the cells for the same.
    """

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._begun = False
        # The line that isn't whole yet.
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; raises ArrowInvalid where quotes in whole lines are no plain ones."""
        data = self._stream.read(size)
        known = self._held + (data if self._begun else data.removeprefix(codecs.BOM_UTF8))
        self._begun = True
        cut = 1 + max(known.rfind(b"\n"), known.rfind(b"\r")) if data else len(known)
        if b'"' in known and not _are_plain(known[:cut]):
            raise pa.ArrowInvalid("quotes that need the exact reader")
        self._held = known[cut:]
        return data

    def close(self) -> None:
        """Close the stream."""
        self.closed = True
        self._stream.close()


def _are_plain(lines: bytes) -> bool:
    """Whether each quote in whole lines opens or closes a cell that has no other quotes in it."""
    text = np.frombuffer(b"\n" + lines + b"\n", np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    ends = np.flatnonzero((text == ord("\n")) | (text == ord("\r")))
    return bool(
        np.isin(text[opening - 1], _AROUND_CELLS).all()
        and np.isin(text[closing + 1], _AROUND_CELLS).all()
        and np.array_equal(np.searchsorted(ends, opening), np.searchsorted(ends, closing))
    )


def _exact_batches(
    path: Location, names: Sequence[str], *, has_header: bool, skip: int
) -> Iterator[TextRows]:
    schema = pa.schema([(name, pa.string()) for name in names])
    rows: list[int] = []
    values: list[list[str]] = []
    malformed: list[tuple[int, str]] = []

    def batch() -> TextRows:
        columns = list(zip(*values, strict=True)) if values else [()] * len(names)
        arrays = [pa.array(column, pa.string()) for column in columns]
        return TextRows(pa.Table.from_arrays(arrays, schema=schema), list(rows), list(malformed))

    with _open_text(path) as stream:
        number = -1 if has_header else 0
        for fields in _rows_of(stream, path):
            number += 1
            if number <= skip:
                continue
            if len(fields) == len(names):
                rows.append(number)
                values.append(fields)
            else:
                malformed.append((number, ",".join(fields)))
            if len(rows) + len(malformed) >= _SLOW_BATCH_ROWS:
                yield batch()
                rows.clear()
                values.clear()
                malformed.clear()
    if rows or malformed:
        yield batch()


def _rows_of(stream: Iterator[str], path: Location) -> Iterator[list[str]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(stream, strict=True)
    before = width = 0
    try:
        for fields in reader:
            width = width or len(fields)
            if reader.line_num > before + 1:
                # Two stray quotes make one cell of all rows between them, and no error.
                later = _LINE_END.split(",".join(fields))[1:]
                if any(line.count(",") >= width - 1 for line in later):
                    raise csv.Error("a cell holds what looks like whole rows")
            if fields:
                yield fields
            before = reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{path}: the row that begins in line {before + 1:,} has a quote too many or too few: "
            f"{error}; correct that row, or write the list anew as CSV"
        ) from error


def _open_text(path: Location) -> io.TextIOWrapper:
    try:
        stream = open_binary(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    # Bytes that aren't UTF-8 become U+FFFD, so that their row can still be named.
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
