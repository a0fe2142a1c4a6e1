"""What a folder of faces holds, before anything is made of it: its rows, a few photos, what is odd.

The lists are read whole, as the index stage reads them, of the photos only a handful. Which command
to run next is for the command line to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fer_pipeline.core.bounds import DEFAULT_BOUNDS, UnreadableError
from fer_pipeline.core.crop import CropSettings, Status, crop_face, whole_face
from fer_pipeline.core.datasets import find_format
from fer_pipeline.core.datasets.base import (
    UNKNOWN_LABEL,
    DataSet,
    OneDataSet,
    Role,
    votes_count_people,
)
from fer_pipeline.core.datasets.registry import recognised, usable_formats
from fer_pipeline.core.decode import open_photo
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.expressions import FaceRow, sample_rows
from fer_pipeline.core.index import (
    BAD_BOX,
    CONFLICTING_LABEL,
    DUPLICATE,
    build_index,
    rejected_rows,
    row_batches,
)
from fer_pipeline.core.labels import NAMES, NOT_EXPRESSIONS, known_labels
from fer_pipeline.core.storage import Location, files_in, is_folder
from fer_pipeline.core.votes import vote_words

SAMPLES = 12
"""Photos that are read, at most."""

_SAMPLE_SIDE = 112
_SHOWN = 3
_LOOKED_INTO = 200
"""Folders one level below that are looked at for a hint."""
_ISSUES = {
    DUPLICATE: "that repeat a face with its label: each face is taken once",
    CONFLICTING_LABEL: "of faces listed with several labels: these stay out of dev and test",
    BAD_BOX: "with a box that has no area or lies outside the frame: these are left out",
}


@dataclass(frozen=True)
class Rejected:
    """The rows that are rejected for one reason, and the first of them."""

    reason: str
    rows: int
    file: str
    row: int
    value: str


@dataclass(frozen=True)
class Sample:
    """One photo that was looked at; `picture` is uint8 RGB, None unless `status` is ok."""

    face: FaceRow
    status: Status
    reason: str | None
    picture: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class Inspection:
    """What a data set holds. `counts` are rows by list and class, without empty ones."""

    rows_read: int
    rows_indexed: int
    counts: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, Role]
    rejected: Sequence[Rejected]
    samples: Sequence[Sample]
    problems: Sequence[str]
    votes: str | None
    """What its votes are called; None where it has none."""

    @property
    def unknown_labels(self) -> int:
        """Rows whose label is in no table."""
        return sum(one.rows for one in self.rejected if one.reason == UNKNOWN_LABEL)

    def by_split(self) -> dict[str, dict[str, int]]:
        """Rows of each class by what they may be used for, classes in the order of their codes."""
        table: dict[str, dict[str, int]] = {}
        for name in NAMES:
            for listed, counts in self.counts.items():
                if name in counts:
                    row, role = table.setdefault(name, {}), self.roles[listed].value
                    row[role] = row.get(role, 0) + counts[name]
        return table


def looks_like(root: Location) -> dict[str, str]:
    """The formats that a folder looks like and why, the most particular one first.

    Raises InputError, with a hint where a folder one level off looks like one, when there is none.
    """
    if not is_folder(root):
        raise InputError(f"{root} is not a folder: give the folder that holds the data set")
    found = recognised(root)
    if found:
        return found
    hints = [
        f"{place} looks like {name} ({why}): give that folder"
        for place, name, why in islice(_near(root), _SHOWN)
    ]
    layouts = "; ".join(f"{name}: {find_format(name).layout}" for name in usable_formats())
    raise InputError(
        f"{root} is laid out as no data set that is known; "
        + ("; ".join(hints) if hints else f"looked for {layouts}; see docs/datasets.md")
    )


def inspect_data_set(
    dataset: OneDataSet, scratch: Location, on_rows: Callable[[int], None] | None = None
) -> Inspection:
    """Read the lists of a data set and up to `SAMPLES` photos; an index is made in `scratch`.

    `on_rows` is told the rows read so far. Raises InputError when the lists can't be read or hold
    no row.
    """
    summary = build_index(dataset, scratch, on_rows=on_rows)
    table = rejected_rows(scratch)
    counts, has_votes = _counts(scratch, list(dataset.lists()))
    rejected = _rejected(dataset, table)
    samples = list(_looked_at(dataset, _chosen(sample_rows(scratch, 0, SAMPLES))))
    roles = dataset.roles()
    problems = [
        *_sample_problems(samples),
        *_row_problems(dataset, table, rejected, summary.issues),
        *_split_problems(counts, roles),
    ]
    return Inspection(
        summary.rows_read,
        summary.rows_indexed,
        counts,
        roles,
        rejected,
        samples,
        problems,
        vote_words({votes_count_people(dataset)}) if has_votes else None,
    )


def unknown_labels(dataset: DataSet, rejected: pa.Table) -> str:
    """In a sentence without an end: the first rows whose label is in no table, and what is known.

    `rejected` has REJECTED_SCHEMA; some of its rows have the reason UNKNOWN_LABEL.
    """
    table = rejected.filter(pc.equal(rejected["reason"], UNKNOWN_LABEL))
    shown = table.slice(0, _SHOWN).to_pylist()
    places = [
        f"{dataset.lists()[row['list']][0]}, row {row['row']}: {row['value']!r}" for row in shown
    ]
    more = table.num_rows - len(shown)
    parts = {dataset.part_of(name).name: dataset.part_of(name) for name in _names(table["list"])}
    known = [f"{name} knows {known_labels(part.labels)}" for name, part in parts.items()]
    return (
        f"{_rows(table.num_rows)} with a label in no table: {'; '.join(places)}"
        + (f"; and {more:,} more" if more else "")
        + f" ({'; '.join(known)})"
    )


def _near(root: Location) -> Iterator[tuple[Location, str, str]]:
    """Folders one level below and above that look like a format."""
    below = (path for path in files_in(root, "*") if not path.name.startswith("."))
    folders = islice(filter(is_folder, below), _LOOKED_INTO)
    for place in (*folders, root.parent):
        for name, why in islice(recognised(place).items(), 1):
            yield place, name, why


def _counts(folder: Location, lists: Sequence[str]) -> tuple[dict[str, dict[str, int]], bool]:
    table = {name: np.zeros(len(NAMES), np.int64) for name in lists}
    has_votes = False
    for batch in row_batches(folder, ["list", "expression", "votes"]):
        codes = batch.column("expression").to_numpy()
        has_votes |= batch.column("votes").null_count < batch.num_rows
        for name in _names(batch.column("list")):
            here = pc.equal(batch.column("list"), name).to_numpy(zero_copy_only=False)
            table[name] += np.bincount(codes[here], minlength=len(NAMES))
    counts = {
        name: {NAMES[code]: int(found[code]) for code in np.flatnonzero(found)}
        for name, found in table.items()
    }
    return counts, has_votes


def _rejected(dataset: DataSet, table: pa.Table) -> list[Rejected]:
    found = []
    for reason in _names(table["reason"]):
        rows = table.filter(pc.equal(table["reason"], reason))
        first = rows.slice(0, 1).to_pylist()[0]
        file = str(dataset.lists()[first["list"]][0])
        found.append(Rejected(reason, rows.num_rows, file, first["row"], first["value"]))
    return sorted(found, key=lambda one: -one.rows)


def _chosen(rows: Mapping[str, Sequence[FaceRow]]) -> list[FaceRow]:
    """As many of each class as there is room for, in the order of the index."""
    in_turn = (row for turn in zip_longest(*rows.values()) for row in turn if row is not None)
    return sorted(islice(in_turn, SAMPLES), key=lambda row: row.row)


def _looked_at(dataset: OneDataSet, faces: Sequence[FaceRow]) -> Iterator[Sample]:
    settings = CropSettings(side=_SAMPLE_SIDE, colour="rgb")
    stored = dataset.read_photos(
        [(face.list, face.image_path) for face in faces], DEFAULT_BOUNDS.max_file_bytes
    )
    for face, data in zip(faces, stored, strict=True):
        if data is None:
            yield Sample(face, Status.MISSING, None, None)
            continue
        try:
            if isinstance(data, UnreadableError):
                raise data
            photo = open_photo(data, DEFAULT_BOUNDS)
            if dataset.faces_are_cropped or face.box is None:
                made = whole_face(photo, settings)
            else:
                made = crop_face(photo, face.box, settings)
            yield Sample(face, made.status, None, made.crop)
        except UnreadableError as error:
            yield Sample(face, Status.UNREADABLE, str(error), None)


def _sample_problems(samples: Sequence[Sample]) -> Iterator[str]:
    words = {
        Status.MISSING: "missing: are the photos where the lists say",
        Status.UNREADABLE: "unreadable",
        Status.TOO_SMALL: "with a face that is too small",
        Status.BAD_BOX: "with a box that lies outside",
    }
    for status, what in words.items():
        found = [one for one in samples if one.status == status]
        if found:
            first = found[0]
            why = f" ({first.reason})" if first.reason else ""
            yield (
                f"{len(found)} of {len(samples)} photos looked at {what}; the first is "
                f"{first.face.image_path} of list {first.face.list}{why}"
            )


def _row_problems(
    dataset: DataSet, table: pa.Table, rejected: Sequence[Rejected], issues: Mapping[str, int]
) -> Iterator[str]:
    if any(one.reason == UNKNOWN_LABEL for one in rejected):
        remedy = "correct them, or go on without these rows, as the command does"
        yield f"{unknown_labels(dataset, table)}: {remedy}"
    others = sum(one.rows for one in rejected if one.reason != UNKNOWN_LABEL)
    if others:
        yield f"{_rows(others)} rejected for other reasons"
    for issue, what in _ISSUES.items():
        if issues[issue]:
            yield f"{_rows(issues[issue])} {what}"


def _split_problems(
    counts: Mapping[str, Mapping[str, int]], roles: Mapping[str, Role]
) -> Iterator[str]:
    wanted = [name for name in NAMES if name not in NOT_EXPRESSIONS]
    of_role = {
        role: {name for listed, one in counts.items() if roles[listed] == role for name in one}
        for role in Role
    }
    anywhere = set().union(*of_role.values())
    if lacking := [name for name in wanted if name not in anywhere]:
        yield f"no face is labelled {', '.join(lacking)}"
    if Role.TEST not in roles.values():
        yield "there is no test list, and without test faces a run stops: add the list that lacks"
    if Role.TRAIN not in roles.values():
        yield "there is no training list: add the list that lacks"
    for role, word in ((Role.TRAIN, "training"), (Role.DEV, "dev"), (Role.TEST, "test")):
        lacking = [name for name in wanted if name in anywhere - of_role[role]]
        if role in roles.values() and lacking:
            yield f"no {word} face is labelled {', '.join(lacking)}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _names(column: pa.Array | pa.ChunkedArray) -> list[str]:
    return list(pc.unique(column).to_pylist())
