"""The services of docker-compose.yml as processes, in a folder of a test's own.

How they are run is deploy/up_native.py's business, which `make up-native` runs.
"""

import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_pipeline_tests.system import free_ports, require_program

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a pass:w/rd@%1-80"  # noqa: S105
_ASKED_FOR = re.compile(r"\$\{(\w+):\?")


# As `python deploy/up_native.py` finds what belongs to it.
sys.path.insert(0, str(ROOT / "deploy"))
up_native = importlib.import_module("up_native")


def variables_asked_for() -> set[str]:
    """The variables of the compose file that have no default."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return set(_ASKED_FOR.findall(text))


@contextmanager
def machine_of_its_own() -> Iterator[up_native.Machine]:
    """A machine in a folder of its own, on which nothing runs yet; all ends with the block."""
    require_program("initdb")
    # Not pytest's own folder: only its owner may enter it, and PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="fer-services-"))
    folder.chmod(0o755)
    try:
        (folder / "data").mkdir()
        users = folder / "users"
        users.write_text("", encoding="utf-8")
        https, http = free_ports(2)
        variables = {
            "POSTGRES_PASSWORD": PASSWORD,
            "FER_SERVE_TOKEN": "a-token",
            "FER_REVIEW_PASSWORD": "a password",
            "FER_USERS_FILE": str(users),
            "DATA_DIR": str(folder / "data"),
            "FER_DATASET": "affectnet",
            "FER_HTTPS_PORT": str(https),
            "FER_HTTP_PORT": str(http),
        }
        machine = up_native.Machine(variables, folder)
        try:
            yield machine
        finally:
            machine.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def machine_with_postgresql() -> Iterator[up_native.Machine]:
    """As `machine_of_its_own`, PostgreSQL running."""
    with machine_of_its_own() as machine:
        machine.up(["postgres"], 90)
        yield machine
