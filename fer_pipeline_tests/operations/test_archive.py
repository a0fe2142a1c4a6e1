"""The file of a backup: whole or not there, and nothing in it that wasn't written."""

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from fer_pipeline.core.errors import InputError
from fer_pipeline.operations.archive import unpack, written

CONTENT = random.Random(0).randbytes(3000)  # noqa: S311
"""Nothing that compression makes smaller, so that a byte of it can be changed in every archive."""


def _archive(path: Path) -> bytes:
    """A small archive, whole, and its bytes."""
    with written(path) as archive:
        archive.add_bytes("home/a.txt", CONTENT)
        archive.add_bytes("answers.jsonl", b"{}\n")
        archive.finish({"package": "0", "versions": {}})
    return path.read_bytes()


@pytest.mark.parametrize("name", ["x.tar", "x.tar.zst"])
def test_damage_anywhere_in_a_backup_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = _archive(path)
    (tmp_path / "whole").mkdir()
    unpack(path, tmp_path / "whole")
    assert (tmp_path / "whole" / "home" / "a.txt").read_bytes() == CONTENT
    damaged = [whole[: len(whole) // 2], whole[:100], b"", b"no archive at all" * 50]
    places = list(range(600, 3200, 700))
    if name == "x.tar":
        # In headers, in the second member, in the list of members; padding isn't protected.
        words = (b"home/a.txt", b"answers.jsonl", b"{}\n", b'"package"', b'"versions"')
        places += [whole.index(word) for word in words]
    else:
        places += list(range(3200, len(whole) - 8, 50))
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InputError, match="damaged or no backup"):
            unpack(path, folder)


LINKS = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", ".", *LINKS])
def test_member_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = LINKS.get(name, tarfile.REGTYPE), "/etc"
        tar.addfile(member, io.BytesIO())
    (tmp_path / "to").mkdir()
    with pytest.raises(InputError, match="is no member of a backup"):
        unpack(path, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("second", ["a", "./a", "a/b", f"{'x' * 300}"])
def test_members_that_no_folder_can_hold_are_refused(tmp_path: Path, second: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a", second):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "to").mkdir()
    with pytest.raises(InputError, match="damaged or no backup"):
        unpack(path, tmp_path / "to")


def test_manifest_that_is_sealed_but_none_is_refused(tmp_path: Path) -> None:
    for number, text in enumerate((b"[1]", b"{", b"{}", b'{"format": 1}')):
        path = tmp_path / f"{number}.tar"
        with written(path) as archive:
            archive.add_bytes("manifest.json", text)
            archive.add_bytes("manifest.sha256", hashlib.sha256(text).hexdigest().encode())
        (tmp_path / str(number)).mkdir()
        with pytest.raises(InputError, match="damaged or no backup"):
            unpack(path, tmp_path / str(number))


def test_backup_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with written(path) as archive:
        archive.finish({"package": "9.9", "format": 99})
    with pytest.raises(InputError, match=r"format 99.*9\.9"):
        unpack(path, tmp_path)


def test_backup_that_fails_or_is_killed_leaves_no_file_and_the_next_none_of_its_leftovers(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="stop"), written(tmp_path / "x") as archive:  # noqa: PT012
        archive.add_bytes("a", b"a")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fer_pipeline.operations.archive import written\n"
        "with written(Path(sys.argv[1])) as archive:\n"
        "    archive.add_bytes('a', b'a' * 100_000)\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
    )
    new = tmp_path / "new.tar"
    killed = subprocess.Popen(
        [sys.executable, "-c", script, new], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "half\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not new.exists()
    (left,) = tmp_path.glob(".new.tar.*.part")
    # It may be another's, who still writes it.
    _archive(tmp_path / "new.tar")
    assert left.exists()
    new.unlink()
    long_ago = time.time() - 2 * 3600
    os.utime(left, (long_ago, long_ago))
    _archive(new)
    assert list(tmp_path.glob(".*")) == []


def test_no_backup_replaces_another_nor_can_be_read_by_others_while_it_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.tar"
    with pytest.raises(InputError, match="is there already"), written(path) as archive:  # noqa: PT012
        archive.add_bytes("a", b"a")
        assert [one.stat().st_mode & 0o077 for one in tmp_path.iterdir()] == [0]
        # A second one of that name, which is the first to be whole.
        before = _archive(path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="is there already"), written(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_is_replaced_while_it_is_added_is_added_as_it_was(tmp_path: Path) -> None:
    source, path = tmp_path / "champion.json", tmp_path / "x.tar"
    source.write_bytes(CONTENT)

    class Replaced(type(source)):  # type: ignore[misc]
        def open(self, *words: Any) -> Any:
            stream = super().open(*words)
            newer = tmp_path / "newer"
            newer.write_bytes(b"short")
            newer.replace(source)
            return stream

    with written(path) as archive:
        archive.add_file("home/champion.json", Replaced(source))
        archive.finish({})
    (tmp_path / "to").mkdir()
    unpack(path, tmp_path / "to")
    assert (tmp_path / "to" / "home" / "champion.json").read_bytes() == CONTENT
