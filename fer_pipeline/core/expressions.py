"""Counts of expressions in the index, and one sample photo of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.index import row_batches
from fer_pipeline.core.labels import NAMES
from fer_pipeline.core.storage import Location

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "Expression Code",
    "Expression Name",
    "Count (Total)",
    "Count (Manually-Annotated)",
    "Count (Auto-Annotated)",
)


@dataclass(frozen=True)
class FaceRow:
    """One index row as it is shown to a person; `box` is x, y, width, height in pixels."""

    row: int
    face_id: str
    list: str
    image_path: str
    expression: str
    box: tuple[int, int, int, int] | None
    issue: str | None


def expression_counts(folder: Location) -> "pd.DataFrame":
    """Count of index rows for each expression, with the columns COLUMNS, largest total first."""
    import pandas as pd

    counts = np.zeros((len(NAMES), 2), np.int64)
    for batch in row_batches(folder, ["expression", "annotation"]):
        codes = batch.column("expression").to_numpy()
        auto = pc.equal(batch.column("annotation"), "auto").to_numpy(zero_copy_only=False)
        np.add.at(counts, (codes, auto.astype(int)), 1)
    table = pd.DataFrame(
        {
            COLUMNS[0]: range(len(NAMES)),
            COLUMNS[1]: NAMES,
            COLUMNS[2]: counts.sum(axis=1),
            COLUMNS[3]: counts[:, 0],
            COLUMNS[4]: counts[:, 1],
        }
    )
    table = table[table[COLUMNS[2]] > 0]
    return table.sort_values([COLUMNS[2], COLUMNS[0]], ascending=[False, True], ignore_index=True)


def sample_rows(folder: Location, seed: int, of_each: int = 20) -> Mapping[str, list[FaceRow]]:
    """Up to `of_each` rows of each expression in a seeded order, manual ones first.

    The first of them whose photo opens is the expression's sample.
    """
    picks: dict[int, list[tuple[bool, float, FaceRow]]] = {}
    generator = np.random.default_rng(seed)
    for start, batch in _numbered(folder):
        codes = batch.column("expression").to_numpy()
        draws = generator.random(len(codes))
        is_auto = pc.equal(batch.column("annotation"), "auto").to_numpy(zero_copy_only=False)
        flawed = is_auto | batch.column("issue").is_valid().to_numpy(zero_copy_only=False)
        for code in np.unique(codes):
            places = np.flatnonzero(codes == code)
            best = places[np.lexsort((draws[places], flawed[places]))[:of_each]]
            for place in best:
                row = _face_row(batch.slice(int(place), 1), start + int(place))
                rank = (bool(flawed[place]), float(draws[place]), row)
                picks.setdefault(int(code), []).append(rank)
            picks[int(code)].sort(key=lambda pick: pick[:2])
            del picks[int(code)][of_each:]
    return {NAMES[code]: [row for _, _, row in rows] for code, rows in sorted(picks.items())}


def find_row(folder: Location, wanted: str) -> FaceRow | None:
    """The index row with this face_id or this number (from 0), or None."""
    for start, batch in _numbered(folder):
        if wanted.isdecimal() and len(wanted) < 16:
            place = int(wanted) - start
            if place < batch.num_rows:
                return _face_row(batch.slice(place, 1), int(wanted))
        else:
            place = pc.index(batch.column("face_id"), wanted).as_py()
            if place >= 0:
                return _face_row(batch.slice(place, 1), start + place)
    return None


_SHOWN = [
    "face_id",
    "image_path",
    "list",
    "annotation",
    "expression",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "issue",
]


def _numbered(folder: Location) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in row_batches(folder, _SHOWN):
        yield start, batch
        start += batch.num_rows


def _face_row(batch: pa.RecordBatch, number: int) -> FaceRow:
    row = batch.to_pylist()[0]
    box = tuple(row[name] for name in ("face_x", "face_y", "face_width", "face_height"))
    return FaceRow(
        row=number,
        face_id=row["face_id"],
        list=row["list"],
        image_path=row["image_path"],
        expression=NAMES[row["expression"]],
        box=None if None in box else box,
        issue=row["issue"],
    )
