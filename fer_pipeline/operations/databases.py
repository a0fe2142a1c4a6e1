"""The databases of a home and of its servers: where they are, and a short question to each.

Dagster and MLflow migrate tables of their own; which schema an installed package wants is read
from its files, without importing it.
"""

import base64
import importlib.util
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fer_pipeline.core.disk import is_full
from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import database_file, without_login

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

SECONDS = 5
"""How long a database or server may take to answer."""
_MIGRATIONS: Mapping[str, str] = {
    "dagster": "_core/storage/alembic/versions",
    "mlflow": "store/db_migrations/versions",
}
"""Where the packages keep the steps of their schemas."""
_REVISION = re.compile(r"^revision\b[^=]*=\s*[\"'](\w+)", re.MULTILINE)
_DOWN = re.compile(r"^down_revision\b[^=]*=\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What a database or server said: its schema, its clock (seconds, UTC), its version."""

    schema: str | None = None
    clock: float | None = None
    version: str | None = None


def wanted_schema(package: str) -> str | None:
    """The revision that an installed package brings its database to; None where it can't be told.

    It is the one that no other revision follows.
    """
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        return None
    revisions, followed = set(), set()
    for file in (Path(places[0]) / _MIGRATIONS[package]).glob("*.py"):
        text = file.read_text()
        revisions |= set(_REVISION.findall(text))
        down = _DOWN.search(text)
        followed |= set(re.findall(r"[\"'](\w+)[\"']", down[1])) if down else set()
    heads = revisions - followed
    return heads.pop() if len(heads) == 1 else None


def read_only_engine(url: "str | URL", seconds: int = SECONDS) -> "Engine":
    """An engine that waits for seconds only, and makes no SQLite file where there is none."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    try:
        address = make_url(url)
    except ArgumentError as error:
        # The text may hold a password.
        raise InputError("the address of a database can't be understood") from error
    if address.get_backend_name() == "postgresql":
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg2")
        limits = {
            "connect_timeout": SECONDS,
            "options": f"-c statement_timeout={seconds * 1000} -c default_transaction_read_only=on",
        }
        return create_engine(address, poolclass=NullPool, connect_args=limits)
    path = Path(str(address.database))
    if not path.is_file():
        raise InputError(f"{path} is not there")
    # With "ro" a file whose journal waits to be rolled back couldn't be opened.
    return create_engine(
        f"sqlite:///file:{path.as_uri().removeprefix('file://')}?mode=rw&uri=true",
        poolclass=NullPool,
        connect_args={"timeout": seconds},
    )


@contextmanager
def told(url: "str | URL", what: str) -> Iterator[None]:
    """Let what a database says in the block be an InputError that it can't be `what`, without the
    password; a full disk stays what it is.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (ImportError, SQLAlchemyError) as error:
        if is_full(error):
            raise
        said = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise InputError(f"{shown(url)} can't be {what} ({said})") from error


def ask(url: "str | URL") -> Answer:
    """Ask a database for its schema and, where it is a server, for its clock.

    Raises InputError, without the password, when it doesn't answer.
    """
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    engine = None
    try:
        engine = read_only_engine(url)
        with engine.connect() as connection:
            schema = clock = None
            if inspect(connection).has_table("alembic_version"):
                schema = connection.execute(
                    text("select version_num from alembic_version")
                ).scalar()
            if connection.dialect.name == "postgresql":
                clock = connection.execute(text("select extract(epoch from now())")).scalar_one()
    except (ImportError, SQLAlchemyError) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise InputError(f"{shown(url)} doesn't answer ({said})") from error
    finally:
        if engine is not None:
            engine.dispose()
    return Answer(schema, None if clock is None else float(clock))


def count_rows(url: "str | URL", table: str) -> int:
    """Rows of a table, 0 where there is no such table; raises as `ask` does."""
    from sqlalchemy import func, inspect, select
    from sqlalchemy import table as named

    engine = read_only_engine(url)
    try:
        with told(url, "read"), engine.connect() as connection:
            if not inspect(connection).has_table(table):
                return 0
            return int(
                connection.execute(select(func.count()).select_from(named(table))).scalar_one()
            )
    finally:
        engine.dispose()


def ask_mlflow_server(address: str) -> Answer:
    """Ask an MLflow server whether it is well, for its clock and its version.

    Raises InputError when it doesn't answer.
    """
    base = address.rstrip("/")
    try:
        health, _ = _get(f"{base}/health")
        _, version = _get(f"{base}/version")
    except (OSError, ValueError) as error:
        code = f"answered {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
        why = code or str(getattr(error, "reason", None) or type(error).__name__)
        raise InputError(f"the MLflow server at {without_login(base)[0]}: {why}") from error
    date = health.get("Date")
    clock = parsedate_to_datetime(date).timestamp() if date else None
    return Answer(clock=clock, version=version[:40])


def _get(address: str) -> tuple[Mapping[str, str], str]:
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address} is no web address")
    plain, login = without_login(address)
    request = urllib.request.Request(plain)  # noqa: S310
    if login is not None:
        word = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        return answer.headers, answer.read(1000).decode(errors="replace").strip()


