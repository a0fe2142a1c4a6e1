"""Steps of runs of Dagster's pages wait for commands, and keep no place that these may need."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.executors import TRAINING_POOL
from fer_pipeline.instance import COMMAND_LINE_TAG, PROCESS_VARIABLES, locked_home, prepare_home
from fer_pipeline.settings import Settings
from fer_pipeline.waiting import Place, wait_for_command
from fer_pipeline_tests import graph

STEP = "three_class__trained_model"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A new home, in whose pools one step has a place."""
    for name in ("DAGSTER_HOME", "FER_HOME", *PROCESS_VARIABLES):
        monkeypatch.setenv(name, "")
    found = Settings.fresh(home=tmp_path / "home")
    prepare_home(found)
    return found


def _run(instance: dg.DagsterInstance, settings: Settings, **tags: str) -> dg.DagsterRun:
    job = build_definitions(settings).resolve_job_def(PIPELINE_JOB)
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)


def _at_each_sleep(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """In place of each pause one of `steps`; there are no more pauses than these."""
    left = list(steps)
    monkeypatch.setattr("fer_pipeline.waiting.time.sleep", lambda _: left.pop(0)())


def test_step_of_the_pages_waits_for_a_command_and_one_of_a_command_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = contextlib.ExitStack()
    _at_each_sleep(monkeypatch, command.close)
    told: list[str] = []
    with graph.instance_of(settings.home) as instance, command:
        of_pages = _run(instance, settings)
        of_a_command = _run(instance, settings, **{COMMAND_LINE_TAG: "true"})
        wait_for_command(settings, of_pages, tell=told.append)
        assert told == []
        command.enter_context(locked_home(settings))
        wait_for_command(settings, of_a_command, tell=told.append)
        assert told == []
        wait_for_command(settings, of_pages, tell=told.append)
    assert told == [f"waiting for a command (process {os.getpid()}) that works on {settings.home}"]


def test_place_of_a_step_that_waits_is_a_commands_to_take_and_the_steps_again_after_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = contextlib.ExitStack()
    with graph.instance_of(settings.home) as instance, command:
        instance.event_log_storage.initialize_concurrency_limit_to_default(TRAINING_POOL)
        run, other = _run(instance, settings), _run(instance, settings)
        mine, theirs = (Place(instance, TRAINING_POOL, one, STEP) for one in (run, other))
        assert mine.take()

        def command_does_other_things() -> None:
            assert mine.is_taken()
            assert not theirs.take()

        def command_trains() -> None:
            assert theirs.take()
            assert not mine.is_taken()

        def command_goes_and_its_place_is_still_taken() -> None:
            command.close()

        def another_comes() -> None:
            # The step stands in line for its place, and must give that up too.
            assert not mine.is_taken()
            command.enter_context(locked_home(settings))

        def which_takes_the_place_again() -> None:
            theirs.leave()
            assert theirs.take()

        def and_goes() -> None:
            theirs.leave()
            command.close()

        _at_each_sleep(
            monkeypatch,
            command_does_other_things,
            command_trains,
            command_goes_and_its_place_is_still_taken,
            another_comes,
            which_takes_the_place_again,
            and_goes,
        )
        command.enter_context(locked_home(settings))
        wait_for_command(settings, run, mine)
        assert mine.is_taken()
        assert not theirs.is_taken()


def test_more_steps_of_a_run_than_it_has_processes_bar_no_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = contextlib.ExitStack()
    with graph.instance_of(settings.home) as instance, command:
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default(TRAINING_POOL)
        run, other = _run(instance, settings), _run(instance, settings)
        mine, theirs = (Place(instance, TRAINING_POOL, one, STEP) for one in (run, other))
        next_ones = [f"{name}__trained_model" for name in ("five_class", "seven_class")]
        assert mine.take()
        # The run's executor puts them in line, and starts none while this step is a process of it.
        assert not any(
            storage.claim_concurrency_slot(TRAINING_POOL, run.run_id, step).is_claimed
            for step in next_ones
        )

        def command_stands_in_line_after_them() -> None:
            assert not theirs.take()

        def and_has_the_place() -> None:
            assert theirs.take()
            for step in next_ones:
                storage.add_pending_step(TRAINING_POOL, run.run_id, step)

        def and_goes() -> None:
            theirs.leave()
            (assigned,) = storage.get_concurrency_info(TRAINING_POOL).assigned_run_ids
            assert assigned == run.run_id
            assert not mine.is_taken()
            command.close()

        _at_each_sleep(monkeypatch, command_stands_in_line_after_them, and_has_the_place, and_goes)
        command.enter_context(locked_home(settings))
        wait_for_command(settings, run, mine)
        assert mine.is_taken()


def test_place_is_taken_also_where_the_pool_lost_its_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with graph.instance_of(settings.home) as instance:
        run = _run(instance, settings)
        place = Place(instance, TRAINING_POOL, run, STEP)
        # As a step's own claim does it, the pool is made anew with the home's limit.
        assert place.take()
        assert place.is_taken()
        place.leave()
    monkeypatch.setattr(
        type(instance.event_log_storage), "initialize_concurrency_limit_to_default", lambda *_: None
    )
    with graph.instance_of(settings.home) as instance:
        instance.event_log_storage.delete_concurrency_limit(TRAINING_POOL)
        assert Place(instance, TRAINING_POOL, run, STEP).take()


def test_step_without_a_place_gets_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = contextlib.ExitStack()
    _at_each_sleep(monkeypatch, command.close)
    with graph.instance_of(settings.home) as instance, command:
        instance.event_log_storage.initialize_concurrency_limit_to_default(TRAINING_POOL)
        run = _run(instance, settings)
        place = Place(instance, TRAINING_POOL, run, STEP)
        command.enter_context(locked_home(settings))
        wait_for_command(settings, run, place)
        assert not place.is_taken()
