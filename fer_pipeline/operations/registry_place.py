"""Where the registry of a home is kept: the database of MLflow, and the folder of its files."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.storage import Location
from fer_pipeline.moved_home import artifact_root
from fer_pipeline.operations.databases import mlflow_database
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import database_file

_SERVED = "mlflow-artifacts:"
"""What addresses begin with whose files a server hands out."""


@dataclass(frozen=True)
class RegistryPlace:
    """A database address, the folder of files, and what addresses in the database begin with.

    The first of `prefixes` is what new rows get.
    """

    database: str
    files: Location
    prefixes: tuple[str, ...]


def registry_place(settings: Settings) -> RegistryPlace | None:
    """Where the registry is; None for a home that has no database of it yet.

    Raises InputError for a server whose database and files aren't named, and for a database and
    files that are named without their server.
    """
    if settings.mlflow_tracking_uri is not None:
        database, files = mlflow_database(settings), settings.mlflow_files
        if settings.mlflow_database is None or database is None or files is None:
            raise InputError(
                "MLflow's client can't keep the ids of runs and versions: give "
                "FER_MLFLOW_DATABASE the server's --backend-store-uri and FER_MLFLOW_FILES its "
                "--artifacts-destination"
            )
        own = files.as_uri() if isinstance(files, Path) else str(files)
        return RegistryPlace(database, files, (_SERVED, own, str(files)))
    if settings.mlflow_database is not None:
        raise InputError(
            "FER_MLFLOW_DATABASE names the database of a server that the home doesn't use: give "
            "FER_MLFLOW_TRACKING_URI the server's address too, or leave out FER_MLFLOW_DATABASE "
            "and FER_MLFLOW_FILES"
        )
    if not database_file(settings).is_file():
        return None
    # Of a home that was moved the database is brought up to date first.
    tracking.connect(settings)
    return _in_home(settings)


def made_registry_place(settings: Settings) -> RegistryPlace:
    """Where the registry is; in a home without one its empty database is made first."""
    found = registry_place(settings)
    if found is None:
        # What it says of tables that it makes is nobody's concern here.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        tracking.connect(settings).search_experiments(max_results=1)
        found = _in_home(settings)
    return found


def _in_home(settings: Settings) -> RegistryPlace:
    database = mlflow_database(settings)
    return RegistryPlace(str(database), settings.mlflow_artifacts, (artifact_root(settings),))
