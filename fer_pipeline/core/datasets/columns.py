"""Text columns to typed ones, whole columns at a time, and which cells refused.

Used by readers of text lists. Blank cells, NULL and NaN are missing values, never errors.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.labels import CODES, expression_name

_MISSING = ("", "null", "nan", "none", "na", "n/a", "\\n")
_LONGEST_MISSING = max(map(len, _MISSING))
_NOT_DEFINED = -2.0
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"


def missing(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which cells of a text column hold no value; shape (n,)."""
    text = pc.utf8_trim_whitespace(column)
    # Whole columns of paths need no closer look.
    if pc.min(pc.binary_length(text)).as_py() not in range(_LONGEST_MISSING + 1):
        return _numpy(pc.is_null(text))
    text = pc.utf8_lower(text)
    return _numpy(pc.fill_null(pc.is_in(text, value_set=pa.array(_MISSING)), True))


def numbers(
    column: pa.ChunkedArray,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """A text column as float64 (NaN where missing or refused) and which cells were refused."""
    values = _cast(column)
    if values is None:
        # Rows of NULL among numbers; what else isn't a number is judged below.
        plain = pc.is_in(column, value_set=pa.array(["NULL", ""]))
        values = _cast(pc.if_else(plain, pa.scalar(None, pa.string()), column))
    if values is not None:
        return values, np.zeros(len(column), bool)
    text = pc.utf8_trim_whitespace(column)
    readable = _numpy(pc.fill_null(pc.match_substring_regex(text, _NUMBER), False))
    refused = ~(readable | missing(column))
    cast = pc.cast(pc.if_else(pa.array(readable), text, pa.scalar(None, pa.string())), "float64")
    values = _numpy(pc.fill_null(cast, np.nan))
    overflown = np.isinf(values)
    return np.where(overflown, np.nan, values), refused | overflown


def row_numbers(rows: Sequence[int] | range) -> npt.NDArray[np.int32]:
    """Row numbers as int32; shape (n,)."""
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, dtype=np.int32)
    return np.asarray(rows, np.int32)


def whole(values: npt.NDArray[np.float64], limit: int = 10**6) -> npt.NDArray[np.bool_]:
    """Which numbers can stand as whole pixels: finite and within +-`limit`."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & (np.abs(values) <= limit)


def int32_or_null(
    values: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Float values rounded to int32, null where NaN or not `valid`."""
    keep = np.isfinite(values) if valid is None else valid
    return pa.array(np.where(keep, np.rint(values), 0).astype(np.int32), mask=~keep)


def affect(values: npt.NDArray[np.float64]) -> pa.Array:
    """Valence or arousal as AffectNet writes it as float32, null where NaN or -2 (not defined)."""
    undefined = ~np.isfinite(values) | (values == _NOT_DEFINED)
    return pa.array(values.astype(np.float32), mask=undefined)


def unsafe_path(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which relative paths would leave their root (absolute, a drive, `..`), or are no text.

    No text are those with a line end, a NUL byte, or U+FFFD, which bytes that aren't UTF-8 became:
    paths that differ in these bytes alone would be as one.
    """
    pattern = r"^[/\\~]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|[\x00\r\n\x{FFFD}]"
    outside = pc.match_substring_regex(column, pattern)
    return _numpy(pc.fill_null(outside, False))


def expression_codes(column: pa.ChunkedArray, written: Mapping[str, str]) -> npt.NDArray[np.int8]:
    """The AffectNet code of each label of a text column, -1 where it means none; shape (n,).

    A label is a number of the table `written` (a number to an expression's name), or a name.
    """
    codes = np.full(len(column), -1, np.int8)
    if not len(column):
        return codes
    texts = pc.dictionary_encode(pc.utf8_trim_whitespace(column)).combine_chunks()
    found = [_expression_code(text, written) for text in texts.dictionary.to_pylist()]
    known = _numpy(pc.is_valid(texts.indices))
    codes[known] = np.array(found, np.int8)[_numpy(texts.indices.fill_null(0))[known]]
    return codes


def _expression_code(text: str, written: Mapping[str, str]) -> int:
    name = written.get(text) or expression_name(text)
    if name is None:
        # 3.0 and +3 are 3; a name that begins like a number is none.
        number, refused = numbers(pa.chunked_array([[text]]))
        whole_number = np.isfinite(number[0]) and number[0] == np.rint(number[0])
        name = written.get(str(int(number[0]))) if whole_number and not refused[0] else None
    return -1 if name is None else CODES[name]


def face_ids(
    source: str, photo_root: str, paths: pa.Array, box: Sequence[pa.Array] | None
) -> pa.Array:
    """`face_id` of each row: BLAKE2b of source, photo root, path and listed box.

    The same face of the same photo has the same id in whatever list it stands.
    """
    if box is None:
        parts = [pa.repeat("", len(paths))] * 4
    else:
        parts = [pc.fill_null(pc.cast(side, pa.string()), "") for side in box]
    text = pc.binary_join_element_wise(f"{source}|{photo_root}", paths, *parts, "|")
    hashed, rows = hashlib.blake2b, pc.cast(text, pa.binary()).to_pylist()
    digests = b"".join([hashed(row, digest_size=8).digest() for row in rows])
    # The buffers of a string array of 16 characters a row, made at once.
    ends = np.arange(0, 16 * len(rows) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(rows), pa.py_buffer(ends), pa.py_buffer(digests.hex().encode())
    )


def _cast(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """Text as float64 (null is NaN), or None where a cell isn't plainly a finite number."""
    try:
        numbers = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return None
    # Infinity, and NaN in letters, are what only a cast accepts.
    if not pc.all(pc.is_finite(numbers), min_count=0).as_py():
        return None
    return _numpy(numbers)


def _numpy(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return np.asarray(column.to_numpy(zero_copy_only=False))
