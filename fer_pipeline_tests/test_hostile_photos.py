"""Hostile and odd files as rows of a list, through the real stages, in a bounded worker."""

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from fer_pipeline.core.bounds import MAX_DECODED_BYTES, MAX_PIXELS
from fer_pipeline.instance import PROCESS_VARIABLES
from fer_pipeline_tests.core.small_release import MANUAL_PHOTOS, line, write_list, write_photo
from fer_pipeline_tests.graph import environment
from fer_pipeline_tests.hostile_files import hostile_bytes, write_odd_things

GIBIBYTES = 2
SECONDS_A_PHOTO = 5.0
PATIENCE = 300
BOUNDED_LOG = 2_000
OPENED = {"ok", "no_face", "too_small", "bad_box"}
UNREADABLE = {
    *("empty.jpg", "page.jpg", "zeros.jpg", "start.jpg", "endless-markers.jpg", "bomb.png"),
    *("text-bomb.png", "sof-65500.jpg", "sof-0.jpg", "scans.jpg"),
    *("huge.gif", "huge.bmp", "program.eps", "huge.tif", "looping.tif"),
    *("cut-jpg", "cut-png", "cut-tif", "cut-webp"),
}
TOO_SLOW = "scans.jpg"
"""Pillow opens it, in half a minute: a bound says so before."""
MISSING = {"dangling.jpg", "loop.jpg", "good.jpg/inside.jpg", "x" * 300 + ".jpg"}
NO_FILES = {"folder.jpg", "pipe.jpg", "zero.jpg", "terminal.jpg"}


@dataclass(frozen=True)
class Passed:
    """What came of every photo, by the path in the list."""

    rows: dict[str, dict[str, Any]]
    seconds: Sequence[float]
    log: str
    photos: Path
    detects: bool
    """Whether the faces are YuNet's, not the list's."""


def _through_the_stages(root: Path, folder: Path, names: Sequence[str], detect: str) -> Passed:
    """Index, manifest and crops of these photos, in a process of 2 GiB."""
    write_list(root, "manual_train", [line(name, (0, 0, 60, 60)) for name in names])
    write_list(root, "manual_val", [line(names[0])])
    module = "fer_pipeline_tests.limited_worker"
    ended = subprocess.run(
        [sys.executable, "-m", module, root, folder, detect, str(GIBIBYTES)],
        env=environment(**PROCESS_VARIABLES),
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3_000:]
    told = json.loads(ended.stdout)
    faces = pq.read_table(folder / "manifest" / "class_manifest.parquet")
    crops = [pq.read_table(folder / "crops" / name) for name in told["shards"]]
    statuses = pa.concat_tables(crops).to_pylist()
    paths = faces["image_path"].to_pylist()
    assert [row["face_id"] for row in statuses] == faces["face_id"].to_pylist()
    rows = dict(zip(paths, statuses, strict=True))
    return Passed(rows, told["seconds"], ended.stderr, root / MANUAL_PHOTOS, detect == "always")


@pytest.fixture(scope="module", params=["listed", "always"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Passed:
    """The files of this project, with the listed box or with the detector."""
    folder = tmp_path_factory.mktemp("hostile")
    files = hostile_bytes()
    for name, data in files.items():
        write_photo(folder / "release", name, data)
    odd = write_odd_things(folder / "release" / MANUAL_PHOTOS)
    return _through_the_stages(folder / "release", folder, [*files, *odd], request.param)


@pytest.fixture(scope="module")
def collected(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Passed:
    """Damaged and malicious files that others collected."""
    folder = tmp_path_factory.mktemp("collected")
    files = sorted(path for path in (real_data / "hostile").iterdir() if path.is_file())
    for path in files:
        write_photo(folder / "release", path.name, path.read_bytes())
    return _through_the_stages(folder / "release", folder, [path.name for path in files], "always")


def _size_by_pillow(path: Path) -> tuple[int, int] | None:
    """Width and height, upright, of what Pillow opens within the bounds; else None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as picture:
                bands = len(picture.getbands())
                pixels = picture.width * picture.height
                if pixels > MAX_PIXELS or pixels * bands > MAX_DECODED_BYTES:
                    return None
                picture.load()
                return ImageOps.exif_transpose(picture).size
        except Exception:  # noqa: BLE001 - whatever Pillow and its plug-ins raise
            return None


def _check(passed: Passed) -> None:
    assert max(passed.seconds) < SECONDS_A_PHOTO
    assert len(passed.log) < BOUNDED_LOG, passed.log
    for name, row in passed.rows.items():
        decoded = row["status"] in OPENED
        assert decoded or row["status"] in ("unreadable", "missing"), name
        assert (row["crop"] is not None) == (row["status"] == "ok"), name
        assert (row["photo_width"] is not None) == decoded, name
        assert decoded or 0 < len(row["reason"]) <= 200, name


def _check_sizes(passed: Passed) -> None:
    wrong = {}
    for name, row in passed.rows.items():
        path = passed.photos / name
        if row["status"] == "missing" or name == TOO_SLOW or not path.is_file():
            continue
        expected = _size_by_pillow(path)
        found = (row["photo_width"], row["photo_height"])
        if expected is not None and found != expected:
            wrong[name] = (row["status"], row["reason"], found, expected)
    assert wrong == {}


def test_each_file_ends_in_a_status_in_bounded_time_memory_and_words(made: Passed) -> None:
    _check(made)


def test_boxes_are_places_of_some_size(made: Passed) -> None:
    for name, row in made.rows.items():
        box = [row[f"box_{side}"] for side in ("x", "y", "width", "height")]
        if row["status"] == "ok":
            assert all(math.isfinite(side) for side in box), name
            assert min(box[2:]) > 0, name
    if made.detects:
        invented = {name: row["score"] for name, row in made.rows.items() if "long-" in name}
        assert invented == dict.fromkeys([f"long-{number}.png" for number in range(4)])


def test_what_pillow_opens_is_read_with_its_size(made: Passed) -> None:
    _check_sizes(made)


def test_what_is_no_photo_is_unreadable_and_what_is_not_there_is_missing(made: Passed) -> None:
    statuses = {name: row["status"] for name, row in made.rows.items()}
    assert {name: statuses[name] for name in UNREADABLE} == dict.fromkeys(UNREADABLE, "unreadable")
    assert {name: statuses[name] for name in NO_FILES} == dict.fromkeys(NO_FILES, "unreadable")
    assert {name: statuses[name] for name in MISSING} == dict.fromkeys(MISSING, "missing")
    assert statuses["good.jpg"] in OPENED


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read what is forbidden")
def test_forbidden_photo_is_unreadable_with_the_reason(made: Passed) -> None:
    row = made.rows["forbidden.jpg"]
    assert (row["status"], row["reason"]) == ("unreadable", "can't be read: Permission denied")


def test_files_that_others_collected_end_in_a_status(collected: Passed) -> None:
    assert len(collected.rows) > 60
    _check(collected)


def test_collected_files_that_pillow_opens_are_read_with_their_size(collected: Passed) -> None:
    _check_sizes(collected)
