"""How much room a disk has, and how much crops and models take, before anything is made.

What a disk that is full already comes to stands in `disk.py`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.disk import RoomError
from fer_pipeline.core.presets import NetworkShape
from fer_pipeline.core.storage import Location
from fer_pipeline.core.tables import DAMAGED
from fer_pipeline.core.worklist import shard_names

_STORED_SHARE = 1.03
"""Bytes of a shard for each byte of its crops; 1.01 to 1.02 of photos, which LZ4 doesn't shrink."""
_MEASURED_SHARDS = 8
_WEIGHT_BYTES = 4
_COPIES = 6
"""The model that is kept, and the state of its training: weights, average and two moments of
each, and the best so far."""
_AROUND_MODEL = 8 << 20
"""Bytes of the code, tables and pictures that are kept with a model, measured 4 MB."""


@dataclass(frozen=True)
class Need:
    """What is going to be written, in words, and its bytes."""

    what: str
    bytes: int


def check_room(folder: Location, needs: Sequence[Need], *, free: int | None = None) -> None:
    """Raise RoomError when `needs` don't fit into what is free where `folder` is, or will be.

    An object store is taken to have room. `free` is asked of the disk where it isn't given.
    """
    if not isinstance(folder, Path) or not needs:
        return
    there = free_bytes(folder) if free is None else free
    wanted = sum(need.bytes for need in needs)
    if wanted <= there:
        return
    listed = ", ".join(f"{need.what} {in_words(need.bytes)}" for need in needs)
    raise RoomError(
        f"{folder} has {in_words(there)} left and about {in_words(wanted)} are needed ({listed}): "
        "free some there (fer-pipeline prune says what can go), give --home another disk, or set "
        "FER_CHECK_ROOM=false to try it all the same"
    )


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write where `folder` is, or will be once it is made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def crops_need(faces: int, settings: CropSettings, folder: Location) -> Need:
    """The crops of so many faces, by the bytes that those in the folder take if there are any."""
    each = float(np.prod(settings.shape)) * stored_share(folder)
    return Need(f"crops of {faces:,} faces", int(faces * each))


def stored_share(folder: Location) -> float:
    """Bytes of a shard for each byte of its crops, measured on shards that are there."""
    stored = crops = 0
    for name in sorted(shard_names(folder))[:_MEASURED_SHARDS] if isinstance(folder, Path) else ():
        path = Path(str(folder)) / name
        try:
            file = pq.read_metadata(path)
            width = file.schema.to_arrow_schema().field("crop").type.byte_width
        except DAMAGED:
            continue
        stored += path.stat().st_size
        crops += file.num_rows * width
    # Faces that have no crop take no room in a shard, and may be its most.
    return stored / crops if crops and stored > crops / 2 else _STORED_SHARE


def faces_there(folder: Location) -> int:
    """Faces in the shards of a crops folder, whatever list they belong to."""
    found = 0
    for name in shard_names(folder) if isinstance(folder, Path) else ():
        try:
            found += pq.read_metadata(Path(str(folder)) / name).num_rows
        except DAMAGED:
            continue
    return found


def model_need(stream: str, shape: NetworkShape) -> Need:
    """What a training of such a network leaves and holds, beside what is kept with its model."""
    before, weights = shape.widths[0], 0
    for width, blocks in zip(shape.widths, shape.blocks, strict=True):
        weights += 9 * (before * width + (2 * blocks - 1) * width * width) + before * width
        before = width
    size = weights * _WEIGHT_BYTES * _COPIES + _AROUND_MODEL
    return Need(f"model of {stream}", size)


def in_words(count: int) -> str:
    """Bytes as people read them: 512 bytes, 3.4 MB."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
