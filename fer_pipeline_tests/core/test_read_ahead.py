import os
import threading
from pathlib import Path

import fsspec
import pytest

from fer_pipeline.core import read_ahead
from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.read_ahead import local_files, remote_files
from fer_pipeline.core.storage import IN_FLIGHT


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/photos", recursive=True)


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def _local(folder, count):
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (number + 1))
    return [str(path) for path in paths]


def test_local_files_come_in_turn_each_as_often_as_it_is_named(tmp_path):
    paths = _local(tmp_path, 30)
    wanted = [*paths, paths[0], paths[0]]
    expected = [bytes([n]) * (n + 1) for n in [*range(30), 0, 0]]
    assert list(local_files(wanted)) == expected
    assert list(local_files([])) == []


def test_local_photo_that_is_not_there_is_missing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    names = ["none.jpg", "file/under", "x" * 5000, "a\0b"]
    assert list(local_files([f"{tmp_path}/{name}" for name in names])) == [None] * 4


def test_local_photo_that_is_no_readable_file_says_why(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "right").write_bytes(b"x" * 10)
    names = ["folder", "pipe", "large", "right"]
    *refused, right = local_files([f"{tmp_path}/{name}" for name in names], max_bytes=10)
    assert all(isinstance(one, UnreadableError) for one in refused)
    reasons = ["a folder, not a photo", "no regular file, not a photo"]
    assert [str(one) for one in refused] == [*reasons, "a file of more than 10 bytes"]
    assert right == b"x" * 10


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_local_photo_without_permission_is_unreadable(tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    (found,) = local_files([f"{tmp_path}/secret"])
    assert isinstance(found, UnreadableError)


def test_refused_permission_is_unreadable_and_exhausted_descriptors_are_an_error(monkeypatch):
    def refuse(number):
        def opened(_path, _flags):
            raise OSError(number, os.strerror(number))

        return opened

    monkeypatch.setattr(read_ahead.os, "open", refuse(13))
    (found,) = local_files(["photo.jpg"])
    assert str(found) == "can't be read: Permission denied"
    monkeypatch.setattr(read_ahead.os, "open", refuse(24))
    with pytest.raises(OSError, match="Too many open files"):
        list(local_files(["photo.jpg"]))


def test_reading_that_is_given_up_leaves_no_file_open(tmp_path):
    before = _open_files()
    files = local_files(_local(tmp_path, 20))
    next(files)
    files.close()
    assert _open_files() == before


def test_objects_come_in_turn_whatever_their_size(store, monkeypatch):
    monkeypatch.setattr(read_ahead, "_FIRST_BYTES", 10)
    sizes = [0, 1, 9, 10, 11, 20, 35]
    paths = [f"/photos/{number}" for number in range(len(sizes))]
    data = [bytes([number]) * size for number, size in enumerate(sizes)]
    for path, one in zip(paths, data, strict=True):
        store.pipe(path, one)
    assert list(remote_files(store, [*paths, "/photos/none", paths[0]])) == [*data, None, data[0]]


def test_object_over_the_bound_is_unreadable_and_one_at_it_is_not(store, monkeypatch):
    monkeypatch.setattr(read_ahead, "_FIRST_BYTES", 10)
    for size in (8, 9, 30, 31):
        store.pipe(f"/photos/{size}", b"x" * size)
    paths = [f"/photos/{size}" for size in (8, 9, 30, 31)]
    small = list(remote_files(store, paths, max_bytes=8))
    assert small[0] == b"x" * 8
    assert [str(one) for one in small[1:]] == ["a file of more than 8 bytes"] * 3
    *right, large = remote_files(store, paths, max_bytes=30)
    assert [len(one) for one in right] == [8, 9, 30]
    assert isinstance(large, UnreadableError)


def test_objects_are_fetched_side_by_side_and_not_far_ahead(store, monkeypatch):
    paths = [f"/photos/{number}" for number in range(5 * IN_FLIGHT)]
    for path in paths:
        store.pipe(path, path.encode())
    together = threading.Barrier(IN_FLIGHT)
    asked = []
    real = store.cat_file

    def cat_file(path, **options):
        asked.append(path)
        if len(asked) <= IN_FLIGHT:
            together.wait(timeout=20)
        return real(path, **options)

    monkeypatch.setattr(store, "cat_file", cat_file)
    files = remote_files(store, paths)
    assert next(files) == paths[0].encode()
    assert len(asked) <= IN_FLIGHT + 1
    assert list(files) == [path.encode() for path in paths[1:]]


def test_store_that_fails_as_a_whole_is_an_error_and_no_missing_photo(store, monkeypatch):
    def refuse(_path, **_options):
        raise ConnectionError("the store is gone")

    monkeypatch.setattr(store, "cat_file", refuse)
    store.pipe("/photos/a", b"x")
    with pytest.raises(ConnectionError):
        list(remote_files(store, ["/photos/a"]))
