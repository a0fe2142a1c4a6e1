"""What a full or forbidden disk comes to, in one sentence, whoever ran into it.

Python and Arrow say so by an errno; SQLite, on which Dagster and MLflow keep their books, by words
of its own.
"""

import errno
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from fer_pipeline.core.storage import causes

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The numbers of a full disk and of a used-up quota."""
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_MISPLACED = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""No file can be where it was named: the name is too long, or a file or folder is in its way."""
_SQLITE_FULL = "database or disk is full"
_SQLITE_FORBIDDEN = ("unable to open database file", "attempt to write a readonly database")
_SQLITE_EITHER = "disk I/O error"
_SQLITE_GROWS = ("SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP")
_LITTLE_ROOM = 1 << 20


class RoomError(Exception):
    """A run that wasn't begun, since what it makes has no room; the message is a sentence."""


def is_full(error: BaseException) -> bool:
    """Whether the error, or what led to it, is a disk without room or a used-up quota."""
    return any(_kind(cause) == "full" for cause in causes(error))


def disk_problem(error: BaseException, home: os.PathLike[str] | str) -> str | None:
    """One sentence with folder and remedy for a disk that is full or forbidden; else None.

    `home` stands in for the folder where the error names none.
    """
    for cause in causes(error):
        if isinstance(cause, RoomError):
            return str(cause)
        kind = _kind(cause)
        if kind is None:
            continue
        named = cause.filename if isinstance(cause, OSError) else None
        if kind == "full":
            place = _folder(named) if isinstance(named, str | bytes) else _fullest(Path(home))
            return (
                f"there is no room left in {place}: free some there, then run again, which goes "
                "on from what is there"
            )
        if isinstance(named, str | bytes):
            reason = cause.strerror if isinstance(cause, OSError) else str(cause)
            return (
                f"{os.fsdecode(named)} can't be used ({reason}): give this user the right to it, "
                "then run again"
            )
        if isinstance(cause, sqlite3.Error):
            return (
                f"the databases in {home} can't be written ({cause}): give this user the right "
                "to them or --home another folder"
            )
    return None


def path_problem(error: BaseException) -> str | None:
    """One sentence for a path that can be no place of a file, whatever the user's rights."""
    for cause in causes(error):
        if not isinstance(cause, OSError) or cause.errno not in _MISPLACED:
            continue
        # Of two, the second one is where something was to be put.
        named = cause.filename if cause.filename2 is None else cause.filename2
        if isinstance(named, str | bytes):
            return f"{os.fsdecode(named)} can't be used ({cause.strerror}): give another path"
    return None


def _kind(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        if error.errno in NO_ROOM:
            return "full"
        return "forbidden" if error.errno in _FORBIDDEN else None
    if isinstance(error, sqlite3.OperationalError):
        said = str(error)
        if _SQLITE_FULL in said:
            return "full"
        if any(words in said for words in _SQLITE_FORBIDDEN):
            return "forbidden"
        if _SQLITE_EITHER in said:
            # The shared memory beside the database can't grow either.
            grows = getattr(error, "sqlite_errorname", "") in _SQLITE_GROWS
            return "full" if grows else "forbidden"
    return None


def _folder(name: str | bytes) -> Path:
    """The folder of a file, or the nearest one above that is there."""
    folder = Path(os.fsdecode(name)).parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _fullest(home: Path) -> Path:
    """The home, or the folder for temporary files if that is what ran out of room."""
    temporary = Path(tempfile.gettempdir())
    if not home.is_dir():  # an address: only what is on its way there lies on this machine
        return temporary
    try:
        if shutil.disk_usage(temporary).free < min(_LITTLE_ROOM, shutil.disk_usage(home).free):
            return temporary
    except OSError:
        pass
    return home
