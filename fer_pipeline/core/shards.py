"""A crop shard: the crops and statuses of one slice of the manifest, in one Parquet file.

A shard is the unit of work: written whole or not at all, and there already when its name is. What
shards belong together is the business of `crop_set.py`, how the manifest is cut that of
`worklist.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings, PreparedFace, prepare_face
from fer_pipeline.core.datasets.base import DataSet, cropped_faces
from fer_pipeline.core.decode import UnreadableError
from fer_pipeline.core.files import file_digest, published
from fer_pipeline.core.manifest import listed_boxes, photos_of
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.tables import DAMAGED
from fer_pipeline.core.worklist import Slice

_MOST_ROWS, _LEAST_ROWS, _GROUP_BYTES = 256, 16, 2 * 2**20
"""Rows of a row group, which is read as a whole: as many crops as have these bytes."""
_IDENTITY = pa.schema(
    [("face_id", pa.string()), ("stored_bytes", pa.int64()), ("content_hash", pa.string())]
)
"""What tells a face: `stored_bytes` is null where a photo was there and could not be read."""

_NO_FILE = -1
"""What `DataSet.stored_sizes` says of a photo that isn't there."""


@dataclass(frozen=True)
class ShardResult:
    """What one shard holds; `made` counts the faces that were not carried over."""

    file_name: str
    rows: int
    hash: str
    statuses: Mapping[str, int]
    made: int = 0


def crops_schema(settings: CropSettings) -> pa.Schema:
    """The schema of a shard; its metadata says how the bytes of a crop are laid out."""
    height, width, channels = settings.shape
    metadata = {
        "height": height,
        "width": width,
        "channels": channels,
        "colour": settings.colour,
        "settings_hash": settings.hash,
    }
    return pa.schema(
        [
            *_IDENTITY,
            ("status", pa.string()),
            ("reason", pa.string()),
            ("crop", pa.binary(height * width * channels)),
            ("photo_width", pa.int32()),
            ("photo_height", pa.int32()),
            ("box_x", pa.float32()),
            ("box_y", pa.float32()),
            ("box_width", pa.float32()),
            ("box_height", pa.float32()),
            ("score", pa.float32()),
            ("iou", pa.float32()),
        ],
        metadata={key: str(value) for key, value in metadata.items()},
    )


