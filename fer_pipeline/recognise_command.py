"""The command `fer-pipeline recognise`: expressions of the faces in pictures and videos.

What is read is listed in `core/recognition_inputs.py`, how in `core/recognition.py`; here it is
told, counted and written.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from fer_pipeline.core.crop import Status
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.recognition_inputs import STDIN, Inputs, as_png, find_inputs
from fer_pipeline.options import Home, Json, Model
from fer_pipeline.terminal import print_json, say

if TYPE_CHECKING:
    from fer_pipeline.core.recognition import Work
    from fer_pipeline.core.recognition_table import Row, TableFile

_SHOWN = 40
"""Rows that are shown on the screen; all of them go into --csv."""
_KEPT = 20_000
"""Rows that are kept for --json where no --csv takes them."""

_console = Console(stderr=True)


def recognise(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, videos, folders with all below, or - for a picture on standard input.",
        ),
    ],
    model: Model = "starter",
    home: Home = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row for each face; replaced when all are read."),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write copies with boxes and probabilities drawn."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Each picture is one face, as FER2013's are.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0, help="Seconds between the frames of a video; 0 reads each.")
    ] = 1.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read pictures; default: one a core.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recognise the expressions of faces in pictures and videos.

    A file that can't be read is a row with its reason, and not the end. With --csv a run that was
    stopped goes on where it was when it is started again.
    """
    from fer_pipeline.core.recognition import Work, recognise_all
    from fer_pipeline.recogniser import Recogniser, model_file_of

    found = find_inputs(inputs, without=annotate)
    _check_places(found, csv, annotate)
    stdin = _standard_input() if any(one.path == STDIN for one in found.files) else b""
    file = model_file_of(model, home)
    recogniser = Recogniser.load(file, threads=1)
    work = Work(recogniser, True if whole else None, every, annotate, stdin)
    tally = _Tally(keep=csv is None)
    with (
        _table(csv, work, file, inputs, tally) as table,
        Progress(console=_console, transient=True) as progress,
    ):
        done = table.done if table else ()
        left = [one for one in found.files if one.path not in done]
        if done:
            say(_console, f"goes on after {len(found.files) - len(left):,} files that were done")
        task = progress.add_task("files", total=len(found.files))
        progress.advance(task, len(found.files) - len(left))
        for _, rows in recognise_all(work, left, workers or os.cpu_count() or 1):
            if table:
                table.add(rows)
            for row in rows:
                tally.add(row)
            progress.advance(task)
    _tell(tally, found, csv, annotate)
    if tally.files and tally.unreadable_files == tally.files:
        raise InputError(f"nothing could be read: {tally.first_reason}")
    if as_json:
        print_json(_answer(tally, found, csv, annotate, model, recogniser.classes))


@dataclass
class _Tally:
    """What is counted of the rows, and the first of them for the screen."""

    keep: bool
    rows: list["Row"] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    first_reason: str = ""
    files: int = 0
    unreadable_files: int = 0
    count: int = 0
    _last: object = None

    def add(self, row: "Row") -> None:
        """Count one row; those of one file come one after another."""
        self.count += 1
        status = str(row["status"])
        new = row["path"] != self._last
        if new:
            self.files += 1
            self._last = row["path"]
        self.statuses[status] += 1
        if row.get("label"):
            self.labels[str(row["label"])] += 1
        if status == Status.UNREADABLE.value:
            # A video of which frames were read before it broke off was read.
            self.unreadable_files += new
            path, reason = str(row["path"]), str(row["reason"])
            told = reason if path in reason else f"{path}: {reason}"
            self.first_reason = self.first_reason or told
        if len(self.rows) < (_KEPT if self.keep else _SHOWN):
            self.rows.append(row)


