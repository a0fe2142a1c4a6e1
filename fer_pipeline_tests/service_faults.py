"""What goes wrong on a group's server, as functions: each breaks something, waits, and tells what.

The soak (`soak_services.py`) injects them while a run is under way and says what must hold then.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from fer_pipeline_tests.deploy.native import up_native
from fer_pipeline_tests.deploy.pages import Pages

_FAKETIME = "*/faketime/libfaketimeMT.so.1"
CLOCK = "clock moved"
DOWN_SECONDS = 30
HEALTHY_SECONDS = 120
_SEEN_SECONDS = 90


class Disturbed:
    """A group's services with a run under way, and what can be done to them."""

    def __init__(self, pages: Pages, run: str, generator: random.Random) -> None:
        self.pages = pages
        self.machine: up_native.Machine = pages.machine
        self.run = run
        self.generator = generator

    def stop_postgresql(self) -> str:
        """PostgreSQL is down for half a minute, as in a failover."""
        service = self.machine.running["postgres"]
        self.machine.held.add("postgres")
        service.signal(signal.SIGINT)
        service.process.wait(timeout=60)
        time.sleep(DOWN_SECONDS)
        self.machine.start("postgres")
        self.machine.held.discard("postgres")
        self.machine.wait_until_healthy("postgres", 60)
        return f"down for {DOWN_SECONDS} s"

    def kill(self, name: str) -> str:
        """SIGKILL to a service and all it started; it comes back as its restart policy says."""
        before = self.machine.running[name].process.pid
        self.machine.running[name].signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while self.machine.running[name].process.pid == before:
            assert time.monotonic() < deadline, f"{name} was not started anew"
            time.sleep(0.2)
        self.machine.wait_until_healthy(name, HEALTHY_SECONDS)
        return "killed"

    def kill_worker(self) -> str:
        """SIGKILL to a process in which a step works."""
        server = psutil.Process(self.machine.running["code"].process.pid)
        deadline = time.monotonic() + _SEEN_SECONDS
        while time.monotonic() < deadline:
            steps = [one for one in server.children(recursive=True) if _is_step(one)]
            if steps:
                self.generator.choice(steps).kill()
                return "killed"
            time.sleep(0.1)
        raise AssertionError("no step was seen to be killed")

    def cancel(self) -> str:
        """As the button in Dagster's pages does."""
        self.pages.cancel(self.run)
        return "cancelled"

    def move_clock(self) -> str:
        """The clock of daemon and code server jumps two hours ahead, then one hour back."""
        clock = clock_file(self.machine)
        for offset in ("+2h", "-1h", "+0"):
            clock.write_text(f"{offset}\n", encoding="utf-8")
            time.sleep(10)
        self.machine.wait_until_healthy("daemon", HEALTHY_SECONDS)
        return "+2 h, -1 h, right again"

    def fill_disk(self) -> str:
        """The home's disk has no room left for half a minute."""
        filler = Path(self.machine.paths["/fer-home"]) / "filler"
        with filler.open("wb") as stream:
            try:
                while stream.write(b"x" * 65536):
                    stream.flush()
            except OSError:
                pass
        time.sleep(DOWN_SECONDS)
        filler.unlink()
        return f"full for {DOWN_SECONDS} s"


@dataclass(frozen=True)
class Fault:
    """How something breaks, and in which states its run may end."""

    inject: Callable[[Disturbed], str]
    ends: frozenset[str]


_GOES_ON = frozenset({"SUCCESS"})
_MAY_FAIL = frozenset({"SUCCESS", "FAILURE"})
_ENDED_BEFORE_OR_CANCELLED = frozenset({"SUCCESS", "CANCELED"})
FAULTS: Mapping[str, Fault] = {
    "PostgreSQL stopped": Fault(Disturbed.stop_postgresql, _MAY_FAIL),
    "MLflow server killed": Fault(lambda one: one.kill("mlflow"), _MAY_FAIL),
    "code server killed": Fault(lambda one: one.kill("code"), _MAY_FAIL),
    "daemon killed": Fault(lambda one: one.kill("daemon"), _GOES_ON),
    "worker killed": Fault(Disturbed.kill_worker, _MAY_FAIL),
    "run cancelled": Fault(Disturbed.cancel, _ENDED_BEFORE_OR_CANCELLED),
    CLOCK: Fault(Disturbed.move_clock, _GOES_ON),
    "disk full": Fault(Disturbed.fill_disk, _MAY_FAIL),
}


def clock_file(machine: up_native.Machine) -> Path:
    """The file that says how far the faked clock is from the right one."""
    return Path(machine.folder) / "clock"


def fake_clock(machine: up_native.Machine) -> None:
    """Give code server and daemon a clock that `Disturbed.move_clock` can move.

    The file of libfaketime is read anew at each look at the clock; the monotonic clock stays true,
    as it does when an administrator sets the time. Python sleeps until an absolute moment of
    that clock, which libfaketime 0.9.10 then refuses: it sleeps by another call.
    """
    libraries = [str(path) for path in Path("/usr/lib").glob(_FAKETIME)]
    assert libraries, "the clock can't be moved here: apt-get install libfaketime"
    clock_file(machine).write_text("+0\n", encoding="utf-8")
    folder = Path(machine.folder) / "clock-of-python"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SLEEP, encoding="utf-8")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    faked = {
        "LD_PRELOAD": libraries[0],
        "FAKETIME_TIMESTAMP_FILE": str(clock_file(machine)),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    for name in ("code", "daemon"):
        machine.added.setdefault(name, {}).update(faked)


_SLEEP = """import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


def _is_step(process: psutil.Process) -> bool:
    """Whether a step works in it: one that a fork server of a run has forked."""
    return _is_forked(process) and _is_forked(process.parent())


def _is_forked(process: psutil.Process | None) -> bool:
    try:
        return process is not None and "multiprocessing.forkserver" in " ".join(process.cmdline())
    except psutil.Error:
        return False
