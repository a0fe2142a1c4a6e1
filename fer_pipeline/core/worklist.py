"""What is to be cropped: the manifest's faces cut into slices of near-equal work.

The list is a Parquet file with one row group for each slice, so that a worker reads its own
faces and no others, however many there are. It also tells how much of the work is done.
"""

import json
import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets.base import DataSet, cropped_faces
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published, text_digest
from fer_pipeline.core.manifest import (
    BOX_COLUMNS,
    MANIFEST_SCHEMA,
    manifest_batches,
    manifest_hash,
    photos_of,
)
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.tables import DAMAGED, regrouped

WORK_LIST = "worklist.parquet"
_FACE_COLUMNS = ["face_id", "image_path", "list", *BOX_COLUMNS, "content_hash"]
_SCHEMA = pa.schema(
    [*(MANIFEST_SCHEMA.field(name) for name in _FACE_COLUMNS), ("stored_bytes", pa.int64())]
)
_BATCH = 16_384
_PLAN = b"plan"

MAX_SHARD_BYTES = 64 * 2**20
"""Bytes of crops in one shard at most: what bounds the memory of a worker."""
_MANY_SHARDS = 64
_SMALL_SHARD_SECONDS = 10.0
"""What would be fewer is cut into up to 64 shards, to be spread, but not into less work than this:
each costs half a second to start.
"""
_MORE_SHARDS = 4
"""How many times as many slices are cut, at most, so that none is too long and all equal work."""

# Seconds a face costs on one core; only their proportions matter, and only for balance.
_FACE_SECONDS = 0.0002
_BYTES_PER_SECOND = 100e6
_DETECTION_SECONDS = 0.01


@dataclass(frozen=True)
class Slice:
    """Rows `start` to `stop` (exclusive) of the manifest, which become shard `number`.

    `digest`, of the data set's address and of whatever else decides what the shard holds, is part
    of the shard's name.
    `older` names shards of an earlier work list that hold some of these faces already.
    """

    number: int
    start: int
    stop: int
    digest: str
    older: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of faces."""
        return self.stop - self.start

    @property
    def file_name(self) -> str:
        """The shard's name in the crops folder."""
        return f"shard-{self.number:05d}-{self.digest}.parquet"


@dataclass(frozen=True)
class Progress:
    """How far the crops of a work list are: faces in finished shards, of all faces.

    `made` are those finished since the list was written `seconds` ago.
    """

    done: int
    total: int
    made: int
    seconds: float

    def __str__(self) -> str:
        """Share done, faces a second and time left, as far as they can be told."""
        share = f"{self.done / max(1, self.total):.0%} of {self.total:,} faces"
        if not self.made or not self.seconds:
            return share
        rate = self.made / self.seconds
        left = round((self.total - self.done) / rate)
        return f"{share}, {rate:,.0f} faces/s, {left // 60}:{left % 60:02d} left"


