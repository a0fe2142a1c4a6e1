"""The class manifest: the faces of the wanted classes, each once, grouped and dealt to splits.

Everything an index row can become is counted: a manifest row, or left out with a reason.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fer_pipeline.core.datasets.base import VOTES_TYPE, DataSet, Photo, Role
from fer_pipeline.core.detect import Box
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published, text_digest
from fer_pipeline.core.index import BAD_BOX, CONFLICTING_LABEL, row_batches
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.splits import deal
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.votes import chosen_expression

MANIFEST_FILE = "class_manifest.parquet"
FILE_LIST = "file_list.csv"
SPLITS = ("train", "dev", "test", "excluded")

BOX_COLUMNS = ("face_x", "face_y", "face_width", "face_height")
_FROM_INDEX = (
    "face_id",
    "source",
    "image_path",
    "list",
    "annotation",
    "expression",
    "votes",
    *BOX_COLUMNS,
)
MANIFEST_SCHEMA = pa.schema(
    [
        ("face_id", pa.string()),
        ("source", pa.string()),
        ("image_path", pa.string()),
        ("list", pa.string()),
        ("annotation", pa.string()),
        ("expression", pa.int8()),
        ("votes", VOTES_TYPE),
        *((name, pa.int32()) for name in BOX_COLUMNS),
        ("content_hash", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("weight", pa.float32()),
    ]
)
_ROW_GROUP = 8192
"""Rows that are read, or hashed, at a time, and so the most that is held in memory for it."""
_PRIORITY = {Role.TEST: 0, Role.DEV: 1, Role.TRAIN: 2, Role.TRAIN_ONLY: 3}


@dataclass(frozen=True)
class ManifestSummary:
    """What the manifest stage made of the index rows.

    `left_out` counts index rows that are no manifest row, by reason; with `rows` they add up to
    `rows_indexed`. `excluded` counts manifest rows of split `excluded`, by reason.
    """

    rows_indexed: int
    rows: int
    rows_by_split: Mapping[str, int]
    left_out: Mapping[str, int]
    excluded: Mapping[str, int]
    photos_missing: int
    photos_hashed: int
    identical_photos: int
    manifest_hash: str


def build_manifest(
    dataset: DataSet,
    index_folder: Location,
    folder: Location,
    classes: Sequence[str],
    *,
    label_source: str,
    dev_share: float,
    seed: int,
    on_hashed: Callable[[int, int], None] | None = None,
) -> ManifestSummary:
    """Write `class_manifest.parquet` and `file_list.csv` into `folder`.

    `classes` are the names to keep. `on_hashed` is told photos hashed and photos to hash.
    Raises InputError when no row is left, or votes are asked of a data set without them.
    """
    table, label, left_out, rows_indexed = _wanted_rows(index_folder, classes, label_source)
    roles = dataset.roles()
    first = _first_of_each_face(table, roles)
    left_out["repeated_row"] = table.num_rows - len(first)
    table, label = table.take(pa.array(first)), label[first]
    if not table.num_rows:
        raise InputError(
            f"no row of {index_folder} has one of the classes {', '.join(classes)}: "
            "choose other streams or check the lists' labels"
        )
    photos = _photos(dataset, table, on_hashed)
    lists = _objects(table["list"])
    conflicting = pc.equal(table["issue"].fill_null(""), CONFLICTING_LABEL).to_numpy()
    conflicting |= _copies_disagree(photos.content_hash, _boxes(table), label)
    splits = deal(lists, photos.group, conflicting, roles, dev_share=dev_share, seed=seed)
    manifest = pa.Table.from_arrays(
        [
            *(table[name].combine_chunks() for name in _FROM_INDEX),
            pa.array(photos.content_hash, pa.string(), mask=photos.content_hash == ""),
            pa.array(photos.group, pa.string()),
            pa.array(splits.split, pa.string()),
            pa.array(splits.reason, pa.string(), mask=splits.reason == ""),
            pa.array(splits.weight),
        ],
        schema=MANIFEST_SCHEMA,
    )
    with published(folder / MANIFEST_FILE) as path:
        pq.write_table(manifest, path, row_group_size=_ROW_GROUP)
    with published(folder / FILE_LIST) as path:
        _write_file_list(manifest, label, path)
    return ManifestSummary(
        rows_indexed=rows_indexed,
        rows=manifest.num_rows,
        rows_by_split={name: int((splits.split == name).sum()) for name in SPLITS},
        left_out={reason: count for reason, count in left_out.items() if count},
        excluded=_count(splits.reason[splits.split == "excluded"]),
        photos_missing=photos.missing,
        photos_hashed=photos.hashed,
        identical_photos=photos.identical,
        manifest_hash=manifest_hash(manifest),
    )


def read_manifest(folder: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """The published manifest, with MANIFEST_SCHEMA; some of its columns if they are named."""
    return pq.read_table(
        parquet_source(folder / MANIFEST_FILE), columns=None if columns is None else list(columns)
    )


def manifest_batches(folder: Location, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """Some columns of the published manifest, about `rows` rows at a time."""
    with pq.ParquetFile(parquet_source(folder / MANIFEST_FILE)) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def regrouped(tables: Iterable[pa.Table], sizes: Iterable[int]) -> Iterator[pa.Table]:
    """The rows of `tables` once more, in tables of these sizes; what is over is left out."""
    source = iter(tables)
    held: list[pa.Table] = []
    for size in sizes:
        while sum(part.num_rows for part in held) < size:
            held.append(next(source))
        table = pa.concat_tables(held)
        yield table.slice(0, size)
        held = [table.slice(size)]


def manifest_hash(manifest: pa.Table) -> str:
    """16 hex digits over the manifest's values, whatever file they stand in."""
    return _hash_of_tables([manifest], manifest.num_rows)


