"""Runs that are killed without warning, and what the next one finds and leaves."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, fer_pipeline
from fer_pipeline_tests.interruptions import (
    SHARD_ROWS,
    Command,
    Pages,
    all_end,
    crops,
    make_crops,
    shards,
    traces,
    undisturbed,
    without_crops,
)

# One step at a time: each kill then falls between two shards, with more of them to come.
SMALL = {"FER_SHARD_ROWS": str(SHARD_ROWS), "FER_WORKERS": "1"}
WORDS = ("--select", "face_crops", "--json")


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Starts runs that this test is sure to end."""
    victims: list[Command] = []

    def started(home: Path, **variables: str) -> Command:
        victims.append(Command("run", "--home", home, *WORDS, **variables))
        return victims[-1]

    yield started
    for victim in victims:
        victim.end()


@pytest.fixture
def expected(drawn_release: Path) -> dict[str, bytes]:
    """The shards and their list after a run that nothing disturbed."""
    return dict(undisturbed(drawn_release))


@pytest.fixture
def settings(drawn_release: Path, tmp_path: Path) -> Settings:
    """A home whose crops are yet to be made."""
    return without_crops(drawn_release, tmp_path / "home")


def _completed(settings: Settings, expected: dict[str, bytes]) -> Ended:
    """Run once more, undisturbed: it must end well, with those crops, and leave no trace."""
    ended = fer_pipeline("run", "--home", settings.home, *WORDS, **SMALL)
    assert ended.code == 0, ended.err
    assert crops(settings.crops_folder) == expected
    assert traces(settings.home) == []
    return ended


def _is_gone_on_with(settings: Settings, expected: dict[str, bytes]) -> None:
    """What a run left that ended by itself is whole and in order, and kept by the next."""
    there = shards(settings.crops_folder)
    assert 0 < len(there) < len(expected) - 1
    stamps = {name: (settings.crops_folder / name).stat().st_mtime_ns for name in there}
    make_crops(settings)
    assert crops(settings.crops_folder) == expected
    kept = {name: (settings.crops_folder / name).stat().st_mtime_ns for name in there}
    assert kept == stamps
    assert traces(settings.home) == []


def test_crops_of_a_killed_run_are_those_of_an_undisturbed_one(
    settings: Settings, expected: dict[str, bytes], start: Callable[..., Command]
) -> None:
    for whole_group in (False, True):
        before = len(shards(settings.crops_folder))
        victim = start(settings.home, **SMALL)
        victim.wait_until(lambda n=before: len(shards(settings.crops_folder)) > n)
        assert all_end(victim.kill(whole_group))
        there = shards(settings.crops_folder)
        assert 0 < len(there) < len(expected) - 1
        assert {name: expected[name] for name in there} == there
    # What a process leaves that is killed while it writes.
    name, data = list(expected.items())[3]
    (settings.crops_folder / f".{name}.xyz.part").write_bytes(data[:1000])
    (settings.manifest_folder / ".file_list.csv.xyz.part").write_bytes(b"face_id")

    ended = _completed(settings, expected)
    assert "1 killed run(s) closed" in ended.words
    assert ended.answer["made"] == ["face_crops"]


def test_shard_of_a_killed_worker_is_tried_once_more(
    settings: Settings, expected: dict[str, bytes], start: Callable[..., Command]
) -> None:
    victim = start(settings.home, **SMALL)
    victim.wait_until(lambda: bool(shards(settings.crops_folder)))
    ending = victim.workers()
    (worker,) = victim.wait_until(lambda: victim.workers(but=ending))
    worker.kill()
    assert victim.process.wait(timeout=120) == 0, victim.said
    assert "was killed by signal 9 (SIGKILL): trying once more" in victim.said
    assert crops(settings.crops_folder) == expected
    assert traces(settings.home) == []


