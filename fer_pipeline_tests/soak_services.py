"""Faults in the services of a group while runs are active, round after round.

`python -m fer_pipeline_tests.soak_services --help`. Each fault is injected while a run is under
way; within two minutes of its end every run has to have ended, and the next one has to make what an
undisturbed run makes, crops byte for byte.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from fer_pipeline.core.synthetic import write_release
from fer_pipeline_tests.deploy.native import machine_of_its_own
from fer_pipeline_tests.deploy.pages import Pages
from fer_pipeline_tests.interruptions import crops

_SELECTED = (
    *("file_list_index", "class_manifest", "face_crops"),
    *("three_class/trained_model", "three_class/evaluation_report"),
)
_SETTINGS = 'preset = "smoke"\nunknown_labels = "reject"\nstreams = ["three_class"]\n'
_RECOVERY_SECONDS = 120
_DOWN_SECONDS = 30
_RUN_SECONDS = 600
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Disturbed:
    """A group's services with a run under way, and what can be done to them."""

    def __init__(self, pages: Pages, generator: random.Random) -> None:
        self.pages = pages
        self.machine = pages.machine
        self.generator = generator
        self.run = ""

    def begin(self) -> None:
        """Launch a run and wait until a step of it works, and a moment more."""
        self.run = self.pages.launch(_SELECTED)
        self.pages.wait(self.run, {"STARTED", "SUCCESS", "FAILURE"}, _RUN_SECONDS)
        time.sleep(self.generator.uniform(0, 25))

    def stop_postgresql(self) -> str:
        """PostgreSQL is down for half a minute, as in a failover."""
        service = self.machine.running["postgres"]
        self.machine.held.add("postgres")
        service.signal(signal.SIGINT)
        service.process.wait(timeout=60)
        time.sleep(_DOWN_SECONDS)
        self.machine.start("postgres")
        self.machine.held.discard("postgres")
        self.machine.wait_until_healthy("postgres", 60)
        return f"down for {_DOWN_SECONDS} s"

    def kill(self, name: str) -> str:
        """SIGKILL to a service and all it started; it comes back as its restart policy says."""
        before = self.machine.running[name].process.pid
        self.machine.running[name].signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while self.machine.running[name].process.pid == before:
            assert time.monotonic() < deadline, f"{name} was not started anew"
            time.sleep(0.2)
        self.machine.wait_until_healthy(name, _RECOVERY_SECONDS)
        return "killed"

    def kill_worker(self) -> str:
        """SIGKILL to a process in which a step works."""
        server = psutil.Process(self.machine.running["code"].process.pid)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            forked = [
                one
                for one in server.children(recursive=True)
                if _words(one).count("multiprocessing.forkserver")
                and _words(one.parent()).count("multiprocessing.forkserver")
            ]
            if forked:
                self.generator.choice(forked).kill()
                return "killed"
            time.sleep(0.1)
        return "no step was seen"

    def cancel(self) -> str:
        """As the button in Dagster's pages does."""
        self.pages.cancel(self.run)
        return "cancelled"

    def move_clock(self) -> str:
        """The clock of daemon and code server jumps two hours ahead, then one hour back."""
        clock = self.machine.folder / "clock"
        for offset in ("+2h", "-1h", "+0"):
            clock.write_text(f"{offset}\n", encoding="utf-8")
            time.sleep(10)
        return "+2 h, -1 h, right again"

    def fill_disk(self) -> str:
        """The home's disk has no room left for half a minute."""
        home = self.machine.paths["/fer-home"]
        filler = home / "filler"
        with filler.open("wb") as stream:
            try:
                while stream.write(b"x" * 65536):
                    stream.flush()
            except OSError:
                pass
        time.sleep(_DOWN_SECONDS)
        filler.unlink()
        return f"full for {_DOWN_SECONDS} s"


FAULTS: Mapping[str, Callable[[Disturbed], str]] = {
    "PostgreSQL stopped": Disturbed.stop_postgresql,
    "MLflow server killed": lambda one: one.kill("mlflow"),
    "code server killed": lambda one: one.kill("code"),
    "daemon killed": lambda one: one.kill("daemon"),
    "worker killed": Disturbed.kill_worker,
    "run cancelled": Disturbed.cancel,
    "clock moved": Disturbed.move_clock,
    "disk full": Disturbed.fill_disk,
}


