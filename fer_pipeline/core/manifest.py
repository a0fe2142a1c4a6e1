"""The class manifest: the faces of the wanted classes, each once, grouped and dealt to splits.

Everything an index row can become is counted: a manifest row, or left out with a reason.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fer_pipeline.core.bounds import DEFAULT_BOUNDS, MAX_FILE_BYTES, Bounds
from fer_pipeline.core.corrected_labels import LOCKED_TEST, CorrectedLabels, decide
from fer_pipeline.core.corrections import Correction
from fer_pipeline.core.datasets.base import VOTES_TYPE, DataSet, Photo, Role, carved_lists
from fer_pipeline.core.detect import Box
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published
from fer_pipeline.core.index import BAD_BOX, CONFLICTING_LABEL, row_batches
from fer_pipeline.core.labels import CODES, NAMES
from fer_pipeline.core.photo_copies import Told, copies_disagree, find_copies
from fer_pipeline.core.splits import deal
from fer_pipeline.core.storage import Location, parquet_source
from fer_pipeline.core.tables import regrouped
from fer_pipeline.core.uncompared import publish_uncompared
from fer_pipeline.core.votes import chosen_expression, of_votes

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
    "attributes",
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
        ("attributes", pa.string()),
        *((name, pa.int32()) for name in BOX_COLUMNS),
        ("content_hash", pa.string()),
        ("group_id", pa.string()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("weight", pa.float32()),
        ("listed_expression", pa.int8()),
    ]
)
"""`expression` is the label after corrections; `listed_expression` the list's own one where they
changed it, null elsewhere."""
_ROW_GROUP = 8192
"""Rows that are read, or hashed, at a time, and so the most that is held in memory for it."""
_PRIORITY = {Role.TEST: 0, Role.DEV: 1, Role.TRAIN: 2, Role.TRAIN_ONLY: 3}


@dataclass(frozen=True)
class ManifestSummary:
    """What the manifest stage made of the index rows.

    `left_out` counts index rows that are no manifest row, by reason; with `rows` they add up to
    `rows_indexed`. `excluded` counts manifest rows of split `excluded`, by reason. `corrected`
    counts faces whose label was corrected, `corrections_left` those whose correction was not
    applied, by reason (see `corrected_labels.py`); together they are all faces with corrections.
    `corrections_taken` is the digest of what these came to, see `CorrectedLabels`.
    `near_copies_across_sets` counts photos of a mixture that joined the group of another data set's
    photo without having its bytes. `rows_by_source` are the rows by split of each data set.
    """

    rows_indexed: int
    rows: int
    rows_by_split: Mapping[str, int]
    left_out: Mapping[str, int]
    excluded: Mapping[str, int]
    photos_missing: int
    photos_hashed: int
    identical_photos: int
    near_copies_across_sets: int
    manifest_hash: str
    corrected: int
    corrections_taken: str
    corrections_left: Mapping[str, int]
    rows_by_source: Mapping[str, Mapping[str, int]]


def build_manifest(
    dataset: DataSet,
    index_folder: Location,
    folder: Location,
    classes: Sequence[str],
    *,
    label_source: str,
    dev_share: float,
    seed: int,
    corrections: Sequence[Correction] = (),
    correct_test: bool = False,
    max_file_bytes: int = MAX_FILE_BYTES,
    across: Bounds | None = DEFAULT_BOUNDS,
    on_hashed: Told | None = None,
    on_compared: Told | None = None,
) -> ManifestSummary:
    """Write `class_manifest.parquet`, `file_list.csv` and UNCOMPARED_FILE into `folder`.

    `classes` are the names to keep. `corrections` change labels before that choice; without
    `correct_test` the test split is the same, whatever they say. `across` bounds what is decoded to
    find pictures that two data sets of a mixture hold in other bytes; None looks for none.
    Photos of more than `max_file_bytes` bytes are like no other. `on_hashed` and `on_compared` are
    told photos done and to do. Raises InputError when no row is left, or votes are asked of a data
    set without them.
    """
    roles = dataset.roles()
    decided = decide(
        index_folder, corrections, roles, label_source=label_source, correct_test=correct_test
    )
    rows = _wanted_rows(index_folder, classes, label_source, decided)
    _check_any(rows.table.num_rows, index_folder, classes)
    photos = find_copies(
        dataset,
        photos_of(rows.table),
        on_hashed,
        max_bytes=max_file_bytes,
        across=across,
        on_compared=on_compared,
    )
    group = photos.group
    locked = _locked(rows, group, roles) if not correct_test else np.zeros(len(group), bool)
    locked_faces = len(pc.unique(rows.table["face_id"].filter(pa.array(locked))))
    label = np.where(locked, rows.listed, rows.label)
    corrected = rows.corrected & ~locked

    wanted = np.isin(label, [CODES[name] for name in classes])
    left_out = dict(rows.left_out)
    left_out["corrected_away"] = int((~wanted & corrected).sum())
    left_out["other_class"] += int((~wanted & locked).sum())
    first = np.flatnonzero(wanted)
    faces = rows.table.select(["face_id", "list"]).filter(pa.array(wanted))
    first = first[_first_of_each_face(faces, roles)]
    left_out["repeated_row"] = int(wanted.sum()) - len(first)
    _check_any(len(first), index_folder, classes)
    table, label, listed = rows.table.take(pa.array(first)), label[first], rows.listed[first]
    content_hash, group, corrected = photos.content_hash[first], group[first], corrected[first]
    indexed = rows.indexed
    # A million rows are not to be held twice.
    del rows

    lists = _objects(table["list"])
    conflicting = pc.equal(table["issue"].fill_null(""), CONFLICTING_LABEL).to_numpy()
    # Of a face with two labels a person has said which one it has.
    conflicting = (conflicting & ~corrected) | copies_disagree(content_hash, _boxes(table), label)
    splits = deal(
        lists,
        group,
        conflicting,
        roles,
        dev_share=dev_share,
        seed=seed,
        carved=carved_lists(dataset),
    )
    if corrected.any():
        place = table.schema.get_field_index("expression")
        table = table.set_column(place, "expression", pa.array(label, pa.int8()))
    manifest = pa.Table.from_arrays(
        [
            *(table[name].combine_chunks() for name in _FROM_INDEX),
            pa.array(content_hash, pa.string(), mask=content_hash == ""),
            pa.array(group, pa.string()),
            pa.array(splits.split, pa.string()),
            pa.array(splits.reason, pa.string(), mask=splits.reason == ""),
            pa.array(splits.weight),
            pa.array(listed, pa.int8(), mask=~corrected),
        ],
        schema=MANIFEST_SCHEMA,
    )
    publish_uncompared(folder, photos.absent, photos.unread)
    with published(folder / MANIFEST_FILE) as path:
        pq.write_table(manifest, path, row_group_size=_ROW_GROUP)
    with published(folder / FILE_LIST) as path:
        _write_file_list(manifest, label, path)
    return ManifestSummary(
        rows_indexed=indexed,
        rows=manifest.num_rows,
        rows_by_split={name: int((splits.split == name).sum()) for name in SPLITS},
        left_out={reason: count for reason, count in left_out.items() if count},
        excluded=_count(splits.reason[splits.split == "excluded"]),
        photos_missing=photos.missing,
        photos_hashed=photos.hashed,
        identical_photos=photos.identical,
        near_copies_across_sets=photos.near_across,
        manifest_hash=manifest_hash(manifest),
        corrected=len(decided.codes) - locked_faces,
        corrections_taken=decided.digest,
        corrections_left=_with_locked(decided.left, locked_faces),
        rows_by_source=_splits_by_source(manifest["source"], splits.split),
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
class _Rows:
    """Index rows that have a wanted class by their list or by a correction; arrays are (n,)."""

    table: pa.Table
    listed: npt.NDArray[np.int8]
    label: npt.NDArray[np.int8]
    corrected: npt.NDArray[np.bool_]
    left_out: Mapping[str, int]
    indexed: int


def _wanted_rows(
    index_folder: Location, classes: Sequence[str], label_source: str, decided: CorrectedLabels
) -> _Rows:
    codes = [CODES[name] for name in classes]
    parts, listed, labels, corrected = [], [], [], []
    left_out = {"other_class": 0, "no_majority_vote": 0, BAD_BOX: 0}
    rows = voted = 0
    for batch in row_batches(index_folder, [*_FROM_INDEX, "issue"]):
        table = pa.Table.from_batches([batch])
        rows += table.num_rows
        voted += table.num_rows - table["votes"].null_count
        given = chosen_expression(table, label_source)
        label, changed = decided.apply(table["face_id"], given)
        wanted = np.isin(given, codes) | np.isin(label, codes)
        bad_box = pc.equal(table["issue"].fill_null(""), BAD_BOX).to_numpy()
        left_out["no_majority_vote"] += int((given < 0).sum())
        left_out["other_class"] += int((~wanted & (given >= 0)).sum())
        left_out[BAD_BOX] += int((wanted & bad_box).sum())
        keep = wanted & ~bad_box
        parts.append(table.filter(pa.array(keep)))
        listed.append(given[keep])
        labels.append(label[keep])
        corrected.append(changed[keep])
    if of_votes(label_source) and not voted:
        raise InputError(
            f"no row of {index_folder} has votes: use --label-source listed, "
            "or a data set with FER+ votes"
        )
    if not parts:
        raise InputError(
            f"{index_folder} holds no row: every row of the lists was rejected, "
            "see rejected.parquet for the reasons"
        )
    arrays = (np.concatenate(listed), np.concatenate(labels), np.concatenate(corrected))
    return _Rows(pa.concat_tables(parts), *arrays, left_out, rows)


def _check_any(rows: int, index_folder: Location, classes: Sequence[str]) -> None:
    if not rows:
        raise InputError(
            f"no row of {index_folder} has one of the classes {', '.join(classes)}: "
            "choose other streams or check the lists' labels"
        )


def _locked(
    rows: _Rows, group: npt.NDArray[np.object_], roles: Mapping[str, Role]
) -> npt.NDArray[np.bool_]:
    """Corrected rows whose photo is a copy of a test photo; (n,).

    They are excluded from training, and another label of theirs would make a conflict of the test
    face, or end one, and so change which faces are tested.
    """
    if not rows.corrected.any():
        return rows.corrected
    is_test = np.array([roles[name] == Role.TEST for name in rows.table["list"].to_pylist()], bool)
    return rows.corrected & np.isin(group, group[is_test])


def _with_locked(left: Mapping[str, int], faces: int) -> dict[str, int]:
    return {**left, LOCKED_TEST: left.get(LOCKED_TEST, 0) + faces} if faces else dict(left)


def _first_of_each_face(table: pa.Table, roles: Mapping[str, Role]) -> npt.NDArray[np.intp]:
    """The row that stands for each face: of its test list before dev before train."""
    rank = np.array([_PRIORITY[roles[name]] for name in table["list"].to_pylist()], np.int8)
    face = pc.dictionary_encode(table["face_id"]).combine_chunks().indices.to_numpy()
    order = np.lexsort((np.arange(len(face)), rank, face))
    first = order[np.unique(face[order], return_index=True)[1]] if len(face) else order
    return np.sort(first)


def _boxes(table: pa.Table) -> npt.NDArray[np.int64]:
    sides = [table[name].fill_null(-1).to_numpy() for name in BOX_COLUMNS]
    return np.stack(sides, axis=1).astype(np.int64)


def _write_file_list(manifest: pa.Table, label: npt.NDArray[np.int8], path: Path) -> None:
    names = pa.array(np.array(NAMES, dtype=object)[label], pa.string())
    table = manifest.drop_columns(["votes"]).append_column("expression_name", names)
    pa_csv.write_csv(table, path)


def _splits_by_source(
    source: pa.ChunkedArray, split: npt.NDArray[np.object_]
) -> dict[str, dict[str, int]]:
    sources = _objects(source)
    return {
        name: {side: int(((sources == name) & (split == side)).sum()) for side in SPLITS}
        for name in dict.fromkeys(sources.tolist())
    }


def _objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)


def _count(values: npt.NDArray[np.object_]) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
