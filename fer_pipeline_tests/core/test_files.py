import hashlib
import json
import os
import subprocess
import sys
import tempfile

import pytest

from fer_pipeline.core.files import (
    TEMPORARY_SUFFIX,
    file_digest,
    publish_bytes,
    publish_json,
    published,
    remove_leftovers,
    scratch_folder,
    text_digest,
)
from fer_pipeline.core.storage import as_location, is_file


def test_published_file_appears_whole_and_only_at_the_end(tmp_path):
    target = tmp_path / "new" / "file.bin"
    with published(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def write_half():
        with published(target) as temporary:
            temporary.write_bytes(b"half of the new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_published_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    publish_bytes(tmp_path / "published", b"")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_json_is_the_same_bytes_for_the_same_values(tmp_path):
    publish_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    publish_json(tmp_path / "b.json", {"a": [1, 2], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2], "b": 1}


def test_leftovers_of_a_killed_process_go_and_published_files_stay(tmp_path):
    (tmp_path / "deep").mkdir()
    kept = tmp_path / "deep" / "file.parquet"
    kept.write_bytes(b"whole")
    (tmp_path / "deep" / f".file.parquet.x1{TEMPORARY_SUFFIX}").write_bytes(b"half")
    scratch = tmp_path / f".rows.x2{TEMPORARY_SUFFIX}"
    scratch.mkdir()
    (scratch / "rows.arrow").write_bytes(b"half")
    (tmp_path / f"named{TEMPORARY_SUFFIX}").write_bytes(b"someone's own file")
    assert remove_leftovers(tmp_path) == 2
    assert kept.read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", f"named{TEMPORARY_SUFFIX}"]
    assert remove_leftovers(tmp_path / "not there") == 0


def test_digests_tell_contents_and_the_borders_of_parts_apart(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")
    assert len(file_digest(tmp_path / "a")) == 16
    assert len({text_digest("ab", "c"), text_digest("a", "bc"), text_digest("abc")}) == 3


@pytest.fixture
def store():
    folder = as_location("memory://published/home")
    yield folder
    if folder.fs.exists("/published"):
        folder.fs.rm("/published", recursive=True)


def test_object_appears_whole_and_only_at_the_end(store):
    target = store / "new" / "file.bin"
    with published(target) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.name == "file.bin"
        assert not is_file(target)
    assert target.read_bytes() == b"whole"
    assert not temporary.exists()
    publish_json(target, [1])
    assert json.loads(target.read_text()) == [1]


def test_failure_keeps_the_old_object_and_no_temporary_file(store):
    target = store / "file.bin"
    publish_bytes(target, b"old")

    def write_half():
        with published(target) as temporary:
            temporary.write_bytes(b"half of the new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert target.read_bytes() == b"old"
    assert file_digest(target) == _digest(b"old")


def _digest(data):
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def test_scratch_folder_is_local_and_goes_with_the_block(store, tmp_path):
    for place in (tmp_path / "new", store):
        with scratch_folder(place) as folder:
            (folder / "rows").write_bytes(b"x")
            assert folder.is_relative_to(tmp_path) == (place != store)
        assert not folder.exists()


_FETCHES = """
import multiprocessing
from fer_pipeline.core.files import fetched_folder

def fetch():
    (fetched_folder() / "model").write_text("fetched")

if __name__ == "__main__":
    fetch()
    if {started!r}:
        started = multiprocessing.get_context({started!r}).Process(target=fetch)
        started.start()
        started.join()
        assert started.exitcode == 0
    kept = fetched_folder().with_name("kept")
    kept.write_text(str(len(list(kept.parent.iterdir()))))
"""


@pytest.mark.parametrize("started", ["", "fork", "spawn"])
def test_what_a_process_fetched_goes_with_it_however_it_was_started(tmp_path, started):
    program = tmp_path / "program.py"
    program.write_text(_FETCHES.format(started=started))
    shared = tmp_path / "shared"
    shared.mkdir()
    environment = {**os.environ, "TMPDIR": str(shared)}
    subprocess.run([sys.executable, program], env=environment, check=True)
    # While it ran only its own two were there; now there is what it wrote itself.
    assert (shared / "kept").read_text() == "2"
    assert [one.name for one in shared.iterdir()] == ["kept"]


def test_leftovers_of_an_upload_go_when_their_process_has_ended(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder(store) as living:
        own = living.name.split(".")[2]
        dead = tmp_path / living.name.replace(own, "999999999")
        dead.mkdir()
        assert remove_leftovers(store) == 1
        assert not dead.exists()
        assert living.exists()
