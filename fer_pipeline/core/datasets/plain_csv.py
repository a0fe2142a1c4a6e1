"""Any CSV list of photos: options say which column is what.

Labels are names of expressions or numbers of a known table; photos are files under the root. Where
people are named, all photos of a person stay on one side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import (
    CROPPED,
    UNKNOWN_LABEL,
    Photo,
    Role,
    RowBatch,
    roles_of_given_splits,
    yes_or_no,
)
from fer_pipeline.core.datasets.csv_columns import (
    BOX,
    NUMBERS,
    USUAL,
    columns_of,
    header_of,
    list_file,
    numbers_of,
    usual_column,
)
from fer_pipeline.core.datasets.csv_rows import TextRows, read_text_rows, rows_one_by_one
from fer_pipeline.core.datasets.people import people_of_photos
from fer_pipeline.core.datasets.photo_files import PhotoFiles, folder_name
from fer_pipeline.core.datasets.rows import (
    TEST,
    TRAIN,
    UNKNOWN_SPLIT,
    dealt_list,
    first_reasons,
    given_list,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.storage import Location, files_in, is_folder

_LISTS = (TRAIN, "validation", TEST)
_HERE = re.compile(r"^(\./+)+")


class PlainCsv(PhotoFiles):
    """A CSV file with a header under `root`, and the photos that it lists."""

    name = "csv"
    layout = "a CSV file with columns such as path and label"
    faces_are_cropped = False
    picture_side: int | None = None
    options: Mapping[str, str] = {
        "file": "path of the list under the root (default: the only .csv there)",
        "path": f"column of photo paths (default: {', '.join(USUAL['path'])})",
        "label": f"column of labels (default: {', '.join(USUAL['label'])})",
        "split": "column of train, validation or test (default: split; empty for none)",
        "x": "column of the box's left edge, in pixels",
        "y": "column of the box's upper edge, in pixels",
        "width": "column of the box's width, in pixels",
        "height": "column of the box's height, in pixels",
        "person": "column that names the person, whose photos then stay on one side",
        "photos": "folder under the root that the paths begin at (default: the root)",
        "numbers": f"whose numbers the labels are: {', '.join(NUMBERS)} (default: names alone)",
        CROPPED: "yes where pictures are faces already, no where they are photos (default)",
    }
    labels: Mapping[str, str] = {}

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """It holds one CSV file, whose header has a usual name for path and label."""
        found = files_in(root, "*.csv")
        if len(found) != 1:
            return None
        try:
            header = header_of(found[0])
        except InputError:
            return None
        named = [usual_column(kind, header) for kind in ("path", "label")]
        if None in named:
            return None
        return f"it holds {found[0].name} with the columns {' and '.join(map(str, named))}"

    def __init__(self, root: Location, name: str | None = None, **options: str) -> None:
        """Find the list and its columns; raises InputError where these aren't there."""
        self.root = root
        self.name = name or self.name
        self.path = list_file(root, options.get("file"))
        header = header_of(self.path)
        self._fields = [str(place) for place in range(len(header))]
        self._column = columns_of(self.path, header, options)
        self.labels = numbers_of(options.get("numbers"))
        self.faces_are_cropped = yes_or_no(f"csv.{CROPPED}", options.get(CROPPED, "no"))
        if self.faces_are_cropped and "x" in self._column:
            raise InputError(
                "csv.cropped=yes says that pictures are faces already, which have no boxes: "
                "leave out csv.x, csv.y, csv.width and csv.height, or csv.cropped"
            )
        self._photos = root / options["photos"] if options.get("photos") else root
        if not is_folder(self._photos):
            raise InputError(
                f"{self._photos} is not a folder: let csv.photos name the folder under {root} at "
                "which the paths of the list begin"
            )

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The splits of which there are rows, all in the one file; else `train` and `test`."""
        return {name: [self.path] for name in self._names}

    def roles(self) -> Mapping[str, Role]:
        """See `roles_of_given_splits`."""
        return roles_of_given_splits(self._names)

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the lists, typed or rejected; see `DataSet.batches`."""
        wanted = list(names or self._names)
        used = sorted({*self._column.values()})
        for rows in read_text_rows(self.path, self._fields, has_header=True, only=used):
            paths = _plain_paths(rows.columns[self._column["path"]])
            split = self._splits(rows.columns, paths)
            for name in wanted:
                own = split == _LISTS.index(name)
                if name == TRAIN:
                    own |= split < 0
                yield self._typed(name, rows, paths, np.flatnonzero(own), split)

    def count_rows(self, name: str) -> int:
        """The rows of the list, read one by one."""
        return self._counts.get(name, 0)

    def photo_path(self, photo: Photo) -> str:
        """Under the folder at which the list's paths begin."""
        return f"{folder_name(self._photos)}/{photo[1]}"

    def photo_group(self, photo: Photo) -> str:
        """Of the person where one is named, else of the photo."""
        person = self._people.get(photo[1])
        return super().photo_group(photo) if person is None else text_digest(self.name, "", person)

    @cached_property
    def _names(self) -> list[str]:
        split = self._column.get("split")
        if split is None:
            return [TRAIN, TEST]
        found: set[str] = set()
        for rows in read_text_rows(self.path, self._fields, has_header=True, only=[split]):
            values = pc.unique(rows.columns[split]).to_pylist()
            found |= {given_list(value) or TRAIN for value in values}
            found |= {TRAIN} if rows.malformed else set()
        return [name for name in _LISTS if name in (found or {TRAIN})]

    @cached_property
    def _people(self) -> Mapping[str, str]:
        """The person of each photo that has one; people who share a photo are as one."""
        if "person" not in self._column:
            return {}
        path, person = self._column["path"], self._column["person"]
        pairs: list[tuple[str, str]] = []
        for rows in read_text_rows(self.path, self._fields, has_header=True, only=[path, person]):
            # Only an empty cell is nobody: people are called Na, None or Null.
            people = pc.utf8_trim_whitespace(rows.columns[person])
            named = pc.not_equal(people, "")
            paths = _plain_paths(rows.columns[path])
            pairs += zip(
                paths.filter(named).to_pylist(), people.filter(named).to_pylist(), strict=True
            )
        return people_of_photos(pairs)

    @cached_property
    def _counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        rows = rows_one_by_one(self.path)
        next(rows, None)
        for fields in rows:
            name = TRAIN
            if len(fields) == len(self._fields):
                if "split" in self._column:
                    name = given_list(fields[int(self._column["split"])]) or TRAIN
                else:
                    name = self._dealt(_plain_path(fields[int(self._column["path"])]))
            counts[name] = counts.get(name, 0) + 1
        return counts

    def _dealt(self, path: str) -> str:
        return dealt_list(self._people.get(path, path))

    def _splits(self, table: pa.Table, paths: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """The list of each row, as its place in `_LISTS`, -1 where it names none; (n,)."""
        if "split" not in self._column:
            dealt = (_LISTS.index(self._dealt(path)) for path in paths.to_pylist())
            return np.fromiter(dealt, np.int8, len(paths))
        words = table[self._column["split"]].combine_chunks().dictionary_encode()
        lists = [given_list(word) for word in words.dictionary.to_pylist()]
        places = np.array([_LISTS.index(one) if one else -1 for one in lists], np.int8)
        return np.asarray(places[words.indices.to_numpy()])

    def _typed(
        self,
        name: str,
        rows: TextRows,
        paths: pa.ChunkedArray,
        own: npt.NDArray[np.intp],
        split: npt.NDArray[np.int8],
    ) -> RowBatch:
        table, paths = rows.columns.take(pa.array(own)), paths.take(pa.array(own))
        numbers = columns.row_numbers(rows.rows)[own]
        label = table[self._column["label"]]
        code = columns.expression_codes(label, self.labels)
        box, refused = self._boxes(table)
        bad, reasons, values = first_reasons(
            {
                UNKNOWN_SPLIT: (
                    split[own] < 0,
                    table[self._column.get("split", self._column["label"])],
                ),
                "no_path": (columns.missing(paths), label),
                "unsafe_path": (columns.unsafe_path(paths), paths),
                "no_label": (columns.missing(label), paths),
                UNKNOWN_LABEL: (code < 0, label),
                "not_a_number": (refused, paths),
            }
        )
        rejected = list(zip(numbers[bad].tolist(), reasons, values, strict=True))
        if name == TRAIN:
            rejected += [(number, "wrong_field_count", text) for number, text in rows.malformed]
        rejected.sort()
        kept = np.flatnonzero(~bad)
        return RowBatch(
            kept_table(
                self.name,
                name,
                numbers[kept],
                paths.take(pa.array(kept)).combine_chunks(),
                code[kept],
                photo_root="",
                box=None if box is None else [side.take(pa.array(kept)) for side in box],
            ),
            rejected_table(
                self.name,
                name,
                [number for number, _, _ in rejected],
                [reason for _, reason, _ in rejected],
                [value for _, _, value in rejected],
            ),
        )

    def _boxes(self, table: pa.Table) -> tuple[list[pa.Array] | None, npt.NDArray[np.bool_]]:
        """The sides of each row's box, null where one lacks, and where one is no number (n,)."""
        if "x" not in self._column:
            return None, np.zeros(table.num_rows, bool)
        sides = [columns.numbers(table[self._column[side]]) for side in BOX]
        refused = np.any(
            [bad | (np.isfinite(value) & ~columns.whole(value)) for value, bad in sides], axis=0
        )
        whole = np.all([np.isfinite(value) for value, _ in sides], axis=0)
        return [columns.int32_or_null(value, whole & ~refused) for value, _ in sides], refused


def _plain_paths(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths as `_plain_path` writes them."""
    slashes = pc.replace_substring(pc.utf8_trim_whitespace(column), "\\", "/")
    return pc.replace_substring_regex(slashes, _HERE.pattern, "")


def _plain_path(text: str) -> str:
    """A path with forward slashes, without blanks around it and a dot before it."""
    return _HERE.sub("", text.strip().replace("\\", "/"))
