"""Four jobs at once on a group's services, for ten minutes: the queue, the pool and the memory.

`python -m fer_pipeline_tests.soak_queue --help`. Whenever one of four runs ends, another is
launched. Looked at all the while: how many go at a time, how many train, and what memory the
services take; at the end all have to have succeeded.
"""

import argparse
import sys
import time
from collections import Counter

import psutil

from fer_pipeline_tests.deploy.native import up_native
from fer_pipeline_tests.deploy.pages import Pages
from fer_pipeline_tests.soak_services import services

_STREAMS = ("three_class", "five_class")
_LISTS = ("file_list_index", "class_manifest", "face_crops")
_JOBS = (
    (*_LISTS, "three_class/trained_model", "three_class/evaluation_report"),
    (*_LISTS, "five_class/trained_model", "five_class/evaluation_report"),
    ("five_class/trained_model", "five_class/evaluation_report"),
    ("three_class/evaluation_report",),
)
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_RUN_SECONDS = 900
_RUNS_AT_A_TIME, _TRAININGS_AT_A_TIME = 2, 1
_UNITS = {"m": 2**20, "g": 2**30}


def main() -> int:
    """Launch runs until time is up; exit code 1 when a limit didn't hold or a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--photos", type=int, default=400, help="photos of the drawn release")
    given = parser.parse_args()
    with services(given.photos, _STREAMS) as machine:
        return 1 if _crowd(machine, given.minutes * 60) else 0


def _crowd(machine: up_native.Machine, seconds: float) -> list[str]:
    """Keep four runs in progress that long; what went wrong."""
    pages = Pages(machine)
    first = pages.launch((*_JOBS[0], *_JOBS[1][3:]))
    assert pages.wait(first, _ENDED, _RUN_SECONDS) == "SUCCESS", pages.why(first)
    seen = _Seen(machine)
    runs: dict[str, int] = {}
    going: list[str] = []
    ended: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while going or time.monotonic() < until:
        states = {run: pages.state(run) for run in going}
        for run in [run for run, state in states.items() if state in _ENDED]:
            going.remove(run)
            ended[states[run]] += 1
            if states[run] != "SUCCESS":
                seen.wrong.append(f"run {run} ended {states[run]}: {pages.why(run)}")
        while len(going) < len(_JOBS) and time.monotonic() < until:
            going.append(pages.launch(_JOBS[len(runs) % len(_JOBS)]))
            runs[going[-1]] = len(runs)
        seen.look(Counter(states.values()), len(pages.open_trainings()))
        time.sleep(1)
        if time.monotonic() > until + _RUN_SECONDS:
            seen.wrong.append(f"{len(going)} runs have not ended")
            break
    _say(f"{len(runs)} runs in {seconds / 60:.0f} minutes and what the last took: {dict(ended)}")
    _say(f"at most {seen.runs} at a time, {seen.waiting} waiting, {seen.trainings} training")
    for name, most in sorted(seen.memory.items()):
        _say(f"{name}: at most {most / 2**20:,.0f} MiB of {seen.limits[name] / 2**20:,.0f}")
    for problem in seen.wrong:
        _say(f"WRONG: {problem}")
    return seen.wrong


class _Seen:
    """The most of everything that was seen."""

    def __init__(self, machine: up_native.Machine) -> None:
        self.machine = machine
        declared = machine.compose["services"]
        self.limits = {name: _bytes(declared[name]["mem_limit"]) for name in machine.running}
        self.runs = self.waiting = self.trainings = 0
        self.memory: Counter[str] = Counter()
        self.wrong: list[str] = []

    def look(self, states: Counter[str], trainings: int) -> None:
        """Take note, and of limits that don't hold."""
        running = states["STARTED"] + states["STARTING"]
        self.runs = max(self.runs, running)
        self.waiting = max(self.waiting, states["QUEUED"])
        self.trainings = max(self.trainings, trainings)
        if running > _RUNS_AT_A_TIME or trainings > _TRAININGS_AT_A_TIME:
            self.wrong.append(f"{running} runs and {trainings} trainings at a time")
        for name, service in self.machine.running.items():
            taken = _memory(service.process.pid)
            self.memory[name] = max(self.memory[name], taken)
            if taken > self.limits[name]:
                self.wrong.append(f"{name} takes {taken / 2**20:,.0f} MiB")


def _memory(pid: int) -> int:
    """Bytes of a process and all it started, what several share counted once."""
    total = 0
    try:
        for one in (root := psutil.Process(pid), *root.children(recursive=True)):
            try:
                total += one.memory_full_info().pss
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        return 0
    return total


def _bytes(limit: str) -> int:
    return int(limit[:-1]) * _UNITS[limit[-1]]


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
