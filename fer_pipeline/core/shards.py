"""Crops on disk: Parquet shards, one for each slice of the manifest, and their list.

A shard is the unit of work: written whole or not at all, carried over when its slice and
settings are unchanged. `crops.json` names the shards that belong together.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings, PreparedFace, Status, prepare_face
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, publish_json, published, text_digest
from fer_pipeline.core.manifest import BOX_COLUMNS, listed_boxes, manifest_hash, photos_of

CROPS_LIST = "crops.json"
_ROW_GROUP = 256
_TRIED_AGAIN = (Status.MISSING.value, Status.UNREADABLE.value)
_SLICE_COLUMNS = ["face_id", "image_path", "list", *BOX_COLUMNS, "content_hash"]


@dataclass(frozen=True)
class Slice:
    """Rows `start` to `stop` (exclusive) of the manifest, which become shard `number`."""

    number: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """The shard's name in the crops folder."""
        return f"shard-{self.number:05d}.parquet"


@dataclass(frozen=True)
class ShardResult:
    """What one shard holds; `carried_over` when it was there already."""

    file_name: str
    rows: int
    hash: str
    statuses: Mapping[str, int]
    carried_over: bool


@dataclass(frozen=True)
class CropSet:
    """All shards of one manifest, as `crops.json` holds them."""

    manifest_hash: str
    settings: CropSettings
    shards: Sequence[ShardResult]
    folder: Path

    @property
    def content_hash(self) -> str:
        """16 hex digits over the shards' hashes, in order."""
        return text_digest(self.settings.hash, *(shard.hash for shard in self.shards))

    @property
    def statuses(self) -> dict[str, int]:
        """Number of faces by status, all statuses listed."""
        totals = {status.value: 0 for status in Status}
        for shard in self.shards:
            for status, count in shard.statuses.items():
                totals[status] += count
        return totals

    @property
    def paths(self) -> list[Path]:
        """The shard files, in manifest order."""
        return [self.folder / shard.file_name for shard in self.shards]


