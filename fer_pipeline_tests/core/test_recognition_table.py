"""Rows of what was seen, and the file that a stopped run goes on with."""

import csv
import errno
import fcntl
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_pipeline.core.crop import Status
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.files import append_whole
from fer_pipeline.core.recogniser import Face, Reading
from fer_pipeline.core.recognition_table import Row, columns, growing_table, rows_of

CLASSES = ("Neutral", "Anger")
NAMES = columns(CLASSES)
FACE = Face(
    (1.0, 2.25, 30.0, 40.0),
    np.zeros((5, 2), np.float32),
    0.91234567,
    Status.OK,
    "Anger",
    {"Neutral": 0.25, "Anger": 0.75},
)
SMALL = Face((1.0, 2.0, 3.0, 4.0), None, None, Status.TOO_SMALL, None, None)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _ignore(_: Row) -> None:
    """Nobody counts."""


def _stop(path: Path, *inputs: list[Row]) -> None:
    """Write the rows of some inputs, and be stopped then."""

    def work() -> None:
        with growing_table(path, NAMES, "work", _ignore) as table:
            for rows in inputs:
                table.add(rows)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()


def test_columns_are_the_promised_ones() -> None:
    assert NAMES == (
        "path", "face", "status", "reason", "x", "y", "width", "height", "score", "label",
        "p_neutral", "p_anger", "time",
    )  # fmt: skip


def test_each_face_is_a_row_and_so_is_a_file_without_one(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    with growing_table(path, NAMES, "work", _ignore) as table:
        table.add(rows_of("a.jpg", Reading((FACE, SMALL), 90, 90)))
        table.add(rows_of("b.jpg", Reading((), 90, 90)))
        table.add(rows_of("c.mp4", Reading((), None, None, "cut, off"), seconds=1.5))
    first, second, third, fourth = _read(path)
    assert (first["face"], first["status"], first["label"]) == ("0", "ok", "Anger")
    assert (first["p_neutral"], first["p_anger"]) == ("0.25", "0.75")
    assert (first["y"], first["score"], first["time"]) == ("2.2", "0.9123", "")
    assert (second["face"], second["status"], second["label"]) == ("1", "too_small", "")
    assert (third["path"], third["face"], third["status"]) == ("b.jpg", "", "no_face")
    assert (fourth["status"], fourth["reason"]) == ("unreadable", "cut, off")
    assert fourth["time"] == "1.5"


def test_stopped_run_goes_on_with_what_it_wrote_and_the_old_file_stays_until_then(
    tmp_path: Path,
) -> None:
    path = tmp_path / "faces.csv"
    path.write_text("old")
    odd = 'a\n"b",c.jpg'
    _stop(path, rows_of(odd, Reading((FACE, SMALL), 90, 90)), rows_of("b.jpg", Reading((), 9, 9)))
    assert path.read_text() == "old"
    told: list[Row] = []
    with growing_table(path, NAMES, "work", told.append) as table:
        assert table.done == {odd, "b.jpg"}
        table.add(rows_of("c.jpg", Reading((FACE,), 90, 90)))
    assert [row["path"] for row in told] == [odd, odd, "b.jpg"]
    assert [row["path"] for row in _read(path)] == [odd, odd, "b.jpg", "c.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_cut_off_is_read_again_and_nothing_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    pictures = {name: rows_of(name, Reading((FACE, SMALL), 9, 9)) for name in ("a.jpg", "b.jpg")}
    _stop(path, *pictures.values())
    (part,) = tmp_path.iterdir()
    data = part.read_bytes()
    for cut in range(1, len(data)):
        if data[:-cut].endswith(b"\r\n"):
            continue  # a picture of which one face is there can't be told from one with one face
        part.write_bytes(data[:-cut])
        with growing_table(path, NAMES, "work", _ignore) as table:
            for name, rows in pictures.items():
                if name not in table.done:
                    table.add(rows)
        assert path.read_bytes() == data
        path.rename(part)


def test_rows_of_a_picture_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    whole, half = b"of,one,picture\r\n", b"of,another"

    class AlmostFull(io.FileIO):
        def write(self, data: Any) -> int:
            if bytes(data)[:1] == b",":
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[: len(half)])

    path = tmp_path / "rows"
    path.write_bytes(whole)
    with AlmostFull(path, "a") as file, pytest.raises(OSError, match="No space left"):
        append_whole(file, half + b",picture\r\n")
    assert path.read_bytes() == whole


def test_place_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "faces.csv", tmp_path / ("a" * 250 + ".csv")):
        with (
            pytest.raises(InputError, match=r"can't be written \(.+\): give another place"),
            growing_table(path, NAMES, "work", _ignore),
        ):
            pass


def test_full_disk_is_that_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"

    def work() -> None:
        with growing_table(path, NAMES, "work", _ignore):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        work()
    assert caught.value.filename == str(path)


def test_file_that_another_run_has_just_published_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "faces.csv"
    lock = fcntl.flock

    def late(file: int, operation: int) -> None:
        (part,) = tmp_path.glob("*.part")
        part.replace(path)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        pytest.raises(BusyError, match="has just written"),
        growing_table(path, NAMES, "work", _ignore),
    ):
        pass
    assert path.read_bytes() == b""


def test_other_work_begins_anew_and_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    _stop(path, rows_of("a.jpg", Reading((), 9, 9)))
    with growing_table(path, NAMES, "other", _ignore) as table:
        assert not table.done
        with (
            pytest.raises(BusyError, match="another process is writing"),
            growing_table(path, NAMES, "other", _ignore),
        ):
            pass
