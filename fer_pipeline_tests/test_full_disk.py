"""A disk that is full: one sentence, and a state that the next run goes on from."""

import errno
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from fer_pipeline.core.disk import disk_problem, is_full, path_problem
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline
from fer_pipeline_tests.interruptions import (
    SHARD_ROWS,
    crops,
    make_crops,
    shards,
    traces,
    undisturbed,
    without_crops,
)

SMALL = {"FER_SHARD_ROWS": str(SHARD_ROWS), "FER_WORKERS": "2", "FER_CHECK_ROOM": "false"}
"""Room isn't asked for: what is claimed here is what becomes of a disk that fills up later."""
KIB = 1024


class Disk:
    """A file system of its own, in memory, of a size that can be changed."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mount(size)

    def grow(self, size: int = 256 * KIB * KIB) -> None:
        self._mount(size, "remount,")

    def fill(self, free: int) -> None:
        """A file that leaves so many bytes free."""
        there = shutil.disk_usage(self.folder).free - free
        (self.folder / "filler").write_bytes(b"x" * there)

    def free(self) -> None:
        (self.folder / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=False, capture_output=True)

    def _mount(self, size: int, how: str = "") -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "tmpfs", self.folder]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"this user may mount no small disk: {ended.stderr.strip()}")


@pytest.fixture
def disk() -> Iterator[Callable[[Path, int], Disk]]:
    """Mounts disks that go with the test."""
    if shutil.which("mount") is None:
        pytest.skip("there is no program mount")
    disks: list[Disk] = []

    def mounted(folder: Path, size: int) -> Disk:
        disks.append(Disk(folder, size))
        return disks[-1]

    yield mounted
    for one in disks:
        one.unmount()


@pytest.fixture
def expected(drawn_release: Path) -> dict[str, bytes]:
    """The crops of a run that nothing disturbed."""
    return dict(undisturbed(drawn_release))


def _run(settings: Settings, asset: str = "face_crops") -> Ended:
    return fer_pipeline("run", "--home", settings.home, "--select", asset, "--json", **SMALL)


def _refused(ended: Ended, folder: Path) -> None:
    """One clear sentence, which names the folder and the remedy."""
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    pattern = rf"there is no room left in {folder}[^ ]*: free some there, then run again, .+"
    assert re.fullmatch(pattern, ended.answer["error"]), ended.answer
    assert ended.words.count("there is no room left in") == 1, ended.words


def test_full_folder_of_crops_ends_the_run_in_a_sentence_and_the_next_completes_it(
    tmp_path: Path,
    drawn_release: Path,
    expected: dict[str, bytes],
    disk: Callable[[Path, int], Disk],
) -> None:
    settings = without_crops(drawn_release, tmp_path / "home")
    small = disk(settings.crops_folder, 30 * KIB + len(b"".join(expected.values())) // 2)
    _refused(_run(settings), settings.crops_folder)
    there = shards(settings.crops_folder)
    assert 0 < len(there) < len(expected) - 1
    assert {name: expected[name] for name in there} == there
    assert traces(settings.home) == []
    small.grow()
    make_crops(settings)
    assert crops(settings.crops_folder) == expected


@pytest.mark.parametrize("stage", ["index", "manifest"])
def test_full_disk_in_an_early_stage_is_a_sentence_and_the_next_run_completes_it(
    tmp_path: Path, drawn_release: Path, stage: str, disk: Callable[[Path, int], Disk]
) -> None:
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    folder = settings.home / stage
    shutil.rmtree(folder)
    small = disk(folder, 8 * KIB)
    _refused(_run(settings, "class_manifest"), folder)
    small.grow()
    with graph.instance_of(settings.home) as instance:
        assert graph.materialize(settings, ["file_list_index", "class_manifest"], instance).success
    assert traces(settings.home) == []


@pytest.mark.parametrize("free", [0, 100 * KIB])
def test_full_home_ends_the_run_in_a_sentence_and_the_next_completes_it(
    tmp_path: Path,
    drawn_release: Path,
    expected: dict[str, bytes],
    free: int,
    disk: Callable[[Path, int], Disk],
) -> None:
    """Dagster's own databases lie on the full disk too, at whatever point they need room."""
    early = graph.early(drawn_release)
    small = disk(tmp_path / "home", 64 * KIB * KIB)
    shutil.copytree(early.home, small.folder, dirs_exist_ok=True)
    settings = early.model_copy(update={"home": small.folder})
    settings.remember()
    shutil.rmtree(settings.crops_folder)
    small.fill(free)
    _refused(_run(settings), tmp_path)
    small.free()
    ended = _run(settings)
    assert ended.code == 0, ended.err
    assert crops(settings.crops_folder) == expected
    assert traces(settings.home) == []


def test_folder_is_the_nearest_that_is_there(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "new" / "file"))
    assert disk_problem(error, "home") == (
        f"there is no room left in {tmp_path}: free some there, then run again, which goes on "
        "from what is there"
    )


def test_full_database_is_a_full_disk_whoever_wraps_it(tmp_path: Path) -> None:
    error = RuntimeError("something of a framework")
    error.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert is_full(error)
    assert f"no room left in {tmp_path}" in str(disk_problem(error, tmp_path))
    full = sqlite3.OperationalError("database or disk is full")
    assert is_full(DBAPIError("UPDATE runs", {}, full))


def test_forbidden_file_is_named_and_other_errors_are_not_told() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/lists/training.csv")
    assert "/lists/training.csv can't be used (Permission denied)" in str(disk_problem(error, "h"))
    assert disk_problem(ValueError("other"), "home") is None
    assert disk_problem(FileNotFoundError(errno.ENOENT, "none", "x"), "home") is None


def test_path_that_is_no_place_of_a_file_is_told_with_where_something_was_to_be_put() -> None:
    moved = IsADirectoryError(errno.EISDIR, "Is a directory", "x.tmp", None, "/out/x")
    assert path_problem(moved) == "/out/x can't be used (Is a directory): give another path"
    assert path_problem(FileNotFoundError(errno.ENOENT, "none", "x")) is None
    assert path_problem(OSError(errno.ENOTDIR, "of no name")) is None


def test_published_file_that_finds_no_room_says_where_and_leaves_nothing(
    tmp_path: Path, disk: Callable[[Path, int], Disk]
) -> None:
    small = disk(tmp_path / "disk", 16 * KIB)
    with pytest.raises(OSError, match="No space left") as raised:
        publish_bytes(small.folder / "file", os.urandom(64 * KIB))
    assert Path(raised.value.filename).parent == small.folder
    assert list(small.folder.iterdir()) == []
