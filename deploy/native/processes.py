"""Processes that are services: started, ended, and what a killed starter left of them."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

POSTGRESQL_ROOT = Path("/usr/lib/postgresql")
_END_SECONDS = 20.0
_PIDS = "processes.json"


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


def started(
    command: list[str], environment: dict[str, str], folder: Path, log: Path, owner: str | None
) -> Service:
    """Start a service in a process group of its own, its output at the end of `log`."""
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [program(command[0], environment), *command[1:]],
            env=environment,
            # Dagster reads an .env file where it is started.
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
            **account(owner),
        )
    return Service(process, log)


def _heed_interrupts() -> None:
    """Let Ctrl-C's signal end the child, by which Dagster's servers end their own children.

    A shell's background commands, and so their children, are told to ignore it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def note(folder: Path, running: Mapping[str, Service]) -> None:
    """Write down which processes run, for `end_leftovers`; nothing once none does."""
    found = {
        name: [service.process.pid, _created(service.process.pid)]
        for name, service in running.items()
    }
    path = folder / _PIDS
    if found:
        # Never half written: whoever starts next ends what it names.
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(found), encoding="utf-8")
        whole.replace(path)
    else:
        path.unlink(missing_ok=True)


def end_leftovers(folder: Path) -> None:
    """End services that outlived the process that started them."""
    path = folder / _PIDS
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        # Of a machine that lost its power, and with it what ran.
        found = {}
    left = [pid for pid, created in found.values() if created and _created(pid) == created]
    for number in (signal.SIGINT, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
        deadline = time.monotonic() + _END_SECONDS
        while any(map(psutil.pid_exists, left)) and time.monotonic() < deadline:
            time.sleep(0.2)
    path.unlink()


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first moment on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _created(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def postgresql() -> Path:
    """The folder of PostgreSQL's server programs, which Debian keeps out of PATH."""
    found = list(POSTGRESQL_ROOT.glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        return Path(on_path).resolve().parent
    if not found:
        raise FileNotFoundError("PostgreSQL isn't installed: apt-get install postgresql")
    return max(found, key=lambda path: int(path.parts[-3].split(".")[0])).parent


def program(name: str, environment: Mapping[str, str]) -> str:
    """A program of the service's own PATH, where a process would look in the caller's."""
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"the program {name} isn't installed: apt-get install {name}")
    return found


def server_account() -> str | None:
    """Who runs the PostgreSQL server, which refuses root; None is the current user."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def account(owner: str | None) -> dict[str, Any]:
    """How `subprocess` starts a process of that user; None is the current one."""
    if owner is None:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def end(services: list[Service], gentle: signal.Signals) -> None:
    """Ask services to end, wait, and kill what is left of their groups."""
    for service in services:
        service.signal(gentle)
    deadline = time.monotonic() + _END_SECONDS
    for service in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        # Workers of a server that ended can outlive it, in its group.
        service.signal(signal.SIGKILL)
        service.process.wait(timeout=8)
