"""RAF-DB, basic set: one list for both splits, with aligned faces or the photos they are from.

`EmoLabel/list_patition_label.txt` (so spelt) has lines `train_00001.jpg 5`; attributes and boxes
are small files of their own, and are read where their folders are there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.attributes import AGE_GROUPS, GENDERS, RACES
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role, RowBatch
from fer_pipeline.core.datasets.blank_rows import count_first_fields, read_blank_rows
from fer_pipeline.core.datasets.csv_rows import TextRows
from fer_pipeline.core.datasets.photo_files import PhotoFiles
from fer_pipeline.core.datasets.rows import (
    TEST,
    TRAIN,
    attribute_text,
    first_holding,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.datasets.trees import names_in, read_small_files
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import RAF_DB
from fer_pipeline.core.storage import Location, is_file, is_folder

T = TypeVar("T")
_Names: TypeAlias = Mapping[str, frozenset[str]]
"""The names in each folder of small files."""

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_PARENTS = ("", "basic/")
_ALIGNED, _ORIGINAL = "aligned", "original"
_ATTRIBUTES = ("Annotation/manual", "_manu_attri.txt")
_BOXES = ("Annotation/boundingbox", "_boundingbox.txt")
_NO_BOX: tuple[float, ...] = (math.nan,) * 4
_MAX_BYTES = 65_536
"""An attribute file has about 130 bytes."""
_TRAIN_NAME, _TEST_NAME = "train_", "test_"
_ENDING = r"(_aligned)?(\.[^.]*)$"
_LANDMARKS = 10
"""Numbers of the five landmarks, before gender, race and age group."""


class RafDb(PhotoFiles):
    """RAF-DB's basic set under `root`, or in a folder `basic` there."""

    name = "raf-db"
    layout = "EmoLabel/list_patition_label.txt"
    faces_are_cropped = True
    picture_side: int | None = 100
    """Of the aligned pictures, in pixels."""
    options: Mapping[str, str] = {
        "pictures": "aligned (default): the aligned faces of 100x100 pixels; "
        "original: the photos, with the boxes of Annotation/boundingbox where these are there"
    }
    labels = RAF_DB

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """Its list is there."""
        found = _list_file(root)
        return f"it holds {found}" if found else None

    @classmethod
    def crops(cls, options: Mapping[str, str]) -> bool:
        """The aligned pictures are faces already."""
        pictures = options.get("pictures", _ALIGNED)
        if pictures not in (_ALIGNED, _ORIGINAL):
            raise InputError(
                f"raf-db.pictures is {pictures!r}: choose {_ALIGNED} (faces) or {_ORIGINAL} "
                "(photos)"
            )
        return pictures == _ALIGNED

    def __init__(
        self, root: Location, name: str | None = None, *, pictures: str = _ALIGNED
    ) -> None:
        """Find the list and the pictures under `root`.

        Raises InputError where one of them isn't there, or `pictures` is neither aligned nor
        original.
        """
        self.faces_are_cropped = self.crops({"pictures": pictures})
        self.root = root
        self.name = name or self.name
        list_file = _list_file(root)
        if list_file is None:
            raise InputError(
                f"{root} holds no EmoLabel/{_LISTS[0]}: give --root the folder that holds "
                "EmoLabel and Image of RAF-DB's basic set"
            )
        self._list = root / list_file
        self._base = list_file.partition("EmoLabel")[0]
        self._photos = f"{self._base}Image/{pictures}"
        if not is_folder(root / self._photos):
            raise InputError(
                f"{root} has no folder {self._photos}: unpack {pictures}.zip there, or choose "
                f"other pictures (--dataset-option raf-db.pictures={_ALIGNED} or {_ORIGINAL})"
            )

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """Train and test stand in one file, beside folders of what is known of each face."""
        found = [self._list, *filter(is_folder, self._note_folders.values())]
        return {TRAIN: found, TEST: found}

    def roles(self) -> Mapping[str, Role]:
        """As dealt by RAF-DB's authors."""
        return {TRAIN: Role.TRAIN, TEST: Role.TEST}

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the list, typed or rejected; see `DataSet.batches`."""
        blocks = list(read_blank_rows(self._list, ("photo", "label")))
        there = {kind: frozenset(names_in(path)) for kind, path in self._note_folders.items()}
        for name in names or (TRAIN, TEST):
            for rows in blocks:
                yield self._typed(name, rows, there)

    def count_rows(self, name: str) -> int:
        """The lines that begin with `test_`, or the others."""
        counts = count_first_fields(self._list).items()
        return sum(n for photo, n in counts if photo.startswith(_TEST_NAME) == (name == TEST))

    @property
    def _note_folders(self) -> Mapping[str, Location]:
        """Where the small files of each kind that is read stand, if they are there."""
        kinds = (_ATTRIBUTES,) if self.faces_are_cropped else (_ATTRIBUTES, _BOXES)
        return {folder: self.root / f"{self._base}{folder}" for folder, _ in kinds}

    def _typed(self, name: str, rows: TextRows, there: _Names) -> RowBatch:
        is_test = _starts(rows.columns["photo"], _TEST_NAME)
        mine = np.flatnonzero(is_test == (name == TEST))
        photo, label = (rows.columns[key].take(pa.array(mine)) for key in ("photo", "label"))
        numbers = columns.row_numbers(rows.rows)[mine]
        code = columns.expression_codes(label, RAF_DB)
        bad, kept, reasons = first_holding(
            {
                "unknown_split": ~_starts(photo, _TEST_NAME) & ~_starts(photo, _TRAIN_NAME),
                "unsafe_path": columns.unsafe_path(photo),
                "no_label": columns.missing(label),
                UNKNOWN_LABEL: code < 0,
            }
        )
        refused = [
            (number, "wrong_field_count", text)
            for number, text in rows.malformed
            if text.startswith(_TEST_NAME) == (name == TEST)
        ]
        for at, reason in zip(bad.tolist(), reasons, strict=True):
            cell = (label if reason == UNKNOWN_LABEL else photo)[at].as_py()
            refused.append((int(numbers[at]), reason, cell))
        refused.sort()
        rejected = rejected_table(
            self.name,
            name,
            [row for row, _, _ in refused],
            [reason for _, reason, _ in refused],
            [value for _, _, value in refused],
        )
        photo = photo.take(pa.array(kept)).combine_chunks()
        ending = r"_aligned\2" if self.faces_are_cropped else r"\2"
        table = kept_table(
            self.name,
            name,
            numbers[kept],
            pc.binary_join_element_wise(
                self._photos, pc.replace_substring_regex(photo, _ENDING, ending), "/"
            ),
            code[kept],
            box=None if self.faces_are_cropped else self._boxes(photo, there),
            attributes=self._noted(photo, there, _ATTRIBUTES, _attribute_text, None),
        )
        return RowBatch(table, rejected)

    def _boxes(self, photo: pa.Array, there: _Names) -> list[pa.Array]:
        """The listed boxes, null where there is none or it can't be read: the detector looks."""
        found = self._noted(photo, there, _BOXES, _box, _NO_BOX) or [_NO_BOX] * len(photo)
        x0, y0, x1, y1 = np.array(found, np.float64).reshape(-1, 4).T
        sides = (x0, y0, x1 - x0, y1 - y0)
        known = np.all([columns.whole(side) for side in sides], axis=0)
        return [columns.int32_or_null(side, known) for side in sides]

    def _noted(
        self,
        photo: pa.Array,
        there: _Names,
        kind: tuple[str, str],
        read: Callable[[bytes], T],
        missing: T,
    ) -> list[T] | None:
        """What `read` makes of a small file a photo; None where there are no such files."""
        folder, ending = kind
        if not there[folder]:
            return None
        stems = pc.replace_substring_regex(photo, _ENDING, "").to_pylist()
        wanted = [at for at, stem in enumerate(stems) if f"{stem}{ending}" in there[folder]]
        files = (f"{self._base}{folder}/{stems[at]}{ending}" for at in wanted)
        values = [missing] * len(stems)
        for at, data in zip(wanted, read_small_files(self.root, files, _MAX_BYTES), strict=True):
            if isinstance(data, bytes):
                values[at] = read(data)
        return values


def _list_file(root: Location) -> str | None:
    """The list, under the root."""
    places = (f"{parent}EmoLabel/{name}" for parent in _PARENTS for name in _LISTS)
    return next((place for place in places if is_file(root / place)), None)


def _starts(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    found = pc.starts_with(column, text).combine_chunks()
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)


def _box(data: bytes) -> tuple[float, ...]:
    """Left, top, right and bottom in pixels; NaN where they aren't four numbers."""
    try:
        sides = tuple(map(float, data.split()))
    except ValueError:
        return _NO_BOX
    return sides if len(sides) == len(_NO_BOX) else _NO_BOX


def _attribute_text(data: bytes) -> str | None:
    fields = data.split()
    return _worded(*fields[_LANDMARKS:]) if len(fields) == _LANDMARKS + 3 else None


@lru_cache(maxsize=1024)
def _worded(gender: bytes, race: bytes, age: bytes) -> str | None:
    ages = dict(enumerate(AGE_GROUPS))
    return attribute_text(
        {
            "gender": GENDERS.get(gender.decode(errors="replace"), ""),
            "race": RACES.get(race.decode(errors="replace"), ""),
            "age": ages.get(int(age), "") if age.isdigit() and len(age) == 1 else "",
        }
    )
