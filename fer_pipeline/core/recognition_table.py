"""Readings as rows of a table, and the CSV file that a stopped run goes on with.

One row for each face; a file without a face, or one that can't be read, has a row that says so.
"""

import csv
import fcntl
import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fer_pipeline.core.crop import Status
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.files import append_whole, full_disk_named
from fer_pipeline.core.recogniser import Reading

Row = Mapping[str, str | int | float | None]

_BOX = ("x", "y", "width", "height")
_BEFORE = ("path", "face", "status", "reason", *_BOX, "score", "label")
_AFTER = ("time",)
_DIGITS = 6
"""Decimals of a probability, ten times finer than the agreement that is promised."""


def columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The table's columns: path, face, status, reason, box, score, label, p_<class>, time.

    `face` counts from 0 within a picture, the largest face first; the box is in pixels of the
    upright picture; `time` is that of a video's frame in seconds, empty for pictures.
    """
    return (*_BEFORE, *(_share(name) for name in classes), *_AFTER)


def rows_of(path: str, reading: Reading, seconds: float | None = None) -> list[Row]:
    """The rows of one picture or frame, at least one; a column that isn't named is empty."""
    time = None if seconds is None else round(seconds, 3)
    if not reading.faces:
        status = Status.NO_FACE if reading.reason is None else Status.UNREADABLE
        return [{"path": path, "status": status.value, "reason": reading.reason, "time": time}]
    return [
        {
            "path": path,
            "face": number,
            "status": face.status.value,
            **dict(zip(_BOX, (round(one, 1) for one in face.box), strict=True)),
            "score": None if face.score is None else round(face.score, 4),
            "label": face.label,
            **{
                _share(name): round(value, _DIGITS)
                for name, value in (face.probabilities or {}).items()
            },
            "time": time,
        }
        for number, face in enumerate(reading.faces)
    ]


def _share(name: str) -> str:
    return f"p_{name.lower()}"


class TableFile:
    """A CSV file that grows by the rows of one input after another."""

    def __init__(self, file: io.FileIO, names: Sequence[str], done: Collection[str]) -> None:
        """Go on at the end of `file`; `done` are the paths whose rows it holds already."""
        self.done = done
        self._file, self._names = file, names

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows of one input: all of them or, where that fails, none."""
        lines = (_line([row.get(one) for one in self._names]) for row in rows)
        append_whole(self._file, b"".join(lines))


@contextmanager
def growing_table(
    path: Path, names: Sequence[str], work: str, on_row: Callable[[Row], None]
) -> Iterator[TableFile]:
    """A CSV file with the columns `names`, published at `path` when the block ends well.

    Until then it stands beside it under a name of its own, from which the next call with the
    same `work` (what makes rows comparable: model and options) goes on; `on_row` is told the
    rows that are there. A file that was at `path` stays until the new one is whole. Raises
    BusyError while another process writes it, InputError for a place where nothing can be written.
    """
    part = path.with_name(f".{path.name}.{work}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("ab", buffering=0)
    except OSError as error:
        raise InputError(
            f"{path} can't be written ({error.strerror}): give another place"
        ) from error
    with file, full_disk_named(path):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another process is writing {path}: wait for it") from error
        if not _stands_at(part, file):
            raise BusyError(f"another process has just written {path}: start again")
        with part.open("rb") as begun:
            done, end = _taken_up(begun, names, on_row)
        file.truncate(end)
        if not end:
            append_whole(file, _line(names))
        yield TableFile(file, names, done)
        part.replace(path)


def _stands_at(path: Path, file: io.FileIO) -> bool:
    """Whether the file is still there: who had it before may have given it its final name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _taken_up(
    file: BinaryIO, names: Sequence[str], on_row: Callable[[Row], None]
) -> tuple[set[str], int]:
    """The paths whose rows stand in the file whole, and where the last of these ends."""
    done: set[str] = set()
    if file.readline() != _line(names):
        return done, 0
    whole = start = file.tell()
    rows: list[Row] = []
    for record in _records(file):
        row = dict(zip(names, (value or None for value in record), strict=True))
        if rows and row["path"] != rows[0]["path"]:
            whole = start
            done.add(_told(rows, on_row))
        start = file.tell()
        rows.append(row)
    if rows and start == file.seek(0, io.SEEK_END):
        whole = start
        done.add(_told(rows, on_row))
    # Of a line that was cut, the picture's other lines are dropped too.
    return done, whole


def _told(rows: list[Row], on_row: Callable[[Row], None]) -> str:
    """The path of these rows, which are told and forgotten."""
    path = str(rows[0]["path"])
    for row in rows:
        on_row(row)
    rows.clear()
    return path


def _records(file: BinaryIO) -> Iterator[list[str]]:
    """The whole records from here on; the file stands behind the one that was given last."""
    record = b""
    for line in iter(file.readline, b""):
        record += line
        if record.count(b'"') % 2 == 0:  # else a line break in a quoted name
            if not record.endswith(b"\r\n"):
                return
            yield next(csv.reader([record.decode(errors="surrogateescape")]))
            record = b""


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue().encode(errors="surrogateescape")
