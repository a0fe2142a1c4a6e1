"""The file of corrected labels: who said of which face, and when, that its label is another one.

Reading is strict, and writing adds lines without ever making a file that can't be read. What the
corrections do to the rows of an index is in `corrected_labels.py`.
"""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from fer_pipeline.core.cells import checked_time, csv_rows, safe_cell
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest, publish_bytes
from fer_pipeline.core.labels import NAMES, expression_name
from fer_pipeline.core.storage import Location, is_file, open_binary

_FACE_ID = re.compile(r"[0-9a-f]{16}")
MOST_CHARACTERS = 200
"""Of the cells `who` and `study` at most."""


@dataclass(frozen=True)
class Correction:
    """One line of the file."""

    face_id: str
    old: str
    """The class that the face had when it was judged, a name of `labels.py`."""
    new: str
    """The class it has by this judgement; `No-Face` takes the face out."""
    who: str
    when: datetime
    """With a time zone."""
    study: str
    """Where the judgement was made: `stream/name` of a study, or any other word."""


HEADER = tuple(field.name for field in fields(Correction))


def read_corrections(path: Location) -> list[Correction]:
    """Every line of the file, in its order; none where there is no file.

    Rows are counted as a spreadsheet does: the header is row 1. Class names are taken in any
    spelling of `labels.py`. Several lines may speak of one face: each goes on from the class that
    the line before it ended with, or says the same as that line, and the last one counts.

    Raises InputError where a line breaks that chain, or has an unknown class, a bad face_id, a
    time without its zone, the same class twice, or where the header is another one.
    """
    return [line for line, _ in _lines(path)]


def _lines(path: Location) -> list[tuple[Correction, str]]:
    """What `read_corrections` gives, each line with its place in words."""
    if not is_file(path):
        return []
    with open_binary(path) as file:
        rows = [(f"{path}, row {row}", cells) for row, cells in csv_rows(file.read(), path)]
    if not rows or tuple(rows[0][1]) != HEADER:
        raise InputError(f"{path}, row 1: the header has to be {','.join(HEADER)}; write that line")
    found = [(_parsed(cells, place), place) for place, cells in rows[1:]]
    _check_chain(found)
    return found


def append_corrections(path: Location, corrections: Sequence[Correction]) -> int:
    """Add lines to the file, making it if it isn't there; the number of lines added.

    Lines that stand there word for word are not added again. The file is replaced as a whole, so
    that a reader sees the old one or the new one. Two processes that add at once both get their
    lines in, as long as the file is on this machine.

    Raises InputError, and changes nothing, where a line is wrong by itself or contradicts an
    earlier line (see `read_corrections`).
    """
    with _alone_in_folder_of(path):
        lines = _lines(path)
        there = len(lines)
        known = {line for line, _ in lines}
        for correction in corrections:
            place = f"the correction of face {correction.face_id!r} for {path}"
            parsed = _parsed(_cells(correction), place)
            if parsed not in known:
                known.add(parsed)
                lines.append((parsed, place))
        if len(lines) > there:
            _check_chain(lines)
            publish_bytes(path, _as_csv([line for line, _ in lines]))
    return len(lines) - there


def corrections_digest(path: Location) -> str:
    """16 hex digits that change with the file; empty where there is none."""
    return file_digest(path) if is_file(path) else ""


def resolved(corrections: Sequence[Correction]) -> Mapping[str, Correction]:
    """By face, what its lines come to: `old` of the first one, the rest of the last one."""
    last: dict[str, Correction] = {}
    for line in corrections:
        before = last.get(line.face_id)
        last[line.face_id] = line if before is None else replace(line, old=before.old)
    return last


def _parsed(cells: Sequence[str], place: str) -> Correction:
    if len(cells) != len(HEADER):
        raise InputError(
            f"{place}: {len(cells)} cells where there have to be {len(HEADER)} "
            f"({','.join(HEADER)}); complete or delete that line"
        )
    face_id, old, new, who, when, study = (cell.strip() for cell in cells)
    if not _FACE_ID.fullmatch(face_id):
        raise InputError(
            f"{place}: the face_id {face_id[:40]!r} isn't 16 hex digits; copy it from file_list.csv"
        )
    before, after = _class(old, "old", place), _class(new, "new", place)
    if before == after:
        raise InputError(f"{place}: old and new are both {before}; delete that line")
    for name, text in (("who", who), ("study", study)):
        if not text or len(text) > MOST_CHARACTERS or any(map(_is_control, text)):
            raise InputError(
                f"{place}: {name} has to be 1 to {MOST_CHARACTERS} characters on one line; "
                "write it anew"
            )
    return Correction(face_id, before, after, who, checked_time(when, place), study)


def _class(text: str, column: str, place: str) -> str:
    name = expression_name(text)
    if name is None:
        raise InputError(
            f"{place}: the {column} class {text[:40]!r} is unknown; write one of {', '.join(NAMES)}"
        )
    return name


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")


def _check_chain(lines: Sequence[tuple[Correction, str]]) -> None:
    """Refuse a line that neither goes on from the one before it nor says the same."""
    last: dict[str, tuple[Correction, str]] = {}
    for line, place in lines:
        if line.face_id in last:
            before, at = last[line.face_id]
            goes_on = line.old == before.new
            says_the_same = (line.old, line.new) == (before.old, before.new)
            if not (goes_on or says_the_same):
                raise InputError(
                    f"{place}: face {line.face_id} from {line.old} to {line.new} contradicts "
                    f"{at}, which made it {before.new} of {before.old}; decide for one and delete "
                    "the other"
                )
        last[line.face_id] = (line, place)


def _cells(correction: Correction) -> list[str]:
    *texts, when, study = astuple(correction)
    return [*texts, when.isoformat(), study]


def _as_csv(corrections: Sequence[Correction]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(map(safe_cell, _cells(line)) for line in corrections)
    return text.getvalue().encode()


@contextmanager
def _alone_in_folder_of(path: Location) -> Iterator[None]:
    """Keep other processes from adding meanwhile; an object store has nothing to lock."""
    if not isinstance(path, Path):
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # The folder itself: a file would stay behind, and the one that is replaced can't be held.
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
