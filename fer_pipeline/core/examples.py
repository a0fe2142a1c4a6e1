"""Which crops a stream learns from or is scored on, and how they are read.

Holds row numbers, targets and weights; crops are read only for the examples that are asked
for. The rules of the two label sources live here. Batches, augmentation and class weights are
in `batches.py`.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.storage import IN_FLIGHT, Location, parquet_source
from fer_pipeline.core.votes import (
    EXPRESSIONS,
    LABEL_SOURCES,
    chosen_expression,
    of_votes,
    vote_matrix,
)


@dataclass(frozen=True)
class Examples:
    """The usable faces of one split in one stream; n examples, K classes, manifest order."""

    shards: tuple[Location, ...]
    shard_index: NDArray[np.int32]
    """(n,) position in `shards`."""
    row: NDArray[np.int32]
    """(n,) row in that shard."""
    group_rows: tuple[tuple[int, ...], ...]
    """For each shard the number of rows in each of its Parquet row groups."""
    target: NDArray[np.float32]
    """(n, K) each row sums to 1: one-hot for listed labels, vote shares for votes."""
    weight: NDArray[np.float32]
    """(n,) weight of the row in the manifest."""
    face_id: NDArray[np.object_]
    group_id: NDArray[np.object_]
    expression: NDArray[np.int64]
    """(n,) index of the class in the stream's order."""
    image_shape: tuple[int, int, int]
    """Height, width and channels of a crop."""

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.row)

    def row_group(self) -> NDArray[np.int64]:
        """(n,) the Parquet row group that holds each crop, numbered over all shards."""
        rows = np.array([sum(sizes) for sizes in self.group_rows], np.int64)
        ends = np.cumsum(np.fromiter(chain.from_iterable(self.group_rows), np.int64))
        first = np.cumsum(rows) - rows
        found = np.searchsorted(ends, first[self.shard_index] + self.row, side="right")
        return found.astype(np.int64)


def with_labels(examples: Examples) -> Examples:
    """The same examples, the target of each its class alone, whatever votes say."""
    targets = np.eye(examples.target.shape[1], dtype=np.float32)[examples.expression]
    return replace(examples, target=targets)


def select_examples(
    shards: Sequence[Location],
    manifest: pa.Table,
    classes: Sequence[str],
    split: str,
    label_source: str,
    vote_share: float = 0.0,
) -> Examples:
    """The manifest rows of `split` that have a crop and belong to one of `classes`.

    `label_source` "listed" takes the data set's own label. "votes" takes FER+ votes: the label
    is the emotion with the most votes of the eight, the target is the votes for `classes`
    divided by their sum; left out are rows without votes, rows where two emotions share the
    first place, and rows whose first place is not one of `classes`. Other rules for shared first
    places, as `votes:first`, are those of `votes.py`.

    With `vote_share` (0 to 1, for training) the targets of listed labels are mixed with the vote
    shares of `classes`, this much of them, where a row has votes for any; `expression` stays the
    listed label.

    Raises InputError when a class or label source is unknown, the data set has no votes that are
    asked for, the shards do not cover the manifest or differ in crop size, or no example is left.
    """
    unknown = [name for name in classes if name not in NAMES[:EXPRESSIONS]]
    if unknown or not classes:
        raise InputError(
            f"The stream's classes {list(classes)} hold {unknown or 'nothing'}, "
            f"choose from {', '.join(NAMES[:EXPRESSIONS])}."
        )
    if label_source == "listed":
        position, expression = _labelled(manifest, classes, label_source)
        target = np.eye(len(classes), dtype=np.float32)[expression]
    elif of_votes(label_source):
        votes = _votes(manifest, "use the label source 'listed'")
        position, expression = _labelled(manifest, classes, label_source)
        shares = votes[position][:, [CODES[name] for name in classes]].astype(np.float32)
        target = shares / shares.sum(axis=1, keepdims=True)
    else:
        raise InputError(
            f"The label source {label_source!r} is unknown, choose from {', '.join(LABEL_SOURCES)}."
        )
    if label_source == "listed" and vote_share:
        target = _mixed_with_votes(manifest, classes, position, target, vote_share)
    in_split = pc.equal(manifest["split"], split).to_numpy()
    kept = in_split[position]
    position, target, expression = position[kept], target[kept], expression[kept]

    shard_index, row, usable, image_shape, group_rows = _find_crops(shards, manifest, position)
    position, target, expression = position[usable], target[usable], expression[usable]
    if not len(position):
        raise InputError(
            f"Split {split!r} holds no usable face of {', '.join(classes)}: "
            "check the list, the stream and the crop report."
        )
    chosen = manifest.select(["face_id", "group_id", "weight"]).take(pa.array(position))
    return Examples(
        shards=tuple(shards),
        shard_index=shard_index[usable],
        row=row[usable],
        group_rows=group_rows,
        target=target,
        weight=chosen["weight"].to_numpy().astype(np.float32),
        face_id=chosen["face_id"].to_numpy(),
        group_id=chosen["group_id"].to_numpy(),
        expression=expression,
        image_shape=image_shape,
    )


