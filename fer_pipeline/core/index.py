"""The file-list index: every row of every list, typed, with its issue; or rejected with a reason.

Rows are read once, kept in an Arrow file on disk while repeats and conflicts are looked for
across all of them, then published as Parquet. Memory holds hashes, not rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.datasets.base import INDEX_SCHEMA, REJECTED_SCHEMA, DataSet
from fer_pipeline.core.datasets.csv_rows import ahead
from fer_pipeline.core.datasets.trees import names_in
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, published, scratch_folder, text_digest
from fer_pipeline.core.storage import Location, file_stamps, is_folder, is_remote, parquet_source

INDEX_FILE = "file_list_index.parquet"
REJECTED_FILE = "rejected.parquet"

DUPLICATE = "duplicate"
CONFLICTING_LABEL = "conflicting_label"
BAD_BOX = "bad_box"

_ISSUES = np.array(["", DUPLICATE, CONFLICTING_LABEL, BAD_BOX], dtype=object)
_ROW_GROUP = 65_536
_FEW_VALUES = ["source", "list", "annotation", "expression", "issue"]


@dataclass(frozen=True)
class IndexSummary:
    """What the index stage read and kept; `rows_by_source` counts both for each data set."""

    rows_read: int
    rows_indexed: int
    rows_rejected: int
    rows_by_list: Mapping[str, int]
    issues: Mapping[str, int]
    rejected_by_reason: Mapping[str, int]
    content_hash: str
    rows_by_source: Mapping[str, Mapping[str, int]]


def build_index(
    dataset: DataSet,
    folder: Location,
    *,
    names: Sequence[str] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> IndexSummary:
    """Write `file_list_index.parquet` and `rejected.parquet` of the named lists (default: all).

    `on_rows` is told the number of rows read so far. Raises InputError when the lists hold no
    row at all.
    """
    rows_by_list: dict[str, int] = dict.fromkeys(names or dataset.lists(), 0)
    by_source: dict[str, dict[str, int]] = {}
    rejected_tables = [REJECTED_SCHEMA.empty_table()]
    keys, codes, boxes = [], [], []
    with scratch_folder(folder) as scratch:
        rows_file = scratch / "rows.arrow"
        with pa.ipc.new_file(rows_file, INDEX_SCHEMA) as sink:
            for batch in ahead(dataset.batches(names)):
                kept = batch.kept
                sink.write_table(kept)
                rejected_tables.append(batch.rejected)
                for table in (kept, batch.rejected):
                    for name, count in _counts(table["list"]).items():
                        rows_by_list[name] += count
                for fate, table in (("rows_indexed", kept), ("rows_rejected", batch.rejected)):
                    for name, count in _counts(table["source"]).items():
                        known = by_source.setdefault(name, {"rows_indexed": 0, "rows_rejected": 0})
                        known[fate] += count
                keys.append(_hash_of_ids(kept["face_id"]))
                codes.append(kept["expression"].to_numpy())
                boxes.append(_is_bad_box(kept))
                if on_rows:
                    on_rows(sum(rows_by_list.values()))
        rejected = pa.concat_tables(rejected_tables)
        if not any(rows_by_list.values()):
            files = (str(path) for name in rows_by_list for path in dataset.lists()[name])
            raise InputError(f"the lists hold no row: {', '.join(files)}")
        issue = _issues(
            np.concatenate([np.empty(0, np.uint64), *keys]),
            np.concatenate([np.empty(0, np.int8), *codes]),
            np.concatenate([np.empty(0, bool), *boxes]),
        )
        with published(folder / REJECTED_FILE) as path:
            pq.write_table(rejected, path)
        with published(folder / INDEX_FILE) as path:
            _write_index(rows_file, issue, path)
    return IndexSummary(
        rows_read=sum(rows_by_list.values()),
        rows_indexed=len(issue),
        rows_rejected=rejected.num_rows,
        rows_by_list=rows_by_list,
        issues={str(_ISSUES[code]): int((issue == code).sum()) for code in (1, 2, 3)},
        rejected_by_reason=_counts(rejected["reason"]),
        content_hash=text_digest(
            file_digest(folder / INDEX_FILE), file_digest(folder / REJECTED_FILE)
        ),
        rows_by_source=by_source,
    )


def lists_stamp(dataset: DataSet) -> str:
    """16 hex digits that stay while no list file is touched; quick, whatever their size.

    Of a folder in an object store, which has no time of its own, the names count.
    """
    lists = dataset.lists()
    paths = list(dict.fromkeys(path for paths in lists.values() for path in paths))
    stamps = dict(zip(paths, file_stamps(paths), strict=True))
    for path, stamp in stamps.items():
        if not stamp and is_remote(path):
            stamps[path] = _names_digest(path)
    return text_digest(
        *(f"{name}:{path.name}:{stamps[path]}" for name, paths in lists.items() for path in paths)
    )


def lists_digest(dataset: DataSet) -> str:
    """16 hex digits over the names and bytes of the list files, or the names in a folder."""
    lists = dataset.lists()
    # Several lists may stand in one file.
    digests = {path: "" for paths in lists.values() for path in paths}
    for path in digests:
        digests[path] = _names_digest(path) if is_folder(path) else file_digest(path)
    return text_digest(
        *(f"{name}:{path.name}:{digests[path]}" for name, paths in lists.items() for path in paths)
    )


def _names_digest(folder: Location) -> str:
    return text_digest(*sorted(names_in(folder)))


def count_kept_and_rejected(
    folder: Location, files: Mapping[str, Sequence[Location]] | None = None
) -> dict[str, tuple[int, int, bool]]:
    """For each list: rows indexed, rows rejected, and whether their numbers are 1 to n, each once.

    Lists that stand in the same `files` (by list; default: each has its own) are numbered
    together. Read from the published files, not from what the index stage said of itself.
    """
    rows: dict[str, list[npt.NDArray[np.int32]]] = {}
    kept: dict[str, int] = {}
    rejected: dict[str, int] = {}
    for count, batches in (
        (kept, row_batches(folder, ["list", "row"])),
        (
            rejected,
            pq.read_table(
                parquet_source(folder / REJECTED_FILE), columns=["list", "row"]
            ).to_batches(),
        ),
    ):
        for batch in batches:
            for name in pc.unique(batch.column("list")).to_pylist():
                chosen = batch.filter(pc.equal(batch.column("list"), name)).column("row")
                rows.setdefault(name, []).append(chosen.to_numpy())
                count[name] = count.get(name, 0) + len(chosen)
    place = {name: str((files or {}).get(name, name)) for name in rows}
    together: dict[str, list[npt.NDArray[np.int32]]] = {}
    for name, parts in rows.items():
        together.setdefault(place[name], []).extend(parts)
    whole = {where: _is_one_to_n(np.concatenate(parts)) for where, parts in together.items()}
    return {name: (kept.get(name, 0), rejected.get(name, 0), whole[place[name]]) for name in rows}


def rejected_rows(folder: Location, reason: str | None = None) -> pa.Table:
    """The rejected rows, with REJECTED_SCHEMA; those of one reason if it is given."""
    table = pq.read_table(parquet_source(folder / REJECTED_FILE))
    return table if reason is None else table.filter(pc.equal(table["reason"], reason))


def _is_one_to_n(numbers: npt.NDArray[np.int32]) -> bool:
    return bool(np.array_equal(np.sort(numbers), np.arange(1, len(numbers) + 1)))


def row_batches(folder: Location, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a published index, a batch at a time."""
    with pq.ParquetFile(parquet_source(folder / INDEX_FILE)) as file:
        yield from file.iter_batches(columns=columns)


