"""The rows of MLflow's own tables that registered versions consist of: read, and written again.

MLflow's client gives runs and versions new ids; only its tables keep them. They are copied between
databases of one schema only.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fer_pipeline.core.errors import InputError
from fer_pipeline.moved_home import HOME_TAG
from fer_pipeline.operations.databases import read_only_engine, shown
from fer_pipeline.operations.portable import ARTIFACTS, base_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Table

TABLES = (
    *("experiments", "experiment_tags", "datasets", "runs", "tags", "params", "metrics"),
    *("latest_metrics", "logged_models", "logged_model_params", "logged_model_tags"),
    *("logged_model_metrics", "inputs", "input_tags", "registered_models"),
    *("registered_model_tags", "model_versions", "model_version_tags"),
    "registered_model_aliases",
)
"""The tables, those that others point to first."""
_ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
_LOGGED = re.compile(r"models:/(m-\w+)")
_MODELS = "fer-"
_SOURCE_NAME = "mlflow.source.name"
_DELETED = "Deleted_Internal"
"""What MLflow says of a version that was deleted."""
_SECONDS = 120
_MANY = 500
_Rows = dict[str, list[dict[str, Any]]]


@dataclass
class Tracked:
    """Rows by table, the schema they are of, and the versions of each registered model."""

    schema: str
    rows: _Rows = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions of each registered model."""
        found: dict[str, list[int]] = {}
        for row in self.rows.get("model_versions", ()):
            found.setdefault(row["name"], []).append(row["version"])
        return {name: sorted(numbers) for name, numbers in found.items()}

    def files(self) -> list[str]:
        """Folders of artifacts, relative to where MLflow keeps them."""
        found = [row["artifact_uri"] for row in self.rows.get("runs", ())]
        found += [row["artifact_location"] for row in self.rows.get("logged_models", ())]
        return sorted(
            {text.removeprefix(ARTIFACTS).strip("/") for text in found if text is not None}
        )

    def to_lines(self) -> bytes:
        """As text: a row a line."""
        lines = [
            json.dumps({"table": table, "row": row})
            for table in TABLES
            for row in self.rows.get(table, ())
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def from_lines(data: bytes, schema: str) -> Tracked:
    """Rows as `Tracked.to_lines` wrote them."""
    found = Tracked(schema)
    for line in data.splitlines():
        entry = json.loads(line)
        found.rows.setdefault(entry["table"], []).append(entry["row"])
    return found


def read_rows(
    url: str, prefixes: Sequence[str], wanted: Mapping[str, Collection[str]] | None
) -> Tracked:
    """The rows of this package's registered models, as they stood at one moment.

    `prefixes` are the addresses under which files are kept; in the rows a token stands for them.
    `wanted` names the versions of each model, None takes all.
    """
    with _snapshot(url) as (connection, tables):
        found = Tracked(_schema(connection))
        rows = found.rows

        def take(table: str, column: str, values: Collection[Any]) -> list[dict[str, Any]]:
            rows[table] = list(_rows(connection, tables.tables[table], column, values))
            return rows[table]

        names = [
            row["name"]
            for row in _rows(connection, tables.tables["registered_models"], None, ())
            if row["name"].startswith(_MODELS) and (wanted is None or row["name"] in wanted)
        ]
        for table in ("registered_models", "registered_model_tags"):
            take(table, "name", names)
        for table in ("model_versions", "model_version_tags", "registered_model_aliases"):
            take(table, "name", names)
            rows[table] = [row for row in rows[table] if _is_wanted(row, wanted)]
        # A version that was deleted leaves a row, whose files are nowhere.
        deleted = {
            (row["name"], row["version"])
            for row in rows["model_versions"]
            if row["current_stage"] == _DELETED
        }
        for table in ("model_versions", "model_version_tags"):
            rows[table] = [r for r in rows[table] if (r["name"], r["version"]) not in deleted]
        versions = rows["model_versions"]
        models = {
            one[1]
            for row in versions
            if (one := _LOGGED.fullmatch(row["source"] or "")) is not None
        }
        for table in ("logged_models", "logged_model_params", "logged_model_tags"):
            take(table, "model_id", models)
        runs = {row["run_id"] for row in versions} | {
            row["source_run_id"] for row in rows["logged_models"]
        }
        runs.discard(None)
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            take(table, "run_uuid", runs)
        # Others may have measured a model in runs of their own.
        figures = take("logged_model_metrics", "model_id", models)
        rows["logged_model_metrics"] = [row for row in figures if row["run_id"] in runs]
        inputs = take("inputs", "destination_id", runs | models)
        take("input_tags", "input_uuid", [row["input_uuid"] for row in inputs])
        take("datasets", "dataset_uuid", [row["source_id"] for row in inputs])
        experiments = {
            row["experiment_id"]
            for table in ("runs", "logged_models", "datasets")
            for row in rows[table]
        }
        take("experiments", "experiment_id", experiments)
        take("experiment_tags", "experiment_id", experiments)
    _pack(rows, prefixes)
    return found


def write_rows(url: str, prefix: str, home: str, tracked: Tracked) -> bool:
    """Write rows into a database of the same schema, all or none; False when all are there.

    `prefix` and `home` are the address of files and the id of the home from now on. Raises
    InputError when the database is of another schema, or holds other versions of these models.
    """
    from sqlalchemy import MetaData, create_engine, insert, text

    engine = create_engine(_driver(url))
    try:
        with engine.begin() as connection:
            check_schema(connection, url, tracked)
            metadata = MetaData()
            metadata.reflect(connection, only=TABLES)
            if not _lacking(connection, metadata, url, tracked):
                return False
            rows = _unpacked(connection, metadata, prefix, home, tracked)
            for name in TABLES:
                for start in range(0, len(rows.get(name, ())), _MANY):
                    part = rows[name][start : start + _MANY]
                    connection.execute(insert(metadata.tables[name]), part)
            if connection.dialect.name == "postgresql" and rows.get("experiments"):
                # Ids that were given by hand are unknown to the sequence that gives the next.
                connection.execute(
                    text(
                        "select setval(pg_get_serial_sequence('experiments', 'experiment_id'), "
                        "(select max(experiment_id) from experiments))"
                    )
                )
    finally:
        engine.dispose()
    return True


def are_lacking(url: str, tracked: Tracked) -> bool:
    """Whether `write_rows` would write; raises as it does."""
    with _snapshot(url) as (connection, metadata):
        check_schema(connection, url, tracked)
        return _lacking(connection, metadata, url, tracked)


def has_models(url: str) -> bool:
    """Whether a database holds any registered model or run."""
    from sqlalchemy import inspect, select

    with _snapshot(url) as (connection, metadata):
        there = set(inspect(connection).get_table_names())
        return any(
            name in there and connection.execute(select(metadata.tables[name]).limit(1)).first()
            for name in ("registered_models", "runs")
        )


def check_schema(connection: "Connection", url: str, tracked: Tracked) -> None:
    """Raise InputError unless a database has the schema that the rows are of."""
    there = _schema(connection)
    if there != tracked.schema:
        raise InputError(
            f"the backup's registry has MLflow's schema {tracked.schema}, and {shown(url)} has "
            f"{there}: restore with the version of mlflow that wrote the backup, then upgrade "
            "(mlflow db upgrade)"
        )


def _schema(connection: "Connection") -> str:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        return "none"
    return str(connection.execute(text("select version_num from alembic_version")).scalar())


def _lacking(connection: "Connection", metadata: "MetaData", url: str, tracked: Tracked) -> bool:
    """Whether the rows are to be written: none of them is there; raises where some are."""
    versions = tracked.rows.get("model_versions", [])
    names = {row["name"] for row in tracked.rows.get("registered_models", ())}
    runs = {row["run_uuid"] for row in tracked.rows.get("runs", ())}
    there = {
        (row["name"], row["version"]): row["run_id"]
        for row in _rows(connection, metadata.tables["model_versions"], "name", names)
    }
    known = {(row["name"], row["version"]): row["run_id"] for row in versions}
    models = list(_rows(connection, metadata.tables["registered_models"], "name", names))
    known_runs = list(_rows(connection, metadata.tables["runs"], "run_uuid", runs))
    if not models and not known_runs:
        return bool(known)
    if known.items() <= there.items() and len(known_runs) == len(runs):
        return False
    names_there = ", ".join(sorted(row["name"] for row in models)) or "runs of the backup"
    raise InputError(
        f"{shown(url)} holds {names_there} already, other versions than the backup's: nothing is "
        "overwritten; restore into an empty home or database"
    )


def _unpacked(
    connection: "Connection", metadata: "MetaData", prefix: str, home: str, tracked: Tracked
) -> _Rows:
    """The rows with addresses of this place, and experiments by the ids that they have here."""
    known = {
        row["name"]: row["experiment_id"]
        for row in _rows(connection, metadata.tables["experiments"], None, ())
    }
    taken, ids = set(known.values()), {}
    for row in tracked.rows.get("experiments", ()):
        wanted = row["experiment_id"]
        if row["name"] in known:
            ids[wanted] = known[row["name"]]
        else:
            ids[wanted] = wanted if wanted not in taken else max(taken) + 1
            taken.add(ids[wanted])
    there = set(known.values())
    found: _Rows = {}
    for table, rows in tracked.rows.items():
        for row in rows:
            changed = dict(row)
            if "experiment_id" in changed:
                changed["experiment_id"] = ids.get(row["experiment_id"], row["experiment_id"])
            if table in ("experiments", "experiment_tags") and changed["experiment_id"] in there:
                continue
            for column in _ADDRESSES.get(table, ()):
                if (changed[column] or "").startswith(ARTIFACTS):
                    rest = changed[column].removeprefix(ARTIFACTS)
                    changed[column] = prefix + (rest or ("/" if prefix.endswith(":") else ""))
            if table == "tags" and row["key"] == HOME_TAG:
                changed["value"] = home
            found.setdefault(table, []).append(changed)
    return found


def _pack(rows: _Rows, prefixes: Sequence[str]) -> None:
    """Take out of the rows what is of one place."""
    for table, columns in _ADDRESSES.items():
        for row in rows[table]:
            for column in columns:
                row[column] = _packed_address(row[column], prefixes, table)
    for row in rows["tags"]:
        if row["key"] == HOME_TAG:
            row["value"] = ""
        elif row["key"] == _SOURCE_NAME:
            row["value"] = base_name(row["value"])
    for row in rows["datasets"]:
        row["dataset_source"] = _source_of(row["dataset_source"])


def _packed_address(value: str | None, prefixes: Sequence[str], table: str) -> str | None:
    if value is None or _LOGGED.fullmatch(value):
        return value
    for prefix in prefixes:
        rest = value.removeprefix(prefix)
        if rest != value and rest[:1] in ("", "/"):
            return ARTIFACTS + rest.rstrip("/")
    raise InputError(
        f"{table} of MLflow keep files in {value}, outside of {prefixes[0]}, where this home has "
        "them: such a version can't be backed up; delete it in MLflow, or bring its files there"
    )


def _source_of(text: str) -> str:
    """Where a data set was read, without its folder."""
    try:
        source = json.loads(text)
    except ValueError:
        return text
    return json.dumps(
        {
            name: base_name(value) if isinstance(value, str) and "/" in value else value
            for name, value in source.items()
        }
        if isinstance(source, dict)
        else source
    )


def _is_wanted(row: Mapping[str, Any], wanted: Mapping[str, Collection[str]] | None) -> bool:
    return wanted is None or str(row["version"]) in wanted[row["name"]]


def _rows(
    connection: "Connection", table: "Table", column: str | None, values: Collection[Any]
) -> Iterator[dict[str, Any]]:
    """The rows of a table whose column has one of these values; without a column, all."""
    from sqlalchemy import select

    if column is None:
        for row in connection.execute(select(table)):
            yield dict(row._mapping)
        return
    ordered: Sequence[Any] = sorted(values)
    for start in range(0, len(ordered), _MANY):
        part = ordered[start : start + _MANY]
        for row in connection.execute(select(table).where(table.c[column].in_(part))):
            yield dict(row._mapping)


@contextmanager
def _snapshot(url: str) -> "Iterator[tuple[Connection, MetaData]]":
    """A connection that sees the database as it stands at one moment, and its tables."""
    from sqlalchemy import MetaData, inspect

    engine: Engine = read_only_engine(url, seconds=_SECONDS)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                connection.exec_driver_sql("BEGIN")
            there = set(inspect(connection).get_table_names())
            metadata = MetaData()
            metadata.reflect(connection, only=[name for name in TABLES if name in there])
            yield connection, metadata
    finally:
        engine.dispose()


def _driver(url: str) -> Any:
    from sqlalchemy import make_url

    address = make_url(url)
    return (
        address.set(drivername="postgresql+psycopg2")
        if address.drivername == "postgresql"
        else address
    )
