"""A PostgreSQL server of a test's own, started as docker-compose.yml starts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from fer_pipeline_tests.deploy.native import PASSWORD, machine_with_postgresql


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database; the test is skipped where PostgreSQL isn't installed."""
    with machine_with_postgresql() as machine:
        port = machine.ports[5432]
        yield f"postgresql://fer:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