def plan_slices(rows: int, shard_rows: int) -> list[Slice]:
    """Slices of near-equal size, at most `shard_rows` rows each."""
    count = max(1, -(-rows // shard_rows))
    edges = [rows * part // count for part in range(count + 1)]
    return [Slice(part, edges[part], edges[part + 1]) for part in range(count)]


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
            ("face_id", pa.string()),
            ("stored_bytes", pa.int64()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("crop", pa.binary(height * width * channels)),
            ("x", pa.float32()),
            ("y", pa.float32()),
            ("width", pa.float32()),
            ("height", pa.float32()),
            ("score", pa.float32()),
            ("iou", pa.float32()),
        ],
        metadata={key: str(value) for key, value in metadata.items()},
    )


def write_shard(
    dataset: DataSet,
    manifest: pa.Table,
    part: Slice,
    folder: Path,
    settings: CropSettings,
    on_faces: Callable[[int, int], None] | None = None,
) -> ShardResult:
    """Crop the faces of one slice into its shard, unless that shard is there already.

    `on_faces` is told faces done and faces to do.
    """
    rows = manifest.slice(part.start, part.stop - part.start)
    path = folder / part.file_name
    photos = photos_of(rows)
    stored = dataset.stored_sizes(photos)
    slice_hash = _slice_hash(dataset, rows, stored, settings)
    known = _shard_there(path, slice_hash)
    if known is not None:
        return known
    columns: dict[str, list[object]] = {name: [] for name in crops_schema(settings).names}
    boxes = listed_boxes(rows)
    for done, (data, box) in enumerate(
        zip(dataset.read_photos(photos), boxes, strict=True), start=1
    ):
        _append(columns, prepare_face(data, box, settings))
        if on_faces:
            on_faces(done, len(boxes))
    columns["face_id"] = rows["face_id"].to_pylist()
    columns["stored_bytes"] = stored.tolist()
    schema = crops_schema(settings).with_metadata(
        {**crops_schema(settings).metadata, b"slice_hash": slice_hash.encode()}
    )
    with published(path) as temporary:
        table = pa.Table.from_pydict(columns, schema=schema)
        pq.write_table(
            table,
            temporary,
            row_group_size=_ROW_GROUP,
            compression="lz4",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
    return _result(path, table["status"], carried_over=False)


def publish_crop_set(
    folder: Path, manifest: pa.Table, settings: CropSettings, shards: Sequence[ShardResult]
) -> CropSet:
    """Write `crops.json` for these shards and delete shards that no longer belong."""
    ordered = sorted(shards, key=lambda shard: shard.file_name)
    crop_set = CropSet(manifest_hash(manifest), settings, ordered, folder)
    publish_json(
        folder / CROPS_LIST,
        {
            "manifest_hash": crop_set.manifest_hash,
            "content_hash": crop_set.content_hash,
            "settings": asdict(settings),
            "shards": [asdict(shard) for shard in ordered],
        },
    )
    current = {shard.file_name for shard in ordered}
    for path in folder.glob("shard-*.parquet"):
        if path.name not in current:
            path.unlink()
    return crop_set


def read_crop_set(folder: Path, *, verify: bool = False) -> CropSet:
    """The crop set listed in `folder`; with `verify`, every shard's bytes are hashed again.

    Raises InputError when there is no list, or a shard isn't what the list says.
    """
    path = folder / CROPS_LIST
    if not path.is_file():
        raise InputError(f"{path} is not there: materialize face_crops first")
    stored = json.loads(path.read_text())
    shards = [ShardResult(**shard) for shard in stored["shards"]]
    for shard in shards:
        file = folder / shard.file_name
        if not file.is_file() or (verify and file_digest(file) != shard.hash):
            raise InputError(f"{file} is missing or was changed: materialize face_crops again")
    return CropSet(stored["manifest_hash"], CropSettings(**stored["settings"]), shards, folder)


def faces_to_try_again(dataset: DataSet, manifest: pa.Table, crop_set: CropSet) -> int:
    """How many photos that were missing or unreadable have come or changed since."""
    changed = start = 0
    for path, shard in zip(crop_set.paths, crop_set.shards, strict=True):
        table = pq.read_table(path, columns=["stored_bytes", "status"])
        failed = pc.is_in(table["status"], value_set=pa.array(_TRIED_AGAIN))
        rows = manifest.slice(start, shard.rows).filter(failed)
        before = table["stored_bytes"].filter(failed).to_numpy()
        changed += int((dataset.stored_sizes(photos_of(rows)) != before).sum())
        start += shard.rows
    return changed


def _slice_hash(
    dataset: DataSet, rows: pa.Table, stored: npt.NDArray[np.int64], settings: CropSettings
) -> str:
    faces = rows.select(_SLICE_COLUMNS).append_column("stored_bytes", pa.array(stored))
    return text_digest(dataset.root, settings.hash, manifest_hash(faces))


def _shard_there(path: Path, slice_hash: str) -> ShardResult | None:
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if (file.schema_arrow.metadata or {}).get(b"slice_hash") != slice_hash.encode():
                return None
            # Every page is read: a damaged one must not be carried over as a whole shard.
            groups = (file.read_row_group(at) for at in range(file.num_row_groups))
            parts = [group["status"].combine_chunks() for group in groups]
            status = pa.chunked_array(parts, pa.string())
    except (pa.ArrowInvalid, OSError):
        return None
    return _result(path, status, carried_over=True)


def _result(path: Path, status: pa.ChunkedArray, *, carried_over: bool) -> ShardResult:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(status).to_pylist()}
    return ShardResult(path.name, len(status), file_digest(path), counts, carried_over)


def _append(columns: dict[str, list[object]], face: PreparedFace) -> None:
    x, y, width, height = face.box or (None, None, None, None)
    columns["status"].append(face.status.value)
    columns["reason"].append(face.reason)
    columns["crop"].append(None if face.crop is None else face.crop.tobytes())
    for name, value in (("x", x), ("y", y), ("width", width), ("height", height)):
        columns[name].append(value)
    columns["score"].append(face.score)
    columns["iou"].append(face.iou)
