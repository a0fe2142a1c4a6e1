"""Several data sets that are used as one: their lists side by side, each under its own name.

A list is named `source:list`, and everything asked about one is asked of its own data set. What
tells a face or a photo (`face_id`, its group) is what it is in the data set alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fer_pipeline.core.datasets.base import DataSet, OneDataSet, Photo, Role, RowBatch
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.read_ahead import Stored
from fer_pipeline.core.storage import Location

_MARK = ":"


class MixedDataSet(DataSet):
    """Two or more data sets whose names differ, in their order."""

    def __init__(self, parts: Sequence[OneDataSet]) -> None:
        """Mix these data sets; raises ValueError where two have one name."""
        self._parts = {part.name: part for part in parts}
        if len(self._parts) < len(parts):
            raise ValueError(f"two data sets of one name: {[part.name for part in parts]}")
        self.name = mixed_name(list(self._parts))
        self.faces_are_cropped = all(part.faces_are_cropped for part in parts)
        self._own = {
            f"{part.name}{_MARK}{name}": (part, name) for part in parts for name in part.lists()
        }

    @property
    def title(self) -> str:
        """The titles of the data sets."""
        return mixed_name(source_names([part.title for part in self._parts.values()]))

    @property
    def address(self) -> str:
        """Each data set's name and where it stands."""
        return " + ".join(f"{name} at {part.address}" for name, part in self._parts.items())

    def parts(self) -> Sequence[OneDataSet]:
        """The data sets, in their order."""
        return list(self._parts.values())

    def part_of(self, name: str) -> OneDataSet:
        """The data set of a list; raises InputError where none of them has it."""
        return self._list(name)[0]

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The lists of all data sets, one data set after the other."""
        return {name: part.lists()[own] for name, (part, own) in self._own.items()}

    def roles(self) -> Mapping[str, Role]:
        """The role of each list in its own data set."""
        return {name: part.roles()[own] for name, (part, own) in self._own.items()}

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the lists; `list` is the name here, `source` that of the data set."""
        for name in names or self._own:
            part, own = self._list(name)
            for batch in part.batches([own]):
                yield RowBatch(_renamed(batch.kept, name), _renamed(batch.rejected, name))

    def count_rows(self, name: str) -> int:
        """The number of data rows in a list."""
        part, own = self._list(name)
        return part.count_rows(own)

    def photo_key(self, photo: Photo) -> str:
        """The data set's name before the photo's key in it."""
        part, own = self._photo(photo)
        return f"{part.name}{_MARK}{part.photo_key(own)}"

    def photo_group(self, photo: Photo) -> str:
        """The group of the photo in its own data set."""
        part, own = self._photo(photo)
        return part.photo_group(own)

    def photo_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of each photo as stored, -1 where it is missing; shape (n,)."""
        return self._gathered(photos, "photo_sizes")

    def stored_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of the file in which each photo is stored, -1 where there is none; shape (n,)."""
        return self._gathered(photos, "stored_sizes")

    def read_photos(
        self, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        """The stored bytes of each photo in turn; each data set reads its own ahead."""
        order, own = self._by_part(photos)
        readers: dict[str, Any] = {
            name: self._parts[name].read_photos(chosen, max_bytes) for name, chosen in own.items()
        }
        try:
            for name in order:
                yield next(readers[name])
        finally:
            for reader in readers.values():
                if hasattr(reader, "close"):
                    reader.close()

    def _gathered(self, photos: Sequence[Photo], question: str) -> npt.NDArray[np.int64]:
        """The answers of each data set on its own photos, in the order of all photos."""
        order, own = self._by_part(photos)
        sources = np.array(order, dtype=object)
        found = np.full(len(photos), -1, np.int64)
        for name, chosen in own.items():
            found[sources == name] = getattr(self._parts[name], question)(chosen)
        return found

    def _by_part(self, photos: Sequence[Photo]) -> tuple[list[str], dict[str, list[Photo]]]:
        """The data set of each photo, and for each data set its photos as it knows them."""
        order: list[str] = []
        own: dict[str, list[Photo]] = {}
        for photo in photos:
            part, address = self._photo(photo)
            order.append(part.name)
            own.setdefault(part.name, []).append(address)
        return order, own

    def _photo(self, photo: Photo) -> tuple[OneDataSet, Photo]:
        part, own = self._list(photo[0])
        return part, (own, photo[1])

    def _list(self, name: str) -> tuple[OneDataSet, str]:
        """A list's data set, and the list's name there."""
        if name not in self._own:
            raise InputError(
                f"{self.address} has no list {name!r}: the lists are {', '.join(self._own)}"
            )
        return self._own[name]


def mixed_name(names: Sequence[str]) -> str:
    """The name of a mixture of data sets of these names; of one it is its own."""
    return " + ".join(names)


def source_names(formats: Sequence[str]) -> list[str]:
    """A name for each data set: its format or title, numbered from the second of one on."""
    before: dict[str, int] = {}
    names = []
    for name in formats:
        before[name] = before.get(name, 0) + 1
        names.append(name if before[name] == 1 else f"{name}-{before[name]}")
    return names


def _renamed(rows: pa.Table, name: str) -> pa.Table:
    place = rows.schema.get_field_index("list")
    column = pa.repeat(pa.scalar(name, pa.string()), rows.num_rows)
    return rows.set_column(place, rows.schema.field(place), column)
