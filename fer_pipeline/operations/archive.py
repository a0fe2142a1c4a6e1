"""The file of a backup: a tar with a digest of every member, whole or not there at all.

A name that ends in .zst is compressed. What stands in it is the business of `backup.py`.
"""

import errno
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import LONGEST_PART, TEMPORARY_SUFFIX, published
from fer_pipeline.core.storage import Location, open_binary

FORMAT = 1
"""Version of what the archive holds; a reader refuses any other."""
_MANIFEST = "manifest.json"
_SEAL = "manifest.sha256"
_COMPRESSED = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20
_LEFT_SECONDS = 3600
"""An unfinished file that nobody wrote to for so long was left by a killed process."""
_NAMES = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What a system says of names that can't stand in one folder."""


class ArchiveWriter:
    """Adds members to a backup; see `written`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        """Write to an open tar."""
        self._tar = tar
        self.files: dict[str, dict[str, Any]] = {}

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a member of this content."""
        self._add(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Location) -> None:
        """Add a file as it is; raises OSError when it is cut short meanwhile."""
        with open_binary(path) as stream:
            # Of what was opened: another file may stand under that name by now.
            local = isinstance(path, Path)
            size = os.fstat(stream.fileno()).st_size if local else int(path.stat().st_size)
            self._add(name, stream, size)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Add the manifest, which holds `about` and the digests, and its own digest."""
        manifest = {"format": FORMAT, **about, "files": self.files}
        data = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
        self.add_bytes(_MANIFEST, data)
        self.add_bytes(_SEAL, hashlib.sha256(data).hexdigest().encode())

    def _add(self, name: str, stream: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, int(time.time()), 0o644
        counted = _Digested(stream)
        self._tar.addfile(member, counted)
        self.files[name] = {"sha256": counted.digest.hexdigest(), "bytes": size}


class _Digested(io.RawIOBase):
    """A stream whose bytes are digested as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


@contextmanager
def written(path: Path) -> Iterator[ArchiveWriter]:
    """A writer whose archive stands at `path` when the block ends well, and nowhere else.

    Raises InputError where something stands there already, also if it came meanwhile. What a
    killed backup of that name left beside it is removed once it is an hour old.
    """
    refuse_existing(path)
    _remove_leftovers(path)
    # It holds what people answered: nobody else's to read.
    with published(path, private=True) as temporary:
        with (
            _output(temporary, compressed=path.suffix == ".zst") as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield ArchiveWriter(tar)
        # Its source may be deleted next, so that it has to outlive a loss of power.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        refuse_existing(path)


def refuse_existing(path: Path) -> None:
    """Raise InputError where something stands already under the name of a new backup."""
    if path.exists() or path.is_symlink():
        raise InputError(
            f"{path} is there already and no backup replaces another: give a new name, or move "
            "that file away"
        )


def _remove_leftovers(path: Path) -> None:
    start, now = f".{path.name[:LONGEST_PART]}.", time.time()
    for leftover in path.parent.iterdir():
        if not (leftover.name.startswith(start) and leftover.name.endswith(TEMPORARY_SUFFIX)):
            continue
        try:
            # Another backup may be writing it. Locks don't go well with every shared folder.
            if now - leftover.stat().st_mtime > _LEFT_SECONDS:
                leftover.unlink()
        except (FileNotFoundError, PermissionError):
            continue


def unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack a whole backup into an empty folder and give its manifest.

    Raises InputError when anything in it isn't as it was written: then nothing may be used.
    """
    digests: dict[str, str] = {}
    try:
        with _input(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = _checked_name(path, member, digests)
                content = tar.extractfile(member)
                if content is None:
                    raise _damaged(path, f"{name} is no file")
                digests[name] = _unpacked(content, folder / name)
    except (tarfile.TarError, EOFError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, " ".join(str(error).split())[:200]) from error
    except OSError as error:
        # Arrow says so of bytes that it can't decompress; a full disk has a number.
        if error.errno is None or error.errno in _NAMES:
            raise _damaged(path, " ".join(str(error).split())[:200]) from error
        raise
    return _verified(path, folder, digests)


def _verified(path: Path, folder: Path, digests: dict[str, str]) -> dict[str, Any]:
    seal = digests.pop(_SEAL, None)
    manifest_digest = digests.pop(_MANIFEST, None)
    if seal is None or manifest_digest is None:
        raise _damaged(path, "its end is missing")
    if (folder / _SEAL).read_bytes() != manifest_digest.encode():
        raise _damaged(path, f"{_MANIFEST} was changed")
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
        of_format, files = manifest["format"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"{_MANIFEST} is none of a backup") from error
    if of_format != FORMAT:
        raise InputError(
            f"{path} is a backup of format {of_format}, and this version reads "
            f"format {FORMAT}: use the version of fer_pipeline that wrote it "
            f"({manifest.get('package')})"
        )
    for name, wanted in files.items():
        if digests.pop(name, None) != wanted["sha256"]:
            raise _damaged(path, f"{name} isn't what was written")
    if digests:
        raise _damaged(path, f"{next(iter(digests))} doesn't belong in it")
    return manifest


def _checked_name(path: Path, member: tarfile.TarInfo, known: Mapping[str, str]) -> str:
    """A member's name, when it can only be a new file below the folder it is unpacked into."""
    name = PurePosixPath(member.name)
    if (
        not member.isreg()
        or name.is_absolute()
        or not name.parts
        or ".." in name.parts
        or "\\" in member.name
        or str(name) in known
    ):
        raise _damaged(path, f"{member.name[:200]!a} is no member of a backup")
    return str(name)


def _unpacked(content: IO[bytes], target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        while data := content.read(_CHUNK):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


@contextmanager
def _output(path: Path, *, compressed: bool) -> Iterator[Any]:
    if not compressed:
        with path.open("wb") as stream:
            yield stream
        return
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
        yield stream


@contextmanager
def _input(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as probe:
            compressed = probe.read(len(_COMPRESSED)) == _COMPRESSED
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path} is no file: give the file of a backup") from error
    if not compressed:
        with path.open("rb") as stream:
            yield stream
        return
    with pa.OSFile(str(path), "rb") as file, pa.CompressedInputStream(file, "zstd") as stream:
        yield stream


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is damaged or no backup ({why}): nothing was restored; take another copy of it"
    )
