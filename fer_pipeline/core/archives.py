"""Files that travel between machines: a zip of named members and a description in plain values.

What bundles and results hold is decided in `bundle.py` and `result_file.py`.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fer_pipeline.core.disk import is_full
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published
from fer_pipeline.core.storage import Location

_DESCRIPTION = "description.json"
_PROGRAM = "fer_pipeline"
_COPIED_BYTES = 1 << 20
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
    *(KeyError, ValueError, TypeError),
)
"""What a zip with changed bytes, or a description with other values, comes to."""


class ArchiveWriter:
    """An archive that is being written; see `written_archive`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Write into an open zip."""
        self._archive = archive

    def add(self, name: str, data: bytes) -> None:
        """Add a member."""
        self._archive.writestr(_member(name), data)

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Add a member of any size, written front to back."""
        with self._archive.open(_member(name), "w", force_zip64=True) as member:
            yield member


@contextmanager
def written_archive(
    path: Location, kind: str, version: int, description: Mapping[str, Any]
) -> Iterator[ArchiveWriter]:
    """Write an archive to `path`, whole or not at all: its members are added in the block."""
    stored = {"program": _PROGRAM, "kind": kind, "version": version, **description}
    with published(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        # Members are compressed as they come: by Parquet, or not worth it.
        archive.writestr(_member(_DESCRIPTION), json.dumps(stored, indent=1, sort_keys=True))
        yield ArchiveWriter(archive)


class Archive:
    """An archive that is being read; see `opened_archive`."""

    def __init__(self, archive: zipfile.ZipFile, description: Mapping[str, Any]) -> None:
        """Read an open zip."""
        self._archive = archive
        self.description = description

    def names(self) -> list[str]:
        """The names of its members."""
        return [name for name in self._archive.namelist() if name != _DESCRIPTION]

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked."""
        return self._archive.read(name)

    def extract(self, name: str, path: Path) -> None:
        """Write the bytes of a member, checked, to a file."""
        with self._archive.open(name) as member, path.open("wb") as file:
            while part := member.read(_COPIED_BYTES):
                file.write(part)


@contextmanager
def opened_archive(path: Path, kind: str, version: int, remedy: str) -> Iterator[Archive]:
    """Open an archive of this kind and version to read it in the block.

    Raises InputError when there is none, it is damaged or of another kind or version, or what
    the block makes of its values isn't possible; `remedy` says what to give instead.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there: {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(_DESCRIPTION))
            if (found["program"], found["kind"]) != (_PROGRAM, kind):
                raise InputError(f"{path} is no {kind} but a {found['kind']}: {remedy}")
            if found["version"] != version:
                raise InputError(
                    f"{path} is a {kind} of version {found['version']}, and this fer_pipeline "
                    f"reads version {version}: use the same fer_pipeline on both machines"
                )
            yield Archive(archive, found)
    except _DAMAGE as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} is damaged, or no {kind} at all ({said}): {remedy}") from error
    except OSError as error:
        # A zip of which a part is missing leads to places before its beginning.
        if is_full(error) or error.filename not in (None, str(path)):
            raise
        raise InputError(f"{path} can't be read ({error.strerror or error}): {remedy}") from error


def _member(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: what holds the same has the same bytes, and digest."""
    return zipfile.ZipInfo(name)
