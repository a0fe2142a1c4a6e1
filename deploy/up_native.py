"""Runs the services of docker-compose.yml as processes of this machine, without Docker.

    python deploy/up_native.py [--folder fer-server] [--env .env]

Commands, variables, health checks, mounts and restarts are those of the compose file; only what
containers isolate is replaced: service names by 127.0.0.1, ports by free ones (the proxy's stay),
volumes by folders under --folder. PostgreSQL and Caddy have to be installed. Without an --env file
one is made, with secrets of its own and one user, whose password is told once. Ctrl-C ends all.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
POSTGRESQL_ROOT = Path("/usr/lib/postgresql")
PROXY_PORTS = {443: 8443, 80: 8080}
"""Ports below 1024 are root's; these are what the proxy listens on here unless .env says."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
_BAKED = {"/opt/fer-pipeline/workspace.yaml": "deploy/workspace.yaml"}
"""Files that the image holds, see deploy/Dockerfile."""
_POSTGRES = "postgres"
_RESTART_SECONDS = (1.0, 2.0, 5.0, 10.0)
_END_SECONDS = 20.0
_PIDS = "processes.json"


class MissingVariableError(KeyError):
    """A variable that docker-compose.yml asks for has no value."""


def load_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """docker-compose.yml with its `${NAME:?message}` and `${NAME:-default}` replaced."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1], "")
        if not found and match[2] == "?":
            raise MissingVariableError(match[3] or match[1])
        return found or (match[3] if match[2] == "-" else "")

    def filled(part: Any) -> Any:
        if isinstance(part, str):
            return _VARIABLE.sub(value, part)
        if isinstance(part, list):
            return [filled(one) for one in part]
        if isinstance(part, dict):
            return {name: filled(one) for name, one in part.items()}
        return part

    # As docker compose does it: a value may hold what YAML would take for its own.
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = filled(yaml.safe_load(text))
    return loaded


def read_env(path: Path) -> dict[str, str]:
    """The variables of an .env file: lines `NAME=value`, quotes around a value taken off."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, mark, value = line.partition("=")
        if mark and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip().strip("'\"")
    return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nothing listens, all different."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


