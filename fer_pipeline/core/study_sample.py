"""Which faces a study shows: drawn from the manifest, stratified, seeded, some of them twice.

Only rows are chosen here; their pictures are made in `study_pictures.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.study import ITEMS_SCHEMA
from fer_pipeline.core.votes import chosen_expression

_SIDES = ("test", "dev", "train")
"""The splits in the order in which faces are taken from them."""
_FROM_MANIFEST = ("face_id", "list", "image_path", "split", "group_id")
_REPEATS_FROM = 10
"""Items from which on at least one is shown twice."""


@dataclass(frozen=True)
class Sample:
    """What was drawn: `items` has ITEMS_SCHEMA, in an order that says nothing of the labels.

    `shortfall` is for each class the faces that were wanted and are not there, `left_out` the
    number of wanted faces that are no face of the stream (any more).
    """

    items: pa.Table
    shortfall: Mapping[str, int]
    left_out: int = 0


def draw_people(
    manifest: pa.Table,
    usable: Collection[str],
    classes: Sequence[str],
    label_source: str,
    *,
    per_class: int,
    repeat_share: float,
    seed: int,
) -> Sample:
    """Draw `per_class` faces of each class, of the test split first, then dev, then train.

    `manifest` holds at least face_id, list, image_path, split, group_id and the columns of the
    label source; `usable` are the face_ids with a crop. Of the faces of one group (copies of a
    photo) at most one is taken, the rarest class choosing first; a class with fewer faces gives
    all it has. `repeat_share` of the faces, dealt evenly to the classes, are shown twice.
    Raises InputError when there is no face to draw.
    """
    if per_class < 1 or not 0 <= repeat_share <= 1:
        raise ValueError(f"{per_class} faces a class and {repeat_share} repeats make no sample")
    label = chosen_expression(manifest, label_source)
    ok = pc.is_in(manifest["face_id"], value_set=pa.array(usable, pa.string())).to_numpy()
    side = pc.index_in(manifest["split"], value_set=pa.array(_SIDES)).fill_null(-1).to_numpy()
    candidates = [np.flatnonzero(ok & (side >= 0) & (label == CODES[name])) for name in classes]
    if not sum(map(len, candidates)):
        raise InputError(
            f"no face of {', '.join(classes)} has a crop: check the stream and the crop report"
        )
    face = manifest["face_id"].to_pylist()
    group = manifest["group_id"].to_pylist()
    taken: set[str] = set()
    chosen: dict[str, list[int]] = {}
    for at in sorted(range(len(classes)), key=lambda at: len(candidates[at])):
        ranked = sorted(candidates[at], key=lambda row: (side[row], text_digest(seed, face[row])))
        rows = chosen[classes[at]] = []
        for row in ranked:
            if len(rows) == per_class:
                break
            if group[row] not in taken:
                taken.add(group[row])
                rows.append(int(row))
    items = _items(manifest, chosen, repeat_share, seed)
    shortfall = {name: per_class - len(chosen[name]) for name in classes}
    return Sample(items, {name: count for name, count in shortfall.items() if count})


def draw_suspects(
    manifest: pa.Table,
    face_ids: Sequence[str],
    classes: Sequence[str],
    label_source: str,
    *,
    count: int,
    repeat_share: float,
    seed: int,
) -> Sample:
    """Draw the first `count` of these faces, which are in order of rank, most suspected first.

    Faces that the manifest doesn't hold (any more), or not as one of the classes, are left out
    and counted. Raises InputError when none is left.
    """
    if count < 1 or not 0 <= repeat_share <= 1:
        raise ValueError(f"{count} faces and {repeat_share} repeats make no sample")
    label = chosen_expression(manifest, label_source)
    wanted = pa.array(list(dict.fromkeys(face_ids)), pa.string())
    place = pc.index_in(wanted, value_set=manifest["face_id"].combine_chunks())
    row = place.fill_null(-1).to_numpy()
    names = {CODES[name]: name for name in classes}
    split = manifest["split"].to_pylist()
    known = [at for at in row if at >= 0 and int(label[at]) in names and split[at] in _SIDES]
    if not known:
        raise InputError(
            f"none of the {len(wanted):,} suspected faces is in the manifest as one of "
            f"{', '.join(classes)}: find the suspects again"
        )
    chosen: dict[str, list[int]] = {name: [] for name in classes}
    for at in known[:count]:
        chosen[names[int(label[at])]].append(int(at))
    items = _items(manifest, chosen, repeat_share, seed)
    return Sample(items, {}, left_out=len(wanted) - len(known))


def _items(
    manifest: pa.Table, chosen: Mapping[str, Sequence[int]], repeat_share: float, seed: int
) -> pa.Table:
    """The chosen manifest rows as items, in an order by hash, and those shown twice behind."""
    name_of = {row: name for name, rows in chosen.items() for row in rows}
    face = manifest["face_id"].take(pa.array(list(name_of), pa.int64())).to_pylist()
    face_of = dict(zip(name_of, face, strict=True))
    order = sorted(name_of, key=lambda row: text_digest(seed, "item", face_of[row]))
    item_of = {row: item for item, row in enumerate(order)}
    twice = _shown_twice(chosen, face_of, repeat_share, seed)
    rows = [*order, *twice]
    table = manifest.select(list(_FROM_MANIFEST)).take(pa.array(rows, pa.int64()))
    columns = {
        **{name: table[name] for name in _FROM_MANIFEST},
        "item": pa.array(range(len(rows)), pa.int32()),
        "expression": pa.array([name_of[row] for row in rows], pa.string()),
        "repeat_of": pa.array([None] * len(order) + [item_of[row] for row in twice], pa.int32()),
    }
    return pa.table([columns[name] for name in ITEMS_SCHEMA.names], schema=ITEMS_SCHEMA)


def _shown_twice(
    chosen: Mapping[str, Sequence[int]],
    face_of: Mapping[int, str],
    repeat_share: float,
    seed: int,
) -> list[int]:
    """The rows that are shown a second time, each class in turn, in an order by hash."""
    total = sum(map(len, chosen.values()))
    count = round(repeat_share * total)
    if repeat_share > 0 and total >= _REPEATS_FROM:
        count = max(1, count)
    ranked = [
        sorted(rows, key=lambda row: text_digest(seed, "repeat", face_of[row]))
        for rows in chosen.values()
    ]
    deepest = max(map(len, ranked), default=0)
    in_turn = [rows[depth] for depth in range(deepest) for rows in ranked if depth < len(rows)]
    return sorted(in_turn[:count], key=lambda row: text_digest(seed, "again", face_of[row]))
