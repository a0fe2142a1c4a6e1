"""ExpW (Expression in-the-Wild): one list, `label.lst`, of faces in photos.

A line is `photo face top left right bottom confidence label`, in this order and without a
header; labels are FER2013's. The data set has no splits: photos are dealt to train and test, all
faces of a photo to the same.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL, Role, RowBatch
from fer_pipeline.core.datasets.blank_rows import count_first_fields, first_field, read_blank_rows
from fer_pipeline.core.datasets.csv_rows import TextRows
from fer_pipeline.core.datasets.photo_files import PhotoFiles
from fer_pipeline.core.datasets.rows import (
    TEST,
    TRAIN,
    attribute_text,
    dealt_list,
    first_holding,
    kept_table,
    rejected_table,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import FER2013
from fer_pipeline.core.storage import Location, is_file, is_folder

_LISTS = ("label/label.lst", "label.lst", "data/label/label.lst", "data/label.lst")
_PHOTOS = ("image/origin", "origin", "image")
_COLUMNS = ("photo", "face", "top", "left", "right", "bottom", "confidence", "label")
_BOX = ("left", "top", "right", "bottom")
_BANDS = (25.0, 50.0, 75.0)
_BAND_NAMES = ("under 25", "25 to 50", "50 to 75", "75 and over")


class Expw(PhotoFiles):
    """ExpW under `root`: the list, and the photos in `image/origin`, `origin` or `image`."""

    name = "expw"
    layout = "label/label.lst and image/"
    faces_are_cropped = False
    picture_side: int | None = None
    options: Mapping[str, str] = {}
    labels = FER2013

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """Its list is there."""
        found = _list_file(root)
        return f"it holds {found}" if found else None

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the list and the photos under `root`; raises InputError where one isn't there."""
        self.root = root
        self.name = name or self.name
        list_file = _list_file(root)
        if list_file is None:
            raise InputError(
                f"{root} holds no {' or '.join(_LISTS[:2])}: give --root the folder that holds "
                "label and image of ExpW"
            )
        self._list = root / list_file
        base = "data/" if list_file.startswith("data/") else ""
        places = [f"{base}{place}" for place in _PHOTOS]
        found = next((place for place in places if is_folder(root / place)), None)
        if found is None:
            raise InputError(
                f"{root} has no folder of photos {' or '.join(places)}: unpack the photos there"
            )
        self._photos = found

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """Train and test are dealt from one file."""
        return {TRAIN: [self._list], TEST: [self._list]}

    def roles(self) -> Mapping[str, Role]:
        """See `rows.dealt_list`."""
        return {TRAIN: Role.TRAIN, TEST: Role.TEST}

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the list, typed or rejected; see `DataSet.batches`."""
        blocks = [
            (rows, _dealt(rows.columns["photo"])) for rows in read_blank_rows(self._list, _COLUMNS)
        ]
        for name in names or (TRAIN, TEST):
            for rows, dealt in blocks:
                yield self._typed(name, rows, np.flatnonzero(dealt == name))

    def count_rows(self, name: str) -> int:
        """The lines whose photo is dealt to the list."""
        counts = count_first_fields(self._list)
        return sum(number for photo, number in counts.items() if dealt_list(photo) == name)

    def _typed(self, name: str, rows: TextRows, mine: npt.NDArray[np.intp]) -> RowBatch:
        table = rows.columns.take(pa.array(mine))
        numbers = columns.row_numbers(rows.rows)[mine]
        cells = {column: columns.numbers(table[column]) for column in (*_BOX, "confidence")}
        code = columns.expression_codes(table["label"], FER2013)
        sides = np.array([cells[column][0] for column in _BOX])
        far = np.isfinite(sides) & ~columns.whole(sides)
        bad, kept, reasons = first_holding(
            {
                "unsafe_path": columns.unsafe_path(table["photo"]),
                "not_a_number": np.any([cells[c][1] for c in _BOX], axis=0) | far.any(axis=0),
                "no_label": columns.missing(table["label"]),
                UNKNOWN_LABEL: code < 0,
            }
        )
        refused = [
            (number, "wrong_field_count", text)
            for number, text in rows.malformed
            if dealt_list(first_field(text)) == name
        ]
        for at, reason in zip(bad.tolist(), reasons, strict=True):
            shown = ["label"] if reason == UNKNOWN_LABEL else list(_COLUMNS)
            cell = " ".join(table[column][at].as_py() for column in shown)
            refused.append((int(numbers[at]), reason, cell))
        refused.sort()
        rejected = rejected_table(
            self.name,
            name,
            [row for row, _, _ in refused],
            [reason for _, reason, _ in refused],
            [value for _, _, value in refused],
        )
        photo = table["photo"].take(pa.array(kept)).combine_chunks()
        left, top, right, bottom = sides[:, kept]
        # A box is all four numbers or none.
        has_box = np.isfinite(sides[:, kept]).all(axis=0)
        box = (left, top, right - left, bottom - top)
        return RowBatch(
            kept_table(
                self.name,
                name,
                numbers[kept],
                pc.binary_join_element_wise(self._photos, photo, "/"),
                code[kept],
                box=[columns.int32_or_null(side, has_box) for side in box],
                attributes=_confidences(cells["confidence"][0][kept]),
            ),
            rejected,
        )


def _list_file(root: Location) -> str | None:
    """The list, under the root."""
    return next((place for place in _LISTS if is_file(root / place)), None)


def _dealt(photos: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """The list that each photo is dealt to."""
    texts = pc.dictionary_encode(photos).combine_chunks()
    lists = np.array([dealt_list(photo) for photo in texts.dictionary.to_pylist()], dtype=object)
    return np.asarray(lists[texts.indices.to_numpy()])


def _confidences(values: npt.NDArray[np.float64]) -> list[str | None]:
    """How sure ExpW's own face detector was, in bands: low ones are often no face."""
    names = [attribute_text({"detector_confidence": band}) for band in _BAND_NAMES]
    bands = [*names, None]
    band = np.where(np.isfinite(values), np.digitize(values, _BANDS), len(names))
    return [bands[at] for at in band.tolist()]
