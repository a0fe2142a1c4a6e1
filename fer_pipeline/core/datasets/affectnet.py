"""AffectNet, first release: three CSV lists beside two trees of photos.

Reads the lists as they are found in the wild (with and without header, byte-order mark, CRLF,
rows of NULL, photo roots with blanks or without the `_compressed` level) and hands out photos.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Photo, Role, RowBatch
from fer_pipeline.core.datasets.csv_rows import TextRows, count_lines, first_fields, read_text_rows
from fer_pipeline.core.datasets.photo_files import PhotoFiles, folder_name
from fer_pipeline.core.datasets.rows import kept_table, rejected_table
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import AFFECTNET
from fer_pipeline.core.storage import Location, is_file, is_folder

_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_BOX = _COLUMNS[1:5]
_LANDMARKS = "facial_landmarks"
_NUMBERS = (*_BOX, "valence", "arousal")


@dataclass(frozen=True)
class _List:
    file: str
    annotation: str
    role: Role


_LISTS: Mapping[str, _List] = {
    "manual_train": _List("Manually_Annotated_file_lists/training.csv", "manual", Role.TRAIN),
    "manual_val": _List("Manually_Annotated_file_lists/validation.csv", "manual", Role.TEST),
    "auto": _List(
        "Automatically_annotated_file_list/automatically_annotated.csv", "auto", Role.TRAIN_ONLY
    ),
}
_PHOTO_ROOTS: Mapping[str, str] = {"manual": "Manually", "auto": "Automatically"}


class AffectNet(PhotoFiles):
    """An AffectNet first release under `root`.

    A list that isn't there is left out; no list at all raises InputError.
    """

    name = "affectnet"
    faces_are_cropped = False
    picture_side: int | None = None
    options: Mapping[str, str] = {}
    labels = AFFECTNET
    layout = "training.csv, validation.csv in Manually_Annotated_file_lists/"

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """One of the three lists is there."""
        found = [item.file for item in _LISTS.values() if is_file(root / item.file)]
        return f"it holds {', '.join(found)}" if found else None

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the lists under `root`; raises InputError where there is none."""
        self.root = root
        self.name = name or self.name
        self._present = {key: item for key, item in _LISTS.items() if is_file(root / item.file)}
        if not self._present:
            wanted = ", ".join(item.file for item in _LISTS.values())
            raise InputError(
                f"{root} holds none of AffectNet's lists ({wanted}): "
                "give --root the folder in which these stand"
            )
        self._photo_roots = {
            kind: _photo_root(root, word)
            for kind, word in _PHOTO_ROOTS.items()
            if any(item.annotation == kind for item in self._present.values())
        }

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The lists that are there, each one file."""
        return {name: [self.root / item.file] for name, item in self._present.items()}

    def roles(self) -> Mapping[str, Role]:
        """Validation is the locked test; the automatic list is training material only."""
        return {name: item.role for name, item in self._present.items()}

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the lists, typed or rejected; see `DataSet.batches`."""
        for name in names or self._present:
            path = self.root / self._present[name].file
            order, has_header = _column_order(path)
            needed = [column for column in order if column != _LANDMARKS]
            for rows in read_text_rows(path, order, has_header=has_header, only=needed):
                yield self._typed(name, rows)

    def count_rows(self, name: str) -> int:
        """The lines of the list that aren't blank, its header apart."""
        path = self.root / self._present[name].file
        return count_lines(path) - int(_column_order(path)[1])

    def photo_key(self, photo: Photo) -> str:
        """Manual training and validation share one photo tree, the automatic list has its own."""
        return f"{self._annotation(photo)}/{photo[1]}"

    def _annotation(self, photo: Photo) -> str:
        return self._present[photo[0]].annotation

    def photo_path(self, photo: Photo) -> str:
        """In the tree of photos of the list's annotation."""
        return f"{self._photo_roots[self._annotation(photo)]}/{photo[1]}"

    def _typed(self, name: str, rows: TextRows) -> RowBatch:
        table = rows.columns
        annotation = self._present[name].annotation
        paths = pc.replace_substring(
            pc.utf8_trim_whitespace(table["subDirectory_filePath"]), "\\", "/"
        )
        cells = {column: columns.numbers(table[column]) for column in _NUMBERS}
        code = columns.expression_codes(table["expression"], AFFECTNET)
        refused = np.any([refused for _, refused in cells.values()], axis=0)
        far = np.any([np.isfinite(cells[c][0]) & ~columns.whole(cells[c][0]) for c in _BOX], axis=0)
        no_path, no_label = columns.missing(paths), columns.missing(table["expression"])
        # The first reason that holds is the one written down.
        tests = {
            "empty_row": no_path & no_label,
            "no_path": no_path,
            "unsafe_path": columns.unsafe_path(paths),
            "not_a_number": refused | far,
            "no_label": no_label,
            UNKNOWN_LABEL: code < 0,
        }
        is_bad = np.any(list(tests.values()), axis=0)
        values = {"unsafe_path": paths, UNKNOWN_LABEL: table["expression"]}
        numbers = columns.row_numbers(rows.rows)
        bad_rows = [(number, "wrong_field_count", text) for number, text in rows.malformed]
        for at in np.flatnonzero(is_bad):
            reason = next(reason for reason, holds in tests.items() if holds[at])
            column = values.get(reason)
            cell = column[int(at)].as_py() if column is not None else _row_text(table, int(at))
            bad_rows.append((int(numbers[at]), reason, cell))
        bad_rows.sort()
        kept = np.flatnonzero(~is_bad) if is_bad.any() else slice(None)
        rejected = rejected_table(
            self.name,
            name,
            [row for row, _, _ in bad_rows],
            [reason for _, reason, _ in bad_rows],
            [value for _, _, value in bad_rows],
        )
        kept_table = self._kept_table(
            name,
            annotation,
            numbers[kept],
            (paths.take(kept) if is_bad.any() else paths).combine_chunks(),
            code[kept],
            {column: cell[kept] for column, (cell, _) in cells.items()},
        )
        return RowBatch(kept_table, rejected)

    def _kept_table(
        self,
        name: str,
        annotation: str,
        rows: npt.NDArray[np.int32],
        paths: pa.Array,
        code: npt.NDArray[np.int8],
        cells: Mapping[str, npt.NDArray[np.float64]],
    ) -> pa.Table:
        # A box is all four numbers or none.
        has_box = np.all([np.isfinite(cells[column]) for column in _BOX], axis=0)
        return kept_table(
            self.name,
            name,
            rows,
            paths,
            code,
            photo_root=annotation,
            annotation=annotation,
            box=[columns.int32_or_null(cells[column], has_box) for column in _BOX],
            valence=columns.affect(cells["valence"]),
            arousal=columns.affect(cells["arousal"]),
        )


