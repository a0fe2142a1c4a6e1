"""One thing that can be removed: what it is, how large, and how it goes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_pipeline.core.storage import Location


@dataclass(frozen=True)
class Removal:
    """Something of a `kind` that can go; `bytes` is what its removal frees."""

    kind: str
    what: str
    bytes: int
    remove: Callable[[], None]


def size_of(place: Location) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not isinstance(place, Path):
        return int(place.fs.du(place.path))
    if not place.is_dir() or place.is_symlink():
        return place.lstat().st_size
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())


def remove(place: Location) -> None:
    """Delete a file or a folder; one that is gone already is fine."""
    if not isinstance(place, Path):
        place.fs.rm(place.path, recursive=True)
    elif place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def removal(kind: str, place: Location) -> Removal:
    """The removal of a file or folder."""
    return Removal(kind, str(place), size_of(place), lambda: remove(place))
