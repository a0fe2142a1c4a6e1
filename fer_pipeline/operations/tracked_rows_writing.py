"""Rows of MLflow's tables put into another database of the same schema, all or none of them.

What rows there are, and how they are read, stands in `tracked_rows.py`.
"""

from typing import TYPE_CHECKING

from fer_pipeline.core.errors import InputError
from fer_pipeline.moved_home import ADDRESSES, HOME_TAG
from fer_pipeline.operations.databases import shown, told
from fer_pipeline.operations.portable import ARTIFACTS
from fer_pipeline.operations.tracked_rows import (
    MANY,
    TABLES,
    Rows,
    Tracked,
    rows_of,
    schema_of,
    snapshot,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

_WAIT_SECONDS = 60
"""How long a SQLite file that someone writes is waited for."""


def write_rows(url: str, prefix: str, home: str, tracked: Tracked) -> None:
    """Write rows into a database of the same schema, all or none; nothing when all are there.

    `prefix` and `home` are the address of files and the id of the home from now on. Raises
    InputError when the database is of another schema, or holds other versions of these models.
    """
    from sqlalchemy import MetaData, insert, text

    engine = _engine(url)
    try:
        with told(url, "written"), engine.begin() as connection:
            check_schema(connection, url, tracked)
            metadata = MetaData()
            metadata.reflect(connection, only=TABLES)
            if not _lacking(connection, metadata, url, tracked):
                return
            rows = _unpacked(connection, metadata, prefix, home, tracked)
            for name in TABLES:
                for start in range(0, len(rows.get(name, ())), MANY):
                    part = rows[name][start : start + MANY]
                    connection.execute(insert(metadata.tables[name]), part)
            if connection.dialect.name == "postgresql" and rows.get("experiments"):
                # Ids that were given by hand are unknown to the sequence that gives the next; one
                # that it has given to someone else meanwhile isn't seen here yet.
                connection.execute(
                    text(
                        "select setval(name, greatest(nextval(name), highest)) from (select "
                        "pg_get_serial_sequence('experiments', 'experiment_id')::regclass as name, "
                        "max(experiment_id) as highest from experiments) as known"
                    )
                )
    finally:
        engine.dispose()


def are_lacking(url: str, tracked: Tracked) -> bool:
    """Whether `write_rows` would write; raises as it does."""
    with snapshot(url) as (connection, metadata):
        check_schema(connection, url, tracked)
        return _lacking(connection, metadata, url, tracked)


def has_models(url: str) -> bool:
    """Whether a database holds any registered model or run."""
    from sqlalchemy import inspect, select

    with snapshot(url) as (connection, metadata):
        there = set(inspect(connection).get_table_names())
        return any(
            name in there and connection.execute(select(metadata.tables[name]).limit(1)).first()
            for name in ("registered_models", "runs")
        )


def check_schema(connection: "Connection", url: str, tracked: Tracked) -> None:
    """Raise InputError unless a database has the schema that the rows are of."""
    there = schema_of(connection)
    if there != tracked.schema:
        raise InputError(
            f"the backup's registry has MLflow's schema {tracked.schema}, and {shown(url)} has "
            f"{there}: restore with the version of mlflow that wrote the backup, then upgrade "
            "(mlflow db upgrade)"
        )


def _lacking(connection: "Connection", metadata: "MetaData", url: str, tracked: Tracked) -> bool:
    """Whether the rows are to be written: none of them is there; raises where some are."""
    versions = tracked.rows.get("model_versions", [])
    names = {row["name"] for row in tracked.rows.get("registered_models", ())}
    runs = {row["run_uuid"] for row in tracked.rows.get("runs", ())}
    there = {
        (row["name"], row["version"]): row["run_id"]
        for row in rows_of(connection, metadata.tables["model_versions"], "name", names)
    }
    known = {(row["name"], row["version"]): row["run_id"] for row in versions}
    models = list(rows_of(connection, metadata.tables["registered_models"], "name", names))
    known_runs = list(rows_of(connection, metadata.tables["runs"], "run_uuid", runs))
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
) -> Rows:
    """The rows with addresses of this place, and experiments and data sets by their ids here."""
    known = {
        row["name"]: row["experiment_id"]
        for row in rows_of(connection, metadata.tables["experiments"], None, ())
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
    data_sets = {
        (row["experiment_id"], row["name"], row["digest"]): row["dataset_uuid"]
        for row in rows_of(connection, metadata.tables["datasets"], "experiment_id", there)
    }
    same_data: dict[str, str] = {}
    """Data sets that others, who trained on the same, have logged here already."""
    for row in tracked.rows.get("datasets", ()):
        key = ids.get(row["experiment_id"]), row["name"], row["digest"]
        if key in data_sets:
            same_data[row["dataset_uuid"]] = data_sets[key]
    found: Rows = {}
    for table, rows in tracked.rows.items():
        for row in rows:
            changed = dict(row)
            if "experiment_id" in changed:
                changed["experiment_id"] = ids.get(row["experiment_id"], row["experiment_id"])
            if table in ("experiments", "experiment_tags") and changed["experiment_id"] in there:
                continue
            if table == "datasets" and row["dataset_uuid"] in same_data:
                continue
            if table == "inputs":
                changed["source_id"] = same_data.get(row["source_id"], row["source_id"])
            for column in ADDRESSES.get(table, ()):
                if (changed[column] or "").startswith(ARTIFACTS):
                    rest = changed[column].removeprefix(ARTIFACTS)
                    changed[column] = prefix + (rest or ("/" if prefix.endswith(":") else ""))
            if table == "tags" and row["key"] == HOME_TAG:
                changed["value"] = home
            found.setdefault(table, []).append(changed)
    return found


def _engine(url: str) -> "Engine":
    from sqlalchemy import create_engine, make_url

    address = make_url(url)
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg2")
    waits = {"timeout": _WAIT_SECONDS} if address.get_backend_name() == "sqlite" else {}
    return create_engine(address, connect_args=waits)
