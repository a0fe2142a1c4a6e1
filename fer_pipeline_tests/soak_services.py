"""Faults in the services of a group while runs are active, round after round.

`python -m fer_pipeline_tests.soak_services --help`. Each fault is injected while a run is under
way and people answer; within two minutes of its end that run has to have ended in a state that fits
the fault, and the work to be done, by the run itself, by a retry that started by itself, or by a
retry as the pages offer it: crops byte for byte those of an undisturbed run, no training left open.
Nothing may be lost: every run that ever was, every registered version with its files, every answer
that was acknowledged.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL

from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.synthetic import write_release
from fer_pipeline_tests.answer_writer import answer_of
from fer_pipeline_tests.deploy.native import PASSWORD, machine_of_its_own, up_native
from fer_pipeline_tests.deploy.pages import Pages
from fer_pipeline_tests.interruptions import crops
from fer_pipeline_tests.service_faults import CLOCK, FAULTS, Disturbed, fake_clock
from fer_pipeline_tests.test_full_disk import Disk

_SELECTED = (
    *("file_list_index", "class_manifest", "face_crops"),
    *("three_class/trained_model", "three_class/evaluation_report"),
)
_SETTINGS = 'preset = "smoke"\nunknown_labels = "reject"\nshard_rows = 40\n'
_MODEL = "fer-three_class"
_RECOVERY_SECONDS = 120
_RETRY_SECONDS = 60
_ANSWER_SECONDS = 30
_RUN_SECONDS = 600
_DISK_BYTES = 512 * 2**20
_DISK_FULL = "disk full"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


def main() -> int:
    """Run the rounds; exit code 1 when one ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=400, help="photos of the drawn release")
    parser.add_argument(
        "--only", choices=sorted(FAULTS), action="append", help="a kind of fault, not all of them"
    )
    given = parser.parse_args()
    wanted = given.only or list(FAULTS)
    if _DISK_FULL in wanted and (reason := _no_small_disk()) is not None:
        _say(f"{_DISK_FULL}: left out, {reason}")
        wanted.remove(_DISK_FULL)
    return soak(given.rounds, wanted, given.seed, given.photos)


@dataclass(frozen=True)
class Round:
    """What one round came to; `wrong` is empty when all held."""

    fault: str
    how: str
    state: str = ""
    seconds: float = 0.0
    mended: str = ""
    wrong: str = ""

    def __str__(self) -> str:
        """One line."""
        then = f", then {self.mended}" if self.mended else ""
        end = f"WRONG: {self.wrong}" if self.wrong else "nothing lost"
        return f"{self.fault} ({self.how}): {self.state} {self.seconds:.0f} s after{then}; {end}"


def soak(rounds: int, wanted: Sequence[str], seed: int, photos: int) -> int:
    """Inject each wanted fault so many times; gives the exit code.

    The clock has services of its own: what is killed while it reads a faked clock would leave
    libfaketime locked for all others.
    """
    told: list[Round] = []
    answers = 0
    groups = [
        [name for name in wanted if (name == CLOCK) == of_clock] for of_clock in (False, True)
    ]
    for names in filter(None, groups):
        with services(photos, ["three_class"], names) as machine:
            pages = Pages(machine)
            first = pages.launch(_SELECTED)
            assert pages.wait(first, _ENDED, _RUN_SECONDS) == "SUCCESS", pages.why(first)
            with _answering(machine) as answered:
                ledger = Ledger(pages, _crops(machine), {first: "SUCCESS"}, answered)
                for number in range(1, rounds + 1):
                    for name in names:
                        began = time.monotonic()
                        generator = random.Random(f"{seed}-{number}-{name}")  # noqa: S311
                        told.append(_round(pages, name, generator, ledger))
                        took = time.monotonic() - began
                        _say(f"round {number}, {told[-1]} ({took:.0f} s)")
            answers += len(answered)
    _say(_table(told, answers))
    return 1 if any(one.wrong for one in told) else 0


class Ledger:
    """What there was, and so must be for ever."""

    def __init__(
        self,
        pages: Pages,
        expected: Mapping[str, bytes],
        ended: dict[str, str],
        answered: Sequence[int],
    ) -> None:
        self.pages = pages
        self.expected = expected
        self.ended = ended
        self.answered = answered
        self.versions = set(pages.model_versions(_MODEL))
        assert self.versions, "the first run registered no version"

    def check(self) -> None:
        """Everything is there that ever was, answers are taken, and nothing is left open."""
        before, deadline = len(self.answered), time.monotonic() + _ANSWER_SECONDS
        while len(self.answered) == before:
            assert time.monotonic() < deadline, "no answer is acknowledged any more"
            time.sleep(0.1)
        assert _crops(self.pages.machine) == self.expected, "crops differ from undisturbed ones"
        states = {run: self.pages.wait(run, _ENDED, 30) for run in self.ended}
        assert states == self.ended, "an earlier run is gone or has another state"
        there = self.pages.model_versions(_MODEL)
        assert there.keys() >= self.versions, f"versions are gone: {self.versions - there.keys()}"
        self.versions = set(there)
        folder = Path(self.pages.machine.paths["/mlflow-artifacts"])
        for version, model in there.items():
            assert list(folder.glob(f"*/models/{model}/artifacts/MLmodel")), (
                f"version {version} has no files"
            )
        left = self.pages.open_trainings()
        assert not left, f"MLflow runs stay open: {left}"


