"""Hugging Face image classification Parquet: `image` struct{bytes, path}, `label` int64.

Class names come from the `huggingface` schema metadata (ClassLabel). Pictures are taken as faces
already cropped. A column `votes` with its order in the metadata `vote_columns` is read as FER+
annotator votes.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.datasets.base import (
    UNKNOWN_LABEL,
    VOTES_TYPE,
    Alone,
    Photo,
    Role,
    RowBatch,
    roles_of_given_splits,
)
from fer_pipeline.core.datasets.fer2013 import OFFICIAL_ROWS
from fer_pipeline.core.datasets.rows import kept_table, rejected_table, votes_column
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, VOTE_NAMES, expression_name, known_aliases, vote_place
from fer_pipeline.core.read_ahead import Stored, too_large
from fer_pipeline.core.storage import (
    Location,
    file_size,
    files_in,
    parquet_source,
    relative_name,
    storage_problem,
)
from fer_pipeline.core.tables import DAMAGED

_FILE = re.compile(r"^(?P<split>train|validation|test)(-.*)?\.parquet$")
_BATCH_ROWS = 8192
_MOST_VOTES = 127
"""For one expression: what a column of votes holds."""


class HfParquet(Alone):
    """Parquet files `data/{train,validation,test}-*.parquet` under `root` (or in it directly)."""

    name = "hf-parquet"
    faces_are_cropped = True
    picture_side: int | None = 48
    """Of FER2013, which comes in this format most; in pixels."""
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    layout = "train-*.parquet, test-*.parquet in data/"

    @classmethod
    def recognise(cls, root: Location) -> str | None:
        """There are files of its names."""
        found = [path for paths in _files(root).values() for path in paths]
        return f"it holds {relative_name(found[0], root)}" if found else None

    def __init__(self, root: Location, name: str | None = None) -> None:
        """Find the files and read their headers; raises InputError where they don't fit."""
        self.root = root
        self.name = name or self.name
        found = _files(root)
        if not found:
            raise InputError(
                f"{root} holds no data/train-*.parquet, validation-*.parquet or test-*.parquet: "
                "give --root the folder that holds data/"
            )
        self._lists: dict[str, list[Location]] = {
            name: found[name] for name in ("train", "validation", "test") if name in found
        }
        self._readers = {
            relative_name(path, root): _ParquetPhotos(path)
            for paths in self._lists.values()
            for path in paths
        }

    @property
    def title(self) -> str:
        """FER2013 where the splits are as long as its own, else the name."""
        rows = {name: self.count_rows(name) for name in self._lists}
        return "FER2013" if "train" in rows and rows.items() <= OFFICIAL_ROWS.items() else self.name

    def lists(self) -> Mapping[str, Sequence[Location]]:
        """The given splits that are there, each one or more files."""
        return self._lists

    def roles(self) -> Mapping[str, Role]:
        """See `roles_of_given_splits`."""
        return roles_of_given_splits(list(self._lists))

    def batches(self, names: Sequence[str] | None = None) -> Iterator[RowBatch]:
        """Every row of the files, typed or rejected; see `DataSet.batches`."""
        for name in names or self._lists:
            done = 0
            for path in self._lists[name]:
                relative = relative_name(path, self.root)
                reader = self._readers[relative]
                at = 0
                for batch in reader.labels():
                    yield self._typed(name, relative, at, done + at, batch, reader)
                    at += batch.num_rows
                done += at

    def count_rows(self, name: str) -> int:
        """The rows that the files' footers state."""
        return sum(_rows_stated(path) for path in self._lists[name])

    def photo_key(self, photo: Photo) -> str:
        """Each row is a picture of its own."""
        return photo[1]

    def photo_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of each encoded picture, -1 where the row holds none; shape (n,)."""
        lengths = {name: reader.sizes() for name, reader in self._readers.items()}
        places = (_place(photo) for photo in photos)
        return np.fromiter((lengths[name][row] for name, row in places), np.int64, len(photos))

    def stored_sizes(self, photos: Sequence[Photo]) -> npt.NDArray[np.int64]:
        """Bytes of the Parquet file that holds each picture; shape (n,)."""
        sizes = {name: file_size(reader.path) for name, reader in self._readers.items()}
        return np.fromiter((sizes[_place(photo)[0]] for photo in photos), np.int64, len(photos))

    def read_photos(
        self, photos: Sequence[Photo], max_bytes: int | None = None
    ) -> Iterator[Stored]:
        """The encoded bytes of each picture in turn; one row group is held at a time."""
        held = None
        for photo in photos:
            name, row = _place(photo)
            reader = self._readers[name]
            if held is not None and held is not reader:
                held.forget()
            held = reader
            data = reader.picture(row)
            if data is not None and max_bytes is not None and len(data) > max_bytes:
                yield too_large(max_bytes)
            else:
                yield data

    def _typed(
        self,
        name: str,
        file: str,
        at: int,
        done: int,
        batch: pa.RecordBatch,
        reader: "_ParquetPhotos",
    ) -> RowBatch:
        count = batch.num_rows
        labels = batch.column("label")
        given = labels.is_valid().to_numpy(zero_copy_only=False)
        # Of whatever type of whole numbers, which may have no -1 and none as large as int64's.
        raw = labels.fill_null(0).to_numpy(zero_copy_only=False)
        known = given & (raw >= 0) & (raw < len(reader.codes))
        rows = np.arange(done + 1, done + count + 1, dtype=np.int32)
        kept, bad = np.flatnonzero(known), np.flatnonzero(~known)
        reasons = [UNKNOWN_LABEL if given[i] else "no_label" for i in bad]
        values = [str(raw[i]) if given[i] else "-1" for i in bad]
        rejected = rejected_table(self.name, name, rows[bad].tolist(), reasons, values)
        paths = pa.array([f"{file}#{at + int(i)}" for i in kept], pa.string())
        table = kept_table(
            self.name,
            name,
            rows[kept],
            paths,
            reader.codes[raw[kept].astype(np.int64)],
            votes=reader.votes(batch, kept),
        )
        return RowBatch(table, rejected)


class _ParquetPhotos:
    """One Parquet file: its label table, and pictures by row."""

    def __init__(self, path: Location) -> None:
        self.path = path
        with _whole(path):
            schema = pq.read_schema(parquet_source(path))
        lacking = [name for name in ("image", "label") if name not in schema.names]
        if lacking:
            raise InputError(
                f"{path} has no column {' and '.join(lacking)}: it needs image and label"
            )
        if not pa.types.is_integer(schema.field("label").type):
            raise InputError(f"{path}: column label must hold whole numbers (a ClassLabel)")
        image = schema.field("image").type
        if not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0):
            raise InputError(f"{path}: column image must be a struct with a field bytes")
        self.codes = _codes_of(path, schema)
        self._vote_columns = _vote_columns(path, schema)
        self._columns = ["label", "votes"] if self._vote_columns else ["label"]
        self._group: tuple[int, pa.Array] | None = None
        self._starts: npt.NDArray[np.int64] | None = None

    def labels(self) -> Iterator[pa.RecordBatch]:
        """Labels and votes, a batch of rows at a time, in file order.

        Raises InputError where the file is damaged, as all that reads it does.
        """
        with _whole(self.path), pq.ParquetFile(parquet_source(self.path)) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=self._columns)

    def votes(self, batch: pa.RecordBatch, kept: npt.NDArray[np.intp]) -> pa.Array:
        """The votes of the `kept` rows in the order VOTE_NAMES, null where there are none."""
        if not self._vote_columns:
            return pa.nulls(len(kept), VOTES_TYPE)
        column = batch.column("votes").take(pa.array(kept))
        filled = column.is_valid().to_numpy(zero_copy_only=False)
        votes = np.zeros((len(kept), len(VOTE_NAMES)), np.int8)
        if filled.any():
            cast = column.filter(pa.array(filled)).to_pylist()
            for row in cast:
                if len(row) != len(self._vote_columns) or not all(map(_is_count, row)):
                    raise InputError(
                        f"{self.path}: a row's votes aren't {len(self._vote_columns)} numbers from "
                        f"0 to {_MOST_VOTES}, one for each name in vote_columns, but "
                        f"{str(row)[:80]}; write the file anew"
                    )
            given = np.array(cast)
            for place, target in enumerate(self._vote_columns):
                votes[filled, target] = given[:, place]
        return votes_column(votes, filled)

    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of every picture in the file, -1 where there is none; shape (rows,)."""
        parts = []
        with _whole(self.path), pq.ParquetFile(parquet_source(self.path)) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=["image"]):
                lengths = pc.fill_null(pc.binary_length(batch.column("image").field("bytes")), -1)
                parts.append(lengths.to_numpy(zero_copy_only=False).astype(np.int64))
        return np.concatenate([np.empty(0, np.int64), *parts])

    def picture(self, row: int) -> bytes | None:
        """The encoded bytes of row `row` of the file."""
        if self._starts is None:
            with _whole(self.path):
                meta = pq.read_metadata(parquet_source(self.path))
            sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
            self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if not 0 <= row < self._starts[-1]:
            return None
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._group is None or self._group[0] != group:
            with _whole(self.path), pq.ParquetFile(parquet_source(self.path)) as file:
                column = file.read_row_group(group, columns=["image"])["image"]
            self._group = (group, column.combine_chunks().field("bytes"))
        value = self._group[1][row - int(self._starts[group])].as_py()
        return bytes(value) if value is not None else None

    def forget(self) -> None:
        """Let go of the pictures that are held."""
        self._group = None