def rows_of_groups(metadata: pq.FileMetaData) -> tuple[int, ...]:
    """The number of rows in each row group of a Parquet file."""
    return tuple(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups))


def load_images(
    examples: Examples, indices: NDArray[np.integer] | None = None
) -> NDArray[np.uint8]:
    """The crops at `indices` (all by default) in that order: uint8 (n, height, width, channels).

    RGB order when there are three channels. All of them are held in memory. Of an object store
    several shards are read at once: each answers after a while.
    """
    wanted = np.arange(len(examples)) if indices is None else np.asarray(indices)
    images = np.empty((len(wanted), *examples.image_shape), np.uint8)
    shard_index = examples.shard_index[wanted]
    by_shard = np.argsort(shard_index, kind="stable")
    starts = np.flatnonzero(np.diff(shard_index[by_shard], prepend=-1))
    parts = [places for places in np.split(by_shard, starts[1:]) if len(places)]

    def read(places: NDArray[np.intp]) -> None:
        path = examples.shards[shard_index[places[0]]]
        _read_into(images, places, path, examples.row[wanted[places]])

    if all(isinstance(path, Path) for path in examples.shards):
        for places in parts:
            read(places)
    else:
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in pool.map(read, parts):
                pass
    return images


def image_parts(
    examples: Examples, indices: NDArray[np.integer], at_once: int = 1024
) -> Iterator[NDArray[np.uint8]]:
    """The crops at `indices` as `load_images` gives them, at most `at_once` of them at a time."""
    for start in range(0, len(indices), at_once):
        yield load_images(examples, indices[start : start + at_once])


def _read_into(
    images: NDArray[np.uint8],
    places: NDArray[np.intp],
    path: Location,
    rows: NDArray[np.int32],
) -> None:
    """Put the crops in `rows` of one shard at `places` of `images`, one row group at a time."""
    with pq.ParquetFile(parquet_source(path)) as shard:
        ends = np.cumsum(rows_of_groups(shard.metadata))
        group = np.searchsorted(ends, rows, side="right")
        for number in np.unique(group):
            here = group == number
            start = int(ends[number - 1]) if number else 0
            column = shard.read_row_group(int(number), columns=["crop"], use_threads=False)["crop"]
            crops = _view(column.combine_chunks())
            picked = crops[rows[here] - start]
            images[places[here]] = picked.reshape(-1, *images.shape[1:])


def _view(column: pa.Array) -> NDArray[np.uint8]:
    """(n, bytes) view of a fixed_size_binary array, nulls included, nothing copied."""
    width = column.type.byte_width
    buffer = np.frombuffer(column.buffers()[1], np.uint8)
    return buffer[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)


