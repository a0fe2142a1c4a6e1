"""Small CSV files that people open in a spreadsheet, which runs what looks like a formula.

After OWASP's advice on CSV injection; reading takes off again what writing put on. And times in
files, which are always with their zone.
"""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

from fer_pipeline.core.errors import InputError

_QUOTE = "'"
_QUOTED = ("=", "+", "-", "@", "\t", "\r", "\n", _QUOTE)


def safe_cell(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet might take it for a formula."""
    return _QUOTE + text if text.startswith(_QUOTED) else text


def plain_cell(cell: str) -> str:
    """What `safe_cell` made a cell of; cells that it never makes stay as they are."""
    quoted = cell.startswith(_QUOTE) and cell[1:].startswith(_QUOTED)
    return cell[1:] if quoted else cell


def csv_rows(data: bytes, path: object) -> Iterator[tuple[int, list[str]]]:
    """Number and plain cells of each row that isn't empty, the header's too.

    Rows are counted as an editor counts lines: the first is 1. Raises InputError, which names
    `path` and row, where the bytes are no UTF-8 or no CSV.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, row {row}: not UTF-8 text; save the file as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, [plain_cell(cell) for cell in cells]
    except csv.Error as error:
        raise InputError(
            f"{path}, row {reader.line_num}: no CSV ({error}); correct or delete that line"
        ) from error


def checked_time(text: str, where: str) -> datetime:
    """A time, ISO 8601 with its zone, in UTC; raises InputError, which begins with `where`."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InputError(
        f"{where}: the time {text[:40]!r} isn't ISO 8601 with its zone; "
        "write it like 2030-01-31T12:00:00+00:00"
    )