@contextmanager
def _whole(path: Location) -> Iterator[None]:
    """Read a file; raises InputError where it is damaged or gone."""
    try:
        yield
    except DAMAGED as error:
        # What is wrong with a store as a whole is told in other words.
        if storage_problem(error) is not None:
            raise
        raise InputError(f"{path} is not a readable Parquet file; fetch it anew") from error


def _rows_stated(path: Location) -> int:
    with _whole(path):
        return int(pq.read_metadata(parquet_source(path)).num_rows)


def _is_count(value: object) -> bool:
    """Whether it is a number of votes: whole, and small enough for a vote's column."""
    return isinstance(value, int | float) and 0 <= value <= _MOST_VOTES and value == int(value)


def _files(root: Location) -> dict[str, list[Location]]:
    """The files of each split, in `data/` or else in the root itself."""
    found: dict[str, list[Location]] = {}
    for folder in (root / "data", root):
        for path in files_in(folder, "*.parquet"):
            if match := _FILE.match(path.name):
                found.setdefault(match["split"], []).append(path)
        if found:
            break
    return found


def _place(photo: Photo) -> tuple[str, int]:
    name, _, row = photo[1].rpartition("#")
    return name, int(row)


def _codes_of(path: Location, schema: pa.Schema) -> npt.NDArray[np.int8]:
    """The AffectNet code of each class number of the file."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(text)["info"]["features"]["label"]["names"] if text else None
    except (ValueError, KeyError, TypeError):
        names = None
    if not names or not isinstance(names, list):
        raise InputError(
            f"{path} doesn't name its classes (schema metadata huggingface, ClassLabel): "
            "save it with the datasets library and a ClassLabel feature"
        )
    codes = []
    for number, name in enumerate(names):
        meaning = expression_name(str(name))
        if meaning is None:
            raise InputError(
                f"{path}: class {number} is named {name!r}, which is no known expression; "
                f"rename it to one of {known_aliases()}"
            )
        codes.append(CODES[meaning])
    return np.asarray(codes, np.int8)


def _vote_columns(path: Location, schema: pa.Schema) -> list[int]:
    """For each place of the file's votes the place in VOTE_NAMES; empty without votes."""
    text = (schema.metadata or {}).get(b"vote_columns")
    if "votes" not in schema.names or text is None:
        return []
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    kind = schema.field("votes").type
    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    if not isinstance(names, list) or not any(is_one(kind) for is_one in lists):
        raise InputError(
            f"{path}: the metadata vote_columns must be a JSON list of names, and each row of "
            "votes a list of numbers; write the file anew"
        )
    places = []
    for name in names:
        place = vote_place(str(name))
        if place is None:
            raise InputError(f"{path}: vote_columns names {name!r}, which is no known expression")
        places.append(place)
    return places