def _write_index(rows_file: Path, issue: npt.NDArray[np.int8], path: Path) -> None:
    """Join rows and issues into the Parquet file."""
    column = INDEX_SCHEMA.get_field_index("issue")
    with (
        pa.memory_map(str(rows_file)) as source,
        pq.ParquetWriter(
            path,
            INDEX_SCHEMA,
            compression="lz4",
            use_dictionary=_FEW_VALUES,
            write_statistics=_FEW_VALUES,
        ) as writer,
    ):
        rows = pa.ipc.open_file(source).read_all()
        for start in range(0, rows.num_rows, _ROW_GROUP):
            part = rows.slice(start, _ROW_GROUP).combine_chunks()
            codes = issue[start : start + part.num_rows]
            names = pa.array(_ISSUES[codes], pa.string(), mask=codes == 0)
            part = part.set_column(column, INDEX_SCHEMA.field(column), names)
            writer.write_table(part, row_group_size=_ROW_GROUP)


def _issues(
    keys: npt.NDArray[np.uint64], codes: npt.NDArray[np.int8], bad_box: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Positions in `_ISSUES` for each row: a bad box, else a conflict, else a repeat.

    Rows of one face with different labels are all conflicting; of rows that agree, all but the
    first are duplicates.
    """
    if not len(keys):
        return np.empty(0, np.int8)
    order = np.argsort(keys)
    in_order = keys[order]
    is_start = np.concatenate([[True], in_order[1:] != in_order[:-1]])
    starts = np.flatnonzero(is_start)
    low, high = (of.reduceat(codes[order], starts) for of in (np.minimum, np.maximum))
    first, conflicting = np.zeros((2, len(keys)), bool)
    first[np.minimum.reduceat(order, starts)] = True
    conflicting[order] = (low != high)[np.cumsum(is_start) - 1]
    return np.select([bad_box, conflicting, ~first], [3, 2, 1], default=0).astype(np.int8)


def _is_bad_box(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Boxes without an area, or wholly left of or above the frame."""
    x, y, width, height = (
        table[name].to_numpy().astype(float)
        for name in ("face_x", "face_y", "face_width", "face_height")
    )
    with np.errstate(invalid="ignore"):
        return np.asarray((width <= 0) | (height <= 0) | (x + width <= 0) | (y + height <= 0))


def _hash_of_ids(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    joined = "".join(ids.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), dtype=">u8").astype(np.uint64)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
