"""One machine's services: laid out, started in order, watched, ended.

What containers isolate is replaced: service names by 127.0.0.1, ports by free ones, volumes and
mounts by folders and files under one folder.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from native.compose import (
    ROOT,
    filled,
    free_ports,
    load_compose,
    ports_of,
    services_in_order,
    unfilled_compose,
)
from native.processes import (
    Service,
    account,
    end,
    note,
    postgresql,
    program,
    server_account,
    started,
    write_secret,
)

PROXY_PORTS = {443: 8443, 80: 8080}
"""Ports below 1024 are root's; these are what the proxy listens on here unless .env says."""

_BAKED = {
    f"/opt/fer-pipeline/{name}": f"deploy/{name}"
    for name in ("workspace.yaml", "mlflow-logging.json")
}
"""Files that the image holds, see deploy/Dockerfile."""
_POSTGRES = "postgres"
_RESTART_SECONDS = (1.0, 2.0, 5.0, 10.0)


class Machine:
    """The services of one compose file as processes, each a group of its own."""

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        """Lay out the folders and files of the services under `folder`.

        `variables` are those of an .env file. Raises MissingVariableError for one that lacks,
        ValueError for a port that is no number, FileNotFoundError for a file that isn't there.
        """
        self.variables = dict(variables)
        self.compose = load_compose(variables)
        self._unfilled = unfilled_compose()
        self.folder = folder
        inner = sorted(ports_of(self.compose))
        self.ports = dict(zip(inner, free_ports(len(inner)), strict=True))
        for port, usual in PROXY_PORTS.items():
            name = "FER_HTTPS_PORT" if port == 443 else "FER_HTTP_PORT"
            given = variables.get(name) or str(usual)
            if not given.isdecimal():
                raise ValueError(f"{name}={given} is no port")
            self.ports[port] = int(given)
        self.paths: dict[str, Path] = {}
        self.running: dict[str, Service] = {}
        self.held: set[str] = set()
        """Services that stay down when they end, until they are taken out of here."""
        self.added: dict[str, dict[str, str]] = {}
        """Variables that services get besides their own."""
        self._ending = threading.Event()
        self._lay_out()

    def services(self) -> list[str]:
        """The services without a profile, each after those it waits for."""
        return services_in_order(self.compose)

    def native(self, text: str) -> str:
        """A text of ours with this machine's ports, addresses and folders."""
        for inside in sorted(self.paths, key=len, reverse=True):
            text = re.sub(rf"(?<![\w/.:]){inside}(?![\w-])", str(self.paths[inside]), text)
        names = "|".join(self.compose["services"])
        # A name is an address only before a port or alone after "host:"; --allowed-hosts keeps it.
        text = re.sub(rf"(?<![\w-])({names})(?=:\d)|(?<=host: )({names})\b", "127.0.0.1", text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        ports = "|".join(map(str, self.ports))
        return re.sub(rf"(?<![\d.])({ports})(?!\d)", lambda m: str(self.ports[int(m[1])]), text)

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service, and of this machine's only what programs need."""
        names = set(self.compose["services"])
        declared = {
            key: "127.0.0.1" if value in names and key.endswith("_HOST") else value
            for key, value in self._said_of(service, "environment", {}).items()
            if key not in ("HOME", "XDG_CONFIG_HOME")
        }
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        programs = [str(Path(sys.executable).parent), str(postgresql()), os.defpath]
        own = {"PATH": ":".join(programs), "HOME": str(self.folder / "tmp")}
        if "OMP_NUM_THREADS" in os.environ:
            own["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        return kept | own | declared | self.added.get(service, {})

    def _said_of(self, service: str, key: str, missing: Any) -> Any:
        """What the file says of a service, made native where no variable says it."""
        part = self._unfilled["services"][service].get(key, missing)
        return filled(part, self.variables, self.native)

    def start(self, service: str) -> None:
        """Start a service; PostgreSQL's cluster and databases are made the first time."""
        if service == _POSTGRES:
            self._start_postgres()
            return
        words = [str(word) for word in self._said_of(service, "command", [])]
        self._start(service, words, self.environment(service))

    def check(self, service: str) -> "subprocess.CompletedProcess[bytes]":
        """Run the health check of a service once."""
        test = self._said_of(service, "healthcheck", {})["test"]
        environment = self.environment(service)
        command = [str(word) for word in test[1:]]
        try:
            return subprocess.run(
                [program(command[0], environment), *command[1:]],
                env=environment,
                cwd=self.folder / "tmp",
                capture_output=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, b"", b"no answer")

    def wait_until_healthy(self, service: str, seconds: float) -> None:
        """Wait for the health check of a service; raises RuntimeError when it doesn't pass."""
        deadline = time.monotonic() + seconds
        while (done := self.check(service)).returncode:
            running = self.running[service]
            if running.process.poll() is not None and not self._is_watched():
                raise RuntimeError(f"{service} ended by itself:\n{running.log_tail()}")
            if time.monotonic() > deadline:
                said = done.stderr.decode(errors="replace")
                raise RuntimeError(f"{service} isn't healthy: {said}\n{running.log_tail()}")
            time.sleep(0.5)

    def up(self, services: Sequence[str] | None = None, seconds: float = 240) -> None:
        """Start services in order, each when those it waits for are healthy."""
        chosen = self.services() if services is None else list(services)
        healthy: set[str] = set()
        for name in chosen:
            for awaited in self.compose["services"][name].get("depends_on", {}):
                if awaited in self.running and awaited not in healthy:
                    self.wait_until_healthy(awaited, seconds)
                    healthy.add(awaited)
            self.start(name)
        for name in chosen:
            if name not in healthy:
                self.wait_until_healthy(name, seconds)

    def watch(self) -> None:
        """Start services anew that ended, as `restart: unless-stopped` does, in a thread."""
        self._watcher = threading.Thread(target=self._restart_ended, daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End every process: PostgreSQL last, which the others hold connections to."""
        self._ending.set()
        if self._is_watched():
            self._watcher.join(30)
        clients = [one for name, one in self.running.items() if name != _POSTGRES]
        servers = [one for name, one in self.running.items() if name == _POSTGRES]
        end(clients, signal.SIGTERM)
        end(servers, signal.SIGINT)
        note(self.folder, {})

    def _is_watched(self) -> bool:
        return hasattr(self, "_watcher")

    def _restart_ended(self) -> None:
        while not self._ending.wait(0.5):
            for name, service in list(self.running.items()):
                if name in self.held or service.process.poll() is None:
                    continue
                # Workers of a server that ended can outlive it, in its group.
                service.signal(signal.SIGKILL)
                calm = time.monotonic() - service.started > 60
                count = 0 if calm else service.restarts
                wait = _RESTART_SECONDS[min(count, len(_RESTART_SECONDS) - 1)]
                if self._ending.wait(wait):
                    return
                if name not in self.held:
                    try:
                        self.start(name)
                    except (OSError, RuntimeError) as error:
                        # Tried again: the others need this thread.
                        print(f"{name} can't be started: {error}", file=sys.stderr, flush=True)
                    self.running[name].restarts = count + 1

    def _lay_out(self) -> None:
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        mounts = [
            mount.rsplit(":", 2) if mount.endswith(":ro") else [*mount.split(":"), ""]
            for service in self.compose["services"].values()
            for mount in service.get("volumes", [])
        ]
        files = []
        for source, target, _ in mounts:
            if source in self.compose["volumes"]:
                self.paths[target] = self.folder / source
                if source != _POSTGRES:
                    (self.folder / source).mkdir(exist_ok=True)
            elif (ROOT / source).is_relative_to(ROOT / "deploy") and (ROOT / source).is_file():
                files.append((ROOT / source, target))
            elif (ROOT / source).exists():
                self.paths[target] = (ROOT / source).resolve()
            else:
                raise FileNotFoundError(f"{source} isn't there: make it, or name another in .env")
        files += [(ROOT / source, target) for target, source in _BAKED.items()]
        self.paths |= {target: self._place_of(target) for _, target in files}
        for source, target in files:
            place = self.paths[target]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.native(source.read_text(encoding="utf-8")), encoding="utf-8")

    def _place_of(self, target: str) -> Path:
        for inside, path in self.paths.items():
            if target.startswith(f"{inside}/"):
                return path / target.removeprefix(f"{inside}/")
        return self.folder / "files" / target.lstrip("/")

    def _start_postgres(self) -> None:
        """Do what the postgres image does: cluster, init scripts, server."""
        declared = self.compose["services"][_POSTGRES]["environment"]
        user, password = declared["POSTGRES_USER"], declared["POSTGRES_PASSWORD"]
        owner = server_account()
        data = self.folder / _POSTGRES / "data"
        made = self.folder / _POSTGRES / "made"
        bin_folder = postgresql()
        if not made.exists():
            shutil.rmtree(data.parent, ignore_errors=True)
            data.parent.mkdir()
            secret = data.parent / "password"
            write_secret(secret, password)
            if owner is not None:
                for path in (data.parent, secret):
                    shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
            initdb = [bin_folder / "initdb", "-D", data, "-U", user, "-A", "scram-sha-256"]
            initdb += [f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
            _done(initdb, **account(owner))
            secret.unlink()
        port = self.ports[5432]
        server = [bin_folder / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", ""]
        words = [str(word) for word in server]
        self._start(_POSTGRES, words, {"PATH": os.defpath, "LANG": "C"}, owner)
        if made.exists():
            return
        client = {
            **self.environment(_POSTGRES),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": user,
            "PGPASSWORD": password,
        }
        ready: list[str | Path] = [
            bin_folder / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
        ]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, env=client, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"PostgreSQL didn't start:\n{self.running[_POSTGRES].log_tail()}"
                )
            time.sleep(0.2)
        for script in sorted((ROOT / "deploy" / "postgres-init").glob("*.sh")):
            _done([script], env=client)
        made.touch()

    def _start(
        self, name: str, command: list[str], environment: dict[str, str], owner: str | None = None
    ) -> None:
        log = self.folder / "logs" / f"{name}.log"
        self.running[name] = started(command, environment, self.folder / "tmp", log, owner)
        note(self.folder, self.running)


def _done(command: Sequence[str | Path], **options: Any) -> None:
    """Run a program to its end; raises RuntimeError with what it said when that is a bad one."""
    ended = subprocess.run(command, capture_output=True, check=False, **options)
    if ended.returncode:
        said = " ".join(ended.stderr.decode(errors="replace").split())
        raise RuntimeError(f"{Path(command[0]).name} ended with {ended.returncode}: {said}")
