"""Which files of what a user names are read, and where a copy of each stands."""

import os
from pathlib import Path
from typing import Any

import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.recognition_inputs import find_inputs
from fer_pipeline_tests.core.small_release import encoded, noise


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folder_is_read_with_all_below_in_order_and_other_files_are_counted(tmp_path: Path) -> None:
    _touch(tmp_path, "b.JPG", "a/2.png", "a/1.mp4", "LICENSE", "a/list.csv")
    (tmp_path / "a" / "no-suffix").write_bytes(encoded(noise()))
    found = find_inputs([str(tmp_path)])
    assert [Path(one.path).relative_to(tmp_path).as_posix() for one in found.files] == [
        "b.JPG", "a/1.mp4", "a/2.png", "a/no-suffix",
    ]  # fmt: skip
    assert [one.place for one in found.files] == [
        Path("b.JPG"), Path("a/1.mp4"), Path("a/2.png"), Path("a/no-suffix.png"),
    ]  # fmt: skip
    assert [one.video for one in found.files] == [False, True, False, False]
    assert found.skipped == 2


def test_named_file_is_read_whatever_it_is_called_and_each_once(tmp_path: Path) -> None:
    _touch(tmp_path, "LICENSE", "a.jpg")
    named = [str(tmp_path / "LICENSE"), str(tmp_path / "a.jpg")]
    assert [one.path for one in find_inputs([*named, *named]).files] == named


def test_copies_of_files_with_one_name_get_places_of_their_own(tmp_path: Path) -> None:
    _touch(tmp_path, "x/a.jpg", "y/a.jpg", "z/x/a.jpg")
    named = [str(tmp_path / name) for name in ("x/a.jpg", "y/a.jpg")]
    assert [one.place for one in find_inputs(named).files] == [Path("a.jpg"), Path("a-2.jpg")]
    folders = [str(tmp_path / name) for name in ("x", "z/x")]
    assert [one.place for one in find_inputs(folders).files] == [
        Path("x/a.jpg"), Path("x/a-2.jpg"),
    ]  # fmt: skip
    _touch(tmp_path, "a-2.jpg", "b.bmp", "b.bmp.png")
    named = [str(tmp_path / name) for name in ("x/a.jpg", "a-2.jpg", "y/a.jpg")]
    assert [one.place for one in find_inputs(named).files] == [
        Path("a.jpg"), Path("a-2.jpg"), Path("a-3.jpg"),
    ]  # fmt: skip
    named = [str(tmp_path / name) for name in ("b.bmp", "b.bmp.png")]
    assert [one.place for one in find_inputs(named).files] == [
        Path("b.bmp.png"), Path("b.bmp-2.png"),
    ]  # fmt: skip


def test_folder_of_copies_is_not_read_again(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "drawn/a.jpg", "drawn/deep/b.jpg")
    found = find_inputs([str(tmp_path)], without=tmp_path / "drawn")
    assert [one.place for one in found.files] == [Path("a.jpg")]


def test_links_to_folders_are_followed_and_a_loop_has_an_end(tmp_path: Path) -> None:
    _touch(tmp_path, "here/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    found = find_inputs([str(tmp_path / "here")])
    assert [one.place for one in found.files] == [Path("a.jpg"), Path("linked/b.jpg")]


def test_folder_that_can_not_be_listed_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a.jpg", "shut/b.jpg")
    shut, scandir = str(tmp_path / "shut"), os.scandir

    def refusing(path: str) -> Any:
        if str(path) == shut:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [one.path for one in find_inputs([str(tmp_path)]).files] == [
        str(tmp_path / "a.jpg"), shut,
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"shut can't be listed \(Permission denied\)"):
        find_inputs([shut])


def test_odd_names_are_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _touch(tmp_path, "-", "~nobody.jpg")
    found = find_inputs(["./-", "-", "~nobody.jpg"])
    assert [one.path for one in found.files] == ["./-", "-", "~nobody.jpg"]


def test_what_is_not_there_or_holds_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none isn't there: give pictures"):
        find_inputs([str(tmp_path / "none")])
    with pytest.raises(InputError, match="can't be read \\(File name too long\\)"):
        find_inputs(["a" * 300])
    _touch(tmp_path, "LICENSE")
    with pytest.raises(InputError, match=r"holds no picture and no video \(1 other files\)"):
        find_inputs([str(tmp_path)])
