"""A `tail` that a killed step left behind, and those of others."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fer_pipeline.log_followers import end_log_followers
from fer_pipeline.settings import Settings

Follow = Callable[[str], psutil.Process]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Follows a file in the Dagster folder of a home as Dagster does."""
    started: list[subprocess.Popen[bytes]] = []

    def followed(name: str) -> psutil.Process:
        path = tmp_path / "dagster" / "storage" / name
        path.parent.mkdir(parents=True)
        path.touch()
        started.append(
            subprocess.Popen(["tail", "-F", "-c", "+0", str(path)], stdout=subprocess.DEVNULL)
        )
        return psutil.Process(started[-1].pid)

    yield followed
    for one in started:
        one.kill()
        one.wait()


def test_what_follows_the_output_of_a_run_that_is_over_ends_and_no_other(
    tmp_path: Path, follow: Follow
) -> None:
    over, going = follow("run-1/compute_logs/a.err"), follow("run-10/compute_logs/a.err")
    settings = Settings.fresh(home=tmp_path)
    assert end_log_followers(settings, ["run-1", "run-2"]) == 1
    assert over.wait(timeout=5) is not None
    assert going.is_running()
    assert end_log_followers(settings, []) == 0


def test_a_follower_of_another_user_is_left_alone(
    tmp_path: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow("run-1/compute_logs/a.err")

    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "kill", refuse)
    assert end_log_followers(Settings.fresh(home=tmp_path), ["run-1"]) == 0
