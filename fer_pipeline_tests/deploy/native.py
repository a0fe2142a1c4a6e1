"""Runs the services of docker-compose.yml as processes of this machine.

Commands, variables, health checks and configuration come from the committed files. Only what the
containers isolate is replaced: ports by free ones, service names by the loopback address, and
mounted folders by folders of the test.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fer_pipeline_tests.system import free_ports, require_program

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a pass:w/rd@%1"  # noqa: S105
_PORTS = (3000, 4000, 5000, 5432)
_VARIABLE = re.compile(r"\$\{(\w+)(?::\?([^}]*))?\}")


class MissingVariableError(KeyError):
    """A variable that docker-compose.yml asks for has no value."""


def compose_text() -> str:
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return docker-compose.yml with its ${NAME:?message} replaced, as docker compose does it."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1], "")
        if not found:
            raise MissingVariableError(match[2] or match[1])
        return found

    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value, compose_text()))
    return loaded


def variables_asked_for() -> set[str]:
    return {match[1] for match in _VARIABLE.finditer(compose_text())}


@dataclass(frozen=True)
class Service:
    process: "subprocess.Popen[bytes]"
    log: Path

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and every child of its group, if any is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def log_tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


class Machine:
    """The services of one compose file, each a process group of its own."""

    def __init__(self, compose: Mapping[str, Any], folder: Path, data: Path) -> None:
        self.compose = compose
        self.folder = folder
        self.ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self.paths = {
            "/fer-home": folder / "fer-home",
            "/mlflow-artifacts": folder / "mlflow-artifacts",
            "/opt/fer-pipeline": folder / "opt",
            "/data": data,
        }
        self.running: dict[str, Service] = {}
        self._postgresql = require_program("initdb").parent
        self._lay_out()

    def _lay_out(self) -> None:
        home, opt = self.paths["/fer-home"] / "dagster", self.paths["/opt/fer-pipeline"]
        for made in (home, opt, self.paths["/mlflow-artifacts"]):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
        workspace = (ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8")
        (opt / "workspace.yaml").write_text(self.native(workspace), encoding="utf-8")

    def native(self, text: str) -> str:
        """Return the text with this machine's ports, addresses and folders."""
        for container_path, path in self.paths.items():
            text = re.sub(rf"(?<![\w/.]){container_path}(?![\w-])", str(path), text)
        names = "|".join(self.compose["services"])
        # A name is an address only before a port or alone after "host:"; --allowed-hosts keeps it.
        text = re.sub(rf"(?<=[@/])({names})(?=:\d)|(?<=host: )({names})\b", "127.0.0.1", text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        ports = "|".join(str(port) for port in _PORTS)
        return re.sub(rf"(?<!\d)({ports})(?!\d)", lambda m: str(self.ports[int(m[1])]), text)

    def environment(self, service: str) -> dict[str, str]:
        """Return the variables of a service, and of this machine's only what programs need."""
        names = set(self.compose["services"])
        declared = {
            key: "127.0.0.1" if value in names and key.endswith("_HOST") else self.native(value)
            for key, value in self.compose["services"][service].get("environment", {}).items()
        }
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        programs = [str(Path(sys.executable).parent), str(self._postgresql), os.defpath]
        own = {"PATH": ":".join(programs), "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        return kept | own | declared

    def start(self, service: str) -> None:
        command = [self.native(word) for word in self.compose["services"][service]["command"]]
        self._start(service, command, self.environment(service))

    def start_postgres(self) -> None:
        """Do what the postgres image does: cluster, init scripts, server."""
        declared = self.compose["services"]["postgres"]["environment"]
        user, password = declared["POSTGRES_USER"], declared["POSTGRES_PASSWORD"]
        owner = _server_account()
        base = self.folder / "postgres"
        base.mkdir()
        secret = base / "password"
        secret.write_text(password, encoding="utf-8")
        if owner is not None:
            for path in (base, secret):
                shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
        initdb = [self._postgresql / "initdb", "-D", base / "data", "-U", user, "--no-sync"]
        initdb += ["-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, **_account(owner))
        server = [self._postgresql / "postgres", "-D", base / "data", "-p", self.ports[5432]]
        server += ["-h", "127.0.0.1", "-k", "", "-F"]
        self._start("postgres", [str(word) for word in server], {"PATH": os.defpath}, owner)
        client = {
            **self.environment("postgres"),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.ports[5432]),
            "PGPASSWORD": password,
        }
        self.wait_until_healthy("postgres", 90)
        for script in sorted((ROOT / "deploy" / "postgres-init").glob("*.sh")):
            subprocess.run([script], check=True, env=client, capture_output=True)

    def _start(
        self, name: str, command: list[str], environment: dict[str, str], owner: str | None = None
    ) -> None:
        log = self.folder / f"{name}.log"
        # A command name is looked up in the caller's PATH unless it is resolved here.
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, f"{command[0]} is not installed"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [program, *command[1:]],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_account(owner),
            )
        self.running[name] = Service(process, log)

    def wait_until_healthy(self, service: str, seconds: float) -> None:
        """Run the health check of a service until it passes."""
        test = self.compose["services"][service]["healthcheck"]["test"]
        assert test[0] == "CMD"
        command = [self.native(word) for word in test[1:]]
        environment = self.environment(service)
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None, f"{command[0]} is not installed"
        deadline = time.monotonic() + seconds
        while True:
            done = subprocess.run(
                [program, *command[1:]],
                env=environment,
                cwd=self.folder,
                capture_output=True,
                timeout=30,
                check=False,
            )
            if done.returncode == 0:
                return
            running = self.running[service]
            ended = running.process.poll() is not None
            assert not ended, f"{service} ended by itself:\n{running.log_tail()}"
            late = time.monotonic() > deadline
            assert not late, f"{service} is not healthy: {done.stderr!r}\n{running.log_tail()}"
            time.sleep(0.5)

    def stop(self) -> None:
        """End every process: PostgreSQL last, which the others hold connections to."""
        clients = [service for name, service in self.running.items() if name != "postgres"]
        servers = [service for name, service in self.running.items() if name == "postgres"]
        _end(clients, signal.SIGTERM)
        _end(servers, signal.SIGINT)


@contextmanager
def machine_with_postgresql() -> Iterator[Machine]:
    """A machine in a folder of its own, on which PostgreSQL runs and nothing else yet."""
    # Not pytest's own folder: only its owner may enter it, and PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="fer-services-"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    variables = {
        "POSTGRES_PASSWORD": PASSWORD,
        "DATA_DIR": str(data),
        "FER_DATASET": "affectnet",
    }
    try:
        machine = Machine(load_compose(variables), folder, data)
        try:
            machine.start_postgres()
            yield machine
        finally:
            machine.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(services: list[Service], gentle: signal.Signals) -> None:
    for service in services:
        service.signal(gentle)
    deadline = time.monotonic() + 5
    for service in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        # Workers of a server that ended can outlive it, in its group.
        service.signal(signal.SIGKILL)
        service.process.wait(timeout=8)


def _server_account() -> str | None:
    """Return who runs the PostgreSQL server, which refuses root; None is the current user."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def _account(owner: str | None) -> dict[str, Any]:
    if owner is None:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}
