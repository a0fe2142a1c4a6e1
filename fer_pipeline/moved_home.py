"""Which home MLflow's database belongs to, and where its files stand when the home was moved.

MLflow keeps whole addresses of files and has no command that changes them.
"""

import platform
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, text_digest
from fer_pipeline.core.storage import as_location
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import database_file

HOME_TAG = "fer.home"
"""Tag of a run: which home it belongs to, see `home_id`."""

_KEPT_ID = "home.id"
"""File of the state folder: the home's id, and the place and the folder for which it holds."""

ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns of MLflow's tables that hold addresses of files."""
_ROOT = re.compile(r"(.*/mlflow/artifacts)(/[^/]+)?/?")
"""The folder of artifacts in a home, as `places.py` names it; a server adds a folder of its own."""
_SECONDS = 60.0


def home_id(settings: Settings) -> str:
    """The same for every run of a home where it stands now, and for no other on its MLflow server.

    It is made of the names of machine and home and kept in the home, since containers that come
    and go, and the nodes of a cluster, have other names. A copy at another place has another; so
    has, where a server keeps the runs of both, one at the same place of another machine or volume,
    which is another folder (by its inode).
    """
    kept = settings.state_folder / _KEPT_ID
    here = str(settings.home)
    made = text_digest(platform.node(), settings.home)
    # Without a home, or where it may only be read, there is nothing to be found again.
    with suppress(OSError):
        folder = str(kept.parent.stat().st_ino)
        lines: list[str] = []
        with suppress(OSError):
            lines = kept.read_text(errors="replace").splitlines()
        known, place, number, *_ = (*lines, "", "", "")
        if (place, number) == (here, folder):
            return known
        if place == here:
            # Earlier versions kept no number.
            same = settings.mlflow_tracking_uri is None or not number
            made = known if same else text_digest(made, folder)
        publish_bytes(kept, f"{made}\n{here}\n{folder}\n".encode())
    return made


def artifact_root(settings: Settings) -> str:
    """Where the files of runs and models stand when no server keeps them, as MLflow takes it."""
    folder = settings.mlflow_artifacts
    return folder.as_uri() if isinstance(folder, Path) else str(folder)


def follow_home(settings: Settings) -> bool:
    """Make MLflow's database of a home that was moved or copied name the files that came along.

    Returns whether there was anything to change. Raises InputError when the database can't be
    written.
    """
    database, root = database_file(settings), artifact_root(settings)
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database, timeout=_SECONDS, isolation_level=None)) as connection:
        if not _former_roots(connection, root):
            return False
        try:
            connection.execute("begin immediate")
            # Another process may have been first.
            for former in _former_roots(connection, root):
                _replace(connection, former, root)
            mine = (home_id(settings), HOME_TAG)
            connection.execute("update tags set value = ? where key = ?", mine)
            connection.execute("commit")
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{database} still names the folder that its home stood in before, and can't be "
                f"changed ({error}): make it writable, or stop what uses it"
            ) from error
    return True


def _former_roots(connection: sqlite3.Connection, root: str) -> set[str]:
    """Folders of artifacts of a home, other than `root`, in which experiments keep theirs."""
    if "experiments" not in _tables(connection):
        return set()
    places = connection.execute("select artifact_location from experiments").fetchall()
    found = (_ROOT.fullmatch(place or "") for (place,) in places)
    here = as_location(root)
    return {one[1] for one in found if one is not None and as_location(one[1]) != here}


def _replace(connection: sqlite3.Connection, former: str, root: str) -> None:
    """Put `root` in place of `former` at the start of every address."""
    tables = _tables(connection)
    for table in ADDRESSES.keys() & tables:
        there = {row[1] for row in connection.execute(f"pragma table_info({table})")}
        for column in there.intersection(ADDRESSES[table]):
            connection.execute(
                # Both names are constants of this module.
                f"update {table} set {column} = :root || substr({column}, length(:former) + 1) "  # noqa: S608
                f"where {column} = :former "
                f"or substr({column}, 1, length(:former) + 1) = :former || '/'",
                {"root": root, "former": former},
            )


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master")}
