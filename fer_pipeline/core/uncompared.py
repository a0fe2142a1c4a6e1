"""Photos that a manifest could not compare with others: they weren't there, or didn't open.

One of them that comes later can be a copy of a test photo, which only a manifest finds out. So
they are listed beside the manifest, which is made anew when one of them has come.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.datasets.base import DataSet, Photo
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published
from fer_pipeline.core.storage import Location, is_file, parquet_source
from fer_pipeline.core.tables import DAMAGED

UNCOMPARED_FILE = "uncompared_photos.parquet"
_SCHEMA = pa.schema(
    [("list", pa.string()), ("image_path", pa.string()), ("stored_bytes", pa.int64())]
)
"""`stored_bytes` as `DataSet.stored_sizes` tells it, null where a photo was there and not read."""


def publish_uncompared(
    folder: Location, absent: Mapping[Photo, int], unread: Sequence[Photo]
) -> None:
    """List photos without bytes and their stored sizes, and those that couldn't be read."""
    sizes = [*absent.values(), *([None] * len(unread))]
    photos = [*absent, *unread]
    table = pa.table(
        [[name for name, _ in photos], [path for _, path in photos], sizes], schema=_SCHEMA
    )
    with published(folder / UNCOMPARED_FILE) as path:
        pq.write_table(table, path)


def photos_that_came(dataset: DataSet, folder: Location, max_bytes: int | None = None) -> int:
    """How many photos that the manifest in `folder` couldn't compare have come or changed since.

    Those that weren't read count where they can be read now, with at most `max_bytes` bytes.
    Raises InputError where the list of them is damaged.
    """
    absent, before, unread = _listed(folder)
    changed = int((dataset.stored_sizes(absent) != np.array(before, np.int64)).sum())
    now = dataset.read_photos(unread, max_bytes)
    return changed + sum(data is not None and not isinstance(data, UnreadableError) for data in now)


def check_none_came(dataset: DataSet, folder: Location) -> None:
    """Raise InputError where a photo is there now that the manifest in `folder` had to miss."""
    absent, before, _ = _listed(folder)
    came = int((dataset.stored_sizes(absent) != np.array(before, np.int64)).sum())
    if came:
        raise InputError(
            f"{came:,} photos came after class_manifest was made, which looks for copies of test "
            "photos: run again when all photos are there, and it is made anew"
        )


def _listed(folder: Location) -> tuple[list[Photo], list[int], list[Photo]]:
    """Photos without bytes and what their sizes were, and photos that weren't read."""
    path = folder / UNCOMPARED_FILE
    if not is_file(path):
        # A manifest of an earlier version has no such list.
        return [], [], []
    try:
        rows = pq.read_table(parquet_source(path), schema=_SCHEMA).to_pylist()
    except DAMAGED as error:
        raise InputError(f"{path} is damaged: materialize class_manifest again") from error
    absent = [row for row in rows if row["stored_bytes"] is not None]
    return (
        [(row["list"], row["image_path"]) for row in absent],
        [row["stored_bytes"] for row in absent],
        [(row["list"], row["image_path"]) for row in rows if row["stored_bytes"] is None],
    )
