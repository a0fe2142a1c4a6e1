"""A PostgreSQL server of a test's own, started as docker-compose.yml starts it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from fer_pipeline_tests.deploy.native import Machine, load_compose

_PASSWORD = "a pass:w/rd@%1"  # noqa: S105


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database; the test is skipped where PostgreSQL isn't installed."""
    # Not pytest's own folder: only its owner may enter it, and PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="fer-postgresql-"))
    folder.chmod(0o755)
    variables = {
        "POSTGRES_PASSWORD": _PASSWORD,
        "DATA_DIR": str(folder),
        "FER_DATASET": "affectnet",
    }
    try:
        machine = Machine(load_compose(variables), folder, folder)
        try:
            machine.start_postgres()
            port = machine.ports[5432]
            yield f"postgresql://fer:{quote(_PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            machine.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