def _round(pages: Pages, name: str, generator: random.Random, ledger: Ledger) -> Round:
    """One fault while a run is under way, and what became of it."""
    fault = FAULTS[name]
    for path in _crops_folder(pages.machine).glob("*.parquet"):
        path.unlink()
    run = pages.launch(_SELECTED)
    pages.wait(run, ("STARTED", *_ENDED), _RUN_SECONDS)
    time.sleep(generator.uniform(0, 25))
    how = state = mended = ""
    seconds = 0.0
    try:
        how = fault.inject(Disturbed(pages, run, generator))
        recovered = time.monotonic()
        pages.wait(run, _ENDED, _RECOVERY_SECONDS / 2)
        told = pages.told(run)
        state = pages.wait(run, _ENDED, _RECOVERY_SECONDS / 2)
        if state not in _ENDED and pages.told(run) > told:
            # It goes on as if nothing had been, and has more to do.
            state = pages.wait(run, _ENDED, _RUN_SECONDS)
        seconds = time.monotonic() - recovered
        assert state in fault.ends, f"the run is {state} after {seconds:.0f} s: {pages.why(run)}"
        ledger.ended[run] = state
        if state != "SUCCESS":
            mended, again = _mended(pages, run, state)
            ended = pages.wait(again, _ENDED, _RUN_SECONDS)
            assert ended == "SUCCESS", f"{mended} ended {ended}: {pages.why(again)}"
            ledger.ended[again] = ended
        ledger.check()
    except (AssertionError, RuntimeError) as error:
        return Round(name, how, state, seconds, mended, wrong=str(error))
    return Round(name, how, state, seconds, mended)


def _mended(pages: Pages, run: str, state: str) -> tuple[str, str]:
    """How the work of a run goes on that didn't succeed, and the run that does it."""
    if state == "FAILURE":
        deadline = time.monotonic() + _RETRY_SECONDS
        while pages.is_to_be_retried(run) and time.monotonic() < deadline:
            retries = pages.retries_of(run)
            if retries:
                return "retry by itself", retries[0]
            time.sleep(1)
        return "retry from the failed step", pages.retry(run)
    return "next run", pages.launch(_SELECTED)


@contextmanager
def services(
    photos: int, streams: Sequence[str], wanted: Sequence[str] = ()
) -> Iterator[up_native.Machine]:
    """The services but the proxy, healthy, on a drawn release, as the wanted faults need them."""
    with machine_of_its_own() as machine:
        write_release(machine.paths["/data"], photos=photos, seed=5)
        home = machine.paths["/fer-home"]
        configuration = (home / "dagster" / "dagster.yaml").read_bytes()
        disk = Disk(home, _DISK_BYTES) if _DISK_FULL in wanted else None
        try:
            (home / "dagster").mkdir(exist_ok=True)
            (home / "dagster" / "dagster.yaml").write_bytes(configuration)
            own = f"{_SETTINGS}streams = {list(streams)}\n"
            (home / "settings.toml").write_text(own, encoding="utf-8")
            if CLOCK in wanted:
                fake_clock(machine)
            machine.up([name for name in machine.services() if name != "proxy"], 300)
            machine.watch()
            yield machine
        finally:
            machine.stop()
            if disk is not None:
                disk.unmount()


@contextmanager
def _answering(machine: up_native.Machine) -> Iterator[list[int]]:
    """Somebody answers all the while; gives the items whose answers were acknowledged.

    At the end all of them have to be in the database, once.
    """
    address = URL.create(
        "postgresql+psycopg2", "fer", PASSWORD, "127.0.0.1", machine.ports[5432], "answers"
    )
    store = AnswerStore(address.render_as_string(hide_password=False))
    acknowledged: list[int] = []
    ending = threading.Event()

    def answer() -> None:
        while not ending.wait(0.5):
            try:
                store.add(answer_of("soak", len(acknowledged)))
            except InputError:
                continue
            acknowledged.append(len(acknowledged))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield acknowledged
    finally:
        ending.set()
        thread.join()
        stored = sorted(one.item for one in store.everything())
        store.close()
    assert stored[: len(acknowledged)] == acknowledged, "answers are gone"


def _table(told: Sequence[Round], answers: int) -> str:
    """The rounds as a table of docs/reliability.md."""
    rounds = defaultdict(list)
    for one in told:
        rounds[one.fault].append(one)
    lines = ["| fault | rounds | the run ended | seconds after | then | lost |", "|---" * 6 + "|"]
    for fault, some in rounds.items():
        states = ", ".join(f"{state} {n}" for state, n in Counter(o.state for o in some).items())
        seconds = [one.seconds for one in some]
        after = f"{statistics.median(seconds):.0f} (at most {max(seconds):.0f})"
        then = Counter(one.mended for one in some if one.mended)
        how = ", ".join(f"{what} {n}" for what, n in then.items()) or "nothing to do"
        wrong = sum(bool(one.wrong) for one in some)
        lost = f"WRONG in {wrong}" if wrong else "nothing"
        lines.append(f"| {fault} | {len(some)} | {states} | {after} | {how} | {lost} |")
    return "\n".join([*lines, f"{answers:,} answers were acknowledged, and all are there."])


def _no_small_disk() -> str | None:
    """Why no disk of a size can be mounted here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            Disk(Path(folder), _DISK_BYTES).unmount()
        except pytest.skip.Exception as reason:
            return str(reason)
    return None


def _crops(machine: up_native.Machine) -> Mapping[str, bytes]:
    return crops(_crops_folder(machine))


def _crops_folder(machine: up_native.Machine) -> Path:
    (folder,) = (Path(machine.paths["/fer-home"]) / "crops").iterdir()
    return folder


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