def rows_per_group(shape: tuple[int, int, int]) -> int:
    """Rows in a row group of a shard with crops of this height, width and channels."""
    height, width, channels = shape
    return max(_LEAST_ROWS, min(_MOST_ROWS, _GROUP_BYTES // (height * width * channels)))


def write_shard(
    dataset: DataSet,
    part: Slice,
    faces: pa.Table,
    folder: Location,
    settings: CropSettings,
    on_faces: Callable[[int, int], None] | None = None,
) -> ShardResult:
    """Crop the faces of one slice (see `worklist.read_slice`) into its shard, unless it is there.

    Faces that stand in an older shard with the same photo, box and settings are carried over.
    `on_faces` is told faces done and faces to do.
    """
    path = folder / part.file_name
    schema = crops_schema(settings)
    statuses = _statuses_there(path, schema)
    if statuses is not None and len(statuses) == faces.num_rows:
        return _result(path, statuses, made=0)
    known = _carried_over(part, faces, folder, schema)
    todo = faces.filter(pa.array(known.place < 0))
    photos = dataset.read_photos(photos_of(todo), max_bytes=settings.max_file_bytes)
    statuses, made = [], 0
    done = faces.num_rows - todo.num_rows

    def tell() -> None:
        nonlocal done
        done += 1
        if on_faces:
            on_faces(done, faces.num_rows)

    with (
        published(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer,
    ):
        # A row group at a time, so that no more crops than that are in memory.
        step = rows_per_group(settings.shape)
        for start in range(0, faces.num_rows, step):
            place = known.place[start : start + step]
            missing = place < 0
            lacking = faces.slice(start, len(place)).filter(pa.array(missing))
            whole = cropped_faces(dataset, lacking["list"].to_pylist())
            prepared = _prepared(photos, lacking, whole, settings, schema, tell)
            order = np.where(missing, len(known.table) + np.cumsum(missing) - 1, place)
            group = pa.concat_tables([known.table, prepared]).take(pa.array(order))
            writer.write_table(group)
            statuses.append(group["status"].combine_chunks())
            made += lacking.num_rows
    return _result(path, pa.chunked_array(statuses, pa.string()), made=made)


def _prepared(
    photos: Iterator[bytes | UnreadableError | None],
    faces: pa.Table,
    whole: npt.NDArray[np.bool_],
    settings: CropSettings,
    schema: pa.Schema,
    tell: Callable[[], None],
) -> pa.Table:
    """The rows of these faces, whose photos come next; `whole` tells pictures that are faces."""
    settings_of_whole = replace(settings, detect="whole")
    columns: dict[str, list[object]] = {name: [] for name in schema.names}
    for name in _IDENTITY.names:
        columns[name] = faces[name].to_pylist()
    for row, box in enumerate(listed_boxes(faces)):
        data = next(photos)
        if columns["stored_bytes"][row] == _NO_FILE:
            # One that came since the work was planned is first to be compared by a manifest.
            data = None
        if isinstance(data, UnreadableError):
            columns["stored_bytes"][row] = None
        of_face = settings_of_whole if whole[row] else settings
        _append(columns, prepare_face(data, box, of_face))
        tell()
    return pa.Table.from_pydict(columns, schema=schema)


@dataclass(frozen=True)
class _Known:
    """Rows that hold already, and for each face of a slice its row among them, or -1."""

    table: pa.Table
    place: npt.NDArray[np.int64]


def _carried_over(part: Slice, faces: pa.Table, folder: Location, schema: pa.Schema) -> _Known:
    """What older shards hold of the faces of this slice."""
    tables, count = [schema.empty_table()], 0
    wanted = faces["face_id"].combine_chunks()
    known = np.full(faces.num_rows, -1, np.int64)
    # A shard of this very name stands there if a photo of it couldn't be read, or it is damaged.
    for name in (part.file_name, *part.older):
        for group in _row_groups(folder / name, schema, wanted):
            face = pc.fill_null(pc.index_in(group["face_id"], value_set=wanted), -1).to_numpy()
            inside = np.flatnonzero(face >= 0)
            inside = inside[known[face[inside]] < 0]
            old = group.take(pa.array(inside))
            new = faces.take(pa.array(face[inside]))
            same = pc.equal(old["stored_bytes"], new["stored_bytes"])
            # A hash that only one of them has says nothing: it is taken of photos of equal size.
            other = pc.not_equal(old["content_hash"], new["content_hash"])
            holds = pc.and_(pc.fill_null(same, False), pc.invert(pc.fill_null(other, False)))
            kept = np.flatnonzero(holds.to_numpy())
            known[face[inside[kept]]] = count + np.arange(len(kept))
            count += len(kept)
            hashes = new["content_hash"].take(pa.array(kept))
            column = schema.get_field_index("content_hash")
            tables.append(old.take(pa.array(kept)).set_column(column, schema.field(column), hashes))
    return _Known(pa.concat_tables(tables).combine_chunks(), known)


def _row_groups(path: Location, schema: pa.Schema, wanted: pa.Array) -> Iterator[pa.Table]:
    """The row groups with wanted faces of a shard, as far as it is whole and of this layout."""
    try:
        with pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as file:
            if file.schema_arrow.equals(schema, check_metadata=True):
                for at in range(file.num_row_groups):
                    faces = file.read_row_group(at, columns=["face_id"])["face_id"]
                    if pc.any(pc.is_in(faces, value_set=wanted)).as_py():
                        yield file.read_row_group(at)
    except DAMAGED:
        return


def _statuses_there(path: Location, schema: pa.Schema) -> pa.ChunkedArray | None:
    """The statuses of a shard that is there and whole, else None.

    Every page is read: a damaged one must not pass for a whole shard. A shard that holds photos
    which could not be read is not done with either.
    """
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(schema, check_metadata=True):
                return None
            groups: Iterable[pa.Table] = (
                file.read_row_group(at) for at in range(file.num_row_groups)
            )
            parts = []
            for group in groups:
                if group["stored_bytes"].null_count:
                    return None
                parts.append(group["status"].combine_chunks())
    except DAMAGED:
        return None
    return pa.chunked_array(parts, pa.string())


def _result(path: Location, status: pa.ChunkedArray, *, made: int) -> ShardResult:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(status).to_pylist()}
    return ShardResult(path.name, len(status), file_digest(path), counts, made)


def _append(columns: dict[str, list[object]], face: PreparedFace) -> None:
    columns["status"].append(face.status.value)
    columns["reason"].append(face.reason)
    columns["crop"].append(None if face.crop is None else face.crop.tobytes())
    columns["photo_width"].append(face.photo_width)
    columns["photo_height"].append(face.photo_height)
    for name, value in zip(("x", "y", "width", "height"), face.box or (None,) * 4, strict=True):
        columns[f"box_{name}"].append(value)
    columns["score"].append(face.score)
    columns["iou"].append(face.iou)