def _row_text(table: pa.Table, at: int) -> str:
    return ",".join(column[at].as_py() for column in table.columns)


def _column_order(path: Location) -> tuple[list[str], bool]:
    """The order of the columns in a list, and whether its first row is a header."""
    first = [field.strip() for field in first_fields(path) or ()]
    known = {name.casefold(): name for name in _COLUMNS}
    if not first or first[0].casefold() not in known:
        return list(_COLUMNS), False
    lacking = [name for name in _COLUMNS if name.casefold() not in {f.casefold() for f in first}]
    if lacking:
        raise InputError(
            f"{path}, row 1: the header lacks {', '.join(lacking)}; "
            f"AffectNet's columns are {','.join(_COLUMNS)}"
        )
    order = [known.get(field.casefold(), field) for field in first]
    twice = [name for name in _COLUMNS if order.count(name) > 1]
    if twice:
        raise InputError(
            f"{path}, row 1: the header names {', '.join(twice)} more than once; "
            f"AffectNet's columns are {','.join(_COLUMNS)}"
        )
    return order, True


def _photo_root(root: Location, word: str) -> str:
    """The tree of photos, as its file system names it.

    Seen with underscores or blanks, with and without `_compressed`.
    """
    images = (f"{word}_Annotated_Images", f"{word} Annotated Images")
    parents = (root / f"{word}_Annotated_compressed", root / f"{word} Annotated compressed", root)
    for parent in parents:
        for name in images:
            if is_folder(parent / name):
                return folder_name(parent / name)
    raise InputError(
        f"{root} has no folder of photos {word}_Annotated_compressed/{images[0]}: "
        "unpack the photo archives beside the lists"
    )
