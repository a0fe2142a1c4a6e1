"""The crop set of a manifest: `crops.json`, which names the shards that belong together."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import CropSettings, Status
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, publish_json, text_digest
from fer_pipeline.core.manifest import photos_of, published_manifest_hash, read_manifest
from fer_pipeline.core.shards import ShardResult
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.tables import DAMAGED
from fer_pipeline.core.worklist import check_planned, shard_names

CROPS_LIST = "crops.json"
_TOLD = ["face_id", "stored_bytes", "status"]
_TRIED_AGAIN = (Status.MISSING.value, Status.UNREADABLE.value)


@dataclass(frozen=True)
class CropSet:
    """All shards of one manifest, as `crops.json` holds them."""

    manifest_hash: str
    settings: CropSettings
    shards: Sequence[ShardResult]
    folder: Location

    @property
    def content_hash(self) -> str:
        """16 hex digits over the shards' hashes, in order."""
        return text_digest(self.settings.hash, *(shard.hash for shard in self.shards))

    @property
    def faces(self) -> int:
        """The number of faces, whatever their status."""
        return sum(shard.rows for shard in self.shards)

    @property
    def statuses(self) -> dict[str, int]:
        """Number of faces by status, all statuses listed."""
        totals = {status.value: 0 for status in Status}
        for shard in self.shards:
            for status, count in shard.statuses.items():
                totals[status] += count
        return totals

    @property
    def paths(self) -> list[Location]:
        """The shard files, in manifest order."""
        return [self.folder / shard.file_name for shard in self.shards]


def publish_crop_set(
    folder: Location,
    manifest_folder: Location,
    settings: CropSettings,
    shards: Sequence[ShardResult],
) -> CropSet:
    """Write `crops.json` for these shards and delete shards that no longer belong.

    Raises InputError when they aren't those of the folder's work list.
    """
    check_planned(folder, [shard.file_name for shard in shards])
    ordered = sorted(shards, key=lambda shard: shard.file_name)
    crop_set = CropSet(published_manifest_hash(manifest_folder), settings, ordered, folder)
    publish_json(
        folder / CROPS_LIST,
        {
            "manifest_hash": crop_set.manifest_hash,
            "content_hash": crop_set.content_hash,
            "settings": asdict(settings),
            # How a shard came about is no part of what it holds.
            "shards": [
                {name: value for name, value in asdict(shard).items() if name != "made"}
                for shard in ordered
            ],
        },
    )
    for name in shard_names(folder) - {shard.file_name for shard in ordered}:
        (folder / name).unlink()
    return crop_set


def read_crop_set(folder: Location, *, verify: bool = False) -> CropSet:
    """The crop set listed in `folder`; with `verify`, every shard's bytes are hashed again.

    Raises InputError when there is no list, it is damaged, or a shard isn't what the list says.
    """
    path = folder / CROPS_LIST
    if not path.is_file():
        raise InputError(f"{path} is not there: materialize face_crops first")
    try:
        stored = json.loads(path.read_text())
        shards = [ShardResult(**shard) for shard in stored["shards"]]
        manifest, settings = str(stored["manifest_hash"]), CropSettings(**stored["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: materialize face_crops again") from error
    there = shard_names(folder)
    for shard in shards:
        file = folder / shard.file_name
        if shard.file_name not in there or (verify and file_digest(file) != shard.hash):
            raise InputError(f"{file} is missing or was changed: materialize face_crops again")
    return CropSet(manifest, settings, shards, folder)


def faces_to_try_again(dataset: DataSet, manifest_folder: Location, crop_set: CropSet) -> int:
    """How many photos that were missing or unreadable have come or changed since.

    Raises InputError where a shard is damaged.
    """
    failed: list[str] = []
    before: list[int | None] = []
    for path in crop_set.paths:
        try:
            table = pq.read_table(parquet_source(path), columns=_TOLD)
            chosen = table.filter(pc.is_in(table["status"], value_set=pa.array(_TRIED_AGAIN)))
            failed += chosen["face_id"].to_pylist()
            before += chosen["stored_bytes"].to_pylist()
        except DAMAGED as error:
            raise InputError(f"{path} is damaged: materialize face_crops again") from error
    if not failed:
        return 0
    manifest = read_manifest(manifest_folder, ["face_id", "list", "image_path"])
    row = pc.index_in(pa.array(failed), value_set=manifest["face_id"].combine_chunks())
    # Faces that a later manifest no longer has are nobody's concern.
    listed = row.is_valid()
    photos = photos_of(manifest.take(row.filter(listed)))
    sizes = np.array(before, np.float64)[listed.to_numpy(zero_copy_only=False)]
    # Without a size the photo couldn't be read at all; whether it can be now, reading tells.
    refused = np.isnan(sizes)
    changed = (dataset.stored_sizes(photos) != sizes) & ~refused
    now = dataset.read_photos(
        [photos[place] for place in np.flatnonzero(refused)], crop_set.settings.max_file_bytes
    )
    readable = sum(not isinstance(data, UnreadableError) for data in now)
    return int(changed.sum()) + readable
