"""Trees of small files that stand in an object store: all as it is on this machine."""

from pathlib import Path

import pytest

from fer_pipeline.core.datasets import find_format, open_dataset
from fer_pipeline.core.index import lists_stamp
from fer_pipeline.core.storage import as_location
from fer_pipeline_tests.core.datasets.reading import all_rows
from fer_pipeline_tests.core.datasets.tree_releases import (
    affectnet_2021,
    affectnet_plus,
    ck_plus,
    expw,
    fei,
    raf_db,
    write,
)


def _expw(root: Path) -> Path:
    return expw(root, ["a.jpg 0 1 2 30 40 50.5 6", "a.jpg 1 1 2 30"], {"a.jpg": b"x"})


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("affectnet-2021", affectnet_2021, {}),
        ("affectnet-plus", affectnet_plus, {}),
        ("ck-plus", ck_plus, {}),
        ("expw", _expw, {}),
        ("fei", fei, {}),
        ("raf-db", raf_db, {}),
        ("raf-db", raf_db, {"raf-db.pictures": "original"}),
    ],
)
def test_rows_and_photos_are_the_same_in_a_store(tmp_path, name, make, options):
    root = make(tmp_path / "root")
    store = as_location("memory://trees/here")
    for path in filter(Path.is_file, root.rglob("*")):
        store.fs.pipe(f"{store.path}/{path.relative_to(root).as_posix()}", path.read_bytes())
    try:
        here, there = (open_dataset(name, place, None, options) for place in (root, store))
        assert find_format(name).recognise(store)
        assert all_rows(there) == all_rows(here)
        photos = [(row["list"], row["image_path"]) for row in all_rows(here)[0]]
        assert there.photo_sizes(photos).tolist() == here.photo_sizes(photos).tolist()
        assert list(there.read_photos(photos[:2])) == list(here.read_photos(photos[:2]))
    finally:
        store.fs.rm("/trees", recursive=True)


@pytest.mark.parametrize(
    ("name", "come"),
    [
        ("folders", "happy/2.png"),
        ("ck-plus", "cohn-kanade-images/S005/001/S005_001_00000099.png"),
        ("fei", "frontalimages_manuallyaligned_part1/99a.jpg"),
        ("raf-db", "Annotation/manual/train_99999_manu_attri.txt"),
    ],
)
def test_files_that_come_to_a_folder_in_a_store_are_seen(tmp_path, name, come):
    make = {"ck-plus": ck_plus, "fei": fei, "raf-db": raf_db}
    root = make.get(name, lambda root: root)(tmp_path / "root")
    write(root, "happy/1.png" if name == "folders" else "unread/1.txt", b"x")
    store = as_location("memory://trees/here")
    for path in filter(Path.is_file, root.rglob("*")):
        store.fs.pipe(f"{store.path}/{path.relative_to(root).as_posix()}", path.read_bytes())
    try:
        before = lists_stamp(open_dataset(name, store))
        assert lists_stamp(open_dataset(name, store)) == before
        store.fs.pipe(f"{store.path}/{come}", b"x")
        assert lists_stamp(open_dataset(name, store)) != before
    finally:
        store.fs.rm("/trees", recursive=True)
