"""Arrow tables in pieces, and what a damaged Parquet file raises."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError)
"""What reading a damaged Parquet file raises; its footer has no checksum and may say anything."""


def regrouped(tables: Iterable[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """The rows of `tables` once more, in tables of these sizes; what is over is left out."""
    source = iter(tables)
    held: list[pa.Table] = []
    for size in sizes:
        while sum(part.num_rows for part in held) < size:
            held.append(next(source))
        table = pa.concat_tables(held)
        yield table.slice(0, size)
        held = [table.slice(size)]
