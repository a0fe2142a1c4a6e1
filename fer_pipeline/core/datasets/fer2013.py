"""FER2013's own CSV file: `emotion,pixels,Usage`, 48x48 grey, a face a row.

Reads `fer2013.csv` and the variant `icml_face_data.csv` (`emotion, Usage, pixels`, with blanks in
the header). The index reads labels and splits alone; pixels are parsed where a picture is wanted.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import (
    UNKNOWN_LABEL,
    Alone,
    Photo,
    Role,
    RowBatch,
    roles_of_given_splits,
)
from fer_pipeline.core.datasets.pixel_rows import (
    PixelRows,
    column_places,
    count_words,
    find_rows,
    grey_pixels,
    read_row,
)
from fer_pipeline.core.datasets.rows import (
    TRAIN,
    UNKNOWN_SPLIT,
    Tests,
    first_reasons,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import FER2013
from fer_pipeline.core.read_ahead import Stored, too_large
from fer_pipeline.core.storage import Location, file_size, is_file, open_binary

FILES = ("fer2013.csv", "icml_face_data.csv")
"""The names of the file, the one that is taken where both are there first."""
FER_PLUS_FILE = "fer2013new.csv"
"""FER+ votes on the same pictures, which `ferplus` reads."""

SIDE = 48
"""Height and width of a picture in pixels."""
OFFICIAL_ROWS: Mapping[str, int] = {"train": 28_709, "validation": 3_589, "test": 3_589}
"""Training, PublicTest and PrivateTest of FER2013 (Goodfellow et al., 2013)."""

_LISTS: Mapping[str, str] = {
    "Training": "train",
    "PublicTest": "validation",
    "PrivateTest": "test",
}
_COLUMNS = ("emotion", "pixels", "usage")
_PGM = f"P5\n{SIDE} {SIDE}\n255\n".encode()
"""The header of a binary PGM, which holds grey bytes as they are."""
_BATCH_ROWS = 65_536


class Fer2013(Alone):
    """`fer2013.csv` or `icml_face_data.csv` under `root`, or in a folder `fer2013` there."""

    name = "fer2013"
    layout = "fer2013.csv or icml_face_data.csv"
    faces_are_cropped = True
    picture_side: int | None = SIDE
    options: Mapping[str, str] = {}
    labels = FER2013

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """The file is there, and no votes beside it."""
        path = pixel_file(root)
        if path is None or is_file(path.parent / FER_PLUS_FILE) or not has_columns(path):
            return None
        return f"it holds {path.name} with the columns {', '.join(_COLUMNS)}"

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the file and read its header; raises InputError where it doesn't fit."""
        self.root = root
        self.name = name or self.name
        path = pixel_file(root)
        if path is None:
            raise InputError(
                f"{root} holds neither {' nor '.join(FILES)}: "
                "give --root the folder that holds FER2013's CSV file"
            )
        self.path = path
        self._places, self._fields = column_places(path, _COLUMNS)

    @property
    def title(self) -> str:
        """FER2013 where the splits are as long as its own, else the name."""
        rows = {name: int((self._list == place).sum()) for place, name in enumerate(OFFICIAL_ROWS)}
        # Releases without the test list, or without both others, are its own too.
        rows = {name: count for name, count in rows.items() if count}
        official = TRAIN in rows and rows.items() <= OFFICIAL_ROWS.items()
        return "FER2013" if official else self.name

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The lists of which there are rows, all in the one file."""
        return {
            name: [self.path]
            for place, name in enumerate(_LISTS.values())
            if (self._list == place).any() or (name == TRAIN and not len(self.rows))
        }

    def roles(self) -> Mapping[str, Role]:
        """See `roles_of_given_splits`: PublicTest is dev beside PrivateTest."""
        return roles_of_given_splits(list(self.lists()))

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the lists, typed or rejected; see `DataSet.batches`."""
        order = list(_LISTS.values())
        for name in names or self.lists():
            of_list = np.flatnonzero(self._list == order.index(name))
            for start in range(0, len(of_list), _BATCH_ROWS):
                yield self._typed(name, of_list[start : start + _BATCH_ROWS])

    def count_rows(self, name: str) -> int:
        """The lines in which the list's word stands; of `train` those without such a word too."""
        rows, counts = self._counted
        of_list = {_LISTS[word]: count for word, count in counts.items()}
        return of_list[name] + (rows - sum(counts.values()) if name == TRAIN else 0)

    def photo_key(self, photo: Photo) -> str:
        """Each row is a picture of its own."""
        return photo[1]

    def photo_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of each picture as it is handed out, -1 where there is no such row; shape (n,)."""
        known = np.fromiter((self._row(photo) is not None for photo in photos), bool, len(photos))
        return np.where(known, len(_PGM) + SIDE * SIDE, -1).astype(np.int64)

    def stored_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of the file that holds all pictures; shape (n,)."""
        return np.full(len(photos), file_size(self.path), np.int64)

    def read_photos(
        self, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        """Each picture in turn as a grey PGM; see `DataSet.read_photos`."""
        with open_binary(self.path) as stream:
            for photo in photos:
                row = self._row(photo)
                if row is None:
                    yield None
                elif max_bytes is not None and max_bytes < len(_PGM) + SIDE * SIDE:
                    yield too_large(max_bytes)
                else:
                    line = read_row(stream, int(self.rows.start[row]), int(self.rows.length[row]))
                    yield self._picture(line)

    @cached_property
    def rows(self) -> PixelRows:
        """The rows of the file."""
        short = {name: self._places[name] for name in ("emotion", "usage")}
        return find_rows(self.path, short, self._fields, list(_LISTS))

    @cached_property
    def _list(self) -> npt.NDArray[np.int8]:
        """The list of each row, as its place in `_LISTS`; `train` where the row names none."""
        return np.maximum(self.rows.word, 0)

    @cached_property
    def _counted(self) -> tuple[int, Mapping[str, int]]:
        return count_words(self.path, list(_LISTS))

    def _picture(self, line: bytes) -> bytes | UnreadableError:
        fields = line.split(b",")
        if len(fields) != self._fields:
            return UnreadableError(f"a row of {len(fields)} fields, not {self._fields}")
        try:
            return _PGM + grey_pixels(fields[self._places["pixels"]], SIDE * SIDE)
        except UnreadableError as error:
            return error

    def _row(self, photo: Photo) -> int | None:
        """The place of a photo's row among all, None where there is none."""
        number = photo[1].rpartition("#")[2]
        row = int(number) - 1 if number.isascii() and number.isdecimal() else -1
        return row if 0 <= row < len(self.rows) else None

    def _typed(self, name: str, rows: npt.NDArray[np.intp]) -> RowBatch:
        emotion, usage = (
            pa.chunked_array([self.rows.cells[column].take(pa.array(rows))])
            for column in ("emotion", "usage")
        )
        code = columns.expression_codes(emotion, self.labels)
        usages = usage.to_pylist()
        malformed = np.array([cell is None for cell in usages], bool)
        bad, reasons, values = first_reasons(
            {
                "wrong_field_count": (malformed, self._row_texts(rows, malformed)),
                UNKNOWN_SPLIT: (np.array([_LISTS.get(u) != name for u in usages], bool), usages),
                "no_label": (columns.missing(emotion), None),
                UNKNOWN_LABEL: (code < 0, emotion),
                **self._more_tests(rows),
            }
        )
        kept, rejected = rows[~bad], rows[bad]
        return RowBatch(
            kept_table(
                self.name,
                name,
                (kept + 1).astype(np.int32),
                [f"{self.path.name}#{at + 1}" for at in kept],
                code[~bad],
                votes=self._votes(kept),
            ),
            rejected_table(self.name, name, (rejected + 1).tolist(), reasons, values),
        )

    def _row_texts(
        self, rows: npt.NDArray[np.intp], wanted: npt.NDArray[np.bool_]
    ) -> list[str | None]:
        """The beginnings of the `wanted` rows, None for the others."""
        texts: list[str | None] = [None] * len(rows)
        if wanted.any():
            with open_binary(self.path) as stream:
                for at in np.flatnonzero(wanted):
                    start, length = (
                        int(of[rows[at]]) for of in (self.rows.start, self.rows.length)
                    )
                    texts[at] = read_row(stream, start, min(length, 200)).decode("utf-8", "replace")
        return texts

    def _more_tests(self, rows: npt.NDArray[np.intp]) -> Tests:  # noqa: ARG002
        """Further reasons to reject rows, for `first_reasons`."""
        return {}

    def _votes(self, rows: npt.NDArray[np.intp]) -> pa.Array | None:  # noqa: ARG002
        """The votes of rows, for `kept_table`."""
        return None


def pixel_file(root: Location) -> Location | None:
    """FER2013's file under `root`, or None."""
    places = [folder / name for folder in (root, root / "fer2013") for name in FILES]
    return next((path for path in places if is_file(path)), None)


def has_columns(path: Location) -> bool:
    """Whether a file's header names FER2013's columns."""
    try:
        column_places(path, _COLUMNS)
    except InputError:
        return False
    return True
