"""The database of people's answers: its addresses, its table, and how SQLite is set up for several.

What is written and read there is the business of `answers.py`.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_pipeline.core.disk import is_full
from fer_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

WRITES = "fer_writes"
"""The execution option of connections that are going to write."""

_WAIT_SECONDS = 30
"""How long one writer of a SQLite file waits for another."""
_CONNECT_SECONDS = 10
"""How long a server may take to answer."""


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, whatever characters its path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


def is_missing_file(url: str) -> bool:
    """Whether the address is that of a SQLite file that isn't there: opening it would make it."""
    address = database_address(url)
    return address.get_backend_name() == "sqlite" and not Path(str(address.database)).is_file()


def database_address(url: str) -> "URL":
    """The address in its parts; raises InputError when no answers can be kept there."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    remedy = "give FER_ANSWERS_URL sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, ValueError) as error:
        # The text may hold a password.
        raise InputError(f"the address of the answers can't be understood: {remedy}") from error
    if backend == "postgresql":
        if address.drivername == "postgresql":
            return address.set(drivername="postgresql+psycopg2")
        return address
    if address.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise InputError(f"answers can't be kept in {address.drivername}: {remedy}")
    if not address.database or address.database == ":memory:":
        raise InputError(f"answers kept in memory would be lost: {remedy}")
    if address.database.startswith("file:"):
        raise InputError(f"the answers' file can't be given as file:...: {remedy}")
    return address


def open_engine(address: "URL") -> "Engine":
    """The engine of an address, without a connection yet.

    On SQLite a connection with the execution option WRITES takes the lock when its transaction
    begins. Raises InputError when a package or the folder is missing.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import NoSuchModuleError

    if address.get_backend_name() == "postgresql":
        try:
            return create_engine(
                address, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_SECONDS}
            )
        except (ImportError, NoSuchModuleError) as error:
            raise InputError(
                f"PostgreSQL can't be used without another package ({error}): install "
                "fer_pipeline[postgres]"
            ) from error
    _make_folder(Path(str(address.database)))
    engine = create_engine(
        address,
        # No statement begins a transaction by itself: `_begin` does.
        connect_args={"timeout": _WAIT_SECONDS, "isolation_level": None},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _make_folder(database: Path) -> None:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_full(error):
            raise
        raise InputError(
            f"the folder of {database} can't be made ({error.strerror}): give FER_ANSWERS_URL "
            "another place"
        ) from error


def _set_up(connection: Any, _record: Any) -> None:
    import sqlite3

    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # While another process changes to WAL this one isn't kept waiting but refused.
            locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not locked or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    # With less, WAL may lose the last answers when the machine loses power.
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: "Connection") -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def answers_table() -> "Table":
    """The table `answers`: one row an answer, and none twice."""
    from sqlalchemy import (
        BigInteger,
        Boolean,
        Column,
        DateTime,
        Integer,
        MetaData,
        String,
        Table,
        UniqueConstraint,
    )

    return Table(
        "answers",
        MetaData(),
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("study", String, nullable=False),
        Column("sample", String, nullable=False),
        Column("annotator", String, nullable=False),
        Column("item", Integer, nullable=False),
        Column("face_id", String, nullable=False),
        Column("answer", String, nullable=False),
        Column("milliseconds", BigInteger, nullable=False),
        Column("shown_order", Integer, nullable=False),
        Column("repeat", Boolean, nullable=False),
        Column("answered_at", DateTime(timezone=True), nullable=False),
        UniqueConstraint("study", "sample", "annotator", "item"),
        sqlite_autoincrement=True,
    )