def test_run_whose_workers_are_always_killed_says_so_and_keeps_what_was_made(
    settings: Settings, expected: dict[str, bytes], start: Callable[..., Command]
) -> None:
    victim = start(settings.home, **SMALL)
    victim.wait_until(lambda: bool(shards(settings.crops_folder)))
    ending = victim.workers()
    while victim.process.poll() is None:
        for worker in victim.workers(but=ending):
            worker.kill()
        time.sleep(0.05)
    assert victim.process.returncode == 1, victim.said
    assert "] was killed by signal 9 (SIGKILL), as the system does when memory runs out" in (
        victim.said
    )
    assert "Traceback" not in victim.said
    _is_gone_on_with(settings, expected)


def test_run_stopped_by_ctrl_c_says_so_and_is_gone_on_with(
    settings: Settings, expected: dict[str, bytes], start: Callable[..., Command]
) -> None:
    victim = start(settings.home, **SMALL)
    victim.wait_until(lambda: bool(shards(settings.crops_folder)))
    victim.process.send_signal(signal.SIGINT)
    assert victim.process.wait(timeout=120) == 1, victim.said
    assert "failed: stopped: run again, which goes on from what is there" in victim.said
    assert "trying once more" not in victim.said
    assert "Traceback" not in victim.said
    _is_gone_on_with(settings, expected)


def test_run_of_the_pages_whose_daemon_is_killed_is_closed_and_made_again(
    settings: Settings, expected: dict[str, bytes]
) -> None:
    pages = Pages(settings.home, **SMALL)
    try:
        pages.launch()
        pages.command.wait_until(lambda: bool(shards(settings.crops_folder)))
        pages.kill_daemon()
    finally:
        pages.end()
    there = shards(settings.crops_folder)
    assert {name: expected[name] for name in there} == there
    _completed(settings, expected)


@pytest.fixture(scope="module")
def trained(
    drawn_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, list[tuple[str, bool]], Ended]:
    """A home whose training was killed twice, each killed MLflow run with whether its processes
    ended, and how the run ended that was left in peace.
    """
    early = graph.early_copy(drawn_release, tmp_path_factory.mktemp("training") / "home")
    settings = early.model_copy(update={"minutes": 0.05})
    settings.remember()
    words = ("--select", "three_class/trained_model", "--json")
    killed: list[tuple[str, bool]] = []
    for whole_group in (False, True):
        known = set(graph.tracked_runs(settings.home))
        victim = Command("run", "--home", settings.home, *words)
        try:
            (run,) = victim.wait_until(
                lambda known=known: set(graph.tracked_runs(settings.home)) - known
            )
            ended = all_end(victim.kill(whole_group))
        finally:
            victim.end()
        assert graph.tracked_runs(settings.home)[run] == "RUNNING"
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
    assert traces(settings.home) == []


def test_killed_training_is_a_killed_mlflow_run(
    trained: tuple[Settings, list[tuple[str, bool]], Ended],
) -> None:
    settings, killed, _ = trained
    runs = graph.tracked_runs(settings.home)
    assert {runs.pop(run) for run, _ in killed} == {"KILLED"}
    assert list(runs.values()) == ["FINISHED"]


def test_training_whose_worker_is_killed_is_tried_once_more_in_the_same_run(
    trained: tuple[Settings, list[tuple[str, bool]], Ended],
) -> None:
    settings, _, _ = trained
    known = set(graph.tracked_runs(settings.home))
    selected = ("run", "--home", settings.home, "--select", "three_class/trained_model")
    victim = Command(*selected, "--force")
    try:
        (run,) = victim.wait_until(lambda: set(graph.tracked_runs(settings.home)) - known)
        (worker,) = victim.wait_until(victim.workers)
        worker.kill()
        assert victim.process.wait(timeout=240) == 0, victim.said
    finally:
        victim.end()
    again = "three_class__trained_model was killed by signal 9 (SIGKILL): trying once more"
    assert again in victim.said
    runs = graph.tracked_runs(settings.home)
    (second,) = set(runs) - known - {run}
    assert (runs[run], runs[second]) == ("KILLED", "FINISHED")
    assert traces(settings.home) == []
