"""`fer-pipeline recognise` on drawn people: pictures, folders, videos, standard input."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_pipeline import Recogniser
from fer_pipeline.core.drawing import draw_group, draw_photo
from fer_pipeline.core.recognition import Work
from fer_pipeline.core.recognition_inputs import Input
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.small_release import encoded
from fer_pipeline_tests.graph import Ended
from fer_pipeline_tests.hostile_files import hostile_bytes

pytestmark = pytest.mark.usefixtures("own_environment")

Here = Callable[..., Ended]


def _people(seed: int, *expressions: str) -> bytes:
    size = (280 * len(expressions), 320)
    return encoded(draw_group(np.random.default_rng(seed), expressions, size=size)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, one, none, a damaged picture, and a text; not to be written to."""
    made = tmp_path_factory.mktemp("pictures")
    (made / "deep").mkdir()
    (made / "two.jpg").write_bytes(_people(1, "Happiness", "Anger"))
    (made / "deep" / "one.jpg").write_bytes(_people(2, "Surprise"))
    (made / "deep" / "scene.jpg").write_bytes(
        encoded(draw_photo(np.random.default_rng(3), "No-Face", size=(240, 200)).image)
    )
    (made / "deep" / "page.jpg").write_bytes(b"<html>not found</html>")
    (made / "LICENSE").write_text("text")
    return made


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_folder_becomes_a_table_in_which_no_file_is_lost(
    here: Here, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "out" / "faces.csv"
    ended = here("recognise", folder, "--csv", table, "--json")
    assert ended.code == 0, ended.err
    rows = _rows(table)
    told = [(Path(row["path"]).name, row["face"], row["status"]) for row in rows]
    assert told == [
        ("two.jpg", "0", "ok"),
        ("two.jpg", "1", "ok"),
        ("one.jpg", "0", "ok"),
        ("page.jpg", "", "unreadable"),
        ("scene.jpg", "", "no_face"),
    ]
    assert rows[3]["reason"]
    expected = Recogniser.load().read(folder / "two.jpg")
    for row, face in zip(rows, expected, strict=False):
        assert face.probabilities is not None
        shares = {name: float(row[f"p_{name.lower()}"]) for name in face.probabilities}
        assert shares == pytest.approx(face.probabilities, abs=1e-5)
        assert row["label"] == face.label
    answer = ended.answer
    assert (answer["files"], answer["files_skipped"], answer["files_unreadable"]) == (4, 1, 1)
    assert answer["statuses"] == {"ok": 3, "unreadable": 1, "no_face": 1}
    assert sum(answer["labels"].values()) == 3
    # Where it is long, a path goes on in the next line of its column.
    assert "page.jpg" in "".join(
        line.partition("│")[2].partition("│")[0].strip() for line in ended.err.splitlines()
    )
    assert "1 files that are no picture and no video were passed over" in ended.words


def test_without_a_csv_the_answer_holds_the_rows(here: Here, folder: Path) -> None:
    ended = here("recognise", folder / "two.jpg", folder / "deep" / "page.jpg", "--json")
    assert ended.code == 0, ended.err
    results = ended.answer["results"]
    assert [row["status"] for row in results] == ["ok", "ok", "unreadable"]
    assert results[0]["p_happiness"] >= 0
    assert ended.answer["results_left_out"] == 0


def test_copies_show_the_boxes_and_leave_the_originals_alone(
    here: Here, folder: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    drawn = tmp_path / "drawn"
    ended = here("recognise", folder, "--annotate", drawn)
    assert ended.code == 0, ended.err
    assert {path: path.read_bytes() for path in folder.rglob("*.jpg")} == before
    copies = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.*"))
    assert copies == ["deep/one.jpg", "deep/scene.jpg", "two.jpg"]
    original, copy = (cv2.imread(str(place / "two.jpg")) for place in (folder, drawn))
    assert original is not None
    assert copy is not None
    assert copy.shape == original.shape
    assert (np.abs(copy.astype(int) - original) > 60).any(axis=2).sum() > 500
    refused = here("recognise", folder, "--annotate", folder)
    assert refused.code == 2
    assert "would take the place of" in refused.words


def test_copy_of_a_picture_that_is_too_long_for_jpeg_is_a_png(here: Here, tmp_path: Path) -> None:
    shapes = {"wide.jpg": (2, 65_501), "tall.JPEG": (65_501, 2), "long.png": (1, 1_000_001)}
    long, drawn = tmp_path / "long", tmp_path / "drawn"
    long.mkdir()
    for name, shape in shapes.items():
        (long / name).write_bytes(encoded(np.full((*shape, 3), 90, np.uint8)))
    ended = here("recognise", long, "--annotate", drawn)
    assert ended.code == 0, ended.err
    names = {"wide.jpg": "wide.jpg.png", "tall.JPEG": "tall.JPEG.png", "long.png": "long.png"}
    assert {path.name for path in drawn.iterdir()} == set(names.values())
    for name, copy in names.items():
        with Image.open(drawn / copy) as picture:
            assert (picture.height, picture.width) == shapes[name]
    (drawn / "wide.jpg.png").write_bytes((long / "wide.jpg").read_bytes())
    words = (long / "wide.jpg", drawn / "wide.jpg.png", "--annotate", drawn)
    assert "would take the place of" in here("recognise", *words).words


def test_no_file_that_is_read_is_written_to(
    here: Here, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    data = (folder / "two.jpg").read_bytes()
    for name in ("two.jpg", "deep/two.jpg"):
        Path(name).write_bytes(data)
    for words in (
        ("two.jpg", "--csv", "two.jpg"),
        ("deep/two.jpg", "two.jpg", "--annotate", "."),
    ):
        ended = here("recognise", *words)
        assert ended.code == 2
        assert "two.jpg" in ended.words
    assert Path("two.jpg").read_bytes() == Path("deep/two.jpg").read_bytes() == data


def test_pipe_is_not_replaced_by_a_table(here: Here, folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = here("recognise", folder / "two.jpg", "--csv", pipe)
    assert ended.code == 2
    assert "is no regular file: --csv takes the name of a file" in ended.words
    assert pipe.is_fifo()


def test_picture_with_the_longest_name_that_a_file_may_have_gets_a_copy(
    here: Here, folder: Path, tmp_path: Path
) -> None:
    name = "a" * 251 + ".jpg"
    (tmp_path / name).write_bytes((folder / "two.jpg").read_bytes())
    ended = here("recognise", tmp_path / name, "--annotate", tmp_path / "drawn")
    assert ended.code == 0, ended.err
    assert (tmp_path / "drawn" / name).is_file()


def test_picture_on_standard_input_is_read(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.TextIOWrapper(io.BytesIO((folder / "two.jpg").read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    ended = here("recognise", "-", "--json")
    assert ended.code == 0, ended.err
    assert [row["path"] for row in ended.answer["results"]] == ["-", "-"]


def test_standard_input_that_is_closed_is_one_sentence(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    ended = here("recognise", "-")
    assert ended.code == 2
    assert "- reads a picture from standard input" in ended.words


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a happy person, ten frames a second."""
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    image, _ = draw_group(np.random.default_rng(4), ("Happiness",), size=(320, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320))
    for _ in range(30):
        writer.write(np.ascontiguousarray(image[:, :, ::-1]))
    writer.release()
    return path


@pytest.mark.parametrize(("every", "times"), [("1", [0, 1, 2]), ("1.5", [0, 1.5])])
def test_video_is_read_at_the_seconds_asked_for(
    here: Here, video: Path, tmp_path: Path, every: str, times: list[float]
) -> None:
    drawn = tmp_path / "drawn"
    ended = here("recognise", video, "--every", every, "--annotate", drawn, "--json")
    assert ended.code == 0, ended.err
    assert [row["time"] for row in ended.answer["results"]] == pytest.approx(times)
    assert len(list(drawn.rglob("*.jpg"))) == len(times)


def test_every_frame_is_read_where_that_is_asked_for(here: Here, video: Path) -> None:
    ended = here("recognise", video, "--every", "0", "--json")
    assert len(ended.answer["results"]) == 30


def test_hostile_files_are_rows_and_not_the_end(here: Here, tmp_path: Path) -> None:
    # Each of them is tried as a photo of a run; a few show that this command is as steady.
    for name, data in islice(hostile_bytes().items(), 1, None, 6):
        (tmp_path / f"{name}.jpg").write_bytes(data)
    (tmp_path / "film.mp4").write_bytes(b"not a film")
    (tmp_path / "good.jpg").write_bytes(_people(5, "Neutral"))
    ended = here("recognise", tmp_path, "--csv", tmp_path / "rows.csv")
    assert ended.code == 0, ended.err
    rows = _rows(tmp_path / "rows.csv")
    assert {row["path"] for row in rows} == {
        str(path) for path in tmp_path.iterdir() if path.suffix in (".jpg", ".mp4")
    }
    unreadable = [row for row in rows if row["status"] == "unreadable"]
    assert all(row["reason"] for row in unreadable)
    assert str(tmp_path / "film.mp4") in {row["path"] for row in unreadable}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("none.jpg",), "none.jpg isn't there"),
        (("two.jpg", "--model", "none.keras"), "none.keras is no file: give a .keras file"),
        (("two.jpg", "--model", "~nosuchuser/x"), "~nosuchuser/x stands in the home folder of"),
        (("two.jpg", "--model", "models:/none@champion"), "models:/none@champion isn't known to"),
        (("two.jpg", "--model", ""), "the name of the model is empty: give 'starter', a .keras"),
        (("",), "an input has no name: give pictures, videos, or folders of them"),
        (("two.jpg", "--csv", "."), "is a folder: --csv takes the name of a file"),
        (("two.jpg", "--annotate", "two.jpg"), "is no folder: --annotate takes one"),
        (("two.jpg", "--annotate", "two.jpg/drawn"), "can't be made (Not a directory)"),
        (("deep/page.jpg",), "nothing could be read: deep/page.jpg: "),
    ],
)
def test_what_can_not_be_done_is_one_sentence(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], problem: str
) -> None:
    monkeypatch.chdir(folder)
    before = set(folder.rglob("*"))
    ended = here("recognise", *words)
    assert ended.code == 2
    *_, line = ended.err.strip().splitlines()
    assert line.startswith("wrong input: ")
    assert problem in line
    assert set(folder.rglob("*")) == before


def test_killed_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(160):
        os.link(folder / "two.jpg", many / f"{number:04}.jpg")
    table = tmp_path / "rows.csv"
    words = ("recognise", many, "--csv", table, "--workers", "1")
    process = subprocess.Popen(
        graph.command(*words), env=graph.environment(), stderr=subprocess.DEVNULL
    )
    _wait_until(lambda: any(part.stat().st_size > 3000 for part in tmp_path.glob(".rows.csv.*")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not table.exists()
    ended = graph.fer_pipeline(*words, "--json")
    assert ended.code == 0, ended.err
    assert "goes on after" in ended.words
    assert ended.answer["rows"] == 320
    assert [Path(row["path"]).name for row in _rows(table)] == [
        f"{number:04}.jpg" for number in range(160) for _ in range(2)
    ]
    assert not list(tmp_path.glob(".rows.csv.*"))


@pytest.mark.parametrize(
    "changed", [("--annotate", "drawn"), ("--every", "2"), ("deep/one.jpg",), ("--whole",)]
)
def test_only_the_same_work_is_gone_on_with(
    here: Here,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: tuple[str, ...],
) -> None:
    shutil.copytree(folder, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path / "pictures")
    words = ("recognise", "two.jpg", "--csv", tmp_path / "rows.csv")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _interrupted)
        assert here(*words).code == 130
    assert "goes on after" not in here(*words, *changed).words
    assert "goes on after 1 files" in here(*words).words


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_video_is_let_go_when_nobody_waits_for_it_any_more(video: Path) -> None:
    stop = threading.Event()
    stop.set()
    work = Work(Recogniser.load(threads=1), every=0)
    assert work.rows([Input(str(video), Path("film.mp4"), video=True)], stop) == [[]]


def _wait_until(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