def published_manifest_hash(folder: Location) -> str:
    """The `manifest_hash` of the published manifest, which is not held in memory for it."""
    with pq.ParquetFile(parquet_source(folder / MANIFEST_FILE)) as file:
        rows = file.metadata.num_rows
    return _hash_of_tables(manifest_batches(folder, MANIFEST_SCHEMA.names, _ROW_GROUP), rows)


def _hash_of_tables(tables: Iterable[pa.Table], rows: int) -> str:
    digest = hashlib.blake2b(digest_size=8)
    sizes = [min(_ROW_GROUP, rows - start) for start in range(0, rows, _ROW_GROUP)]
    for table in regrouped(tables, sizes):
        # A copy: slices and tables from files differ in offsets, padding and what is under nulls.
        copied = table.take(pa.array(np.arange(table.num_rows))).combine_chunks()
        for batch in copied.to_batches():
            digest.update(batch.serialize())
    return digest.hexdigest()


def listed_boxes(rows: pa.Table) -> list[Box | None]:
    """The listed box of each row, None where the list gives none."""
    sides = np.stack([rows[name].to_numpy().astype(float) for name in BOX_COLUMNS], axis=1)
    return [None if np.isnan(box).any() else tuple(box.tolist()) for box in sides]


def photos_of(rows: pa.Table) -> list[Photo]:
    """The address of each row's photo."""
    return list(zip(rows["list"].to_pylist(), rows["image_path"].to_pylist(), strict=True))


def missing_classes(
    manifest: pa.Table, streams: Mapping[str, Sequence[str]], label_source: str
) -> list[tuple[str, str, str]]:
    """(stream, split, class) wherever a stream's class has no face in train, dev or test."""
    label = chosen_expression(manifest, label_source)
    split = _objects(manifest["split"])
    present = set(zip(split, label, strict=True))
    return [
        (stream, side, name)
        for stream, classes in streams.items()
        for side in SPLITS[:3]
        for name in classes
        if (side, CODES[name]) not in present
    ]


@dataclass(frozen=True)
class _Photos:
    content_hash: npt.NDArray[np.object_]
    group: npt.NDArray[np.object_]
    missing: int
    hashed: int
    identical: int


def _wanted_rows(
    index_folder: Location, classes: Sequence[str], label_source: str
) -> tuple[pa.Table, npt.NDArray[np.int8], dict[str, int], int]:
    codes = [CODES[name] for name in classes]
    parts, labels = [], []
    left_out = {"other_class": 0, "no_majority_vote": 0, BAD_BOX: 0}
    rows = voted = 0
    for batch in row_batches(index_folder, [*_FROM_INDEX, "issue"]):
        table = pa.Table.from_batches([batch])
        rows += table.num_rows
        voted += table.num_rows - table["votes"].null_count
        label = chosen_expression(table, label_source)
        wanted = np.isin(label, codes)
        bad_box = pc.equal(table["issue"].fill_null(""), BAD_BOX).to_numpy()
        left_out["no_majority_vote"] += int((label < 0).sum())
        left_out["other_class"] += int((~wanted & (label >= 0)).sum())
        left_out[BAD_BOX] += int((wanted & bad_box).sum())
        keep = wanted & ~bad_box
        parts.append(table.filter(pa.array(keep)))
        labels.append(label[keep])
    if label_source == "votes" and not voted:
        raise InputError(
            f"no row of {index_folder} has votes: use --label-source listed, "
            "or a data set with FER+ votes"
        )
    if not parts:
        raise InputError(
            f"{index_folder} holds no row: every row of the lists was rejected, "
            "see rejected.parquet for the reasons"
        )
    return pa.concat_tables(parts), np.concatenate(labels), left_out, rows