def dagster_databases(settings: Settings) -> "dict[str, str | URL]":
    """The databases of the home's Dagster instance, as dagster.yaml names them.

    Raises InputError for a dagster.yaml that can't be read, or that asks for a variable that has
    no value.
    """
    file = settings.dagster_home / "dagster.yaml"
    try:
        loaded = yaml.safe_load(file.read_text()) if file.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{file} can't be read ({said}): mend it, or delete it") from error
    if not isinstance(loaded or {}, dict):
        raise InputError(f"{file} holds no settings of Dagster: mend it, or delete it")
    storage = (loaded or {}).get("storage") or {}
    if "postgres" in storage:
        return {"its database": _postgres(storage["postgres"], file)}
    base = settings.dagster_home
    if "sqlite" in storage:
        given = _value((storage["sqlite"] or {}).get("base_dir"), file)
        base = Path(given) if given else base
        return {_named(path): f"sqlite:///{path}" for path in _sqlite_files(base)}
    return {
        _named(path): f"sqlite:///{path}"
        for path in [*_sqlite_files(base / "history"), base / "schedules" / "schedules.db"]
        if path.is_file()
    }


def _named(path: Path) -> str:
    return f"its database of {'events' if path.stem == 'index' else path.stem}"


def _sqlite_files(folder: Path) -> list[Path]:
    return [
        path
        for path in (folder / "runs.db", folder / "runs" / "index.db", folder / "index.db")
        if path.is_file()
    ]


def _postgres(given: Any, file: Path) -> "str | URL":
    from sqlalchemy import URL

    if given.get("postgres_url"):
        return str(_value(given["postgres_url"], file))
    parts = {name: _value(value, file) for name, value in (given.get("postgres_db") or {}).items()}
    return URL.create(
        "postgresql+psycopg2",
        username=parts.get("username"),
        password=parts.get("password"),
        host=parts.get("hostname"),
        port=int(parts.get("port") or 5432),
        database=parts.get("db_name"),
    )


def _value(given: Any, file: Path) -> Any:
    """A value of dagster.yaml, from the environment where it says so."""
    if not isinstance(given, dict):
        return given
    name = str(given.get("env"))
    if name not in os.environ:
        raise InputError(f"{file} asks for the variable {name}, which has no value: set it")
    return os.environ[name]


def mlflow_database(settings: Settings) -> str | None:
    """The database of MLflow: the home's file, or the server's where it is named; else None."""
    if settings.mlflow_database is not None:
        return settings.mlflow_database.get_secret_value()
    if settings.mlflow_tracking_uri is None:
        return f"sqlite:///{database_file(settings)}"
    if settings.mlflow_tracking_uri.startswith(("sqlite:", "postgresql")):
        return settings.mlflow_tracking_uri
    return None


def shown(url: "str | URL") -> str:
    """An address of a database without its password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "a database"


def now() -> float:
    """This machine's clock, seconds, UTC."""
    return time.time()
