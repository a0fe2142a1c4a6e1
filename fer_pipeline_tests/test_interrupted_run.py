"""Runs that are killed without warning, and what the next one finds and leaves."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dagster as dg
import psutil
import pytest

from fer_pipeline.instance import COMMAND_LINE_TAG
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline

SHARD_ROWS = 15
PATIENCE = 240
PUBLISHED = ("index", "manifest", "crops", "reports")


class Victim:
    """A `run` in a process group of its own, to be killed."""

    def __init__(self, home: Path, *words: object, **variables: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            graph.command("run", "--home", home, *words),
            env=graph.environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until the run is at some point; it must not have ended before."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.poll() is None, f"it ended with {self.process.returncode} before"
            assert time.monotonic() < deadline, "it never came to that point"
            time.sleep(0.05)

    def others(self) -> list[psutil.Process]:
        """The processes that the run started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self, whole_group: bool) -> list[psutil.Process]:
        """SIGKILL to the run alone or to its group; gives the processes that it had started."""
        others = self.others()
        assert others
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        return others

    def end(self) -> None:
        """Whatever is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Victim]]:
    """Starts runs that this test is sure to end."""
    victims: list[Victim] = []

    def started(home: Path, *words: object, **variables: str) -> Victim:
        victims.append(Victim(home, *words, **variables))
        return victims[-1]

    yield started
    for victim in victims:
        victim.end()


def _no_half_written_file(home: Path) -> bool:
    return not [path for name in PUBLISHED for path in (home / name).rglob("*.part")]


def _all_end(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def _shards(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.parquet"))}


def _in_progress(home: Path) -> int:
    with graph.instance_of(home) as instance:
        unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
        return len(
            instance.get_runs(dg.RunsFilter(statuses=unfinished, tags={COMMAND_LINE_TAG: "true"}))
        )


def test_crops_of_a_killed_run_are_those_of_an_undisturbed_one(
    tmp_path: Path, drawn_release: Path, start: Callable[..., Victim]
) -> None:
    undisturbed = graph.early_copy(drawn_release, tmp_path / "undisturbed").model_copy(
        update={"shard_rows": SHARD_ROWS}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert graph.materialize(undisturbed, ["face_crops"], instance).success
    expected = _shards(undisturbed.crops_folder)
    assert len(expected) >= 4

    settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    for shard in settings.crops_folder.iterdir():
        shard.unlink()
    words = ("--select", "face_crops", "--json")
    # One step at a time: each kill then falls between two shards, with more of them to come.
    small = {"FER_SHARD_ROWS": str(SHARD_ROWS), "FER_WORKERS": "1"}
    for whole_group in (False, True):
        before = len(_shards(settings.crops_folder))
        victim = start(settings.home, *words, **small)
        victim.wait_until(lambda n=before: len(_shards(settings.crops_folder)) > n)
        assert _all_end(victim.kill(whole_group))
        there = _shards(settings.crops_folder)
        assert 0 < len(there) < len(expected)
        assert {name: expected[name] for name in there} == there
    # What a process leaves that is killed while it writes.
    half = settings.crops_folder / ".shard-00003.parquet.xyz.part"
    half.write_bytes(expected["shard-00003.parquet"][:1000])
    (settings.manifest_folder / ".file_list.csv.xyz.part").write_bytes(b"face_id")

    ended = fer_pipeline("run", "--home", settings.home, *words, **small)
    assert ended.code == 0, ended.err
    assert "1 killed run(s) closed" in ended.words
    assert ended.answer["made"] == ["face_crops"]
    assert _shards(settings.crops_folder) == expected
    assert _no_half_written_file(settings.home)
    assert _in_progress(settings.home) == 0


@pytest.fixture(scope="module")
def trained(
    drawn_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, list[tuple[str, bool]], Ended]:
    """A home whose training was killed twice, each killed MLflow run with whether its processes
    ended, and how the run ended that was left in peace.
    """
    early = graph.early_copy(drawn_release, tmp_path_factory.mktemp("training") / "home")
    settings = early.model_copy(update={"minutes": 0.1})
    settings.remember()
    words = ("--select", "three_class/trained_model", "--json")
    killed: list[tuple[str, bool]] = []
    for whole_group in (False, True):
        known = set(graph.tracked_runs(settings.home))
        victim = Victim(settings.home, *words)
        try:
            victim.wait_until(
                lambda known=known: (
                    "RUNNING"
                    in {
                        status
                        for run, status in graph.tracked_runs(settings.home).items()
                        if run not in known
                    }
                )
            )
            ended = _all_end(victim.kill(whole_group))
        finally:
            victim.end()
        (run,) = set(graph.tracked_runs(settings.home)) - known
        killed.append((run, ended))
    return settings, killed, fer_pipeline("run", "--home", settings.home, *words)


def test_steps_of_a_killed_run_end_with_it(
    trained: tuple[Settings, list[tuple[str, bool]], Ended],
) -> None:
    assert [ended for _, ended in trained[1]] == [True, True]


def test_run_after_killed_ones_ends_well_and_keeps_what_was_made(
    trained: tuple[Settings, list[tuple[str, bool]], Ended],
) -> None:
    settings, _, ended = trained
    assert ended.code == 0, ended.err
    assert "1 killed run(s) closed" in ended.words
    assert ended.answer["made"] == ["three_class/trained_model"]
    assert ended.answer["up_to_date"] == 3
    assert _no_half_written_file(settings.home)
    assert _in_progress(settings.home) == 0


def test_killed_training_is_a_killed_mlflow_run(
    trained: tuple[Settings, list[tuple[str, bool]], Ended],
) -> None:
    settings, killed, _ = trained
    runs = graph.tracked_runs(settings.home)
    assert {runs.pop(run) for run, _ in killed} == {"KILLED"}
    assert list(runs.values()) == ["FINISHED"]
