"""Publishing files whole: write under a temporary name, then rename (or upload).

What stands under its final name is complete, whatever killed the process that wrote it.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_pipeline.core.disk import NO_ROOM
from fer_pipeline.core.storage import Location, open_binary

if TYPE_CHECKING:
    from upath import UPath

TEMPORARY_SUFFIX = ".part"
"""Ending of everything that isn't published yet; names start with a dot."""
_OWN = ".fer-pipeline"
LONGEST_PART = 50
"""Characters of a name that its temporary name has: names of files end at 255 bytes."""


@contextmanager
def published(path: Location, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary local path; make it `path` when the block succeeds.

    A local file is renamed, so that it stands beside `path` until then; for an object store it
    is uploaded, which shows the whole object or none. A `private` local file can be read by its
    owner only, at every moment.
    """
    if not isinstance(path, Path):
        with _uploaded(path) as temporary:
            yield temporary
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.name[:LONGEST_PART]}.", suffix=TEMPORARY_SUFFIX, dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_named(temporary):
            yield temporary
            if not private:
                # mkstemp makes private files; others are as readable as any file here.
                umask = os.umask(0)
                os.umask(umask)
                temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _uploaded(path: "UPath") -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=_own_prefix(), suffix=TEMPORARY_SUFFIX) as folder:
        temporary = Path(folder) / path.name
        temporary.touch()
        yield temporary
        path.fs.put_file(str(temporary), path.path)


@contextmanager
def scratch_folder(beside: Location) -> Iterator[Path]:
    """A local folder that goes with the block: in the folder `beside` if that is local."""
    if isinstance(beside, Path):
        beside.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=beside, prefix=".scratch.", suffix=TEMPORARY_SUFFIX)
    else:
        made = tempfile.TemporaryDirectory(prefix=_own_prefix(), suffix=TEMPORARY_SUFFIX)
    with made as folder, full_disk_named(Path(folder)):
        yield Path(folder)


def fetched_folder() -> Path:
    """A new folder on this machine for what comes from elsewhere; it goes with this process."""
    folder = tempfile.mkdtemp(prefix=_own_prefix(), suffix=TEMPORARY_SUFFIX)
    # A process that `multiprocessing` started, as steps are, never comes to what atexit was given.
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
    return Path(folder)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Let the error of a full disk name `path`: neither write() nor Arrow says which disk it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:
            error.filename = str(path)
        raise


def append_whole(file: RawIOBase, data: bytes) -> None:
    """Append to an unbuffered file: all of `data` or, where the disk is full, nothing of it."""
    state = os.fstat(file.fileno())
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        if stat.S_ISREG(state.st_mode):
            file.truncate(state.st_size)
        raise


def publish_bytes(path: Location, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with published(path) as temporary:
        temporary.write_bytes(data)


def publish_json(path: Location, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    publish_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def remove_leftovers(folder: Location) -> int:
    """Delete what killed processes left half made in `folder`; give the number of things.

    Only to be called while no other process writes there. For an object store that is what
    processes of this machine that have ended were about to upload.
    """
    if not isinstance(folder, Path):
        import psutil

        leftovers = [
            path
            for path in Path(tempfile.gettempdir()).glob(f"{_OWN}.*{TEMPORARY_SUFFIX}")
            if not psutil.pid_exists(int(path.name.split(".")[2]))
        ]
    else:
        leftovers = list(folder.rglob(f".*{TEMPORARY_SUFFIX}")) if folder.is_dir() else []
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return len(leftovers)


def file_digest(path: Location) -> str:
    """16 hex digits of BLAKE2b over the bytes of one file."""
    with open_binary(path) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()  # type: ignore[arg-type]


def text_digest(*parts: object) -> str:
    """16 hex digits of BLAKE2b over the parts, in order."""
    # Paths that aren't UTF-8 may be among them.
    data = "\x1f".join(map(str, parts)).encode(errors="surrogateescape")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _own_prefix() -> str:
    """The prefix of this process' things in the folder that all programs share."""
    return f"{_OWN}.{os.getpid()}."
