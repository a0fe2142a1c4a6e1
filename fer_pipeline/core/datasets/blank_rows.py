"""Rows of a list whose fields are separated by blanks, without a header and without quotes.

Runs of blanks and tabs are one separator, blanks at both ends are none; lines of blanks are no
rows. RAF-DB's and ExpW's lists are written so.
"""

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.datasets.csv_rows import TextRows
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location, open_binary

_BLOCK_BYTES = 4 << 20


def read_blank_rows(path: Location, names: Sequence[str]) -> Iterator[TextRows]:
    """Every row of a list with columns `names` as text, some MiB of the file at a time.

    Raises InputError when the file can't be opened or read.
    """
    done = 0
    for text in _blocks(path):
        lines = pc.ascii_trim_whitespace(pa.array(text.split("\n"), pa.string()))
        lines = lines.filter(pc.greater(pc.binary_length(lines), 0))
        fields = pc.ascii_split_whitespace(lines)
        whole = pc.equal(pc.list_value_length(fields), len(names)).to_numpy(zero_copy_only=False)
        numbers = np.arange(done + 1, done + len(lines) + 1)
        odd = np.flatnonzero(~whole)
        if len(odd):
            fields = fields.filter(pa.array(whole))
        cells = fields.flatten()
        places = np.arange(0, len(cells), len(names))
        columns = [cells.take(pa.array(places + at)) for at in range(len(names))]
        yield TextRows(
            pa.Table.from_arrays(columns, names=list(names)),
            numbers[whole].tolist() if len(odd) else range(done + 1, done + len(lines) + 1),
            [(int(numbers[at]), lines[int(at)].as_py()) for at in odd],
        )
        done += len(lines)


def first_field(line: str) -> str:
    """The first field of a line; empty where there is none."""
    return next(iter(line.encode().split()), b"").decode()


def count_first_fields(path: Location) -> Counter[str]:
    """How many rows of a list begin with each first field; line by line."""
    counts: Counter[str] = Counter()
    with open_binary(path) as stream:
        for number, line in enumerate(stream):
            text = line if number else line.removeprefix(codecs.BOM_UTF8)
            # A carriage return alone ends a line too.
            for part in text.split(b"\r"):
                if fields := part.split(maxsplit=1):
                    counts[fields[0].decode(errors="replace")] += 1
    return counts


def _blocks(path: Location) -> Iterator[str]:
    """Whole lines of a file, several MiB at a time; what isn't UTF-8 becomes U+FFFD."""
    mark = codecs.BOM_UTF8
    try:
        with open_binary(path) as stream:
            while text := stream.read(_BLOCK_BYTES) + stream.readline():
                text = text.removeprefix(mark)
                mark = b""
                yield text.decode(errors="replace").replace("\r", "\n")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
