"""Two `run` commands at once: on one home, on two, and with other settings."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import fer_pipeline
from fer_pipeline_tests.interruptions import (
    PATIENCE,
    SHARD_ROWS,
    Command,
    crops,
    make_crops,
    shards,
    traces,
    undisturbed,
    without_crops,
)

SMALL = {"FER_SHARD_ROWS": str(SHARD_ROWS), "FER_WORKERS": "1"}
BUSY = r"busy: another run \(process (\d+)\) works on {home}: wait for it, or give --home another"


@pytest.fixture
def run() -> Iterator[Callable[..., Command]]:
    """Starts runs of the crops that this test is sure to end."""
    commands: list[Command] = []

    def started(settings: Settings, *words: object) -> Command:
        given = ("run", "--home", settings.home, "--select", "face_crops", *words)
        commands.append(Command(*given, **SMALL))
        return commands[-1]

    yield started
    for command in commands:
        command.end()


@pytest.fixture
def expected(drawn_release: Path) -> dict[str, bytes]:
    """The crops of a run that was alone."""
    return dict(undisturbed(drawn_release))


def test_one_of_two_runs_on_one_home_refuses_and_the_other_isnt_disturbed(
    drawn_release: Path, tmp_path: Path, expected: dict[str, bytes], run: Callable[..., Command]
) -> None:
    settings = without_crops(drawn_release, tmp_path / "home")
    pair = [run(settings), run(settings)]
    codes = [one.process.wait(timeout=PATIENCE) for one in pair]
    assert sorted(codes) == [0, 1], [one.said for one in pair]
    refused = pair[codes.index(1)].said
    holder = re.search(BUSY.format(home=settings.home), refused)
    assert holder is not None, refused
    assert int(holder[1]) == pair[codes.index(0)].process.pid
    assert "Traceback" not in refused
    assert crops(settings.crops_folder) == expected
    assert traces(settings.home) == []


def test_run_with_other_settings_refuses_too_and_changes_nothing(
    drawn_release: Path, tmp_path: Path, expected: dict[str, bytes], run: Callable[..., Command]
) -> None:
    settings = without_crops(drawn_release, tmp_path / "home")
    first = run(settings)
    first.wait_until(lambda: bool(shards(settings.crops_folder)))
    other = run(settings, "--detect", "always")
    assert other.process.wait(timeout=PATIENCE) == 1, other.said
    assert re.search(BUSY.format(home=settings.home), other.said)
    assert first.process.wait(timeout=PATIENCE) == 0, first.said
    assert crops(settings.crops_folder) == expected
    assert Settings.load(home=settings.home).detect == "missing"
    # In turn, each settings' crops stand beside the other's.
    make_crops(settings.model_copy(update={"detect": "always"}))
    assert crops(settings.crops_folder) == expected
    (folder,) = set((settings.home / "crops").iterdir()) - {settings.crops_folder}
    assert read_crop_set(folder, verify=True).faces == read_crop_set(settings.crops_folder).faces


def test_two_homes_share_a_data_set(
    drawn_release: Path, tmp_path: Path, expected: dict[str, bytes], run: Callable[..., Command]
) -> None:
    homes = [without_crops(drawn_release, tmp_path / name) for name in ("one", "other")]
    pair = [run(settings) for settings in homes]
    for one, settings in zip(pair, homes, strict=True):
        assert one.process.wait(timeout=PATIENCE) == 0, one.said
        assert crops(settings.crops_folder) == expected


def test_run_beside_one_of_the_pages_refuses(drawn_release: Path, tmp_path: Path) -> None:
    settings = without_crops(drawn_release, tmp_path / "home")
    with graph.instance_of(settings.home) as instance:
        job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    ended = fer_pipeline("run", "--home", settings.home, "--select", "face_crops", **SMALL)
    assert ended.code == 1
    assert f"run {run.run_id}, launched in Dagster's pages, works on {settings.home}" in ended.words
    assert "Traceback" not in ended.err
    assert not settings.crops_folder.exists()
