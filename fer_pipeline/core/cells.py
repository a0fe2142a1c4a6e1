"""Cells of CSV files that people open in a spreadsheet, which runs what looks like a formula.

After OWASP's advice on CSV injection; reading takes off again what writing put on. And times in
files, which are always with their zone.
"""

from datetime import UTC, datetime

from fer_pipeline.core.errors import InputError

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")
_QUOTE = "'"


def safe_cell(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet might take it for a formula."""
    return _QUOTE + text if text.startswith((*_RISKY, _QUOTE)) else text


def plain_cell(cell: str) -> str:
    """What `safe_cell` made a cell of; cells that it never makes stay as they are."""
    quoted = cell.startswith(_QUOTE) and cell[1:].startswith((*_RISKY, _QUOTE))
    return cell[1:] if quoted else cell


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
