"""Running the graph from the command line: plan, execute, show progress, say what went wrong."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster import AssetKey, DagsterEventType, DagsterInstance, EventLogEntry, RunsFilter
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.storage.tags import MAX_RETRIES_TAG
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fer_pipeline.assets.steps import WRONG_INPUT
from fer_pipeline.build import PIPELINE_JOB, build_definitions
from fer_pipeline.cluster import check_nodes, find_cluster
from fer_pipeline.core.errors import InputError
from fer_pipeline.executors import RAY
from fer_pipeline.failures import INTERRUPTED, STOPPED, StepFailures
from fer_pipeline.instance import COMMAND_LINE_TAG, EXECUTOR_TAG, log_file
from fer_pipeline.log_followers import end_log_followers
from fer_pipeline.operations.room import check_room_for
from fer_pipeline.plan import AssetState, asset_states
from fer_pipeline.progress import CropMeter
from fer_pipeline.settings import RUN_OPTIONS, Settings
from fer_pipeline.terminal import output_to, say

_POLL_SECONDS = 0.5
_PAGE = 1000


@dataclass
class Outcome:
    """What a run did: assets made, and what stopped it.

    `problems` are sentences for the user; `wrong_input` tells that the input is to blame.
    """

    made: list[str] = field(default_factory=list)
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    wrong_input: bool = False
    ok: bool = True


def run_graph(
    settings: Settings,
    instance: DagsterInstance,
    *,
    select: Sequence[str] = (),
    force: bool = False,
    tags: Mapping[str, str] | None = None,
    console: Console,
) -> Outcome:
    """Make what isn't current of the selected assets (default: all) and what they need.

    With `force`, the selected assets are made again even if they are current. `tags` are further
    tags of the Dagster run. Raises InputError for an asset that isn't in the graph.
    """
    states = asset_states(build_definitions(settings), instance, settings)
    wanted = _wanted(states, select)
    selected = {AssetKey.from_user_string(name) for name in select} or wanted
    chosen = [
        state
        for state in states
        if state.key in wanted and (state.reason or (force and state.key in selected))
    ]
    outcome = Outcome(skipped=len(wanted) - len(chosen))
    if not chosen:
        settings.remember()
        return outcome
    for state in chosen:
        say(console, f"  {state.key.to_user_string()}: {state.reason or 'asked for'}", style="dim")
    check_room_for(settings, [state.key.to_user_string() for state in chosen])
    _pass_on(settings)
    if settings.executor == RAY:
        cluster = find_cluster()
        check_nodes(cluster, settings)
        say(
            console,
            f"on the Ray cluster at {cluster.address}: {cluster.cpus} CPUs, {cluster.nodes} nodes",
        )
    job = ReconstructableJob(
        repository=ReconstructableRepository.for_module("fer_pipeline.definitions", "defs"),
        job_name=PIPELINE_JOB,
    )
    token = uuid.uuid4().hex
    log = log_file(settings)
    with (
        output_to(log, console) as screen,
        _progress_shown(instance, token, len(chosen), screen, outcome),
    ):
        result = dg.execute_job(
            job,
            instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={
                **(tags or {}),
                COMMAND_LINE_TAG: "true",
                EXECUTOR_TAG: settings.executor,
                # A command's run is the command's to repeat, not the daemon's.
                MAX_RETRIES_TAG: "0",
                _TOKEN_TAG: token,
            },
            asset_selection=[state.key for state in chosen],
            raise_on_error=False,
        )
        outcome.ok = result.success
    end_log_followers(settings, [result.run_id])
    if not outcome.ok and not outcome.problems:
        outcome.problems.append(
            f"run {result.run_id} failed without a step that says why: run again, which goes on "
            f"from what is there, or see {log} or the run's log with `fer-pipeline ui`"
        )
    return outcome


_TOKEN_TAG = "fer/token"  # noqa: S105 - a run's name, no secret


def _wanted(states: Sequence[AssetState], select: Sequence[str]) -> set[AssetKey]:
    """The selected assets and everything upstream of them; without any, all not on demand."""
    known = {state.key for state in states}
    if not select:
        return {state.key for state in states if not state.on_demand}
    graph = {state.key: state.parents for state in states}
    todo = [AssetKey.from_user_string(name) for name in select]
    for key in todo:
        if key not in known:
            names = ", ".join(sorted(key.to_user_string() for key in known))
            raise InputError(
                f"there is no asset {key.to_user_string()!r}: --select takes one of {names}"
            )
    wanted: set[AssetKey] = set()
    while todo:
        key = todo.pop()
        if key not in wanted:
            wanted.add(key)
            todo.extend(graph[key])
    return wanted


def _pass_on(settings: Settings) -> None:
    """Give the steps, which are processes of their own, exactly these settings."""
    for name in RUN_OPTIONS:
        os.environ.pop(f"FER_{name.upper()}", None)
    os.environ["FER_EXECUTOR"] = settings.executor
    settings.remember()


@contextmanager
def _progress_shown(
    instance: DagsterInstance, token: str, total: int, console: Console, outcome: Outcome
) -> Iterator[None]:
    """Follow the run's events in a thread, until the block ends."""
    finished = threading.Event()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("starting", total=total, note="")
        crops = progress.add_task("faces", total=None, visible=False, note="")
        meter, failures = CropMeter(), StepFailures()

        def show(entry: EventLogEntry) -> None:
            _note(entry, failures, outcome)
            event = entry.dagster_event
            if event is None:
                # Below are a framework's own words, above are errors that are told at the end.
                if not logging.INFO <= int(entry.level) <= logging.WARNING:
                    return
                if meter.take(entry.user_message, entry.timestamp):
                    unfinished = meter.done < meter.faces
                    progress.update(
                        crops,
                        completed=meter.done,
                        total=meter.faces,
                        visible=unfinished,
                        note=str(meter),
                    )
                    if console.is_terminal:
                        return
                say(console, f"  {entry.user_message}")
            elif event.event_type == DagsterEventType.STEP_START and event.step_key:
                # Without the graph's name: the numbers beside it need the room of 80 columns.
                name = event.step_key.rpartition(".")[2].replace("__", "/")
                progress.update(task, description=name)
            elif event.event_type == DagsterEventType.STEP_UP_FOR_RETRY:
                again = failures.again(event)
                if again is not None:
                    say(console, again, style="yellow")
            elif event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
                progress.advance(task)
                if event.asset_key is not None:
                    say(console, event.asset_key.to_user_string(), head="made", style="green")

        def follow() -> None:
            cursor = None
            while True:
                last = finished.is_set()
                runs = instance.get_runs(RunsFilter(tags={_TOKEN_TAG: token}), limit=1)
                more = bool(runs)
                while runs and more:
                    page = instance.get_records_for_run(runs[0].run_id, cursor=cursor, limit=_PAGE)
                    for record in page.records:
                        show(record.event_log_entry)
                    cursor, more = page.cursor, page.has_more
                if last:
                    return
                finished.wait(_POLL_SECONDS)

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join(timeout=30)


def _note(entry: EventLogEntry, failures: StepFailures, outcome: Outcome) -> None:
    """Keep what was made and what went wrong."""
    event = entry.dagster_event
    if event is None:
        return
    failures.follow(event)
    if event.event_type == DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
        outcome.made.append(event.asset_key.to_user_string())
    elif event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
        found = event.asset_check_evaluation_data
        if not found.passed and found.severity == dg.AssetCheckSeverity.ERROR:
            asset = found.asset_key.to_user_string()
            outcome.problems.append(f"{asset}, check {found.check_name}: {found.description}")
            outcome.wrong_input = True
    elif event.event_type == DagsterEventType.STEP_FAILURE:
        sentence = failures.sentence(event)
        if sentence is not None and sentence not in outcome.problems:
            outcome.problems.append(sentence)
        given = event.step_failure_data.user_failure_data
        outcome.wrong_input |= given is not None and WRONG_INPUT in given.metadata
    elif event.event_type == DagsterEventType.PIPELINE_FAILURE and not outcome.problems:
        error = event.job_failure_data.error
        if error is not None and error.cls_name == INTERRUPTED:
            outcome.problems.append(STOPPED)
        elif (killed := failures.after_success()) is not None:
            outcome.problems.append(killed)
