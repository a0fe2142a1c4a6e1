"""What some tests need of this machine: a browser, a PostgreSQL server, ports for servers.

Finding them belongs here; starting them belongs to the tests that need them.
"""

import os
import re
import shutil
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

REQUIRED = "FER_REQUIRE_SYSTEM_TESTS"
POSTGRESQL_ROOT = Path("/usr/lib/postgresql")


def find_program(name: str, postgresql_root: Path = POSTGRESQL_ROOT) -> Path | None:
    """Return the path of a program, or None.

    PATH comes first, then the newest PostgreSQL of ``postgresql_root``: Debian keeps its server
    programs out of PATH.
    """
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    found = [path for path in postgresql_root.glob(f"*/bin/{name}") if os.access(path, os.X_OK)]
    return max(found, key=_postgresql_version, default=None)


def require_program(name: str) -> Path:
    """Return the path of a program, or end the test.

    The test is skipped with a reason, or fails where FER_REQUIRE_SYSTEM_TESTS is 1, so that a
    machine meant to run every test cannot pass by lacking a program.
    """
    found = find_program(name)
    if found is not None:
        return found
    reason = f"the program {name} is not installed"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}, and {REQUIRED}=1 asks for every system test")
    pytest.skip(reason)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nothing listens."""
    # All are held open together, so that none is given out twice.
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


def answers(address: str) -> bool:
    """Whether a server on this machine says 200 to a request."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def _postgresql_version(program: Path) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", program.parent.parent.name))