def main() -> int:
    """Run the rounds; exit code 1 when one ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=400, help="photos of the drawn release")
    parser.add_argument("--only", choices=sorted(FAULTS), help="one kind of fault")
    given = parser.parse_args()
    wanted = [given.only] if given.only else list(FAULTS)
    problems = soak(given.rounds, wanted, given.seed, given.photos, _say)
    _say(f"{problems} of the rounds failed" if problems else "every round ended as it should")
    return 1 if problems else 0


def soak(rounds: int, wanted: list[str], seed: int, photos: int, say: Callable[[str], None]) -> int:
    """Inject each wanted fault so many times; gives the number of rounds that went wrong."""
    from fer_pipeline_tests.test_full_disk import Disk

    failed = 0
    with machine_of_its_own() as machine:
        write_release(machine.paths["/data"], photos=photos, seed=5)
        home = machine.paths["/fer-home"]
        configuration = (home / "dagster" / "dagster.yaml").read_bytes()
        disk = Disk(home, 512 << 20) if "disk full" in wanted else None
        try:
            (home / "dagster").mkdir(exist_ok=True)
            (home / "dagster" / "dagster.yaml").write_bytes(configuration)
            (home / "settings.toml").write_text(_SETTINGS, encoding="utf-8")
            if "clock moved" in wanted:
                _fake_clock(machine.folder / "clock", machine.added)
            machine.up([name for name in machine.services() if name != "proxy"], 300)
            machine.watch()
            pages = Pages(machine)
            run = pages.launch(_SELECTED)
            assert pages.wait(run, _ENDED, _RUN_SECONDS) == "SUCCESS", pages.why(run)
            expected = _crops(home)
            for number in range(1, rounds + 1):
                for name in wanted:
                    began = time.monotonic()
                    generator = random.Random(f"{seed}-{number}-{name}")  # noqa: S311
                    try:
                        told = _round(Disturbed(pages, generator), FAULTS[name], expected)
                    except AssertionError as error:
                        failed += 1
                        told = f"WRONG: {error}"
                    say(f"round {number}, {name}: {told} ({time.monotonic() - began:.0f} s)")
        finally:
            machine.stop()
            if disk is not None:
                disk.unmount()
    return failed


_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


def _round(one: Disturbed, fault: Callable[[Disturbed], str], expected: Mapping[str, bytes]) -> str:
    home = one.machine.paths["/fer-home"]
    for path in next((home / "crops").iterdir()).glob("*.parquet"):
        path.unlink()
    one.begin()
    how = fault(one)
    recovered = time.monotonic()
    state = one.pages.wait(one.run, _ENDED, _RECOVERY_SECONDS)
    took = time.monotonic() - recovered
    assert state in _ENDED, f"{how}; the run is still {state} after {_RECOVERY_SECONDS} s"
    again = one.pages.launch(_SELECTED)
    assert one.pages.wait(again, _ENDED, _RUN_SECONDS) == "SUCCESS", (
        f"{how}; the next run didn't end well: {one.pages.why(again)}"
    )
    assert _crops(home) == expected, f"{how}; crops differ from those of an undisturbed run"
    left = one.pages.open_trainings()
    assert not left, f"{how}; MLflow runs stay open: {left}"
    return f"{how}; the run ended {state} {took:.0f} s after, the next one SUCCESS"


def _crops(home: Path) -> Mapping[str, bytes]:
    (folder,) = (home / "crops").iterdir()
    return crops(folder)


def _fake_clock(clock: Path, added: dict[str, dict[str, str]]) -> None:
    clock.write_text("+0\n", encoding="utf-8")
    faked = {
        "LD_PRELOAD": _FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    for name in ("code", "daemon"):
        added.setdefault(name, {}).update(faked)


def _words(process: psutil.Process | None) -> str:
    try:
        return "" if process is None else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