def _first_of_each_face(table: pa.Table, roles: Mapping[str, Role]) -> npt.NDArray[np.intp]:
    """The row that stands for each face: of its test list before dev before train."""
    rank = np.array([_PRIORITY[roles[name]] for name in table["list"].to_pylist()], np.int8)
    face = pc.dictionary_encode(table["face_id"]).combine_chunks().indices.to_numpy()
    order = np.lexsort((np.arange(len(face)), rank, face))
    first = order[np.unique(face[order], return_index=True)[1]] if len(face) else order
    return np.sort(first)


def _photos(
    dataset: DataSet, table: pa.Table, on_hashed: Callable[[int, int], None] | None
) -> _Photos:
    """Content hashes of photos that can be copies (equal size), and the group of each face."""
    addresses = photos_of(table)
    keys = np.array([dataset.photo_key(address) for address in addresses], dtype=object)
    unique, first, photo = np.unique(keys, return_index=True, return_inverse=True)
    stored = [addresses[place] for place in first]
    sizes = dataset.photo_sizes(stored)
    _, of_size, population = np.unique(sizes, return_inverse=True, return_counts=True)
    to_hash = np.flatnonzero((sizes > 0) & (population[of_size] > 1))
    # In the order of the lists, so that photos packed in one file are read front to back.
    to_hash = to_hash[np.argsort(first[to_hash])]
    hashes = np.full(len(unique), "", dtype=object)
    photos = dataset.read_photos([stored[place] for place in to_hash])
    for done, (place, data) in enumerate(zip(to_hash, photos, strict=True), start=1):
        if isinstance(data, bytes):
            hashes[place] = hashlib.blake2b(data, digest_size=16).hexdigest()
        if on_hashed and done % 1000 == 0:
            on_hashed(done, len(to_hash))
    # The smallest key of a set of copies names their group; a photo without copies names its own.
    leader = unique.copy()
    smallest: dict[str, str] = {}
    for place in np.sort(to_hash):
        if hashes[place]:
            leader[place] = smallest.setdefault(hashes[place], unique[place])
    group = np.array([text_digest(dataset.name, key) for key in leader], dtype=object)
    return _Photos(
        content_hash=hashes[photo],
        group=group[photo],
        missing=int((sizes < 0).sum()),
        hashed=len(to_hash),
        identical=int((leader != unique).sum()),
    )


def _copies_disagree(
    content_hash: npt.NDArray[np.object_],
    boxes: npt.NDArray[np.int64],
    label: npt.NDArray[np.int8],
) -> npt.NDArray[np.bool_]:
    """Faces at one place of identical photos that carry different labels; shape (n,)."""
    seen: dict[tuple[object, ...], int] = {}
    disagree = set()
    hashed = np.flatnonzero(content_hash != "")
    for place in hashed:
        face = (content_hash[place], *boxes[place])
        if seen.setdefault(face, int(label[place])) != label[place]:
            disagree.add(face)
    result = np.zeros(len(label), bool)
    for place in hashed:
        result[place] = (content_hash[place], *boxes[place]) in disagree
    return result


def _boxes(table: pa.Table) -> npt.NDArray[np.int64]:
    sides = [table[name].fill_null(-1).to_numpy() for name in BOX_COLUMNS]
    return np.stack(sides, axis=1).astype(np.int64)


def _write_file_list(manifest: pa.Table, label: npt.NDArray[np.int8], path: Path) -> None:
    names = pa.array(np.array(NAMES, dtype=object)[label], pa.string())
    table = manifest.drop_columns(["votes"]).append_column("expression_name", names)
    pa_csv.write_csv(table, path)


def _objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)


def _count(values: npt.NDArray[np.object_]) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
