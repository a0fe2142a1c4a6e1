"""FER+ (Barsoum et al., 2016): ten people's votes on each picture of FER2013.

`fer2013new.csv` has no pictures and no labels of its own. Its rows are FER2013's, in the same
order; image names in it are blank or repeated, and say nothing. The listed label stays FER2013's,
the votes are a column beside it.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.csv_rows import first_fields, read_text_rows
from fer_pipeline.core.datasets.fer2013 import (
    FER_PLUS_FILE,
    Fer2013,
    has_columns,
    pixel_file,
)
from fer_pipeline.core.datasets.rows import Tests, votes_column
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import VOTE_NAMES, vote_place
from fer_pipeline.core.storage import Location, is_file

_USAGE = "usage"
_MOST_VOTES = 127


class FerPlus(Fer2013):
    """FER2013's CSV file and `fer2013new.csv` beside it, or in `root`."""

    name = "ferplus"
    layout = "fer2013.csv and fer2013new.csv"
    options: Mapping[str, str] = {}

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """Both files are there."""
        path = pixel_file(root)
        if path is None or _votes_file(root, path) is None or not has_columns(path):
            return None
        return f"it holds {path.name} and {FER_PLUS_FILE}"

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find both files and read their headers; raises InputError where they don't fit."""
        super().__init__(root, name)
        found = _votes_file(root, self.path)
        if found is None:
            raise InputError(
                f"{self.path.parent} holds {self.path.name} and no {FER_PLUS_FILE}: "
                "give --root the folder that holds both, or read it as fer2013"
            )
        self.votes_path = found
        self._names = _header(found)

    def lists(self) -> Mapping[str, list[Location]]:
        """The lists of FER2013, each of rows of both files."""
        return {name: [*files, self.votes_path] for name, files in super().lists().items()}

    @cached_property
    def _all_votes(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], list[str | None]]:
        """The votes of each row (n, 10), whether these are none (n,), and what stands there then.

        Raises InputError at the first row in which the two files differ.
        """
        votes = np.zeros((len(self.rows), len(VOTE_NAMES)), np.int8)
        refused = np.ones(len(self.rows), bool)
        texts: list[str | None] = [None] * len(self.rows)
        usage = self.rows.cells["usage"]
        done = 0
        for part in read_text_rows(self.votes_path, self._names, has_header=True):
            at = np.asarray(columns.row_numbers(part.rows), np.intp) - 1
            done += len(at) + len(part.malformed)
            inside = at < len(self.rows)
            self._check_usage(at[inside], usage.take(pa.array(at[inside])), part.columns[_USAGE])
            found, bad = _counts(part.columns)
            votes[at[inside]], refused[at[inside]] = found[inside], bad[inside]
            for place in np.flatnonzero(bad & inside):
                texts[at[place]] = ",".join(one[int(place)].as_py() for one in part.columns.columns)
            for number, text in part.malformed:
                if number <= len(texts):
                    texts[number - 1] = text
        if done != len(self.rows):
            raise InputError(
                f"{self.path} has {len(self.rows):,} rows and {self.votes_path} {done:,}: "
                f"row {min(done, len(self.rows)) + 1:,} is in one alone, so take both from the "
                "same release"
            )
        return votes, refused, texts

    def _check_usage(
        self, at: npt.NDArray[np.intp], pixels: pa.Array, votes: pa.ChunkedArray
    ) -> None:
        # A row with too many or too few fields says nothing of its split, and is rejected.
        for row, one, other in zip(at, pixels.to_pylist(), votes.to_pylist(), strict=False):
            if one is not None and one != other.strip():
                raise InputError(
                    f"row {row + 1:,} is {one!r} in {self.path} and {other.strip()!r} in "
                    f"{self.votes_path}: the two go together row by row, take both from the same "
                    "release"
                )

    def _more_tests(self, rows: npt.NDArray[np.intp]) -> Tests:
        _, refused, texts = self._all_votes
        return {"not_a_number": (refused[rows], [texts[at] for at in rows])}

    def _votes(self, rows: npt.NDArray[np.intp]) -> pa.Array:
        return votes_column(self._all_votes[0][rows])


def _votes_file(root: Location, pixels: Location) -> Location | None:
    places = (pixels.parent / FER_PLUS_FILE, root / FER_PLUS_FILE)
    return next((path for path in places if is_file(path)), None)


def _header(path: Location) -> list[str]:
    """The file's columns: `usage`, the names of VOTE_NAMES, and others as they are written."""
    names = []
    for field in first_fields(path) or ():
        place = vote_place(field)
        plain = field.strip()
        names.append(
            _USAGE if plain.casefold() == _USAGE else plain if place is None else VOTE_NAMES[place]
        )
    for name in (_USAGE, *VOTE_NAMES):
        if names.count(name) != 1:
            raise InputError(
                f"{path}, row 1: the header must name Usage and ten columns of votes, each once, "
                f"and names {name} {names.count(name)} times"
            )
    return names


def _counts(table: pa.Table) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Votes (n, 10) of the rows of a table of texts, and where they are none (n,)."""
    cells = [columns.numbers(table[name]) for name in VOTE_NAMES]
    values = np.stack([value for value, _ in cells], axis=1)
    with np.errstate(invalid="ignore"):
        fits = (values >= 0) & (values <= _MOST_VOTES) & (values == np.rint(values))
    votes = np.where(fits, values, 0).astype(np.int8)
    return votes, ~fits.all(axis=1)
