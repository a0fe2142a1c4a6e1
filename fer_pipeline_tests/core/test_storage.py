import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import (
    Location,
    as_location,
    check_writable,
    expanded,
    file_facts,
    file_size,
    file_stamps,
    files_in,
    is_file,
    is_folder,
    is_remote,
    local_copy,
    open_binary,
    parquet_source,
    relative_name,
    storage_problem,
)


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    if request.param == "local":
        yield tmp_path
        return
    store = as_location("memory://bucket/some")
    yield store
    if store.fs.exists("/bucket"):
        store.fs.rm("/bucket", recursive=True)


def _write(path: Location, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_local_addresses_are_plain_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert as_location("data") == tmp_path / "data"
    assert as_location(Path("~/data")) == tmp_path / "me" / "data"
    assert as_location(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert all(type(as_location(word)) is type(Path()) for word in ("data", "file:///data"))
    assert not is_remote(as_location("data"))


def test_home_folder_of_an_unknown_user_is_one_sentence():
    for named in (expanded, as_location):
        with pytest.raises(InputError, match="~nosuchuser/x stands in the home folder of a user"):
            named("~nosuchuser/x")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="it is then left as it is")
@pytest.mark.parametrize("mark", ["", "file://"])
def test_link_to_itself_is_one_sentence(tmp_path, mark):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("loop", "loop/data"):
        with pytest.raises(InputError, match=f"{name} can't be followed, a symbolic link in it"):
            as_location(f"{mark}{tmp_path}/{name}")


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_address_that_is_no_utf8_is_one_sentence_that_can_be_printed(tmp_path):
    with pytest.raises(InputError, match="isn't UTF-8, which no file of ours can hold") as found:
        as_location(tmp_path / os.fsdecode(b"M\xfcller") / "data")
    assert r"M\udcfcller/data" in str(found.value).encode().decode()


def test_empty_address_is_not_taken_for_the_working_directory():
    with pytest.raises(InputError, match="an address is empty: give a folder"):
        as_location("")


def test_other_addresses_keep_their_protocol_and_stay_as_they_are():
    found = as_location("s3://bucket/some/data/")
    assert isinstance(found, UPath)
    assert is_remote(found)
    assert str(found) == "s3://bucket/some/data"
    assert as_location(found) is found


def test_unknown_protocol_is_one_sentence():
    with pytest.raises(InputError, match=r"foo://x has the unknown protocol 'foo'"):
        as_location("foo://x")


def test_address_without_a_bucket_is_refused():
    with pytest.raises(InputError, match="names no bucket"):
        as_location("s3://")


def test_missing_extra_is_named(monkeypatch):
    def missing(_protocol):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError, match=r"install fer_pipeline\[s3\]"):
        as_location("s3://bucket")
    with pytest.raises(InputError, match="Install s3fs"):
        as_location("gs://bucket")


def test_files_and_folders_are_told_apart(folder):
    _write(folder / "deep" / "file", b"x")
    assert is_file(folder / "deep" / "file")
    assert is_folder(folder / "deep")
    assert not is_file(folder / "deep")
    assert not is_folder(folder / "deep" / "file")
    assert not is_file(folder / "none")
    assert not is_folder(folder / "none")


def test_bytes_of_a_file_are_the_same_wherever_it_stands(folder):
    _write(folder / "file", b"one\ntwo\n")
    assert file_size(folder / "file") == 8
    with open_binary(folder / "file") as stream:
        assert list(stream) == [b"one\n", b"two\n"]
    with local_copy(folder / "file") as copy:
        assert isinstance(copy, Path)
        assert (copy.name, copy.read_bytes()) == ("file", b"one\ntwo\n")
    assert copy.exists() != is_remote(folder)


def test_parquet_is_read_where_it_stands(folder, tmp_path):
    table = pa.table({"a": range(1000)})
    pq.write_table(table, tmp_path / "made", row_group_size=100)
    _write(folder / "file.parquet", (tmp_path / "made").read_bytes())
    assert pq.read_table(parquet_source(folder / "file.parquet")).equals(table)
    with pq.ParquetFile(parquet_source(folder / "file.parquet")) as file:
        assert file.read_row_group(3)["a"].to_pylist() == list(range(300, 400))


def test_names_under_a_folder_are_sorted_and_have_slashes(folder):
    for name in ("b.txt", "a.txt", "a.csv", "deep/c.txt"):
        _write(folder / name, b"")
    assert [path.name for path in files_in(folder, "*.txt")] == ["a.txt", "b.txt"]
    assert relative_name(folder / "deep" / "c.txt", folder) == "deep/c.txt"
    assert files_in(folder / "none", "*") == []


def test_stamp_changes_with_the_file_and_is_empty_without_one(folder):
    _write(folder / "file", b"one")
    _write(folder / "same", b"one")
    paths = [folder / "file", folder / "none", folder / "same"]
    before = file_stamps(paths)
    assert before[1] == ""
    _write(folder / "file", b"another")
    after = file_stamps(paths)
    assert after[0] not in (before[0], "")
    assert after[1:] == before[1:]


def test_many_files_of_a_folder_are_listed_and_few_are_asked_for(monkeypatch):
    store = fsspec.filesystem("memory")
    for number in range(20):
        store.pipe(f"/sizes/many/{number}", b"x" * number)
        store.pipe(f"/sizes/few/{number}", b"x" * number)
    asked = []
    real_ls, real_info = store.ls, store.info
    monkeypatch.setattr(store, "ls", lambda path, **k: asked.append(path) or real_ls(path, **k))
    monkeypatch.setattr(store, "info", lambda path, **k: asked.append(path) or real_info(path, **k))
    many = [f"/sizes/many/{number}" for number in range(25)]
    few = ["/sizes/few/3", "/sizes/few/99", "/sizes/none/1", "/sizes/few", "/sizes/few/3"]
    sizes = file_facts(store, many + few, lambda info: info["size"], None)
    assert sizes == [*range(20), *[None] * 5, 3, None, None, None, 3]
    assert sorted(asked) == sorted(["/sizes/many", *few])
    store.rm("/sizes", recursive=True)


def test_folder_that_can_be_written_is_left_as_it_was(folder):
    check_writable(folder / "new")
    assert files_in(folder / "new", "*") == []
    assert files_in(folder / "new", ".*") == []


def test_errors_of_this_machine_are_no_problem_of_a_store():
    assert storage_problem(FileNotFoundError("x")) is None
    assert storage_problem(ValueError("x")) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("NoSuchBucket", "no such bucket"),
        ("AccessDenied", "refuses access"),
        ("ExpiredToken", "refuses the credentials"),
        ("SlowDown", "run again"),
    ],
)
def test_refusal_of_a_store_is_one_sentence_that_says_what_to_do(code, words):
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")
    problem = storage_problem(translate_boto_error(answer))
    assert problem is not None
    assert words in problem
    assert "\n" not in problem