def plan_work(
    dataset: DataSet,
    manifest_folder: Location,
    folder: Location,
    settings: CropSettings,
    shard_rows: int,
) -> list[Slice]:
    """Write the work list of a manifest into the crops folder and give its slices.

    No slice holds more than `shard_rows` faces, or MAX_SHARD_BYTES of crops.
    """
    sizes, costs, ids = [], [], []
    for rows in manifest_batches(manifest_folder, _FACE_COLUMNS, _BATCH):
        stored = dataset.stored_sizes(photos_of(rows))
        sizes.append(stored)
        costs.append(_seconds(dataset, rows, stored, settings))
        ids.append(_numbers(rows["face_id"]))
    stored = np.concatenate(sizes)
    crop_bytes = int(np.prod(settings.shape))
    edges = plan_edges(
        np.concatenate(costs), max(1, min(shard_rows, MAX_SHARD_BYTES // crop_bytes))
    )
    slices: list[Slice] = []
    source = _source_digest(dataset)
    batches = manifest_batches(manifest_folder, _FACE_COLUMNS, _BATCH)
    with (
        published(folder / WORK_LIST) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="lz4") as writer,
    ):
        for number, rows in enumerate(regrouped(batches, np.diff(edges).tolist())):
            start, stop = int(edges[number]), int(edges[number + 1])
            faces = rows.append_column("stored_bytes", pa.array(stored[start:stop]))
            digest = f"{source}-{text_digest(settings.hash, manifest_hash(faces))[:8]}"
            slices.append(Slice(number, start, stop, digest))
            writer.write_table(faces.cast(_SCHEMA), row_group_size=stop - start)
        # Names and sizes of photos under another root may be equal by chance: nothing is kept.
        there = {name for name in shard_names(folder) if f"-{source}-" in name}
        slices = _with_older(slices, np.concatenate(ids), folder, there)
        plan = {
            "slices": [asdict(part) for part in slices],
            "there": sorted(there & {part.file_name for part in slices}),
            "planned_at": time.time(),
        }
        writer.add_key_value_metadata({_PLAN: json.dumps(plan)})
    return slices


def is_of(dataset: DataSet, file_names: Collection[str]) -> bool:
    """Whether all these shards were cropped from photos of the data set where it stands now."""
    mark = f"-{_source_digest(dataset)}-"
    return all(mark in name for name in file_names)


def _source_digest(dataset: DataSet) -> str:
    """6 hex digits of where photos are read from and what their pictures are said to be.

    What was cropped when pictures were said to be faces isn't kept when they are not.
    """
    chosen = [
        f"{part.name}={part.faces_are_cropped}"
        for part in dataset.parts()
        if part.faces_are_cropped != type(part).faces_are_cropped
    ]
    return text_digest(dataset.address, *chosen)[:6]


def plan_edges(cost: npt.NDArray[np.float64], shard_rows: int) -> npt.NDArray[np.int64]:
    """Where slices of near-equal cost begin and end: 0, ..., n; each at most `shard_rows` long.

    `cost` is (n,), about the seconds that each face takes.
    """
    rows = len(cost)
    total = np.concatenate([[0.0], np.cumsum(cost)])
    # Powers of two, or at least a multiple of four: a number that workers can share evenly.
    spread = min(_MANY_SHARDS, 2 ** int(math.log2(max(1.0, total[-1] / _SMALL_SHARD_SECONDS))))
    count = first = _shared_evenly(max(1, -(-rows // shard_rows), spread))
    while count <= _MORE_SHARDS * first:
        edges = _equal_parts(total, min(count, max(1, rows)))
        if count >= rows or np.diff(edges).max() <= shard_rows:
            return edges
        # Cheap faces stand together: slices of equal work are too long, so they have to be less.
        count = _shared_evenly(count + 1)
    # Very cheap ones do: only the slices of these are cut.
    edges = _equal_parts(total, min(first, rows))
    parts = [
        start + size * np.arange(pieces) // pieces
        for start, size in zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True)
        for pieces in [-(-size // shard_rows)]
    ]
    return np.append(np.concatenate(parts), rows).astype(np.int64)


def _shared_evenly(count: int) -> int:
    return count if count <= 4 else -(-count // 4) * 4


def _equal_parts(total: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """`count` parts of a sequence with these partial sums, none empty, sums as equal as may be."""
    rows = len(total) - 1
    part = np.arange(count)
    middle = total[-1] * part / count
    after = np.maximum(1, np.searchsorted(total, middle))
    nearest = np.where(total[after] - middle < middle - total[after - 1], after, after - 1)
    # At least one further than the edge before, and one left for each part to come.
    edges = part + np.minimum(np.maximum.accumulate(nearest - part), rows - count)
    return np.append(edges, rows).astype(np.int64)


def read_slice(folder: Location, number: int) -> tuple[Slice, pa.Table]:
    """One slice and its faces: face_id, image_path, list, box, content_hash of the manifest.

    `stored_bytes` is what `DataSet.stored_sizes` said when the list was written. Raises InputError
    when the list has fewer slices by now.
    """
    with pq.ParquetFile(parquet_source(folder / WORK_LIST)) as file:
        slices = _slices(file.metadata)
        if number >= len(slices):
            raise _written_anew(folder)
        return slices[number], file.read_row_group(number)


def check_planned(folder: Location, names: Collection[str]) -> None:
    """Raise InputError unless these are the shards that the folder's work list asks for.

    They aren't when a run that was planned before another one is executed again.
    """
    metadata = pq.read_metadata(parquet_source(folder / WORK_LIST))
    if {part.file_name for part in _slices(metadata)} != set(names):
        raise _written_anew(folder)


def left_out(folder: Location, names: Collection[str]) -> list[int]:
    """Numbers of the slices of the folder's work list whose shards aren't among these.

    None when one of these is of another work list, which `check_planned` says.
    """
    parts = _slices(pq.read_metadata(parquet_source(folder / WORK_LIST)))
    if not {part.file_name for part in parts} >= set(names):
        return []
    return [part.number for part in parts if part.file_name not in names]


def _written_anew(folder: Location) -> InputError:
    return InputError(
        f"{folder / WORK_LIST} was written anew since this run was planned: "
        "materialize face_crops in a new run"
    )


def crop_progress(folder: Location) -> Progress:
    """How much of the folder's work list is done, by the shards that are there."""
    metadata = pq.read_metadata(parquet_source(folder / WORK_LIST))
    plan = json.loads(metadata.metadata[_PLAN])
    before, there = set(plan["there"]), shard_names(folder)
    parts = _slices(metadata)
    done = [part for part in parts if part.file_name in there]
    return Progress(
        done=sum(part.rows for part in done),
        total=sum(part.rows for part in parts),
        made=sum(part.rows for part in done if part.file_name not in before),
        seconds=time.time() - plan["planned_at"],
    )


def shard_names(folder: Location) -> set[str]:
    """The names of all shards in a crops folder, whatever list they belong to."""
    return {path.name for path in folder.glob("shard-*.parquet")}


def _slices(metadata: pq.FileMetaData) -> list[Slice]:
    plan = json.loads(metadata.metadata[_PLAN])
    return [Slice(**{**part, "older": tuple(part["older"])}) for part in plan["slices"]]


def _with_older(
    slices: list[Slice], ids: npt.NDArray[np.uint64], folder: Location, there: set[str]
) -> list[Slice]:
    """The slices whose shard is yet to be made, with the shards that hold some of their faces."""
    own = {part.file_name for part in slices}
    held: dict[int, list[str]] = {}
    order = np.argsort(ids)
    ordered = ids[order]
    ends = np.array([part.stop for part in slices])
    for name in sorted(there - own):
        try:
            table = pq.read_table(parquet_source(folder / name), columns=["face_id"])
        except DAMAGED:
            continue
        older = _numbers(table["face_id"])
        place = np.minimum(np.searchsorted(ordered, older), len(ordered) - 1)
        known = order[place[ordered[place] == older]]
        for number in np.unique(np.searchsorted(ends, known, side="right")):
            held.setdefault(int(number), []).append(name)
    return [
        part if part.file_name in there else replace(part, older=tuple(held.get(part.number, ())))
        for part in slices
    ]


def _numbers(face_ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Face ids as numbers: (n,) uint64."""
    return np.frombuffer(bytes.fromhex("".join(face_ids.to_pylist())), ">u8").astype(np.uint64)


def _seconds(
    dataset: DataSet, rows: pa.Table, stored: npt.NDArray[np.int64], settings: CropSettings
) -> npt.NDArray[np.float64]:
    """(n,) what each face costs, roughly."""
    cropped = cropped_faces(dataset, rows["list"].to_pylist())
    seconds = _FACE_SECONDS + np.maximum(stored, 0) / _BYTES_PER_SECOND
    if settings.detect == "always":
        detected = np.ones(rows.num_rows, bool)
    else:
        detected = rows["face_x"].is_null().to_numpy()
    seconds = seconds + _DETECTION_SECONDS * (detected & (stored >= 0))
    return np.where(cropped, _FACE_SECONDS, seconds)
