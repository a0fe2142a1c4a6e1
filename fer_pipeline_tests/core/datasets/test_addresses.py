"""Data sets that stand in an object store: all as it is on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import (
    INDEX_FILE,
    REJECTED_FILE,
    build_index,
    lists_stamp,
    rejected_rows,
)
from fer_pipeline.core.manifest import build_manifest, read_manifest
from fer_pipeline.core.storage import Location, as_location
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import HEADER, LISTS, line


@pytest.fixture
def store() -> Iterator[Location]:
    folder = as_location("memory://photos/here")
    yield folder
    if folder.fs.exists("/photos"):
        folder.fs.rm("/photos", recursive=True)


def _upload(folder: Path, store: Location) -> Location:
    for path in folder.rglob("*"):
        if path.is_file():
            store.fs.pipe(f"{store.path}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return store


def test_rows_and_photos_of_a_release_are_the_same_in_a_store(drawn_release, store, tmp_path):
    found = []
    for root, home in ((drawn_release, tmp_path), (_upload(drawn_release, store), store / "home")):
        dataset = open_dataset("affectnet", root)
        summary = build_index(dataset, home / "index")
        made = build_manifest(
            dataset,
            home / "index",
            home / "manifest",
            ["Happiness", "Sadness"],
            label_source="listed",
            dev_share=0.2,
            seed=0,
        )
        rows = read_manifest(home / "manifest").to_pylist()
        photos = [(row["list"], row["image_path"]) for row in rows]
        found.append(
            {
                "summary": summary,
                "made": made,
                "rows": rows,
                "counted": {name: dataset.count_rows(name) for name in dataset.lists()},
                "sizes": dataset.stored_sizes(photos).tolist(),
                "photos": list(dataset.read_photos(photos)),
                "index": (home / "index" / INDEX_FILE).read_bytes(),
                "rejected": (home / "index" / REJECTED_FILE).read_bytes(),
            }
        )
    assert found[0] == found[1]
    assert any(found[0]["photos"])


def test_list_that_the_fast_reader_refuses_is_read_from_a_store_too(store):
    store.fs.pipe(
        f"{store.path}/{LISTS['manual_train']}",
        f"\ufeff{HEADER}\n{line()}\n1/b.jpg,1\n".encode() + line("1/\xfc.jpg").encode("latin-1"),
    )
    store.fs.pipe(f"{store.path}/Manually_Annotated_Images/1/a.jpg", b"x")
    dataset = open_dataset("affectnet", store)
    build_index(dataset, store / "index")
    with (store / "index" / INDEX_FILE).open("rb") as file:
        kept = pq.read_table(file)
    assert kept["image_path"].to_pylist() == ["1/a.jpg"]
    rejected = rejected_rows(store / "index").to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (2, "wrong_field_count"),
        (3, "unsafe_path"),
    ]
    assert dataset.count_rows("manual_train") == 3


def test_changed_list_of_a_store_is_seen(drawn_release, store):
    dataset = open_dataset("affectnet", _upload(drawn_release, store))
    before = lists_stamp(dataset)
    assert lists_stamp(dataset) == before
    path = dataset.lists()["manual_val"][0]
    path.write_bytes(path.read_bytes() + b"\n")
    assert lists_stamp(dataset) != before


def test_pictures_in_parquet_are_the_same_in_a_store(store, tmp_path):
    for name in ("train", "test"):
        write_split(tmp_path, name, [0, 3, 4, 5, 6, None, 9])
    local = open_dataset("hf-parquet", tmp_path)
    remote = open_dataset("hf-parquet", _upload(tmp_path, store))
    assert list(remote.lists()) == ["train", "test"]
    ours, theirs = (
        [batch.kept.to_pylist() for batch in dataset.batches()] for dataset in (local, remote)
    )
    assert ours == theirs
    photos = [(row["list"], row["image_path"]) for batch in ours for row in batch]
    assert list(remote.read_photos(photos)) == list(local.read_photos(photos))
    for ask in ("photo_sizes", "stored_sizes"):
        assert getattr(remote, ask)(photos).tolist() == getattr(local, ask)(photos).tolist()
    assert remote.count_rows("test") == 7


def test_picture_over_the_bound_is_unreadable_in_parquet_too(tmp_path):
    write_split(tmp_path, "train", [0, 0], images=[b"x" * 10, b"x" * 11])
    photos = [("train", f"data/train.parquet#{row}") for row in range(2)]
    right, large = open_dataset("hf-parquet", tmp_path).read_photos(photos, max_bytes=10)
    assert right == b"x" * 10
    assert isinstance(large, UnreadableError)


def test_address_that_holds_nothing_is_wrong_input(store):
    with pytest.raises(InputError, match=r"memory:///?photos/here is not a folder"):
        open_dataset("affectnet", store)