@dataclass
class Service:
    """One service: its process, its log, and how often it was started anew."""

    process: "subprocess.Popen[bytes]"
    log: Path
    restarts: int = 0
    started: float = field(default_factory=time.monotonic)

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and every child of its group, if any is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def log_tail(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


class Machine:
    """The services of one compose file as processes, each a group of its own."""

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        """Lay out the folders and files of the services under `folder`.

        `variables` are those of an .env file. Raises MissingVariableError for one that lacks.
        """
        self.variables = dict(variables)
        self.compose = load_compose(variables)
        self.folder = folder
        inner = sorted(_ports_of(self.compose))
        self.ports = dict(zip(inner, free_ports(len(inner)), strict=True))
        for port, usual in PROXY_PORTS.items():
            name = "FER_HTTPS_PORT" if port == 443 else "FER_HTTP_PORT"
            self.ports[port] = int(variables.get(name) or usual)
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
        wanted = {
            name: one.get("depends_on", {})
            for name, one in self.compose["services"].items()
            if not one.get("profiles")
        }
        order: list[str] = []
        while len(order) < len(wanted):
            order += [
                name
                for name, awaited in wanted.items()
                if name not in order and all(one in order for one in awaited)
            ]
        return order

    def native(self, text: str) -> str:
        """The text with this machine's ports, addresses and folders."""
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
            key: "127.0.0.1" if value in names and key.endswith("_HOST") else self.native(value)
            for key, value in self.compose["services"][service].get("environment", {}).items()
            if key not in ("HOME", "XDG_CONFIG_HOME")
        }
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
        programs = [str(Path(sys.executable).parent), str(_postgresql()), os.defpath]
        own = {"PATH": ":".join(programs), "HOME": str(self.folder / "tmp")}
        if service == "proxy":
            own |= {"FER_HTTP_PORT": str(self.ports[80]), "FER_HTTPS_PORT": str(self.ports[443])}
        if "OMP_NUM_THREADS" in os.environ:
            own["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        return kept | own | declared | self.added.get(service, {})

    def start(self, service: str) -> None:
        """Start a service; PostgreSQL's cluster and databases are made the first time."""
        if service == _POSTGRES:
            self._start_postgres()
            return
        words = [str(word) for word in self.compose["services"][service]["command"]]
        self._start(service, [self.native(word) for word in words], self.environment(service))

    def check(self, service: str) -> "subprocess.CompletedProcess[bytes]":
        """Run the health check of a service once."""
        test = self.compose["services"][service]["healthcheck"]["test"]
        environment = self.environment(service)
        command = [self.native(str(word)) for word in test[1:]]
        try:
            return subprocess.run(
                [_program(command[0], environment), *command[1:]],
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
        _end(clients, signal.SIGTERM)
        _end(servers, signal.SIGINT)
        (self.folder / _PIDS).unlink(missing_ok=True)

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
                    self.start(name)
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
            elif (ROOT / source).is_file():
                files.append((ROOT / source, target))
            else:
                self.paths[target] = (ROOT / source).resolve()
        files += [(ROOT / source, target) for target, source in _BAKED.items()]
        self.paths |= {target: self._place_of(target) for _, target in files}
        for source, target in files:
            place = self.paths[target]
            place.parent.mkdir(parents=True, exist_ok=True)
            # The file of users holds no address, and its hashes must not be touched.
            text = source.read_text(encoding="utf-8")
            own = source.is_relative_to(ROOT / "deploy")
            place.write_text(self.native(text) if own else text, encoding="utf-8")
            place.chmod(0o600 if not own else 0o644)

    def _place_of(self, target: str) -> Path:
        for inside, path in self.paths.items():
            if target.startswith(f"{inside}/"):
                return path / target.removeprefix(f"{inside}/")
        return self.folder / "files" / target.lstrip("/")

    def _start_postgres(self) -> None:
        """Do what the postgres image does: cluster, init scripts, server."""
        declared = self.compose["services"][_POSTGRES]["environment"]
        user, password = declared["POSTGRES_USER"], declared["POSTGRES_PASSWORD"]
        owner = _server_account()
        data = self.folder / _POSTGRES / "data"
        made = self.folder / _POSTGRES / "made"
        bin_folder = _postgresql()
        if not made.exists():
            shutil.rmtree(data.parent, ignore_errors=True)
            data.parent.mkdir()
            secret = data.parent / "password"
            secret.write_text(password, encoding="utf-8")
            secret.chmod(0o600)
            if owner is not None:
                for path in (data.parent, secret):
                    shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)
            initdb = [bin_folder / "initdb", "-D", data, "-U", user, "-A", "scram-sha-256"]
            initdb += [f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
            subprocess.run(initdb, check=True, capture_output=True, **_account(owner))
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
            subprocess.run([script], check=True, env=client, capture_output=True)
        made.touch()

    def _start(
        self, name: str, command: list[str], environment: dict[str, str], owner: str | None = None
    ) -> None:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        log = logs / f"{name}.log"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [_program(command[0], environment), *command[1:]],
                env=environment,
                # Dagster reads an .env file where it is started.
                cwd=self.folder / "tmp",
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_account(owner),
            )
        self.running[name] = Service(process, log)
        started = {
            one: [service.process.pid, _created(service.process.pid)]
            for one, service in self.running.items()
        }
        (self.folder / _PIDS).write_text(json.dumps(started), encoding="utf-8")


def end_leftovers(folder: Path) -> None:
    """End services that outlived the process that started them."""
    path = folder / _PIDS
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    left = [pid for pid, created in found.values() if created and _created(pid) == created]
    for number in (signal.SIGINT, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
        deadline = time.monotonic() + _END_SECONDS
        while any(map(psutil.pid_exists, left)) and time.monotonic() < deadline:
            time.sleep(0.2)
    path.unlink()


def _created(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def make_env(path: Path, folder: Path) -> tuple[str, str]:
    """Write an .env file with secrets of its own beside a file of one user: name and password."""
    name, password = "fer", secrets.token_urlsafe(12)
    done = subprocess.run(
        [_program("caddy", os.environ), "hash-password"],
        input=f"{password}\n{password}\n".encode(),
        check=True,
        capture_output=True,
    )
    users = folder / "users"
    _write_secret(users, f"{name} {done.stdout.decode().split()[-1]}\n")
    names = ("POSTGRES_PASSWORD", "FER_SERVE_TOKEN", "FER_REVIEW_PASSWORD")
    lines = [f"{one}={secrets.token_urlsafe(24)}" for one in names]
    data = folder / "data"
    data.mkdir(exist_ok=True)
    lines += [f"FER_USERS_FILE={users}", f"DATA_DIR={data}", "FER_DATASET=affectnet"]
    _write_secret(path, "\n".join(lines) + "\n")
    return name, password


def main() -> int:
    """Start everything and keep it running until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("fer-server"))
    parser.add_argument("--env", type=Path, default=Path(".env"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    folder.mkdir(parents=True, exist_ok=True)
    # PostgreSQL runs as another user where root starts it, and has to get to its folder.
    folder.chmod(0o755)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"busy: the services of {folder} run already", file=sys.stderr)
        return 1
    try:
        for program in ("caddy",):
            _program(program, os.environ)
        _postgresql()
        env = given.env if given.env.exists() else folder / ".env"
        if not env.exists():
            name, password = make_env(env, folder)
            print(f"Made {env}; user {name}, password {password} (not told again)", flush=True)
        machine = Machine(read_env(env), folder)
    except MissingVariableError as error:
        print(f"wrong input: {env}: {error.args[0]}", file=sys.stderr)
        return 2
    except FileNotFoundError as error:
        print(f"wrong input: {error}", file=sys.stderr)
        return 2
    try:
        end_leftovers(folder)
        machine.up()
        machine.watch()
        host = machine.variables.get("FER_HOST") or "localhost"
        base = f"https://{host}:{machine.ports[443]}"
        for what, path in (
            ("Recognition", "/"),
            ("Dagster", "/dagster"),
            ("MLflow", "/mlflow/"),
            ("Labelling", "/label/"),
        ):
            print(f"{what:<12} {base}{path}")
        print(f"Logs in {folder / 'logs'}. Ctrl-C ends all.", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("ending", flush=True)
        return 0
    except RuntimeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    finally:
        machine.stop()


def _ports_of(compose: Mapping[str, Any]) -> set[int]:
    """The ports that services listen on, as their health checks ask there; the proxy's apart."""
    found = {2019}
    for service in compose["services"].values():
        words = " ".join(map(str, service["healthcheck"]["test"]))
        found |= {int(port) for port in re.findall(r"(?<=127\.0\.0\.1:)\d+|(?<=-p )\d+", words)}
    return found


def _postgresql() -> Path:
    """The folder of PostgreSQL's server programs, which Debian keeps out of PATH."""
    found = list(POSTGRESQL_ROOT.glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        return Path(on_path).resolve().parent
    if not found:
        raise FileNotFoundError("PostgreSQL isn't installed: apt-get install postgresql")
    return max(found, key=lambda path: int(path.parts[-3].split(".")[0])).parent


def _program(name: str, environment: Mapping[str, str]) -> str:
    """A program of the service's own PATH, where a process would look in the caller's."""
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"the program {name} isn't installed: apt-get install {name}")
    return found


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _server_account() -> str | None:
    """Who runs the PostgreSQL server, which refuses root; None is the current user."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def _account(owner: str | None) -> dict[str, Any]:
    if owner is None:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def _end(services: list[Service], gentle: signal.Signals) -> None:
    for service in services:
        service.signal(gentle)
    deadline = time.monotonic() + _END_SECONDS
    for service in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        # Workers of a server that ended can outlive it, in its group.
        service.signal(signal.SIGKILL)
        service.process.wait(timeout=8)


if __name__ == "__main__":
    sys.exit(main())
