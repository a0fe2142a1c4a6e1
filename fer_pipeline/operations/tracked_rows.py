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
from fer_pipeline.moved_home import ADDRESSES, HOME_TAG
from fer_pipeline.operations.databases import read_only_engine, told
from fer_pipeline.operations.portable import ARTIFACTS, base_name
from fer_pipeline.tracking import registered_name

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
_LOGGED = re.compile(r"models:/(m-\w+)")
_SOURCE_NAME = "mlflow.source.name"
_DELETED = "Deleted_Internal"
"""What MLflow says of a version that was deleted."""
_SECONDS = 120
MANY = 500
Rows = dict[str, list[dict[str, Any]]]


@dataclass
class Tracked:
    """Rows by table, the schema they are of, and the versions of each registered model."""

    schema: str
    rows: Rows = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions of each registered model."""
        found: dict[str, list[int]] = {}
        for row in self.rows.get("model_versions", ()):
            found.setdefault(row["name"], []).append(row["version"])
        return {name: sorted(numbers) for name, numbers in found.items()}

    def files(self) -> list[str]:
        """Folders of artifacts, relative to where MLflow keeps them."""
        return sorted({*self.model_files(), *self._folders("runs", "artifact_uri")})

    def model_files(self) -> list[str]:
        """Those of them that hold the files of the versions' models."""
        return sorted(self._folders("logged_models", "artifact_location"))

    def _folders(self, table: str, column: str) -> set[str]:
        found = [row[column] for row in self.rows.get(table, ())]
        return {text.removeprefix(ARTIFACTS).strip("/") for text in found if text is not None}

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
    with snapshot(url) as (connection, tables):
        found = Tracked(schema_of(connection))
        rows = found.rows

        def take(table: str, column: str, values: Collection[Any]) -> list[dict[str, Any]]:
            rows[table] = list(rows_of(connection, tables.tables[table], column, values))
            return rows[table]

        names = [
            row["name"]
            for row in rows_of(connection, tables.tables["registered_models"], None, ())
            if row["name"].startswith(registered_name(""))
            and (wanted is None or row["name"] in wanted)
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


def schema_of(connection: "Connection") -> str:
    """The revision of MLflow's tables; raises InputError in a database that has none."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        raise InputError(
            f"{connection.engine.url.render_as_string()} holds no tables of MLflow: start its "
            "server once, which makes them, or see that FER_MLFLOW_DATABASE names its database"
        )
    return str(connection.execute(text("select version_num from alembic_version")).scalar())


def _pack(rows: Rows, prefixes: Sequence[str]) -> None:
    """Take out of the rows what is of one place."""
    for table, columns in ADDRESSES.items():
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


def rows_of(
    connection: "Connection", table: "Table", column: str | None, values: Collection[Any]
) -> Iterator[dict[str, Any]]:
    """The rows of a table whose column has one of these values; without a column, all."""
    from sqlalchemy import select

    if column is None:
        for row in connection.execute(select(table)):
            yield dict(row._mapping)
        return
    ordered: Sequence[Any] = sorted(values)
    for start in range(0, len(ordered), MANY):
        part = ordered[start : start + MANY]
        for row in connection.execute(select(table).where(table.c[column].in_(part))):
            yield dict(row._mapping)


@contextmanager
def snapshot(url: str) -> "Iterator[tuple[Connection, MetaData]]":
    """A connection that sees the database as it stands at one moment, and its tables."""
    from sqlalchemy import MetaData, inspect

    engine: Engine = read_only_engine(url, seconds=_SECONDS)
    try:
        with told(url, "read"), engine.connect() as connection:
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