def _labelled(
    manifest: pa.Table, classes: Sequence[str], label_source: str
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Positions in the manifest of the rows labelled as one of `classes`, and which one each is."""
    index_of = np.full(128, -1)
    for index, name in enumerate(classes):
        index_of[CODES[name]] = index
    of_row = index_of[chosen_expression(manifest, label_source)]
    position = np.flatnonzero(of_row >= 0)
    return position, of_row[position]


def _mixed_with_votes(
    manifest: pa.Table,
    classes: Sequence[str],
    position: NDArray[np.intp],
    target: NDArray[np.float32],
    vote_share: float,
) -> NDArray[np.float32]:
    """Targets (n, K) of the rows at `position`, `vote_share` of each taken from its votes."""
    votes = _votes(manifest, "leave vote_share at 0")[position]
    counts = votes[:, [CODES[name] for name in classes]].astype(np.float32)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, counts / np.maximum(total, 1), target)
    return np.asarray(target + np.float32(vote_share) * (shares - target), np.float32)


def _votes(manifest: pa.Table, remedy: str) -> NDArray[np.int16]:
    """(n, 10) vote counts of all rows, 0 where a row has none."""
    if manifest["votes"].null_count == len(manifest):
        raise InputError(f"The data set has no FER+ votes in its manifest: {remedy}.")
    return vote_matrix(manifest["votes"])


def _find_crops(
    shards: Sequence[Location], manifest: pa.Table, position: NDArray[np.intp]
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.bool_],
    tuple[int, int, int],
    tuple[tuple[int, ...], ...],
]:
    """Shard, row and status "ok" of the manifest rows at `position`; the crop shape; the number of
    rows in each row group of each shard.
    """
    shapes: dict[tuple[int, int, int], Location] = {}
    tables, group_rows = [], []
    for path in shards:
        with pq.ParquetFile(parquet_source(path), pre_buffer=True) as shard:
            table = shard.read(columns=["face_id", "status"])
            group_rows.append(rows_of_groups(shard.metadata))
        shapes.setdefault(_crop_shape(path, table.schema), path)
        tables.append(table.replace_schema_metadata())
    if len(shapes) != 1:
        raise InputError(
            f"The crop shards {[str(path) for path in shapes.values()]} differ in crop size or "
            "are missing: make the crops again."
        )
    ids = manifest["face_id"].combine_chunks()
    faces = pa.concat_tables(tables)
    # One look-up for all shards: the table of a million ids costs a second to make.
    place = pc.fill_null(pc.index_in(faces["face_id"], value_set=ids), -1).to_numpy()
    known = place >= 0
    shard_of = np.full(len(manifest), -1, np.int32)
    row_of = np.full(len(manifest), -1, np.int32)
    ok_of = np.zeros(len(manifest), np.bool_)
    rows = [table.num_rows for table in tables]
    shard_of[place[known]] = np.repeat(np.arange(len(shards)), rows)[known]
    row_of[place[known]] = np.concatenate([np.arange(count) for count in rows])[known]
    ok_of[place[known]] = pc.equal(faces["status"], "ok").to_numpy()[known]
    lost = position[shard_of[position] < 0]
    if len(lost):
        raise InputError(
            f"Face {ids[int(lost[0])]} (manifest row {lost[0]}) and {len(lost) - 1} more are in "
            f"no crop shard of {shards[0].parent}: make the crops again."
        )
    shape = next(iter(shapes))
    return shard_of[position], row_of[position], ok_of[position], shape, tuple(group_rows)


def _crop_shape(path: Location, schema: pa.Schema) -> tuple[int, int, int]:
    metadata = schema.metadata or {}
    try:
        height, width, channels = (int(metadata[key]) for key in (b"height", b"width", b"channels"))
    except KeyError as error:
        raise InputError(
            f"The crop shard {path} does not name its {error} in its metadata: "
            "make the crops again."
        ) from error
    return height, width, channels
