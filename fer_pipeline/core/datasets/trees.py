"""Data sets that are trees of small files: names in folders, and many small files read in turn.

Names come from listing a folder, never from asking for one file after the other. Hidden files
(those of macOS too, `._1.jpg`) are nobody's photos and are left out.
"""

import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fer_pipeline.core.datasets.photo_files import folder_name
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.read_ahead import Stored, local_files, remote_files
from fer_pipeline.core.storage import Location, is_file

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Endings of files that are taken for pictures where a folder is the list, in lower case."""

_OF_A_HOME = ("run.lock", "index/file_list_index.parquet")
"""Files that a home on this machine holds from its first run on, and one elsewhere."""

_GLANCE = 1000
"""Names that are looked at to tell what a folder holds."""


def names_in(folder: Location) -> list[str]:
    """The names in a folder, in no order; none where there is no folder.

    Raises InputError where the folder may not be read.
    """
    try:
        if isinstance(folder, Path):
            names = os.listdir(folder)  # noqa: PTH208 - a Path for each of a million names is slow
        else:
            found = folder.fs.ls(folder.path, detail=False)
            names = [name.rstrip("/").rpartition("/")[2] for name in found]
    except OSError as error:
        return _none(folder, error)
    return [name for name in names if not name.startswith(".")]


def glance(folder: Location) -> list[str]:
    """A few of the names in a folder, in no order; none where there is no readable folder."""
    if not isinstance(folder, Path):
        return names_in(folder)[:_GLANCE]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _GLANCE)]
    except OSError:
        return []
    return [name for name in names if not name.startswith(".")]


def folders_in(folder: Location) -> list[str]:
    """The names of the folders in a folder, sorted; none where there is no folder.

    Raises InputError where the folder may not be read.
    """
    try:
        if isinstance(folder, Path):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if leads_to_folder(entry)]
        else:
            found = folder.fs.ls(folder.path, detail=True)
            names = [
                info["name"].rstrip("/").rpartition("/")[2]
                for info in found
                if info["type"] == "directory"
            ]
    except OSError as error:
        return _none(folder, error)
    return sorted(name for name in names if not name.startswith("."))


def leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether a name is a folder or a symbolic link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_home(folder: Location) -> bool:
    """Whether a folder holds what runs wrote: a home in a data folder is no part of the data."""
    return any(is_file(folder / name) for name in _OF_A_HOME)


def _none(folder: Location, error: OSError) -> list[str]:
    """No names where there is no folder; raises InputError where it may not be read."""
    if isinstance(error, PermissionError):
        raise InputError(f"{folder} can't be read: {error.strerror or error}") from error
    if error.errno == errno.ELOOP or isinstance(error, FileNotFoundError | NotADirectoryError):
        return []
    raise error


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's."""
    return name.lower().endswith(PICTURES)


def in_order(names: Iterable[str]) -> list[str]:
    """Names by length and then by letters: numbers stand in the order of their values."""
    return sorted(names, key=lambda name: (len(name), name))


def read_small_files(
    root: Location, paths: Iterable[str], max_bytes: int = 1 << 20
) -> Iterator[Stored]:
    """The bytes of each file in turn, by its path under `root`; see `read_ahead.local_files`."""
    base = folder_name(root)
    addresses = (f"{base}/{path}" for path in paths)
    if isinstance(root, Path):
        return local_files(addresses, max_bytes)
    return remote_files(root.fs, addresses, max_bytes)


def plain_text(text: str) -> str:
    """A text that can be written as UTF-8: what can't, such as a name in bytes, becomes `?`."""
    return text if text.isascii() else text.encode(errors="replace").decode()
