"""Rows of a CSV file in which pictures stand as text, as in FER2013's: where each row is.

A row is a line. One pass over the file, front to back, finds where every row stands and what its
short cells say; the text of a picture is held for one row at a time, and parsed when it is asked
for.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, open_binary

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_ROW = 1 << 20
"""Bytes. FER2013's longest row has about 9,200; of a longer one than this nothing is read."""
_LONGEST_WORD = 100
_AROUND = b" \t\"'"
_BLOCK_BYTES = 1 << 20
_BREAK = b"\n"


@dataclass(frozen=True)
class PixelRows:
    """Where the n data rows of a file stand, in bytes, and what they say beside their pixels.

    `cells` are the texts of the short columns, null where a row has another number of fields than
    the header. `word` is the place, among the words that were asked for, of the last field that
    is one of them; -1 where none is.
    """

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    cells: Mapping[str, pa.Array]
    word: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """The number of data rows."""
        return len(self.start)


def column_places(path: Location, names: Sequence[str]) -> tuple[dict[str, int], int]:
    """The place of each column in the header, and how many columns it has.

    `names` are in lower case; in the file case, and blanks and quotes around a name, mean nothing.
    Raises InputError where the header doesn't name each of them once.
    """
    with _opened(path) as stream:
        first = next((block[begin:end] for _, block, begin, end in _lines(stream)), b"")
    there = [_text(cell).casefold() for cell in first.split(b",")]
    for name in names:
        if there.count(name) != 1:
            raise InputError(
                f"{path}, row 1: the header must name the columns {', '.join(names)}, each once, "
                f"and names {name} {there.count(name)} times"
            )
    return {name: there.index(name) for name in names}, len(there)


def find_rows(
    path: Location, short: Mapping[str, int], fields: int, words: Sequence[str]
) -> PixelRows:
    """Every data row of a file below its header; blank lines are no rows.

    `short` are the columns whose text is wanted and their places among the `fields` columns.
    Raises InputError when the file can't be read.
    """
    start, length, word = array("q"), array("i"), array("b")
    cells: dict[str, list[str | None]] = {name: [] for name in short}
    columns = [(place, cells[name]) for name, place in short.items()]
    known = {text.encode(): place for place, text in enumerate(words)}
    texts: dict[bytes, str] = {}
    with _opened(path) as stream:
        lines = _lines(stream)
        next(lines, None)
        for at, block, begin, end in lines:
            edges = _edges(block, begin, end)
            told = -1
            for left, right in pairwise(edges[1:]):
                if right - left < _LONGEST_WORD:
                    told = known.get(block[left + 1 : right].strip(_AROUND), told)
            start.append(at + begin)
            length.append(end - begin)
            word.append(told)
            for place, column in columns:
                if len(edges) != fields + 1:
                    column.append(None)
                    continue
                # A million rows say few things: one text for each.
                cell = block[edges[place] + 1 : edges[place + 1]][:_LONGEST_WORD]
                text = texts.get(cell)
                if text is None:
                    text = _text(cell)
                    if len(texts) < _LONGEST_WORD:
                        texts[cell] = text
                column.append(text)
    return PixelRows(
        np.array(start, np.int64),
        np.array(length, np.int32),
        {name: pa.array(column, pa.string()) for name, column in cells.items()},
        np.array(word, np.int8),
    )


def count_words(path: Location, words: Sequence[str]) -> tuple[int, dict[str, int]]:
    """How many data rows there are, and how many have each word as the last of its kind in a field.

    Counted on blocks of bytes, not on rows as `find_rows` reads them.
    """
    field = re.compile(
        rb",[ \t\"']*(" + b"|".join(w.encode() for w in words) + rb")[ \t\"']*(?![^,\n])"
    )
    rows = -1
    counts = dict.fromkeys(words, 0)
    with _opened(path) as stream:
        for _, block in _whole_lines(stream):
            data = np.frombuffer(block, np.uint8)
            ends = np.append(np.flatnonzero(data == _BREAK[0]), len(data))
            begins = np.concatenate([[0], ends[:-1] + 1])
            rows += int((ends > begins).sum())
            last = {}
            for match in field.finditer(block):
                line = int(np.searchsorted(ends, match.start()))
                if ends[line] - begins[line] <= _LONGEST_ROW:
                    last[line] = match[1].decode()
            for text in last.values():
                counts[text] += 1
    return max(rows, 0), counts


def read_row(stream: IO[bytes], start: int, length: int) -> bytes:
    """The bytes of one row."""
    stream.seek(start)
    return stream.read(length)


def grey_pixels(text: bytes, count: int) -> bytes:
    """Numbers from 0 to 255 in ASCII, with blanks between them, as bytes.

    Raises UnreadableError where these aren't `count` such numbers.
    """
    text = text.strip(_AROUND)
    if not text or text.translate(None, b"0123456789 "):
        raise UnreadableError("the pixels aren't numbers with blanks between them")
    values = np.fromstring(text, np.int64, sep=" ")
    if len(values) != count:
        raise UnreadableError(f"{len(values):,} pixels, not {count:,}")
    if values.max() > 255:
        raise UnreadableError(f"a pixel of {values.max():,}, which is more than 255")
    return values.astype(np.uint8).tobytes()


def _edges(block: bytes, begin: int, end: int) -> list[int]:
    """Where the fields of a line end, beginning with the place before the first.

    Of a line that is too long only this place.
    """
    edges = [begin - 1]
    if end - begin > _LONGEST_ROW:
        return edges
    while (comma := block.find(b",", edges[-1] + 1, end)) >= 0:
        edges.append(comma)
    return [*edges, end]


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes, int, int]]:
    """Each line that isn't empty: where its block begins, the block, its begin and end therein."""
    for at, block in _whole_lines(stream):
        begin, size = 0, len(block)
        while begin < size:
            end = block.find(_BREAK, begin)
            end = size if end < 0 else end
            if end > begin:
                yield at, block, begin, end
            begin = end + 1


def _whole_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The file in blocks of whole lines, and where each begins; byte-order mark apart.

    Every carriage return is a line feed in them: alone it ends a line too, and blank lines count
    for nothing. Of a line of more than `_LONGEST_ROW` bytes a block has so many and one more.
    """
    at = len(_BYTE_ORDER_MARK)
    if stream.read(at) != _BYTE_ORDER_MARK:
        stream.seek(0)
        at = 0
    held, skipping = b"", False
    while data := stream.read(_BLOCK_BYTES):
        data = data.replace(b"\r", _BREAK)
        if skipping:
            begins = 1 + data.find(_BREAK) or len(data)
            skipping = _BREAK not in data
            data, at = data[begins:], at + begins
        held += data
        cut = 1 + held.rfind(_BREAK)
        if cut:
            yield at, held[:cut]
        held, at = held[cut:], at + cut
        if len(held) > _LONGEST_ROW:
            yield at, held[: _LONGEST_ROW + 1]
            held, at, skipping = b"", at + len(held), True
    if held:
        yield at, held


def _text(cell: bytes) -> str:
    return cell.strip(_AROUND).decode("utf-8", "replace")


@contextmanager
def _opened(path: Location) -> Iterator[IO[bytes]]:
    try:
        with open_binary(path) as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