def _check_places(found: Inputs, csv: Path | None, annotate: Path | None) -> None:
    """Raise InputError before anything is read for places where nothing can, or may, be written."""
    if csv is None and annotate is None:
        return
    originals = {_identity(one.path): one.path for one in found.files if one.path != STDIN}
    originals.pop(None, None)
    if csv is not None and _identity(csv):
        if not csv.is_file():
            what = "a folder" if csv.is_dir() else "no regular file"
            raise InputError(f"{csv} is {what}: --csv takes the name of a file")
        if _identity(csv) in originals:
            raise InputError(f"{csv} is one of the files to read: give --csv another name")
    if annotate is None:
        return
    try:
        annotate.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{annotate} is no folder: --annotate takes one") from error
    except OSError as error:
        raise InputError(
            f"{annotate} can't be made ({error.strerror}): give --annotate another folder"
        ) from error
    for one in found.files:
        copy = annotate / one.place
        # One that is too long for JPEG stands in the second place.
        for place in dict.fromkeys([copy] if one.video else [copy, as_png(copy)]):
            original = originals.get(_identity(place))
            if original is not None:
                raise InputError(
                    f"the copy of {one.path} would take the place of {original}: "
                    "give --annotate another folder"
                )
        if _identity(copy) is not None and copy.is_dir() != one.video:
            raise InputError(
                f"{copy} is in the way of the copy of {one.path}: give --annotate another folder"
            )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever it is called; None where nothing is."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- reads a picture from standard input: pipe one in, as in `< photo.jpg`")
    from fer_pipeline.core.bounds import MAX_FILE_BYTES

    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)


@contextmanager
def _table(
    csv: Path | None, work: "Work", model_file: Path, inputs: Sequence[str], tally: _Tally
) -> Iterator["TableFile | None"]:
    """The CSV file of this very work, if one is wanted."""
    if csv is None:
        yield None
        return
    from fer_pipeline.core.files import file_digest, text_digest
    from fer_pipeline.core.recognition_table import columns, growing_table

    names = columns(work.recogniser.classes)
    # The paths in the rows are told as they were given: from another folder they'd be others.
    where = (Path.cwd(), *inputs, hashlib.blake2b(work.stdin).hexdigest())
    options = (work.whole, work.every, work.annotate)
    digest = text_digest(file_digest(model_file), *names, *options, *where)[:8]
    with growing_table(csv, names, digest, tally.add) as table:
        yield table


def _tell(tally: _Tally, found: Inputs, csv: Path | None, annotate: Path | None) -> None:
    # A long path goes on in the next line; cut off, it would name no file.
    file, reason = (Column(name, overflow="fold") for name in ("file", "box or reason"))
    table = Table(file, "face", "expression", "probability", reason)
    for row in tally.rows[:_SHOWN]:
        table.add_row(*_cells(row))
    _console.print(table)
    if tally.count > _SHOWN:
        say(_console, f"and {tally.count - _SHOWN:,} more rows")
    counted = ", ".join(f"{name} {count:,}" for name, count in tally.labels.most_common())
    statuses = ", ".join(f"{name} {count:,}" for name, count in sorted(tally.statuses.items()))
    say(_console, f"{tally.files:,} files ({statuses}){': ' if counted else ''}{counted}")
    if found.skipped:
        say(_console, f"{found.skipped:,} files that are no picture and no video were passed over")
    for what, place in (("rows", csv), ("annotated copies", annotate)):
        if place is not None:
            say(_console, f"{what}: {place}")


def _cells(row: "Row") -> Sequence[str]:
    label = row.get("label")
    shares = [float(value) for name, value in row.items() if name.startswith("p_") and value]
    seconds = row.get("time")
    where = str(row["path"]) if seconds is None else f"{row['path']} at {float(seconds):.2f} s"
    if row.get("x") is None:
        what = str(row.get("reason") or "")
    else:
        what = ", ".join(f"{float(row[name] or 0):.0f}" for name in ("x", "y", "width", "height"))
    return (
        escape(where),
        "" if row.get("face") is None else str(row["face"]),
        str(label or row["status"]),
        f"{max(shares):.2f}" if shares else "",
        escape(what),
    )


def _answer(
    tally: _Tally,
    found: Inputs,
    csv: Path | None,
    annotate: Path | None,
    model: str,
    classes: Sequence[str],
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "model": model,
        "classes": list(classes),
        "files": tally.files,
        "files_skipped": found.skipped,
        "files_unreadable": tally.unreadable_files,
        "rows": tally.count,
        "statuses": dict(tally.statuses),
        "labels": dict(tally.labels),
        "csv": csv,
        "annotated": annotate,
    }
    if csv is None:
        answer["results"] = tally.rows
        answer["results_left_out"] = tally.count - len(tally.rows)
    return answer
