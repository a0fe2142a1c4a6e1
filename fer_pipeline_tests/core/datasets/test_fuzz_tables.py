"""Tables with bytes changed at random: every row is kept or rejected, and all are counted."""

import itertools
import shutil
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_pipeline.core.errors import InputError
from fer_pipeline_tests.core.datasets.damage import damaged
from fer_pipeline_tests.core.datasets.table_releases import (
    FER_HEADER,
    FER_PLUS_HEADER,
    indexed_as,
    opened,
    write_pictures,
)

_FER = "".join(
    f"{line}\n"
    for line in (
        FER_HEADER,
        *(f"{at % 7},{at} 255 0 17,{usage}" for at, usage in enumerate(["Training"] * 5)),
        '"3","1 2 3","PublicTest"',
        *(f"{at},9 9 9,{usage}" for at, usage in enumerate(["PrivateTest", "PublicTest"])),
    )
).encode()
_PLUS = "".join(
    f"{line}\n"
    for line in (FER_PLUS_HEADER, *(f"Training,fer{at}.png,4,0,0,1,3,2,0,0,0,0" for at in range(8)))
).encode()
_LIST = "".join(
    f"{line}\n"
    for line in (
        "path,label,split,x,y,width,height,who",
        *(f"{at}/{at:020x}.jpg,happy,train,1,2,30,40,anna" for at in range(4)),
        '"4/a,b.jpg",sad,test,,,,,berta',
        "5.jpg,anger,dev,NULL,NULL,NULL,NULL,",
    )
).encode()
_PIECES = [b"", b",", b"\n", b"\r", b"\r\n", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf", b" ", b"-2"]
_PIECES += [b"PublicTest", b",Training\n", b"99999999999", b"../", b"," * 20, b"\n" * 5, b"\x1a"]
_quiet = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _changed(whole: bytes) -> st.SearchStrategy[bytes]:
    return damaged(whole, _PIECES, 6, [1, 2, 5, 40, 200])


def _counted_or_refused(name: str, root: Path, folder: Path, *files: str, **options: str) -> None:
    refusal = ""
    try:
        dataset = opened(name, root, **options)
        _, kept, rejected = indexed_as(dataset, folder)
    except InputError as error:
        refusal = str(error)
    if refusal:
        # One sentence that names the file.
        assert "\n" not in refusal
        assert any(file in refusal for file in files)
        return
    assert all(row["reason"] for row in rejected)
    photos = [(row["list"], row["image_path"]) for row in kept]
    assert sum(1 for _ in dataset.read_photos(photos)) == len(kept)


@given(data=_changed(_FER))
@_quiet
def test_rows_of_a_damaged_fer2013_are_kept_or_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "fer2013.csv").write_bytes(data)
    _counted_or_refused("fer2013", tmp_path, tmp_path / "index", "fer2013.csv")


@given(data=_changed(_PLUS))
@_quiet
def test_damaged_votes_are_rejected_or_refused(tmp_path: Path, data: bytes) -> None:
    rows = "".join(f"{line}\n" for line in (FER_HEADER, *["3,1,Training"] * 8))
    (tmp_path / "fer2013.csv").write_text(rows)
    (tmp_path / "fer2013new.csv").write_bytes(data)
    _counted_or_refused("ferplus", tmp_path, tmp_path / "index", "fer2013new.csv")


@given(data=_changed(_LIST), person=st.booleans(), dealt=st.booleans())
@_quiet
def test_rows_of_a_damaged_list_are_kept_or_rejected(
    tmp_path: Path, data: bytes, person: bool, dealt: bool
) -> None:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "list.csv").write_bytes(data)
    box = {side: side for side in ("x", "y", "width", "height")}
    chosen = box | ({"person": "who"} if person else {}) | ({"split": ""} if dealt else {})
    _counted_or_refused("csv", root, tmp_path / "index", "list.csv", **chosen)


_NAMES = st.sampled_from(
    ["train", "Test", "dev", "happy", "sad", "other", ".x", "a.png", "b.JPG", "c.txt", "\u00e9.png"]
)
_TREES = st.lists(st.lists(_NAMES, min_size=1, max_size=4), min_size=1, max_size=8)
_runs = itertools.count()


@given(tree=_TREES)
@_quiet
def test_names_in_any_tree_are_kept_or_rejected(tmp_path: Path, tree: list[list[str]]) -> None:
    root = tmp_path / f"root{next(_runs)}"
    root.mkdir()
    for parts in tree:
        place = root.joinpath(*parts)
        if not any(one.is_file() for one in (place, *place.parents)) and not place.exists():
            write_pictures(root, ["/".join(parts)], side=8)
    _counted_or_refused("folders", root, tmp_path / "index", root.name)
    shutil.rmtree(root)
