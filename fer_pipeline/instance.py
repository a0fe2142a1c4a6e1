"""The Dagster instance of a home folder: its configuration, its lock, and runs that were killed."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from fer_pipeline.core.disk import is_full
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.files import publish_bytes, remove_leftovers
from fer_pipeline.core.storage import Location, check_writable
from fer_pipeline.places import check_addressable
from fer_pipeline.settings import Settings

COMMAND_LINE_TAG = "fer/command_line"
"""Tag of runs that a command of this package executes in its own process."""
EXECUTOR_TAG = "fer/executor"
"""Tag that says where the steps of such a run are."""

PROCESS_VARIABLES = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Variables of the processes that steps run in. Arrow's own allocator would keep some 40 MB that
the system's gives back, and set a gibibyte of addresses aside, which `ulimit -v` takes for memory.
"""

IN_PROGRESS = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
"""What a run is in until it has ended."""
_CONFIGURATION = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "concurrency": {"pools": {"default_limit": 1}, "runs": {"max_concurrent_runs": 1}},
    # A killed step would otherwise hold its place in the training pool for ever.
    "run_monitoring": {"enabled": True, "free_slots_after_run_end_seconds": 60},
}


def log_file(settings: Settings) -> Path:
    """Where commands of this home keep what frameworks print."""
    return settings.dagster_home / "command-line.log"


_PROCESS_STARTED = "Started process for run"

_log = logging.getLogger(__name__)


class HomeBusyError(BusyError):
    """Another process works on this home."""


def prepare_home(settings: Settings) -> None:
    """Make the home's folders and its dagster.yaml, and point this process and its children at it.

    A dagster.yaml that is there already is left as it is. Raises InputError when the home can't
    be written, or its path has what `check_addressable` refuses.
    """
    check_addressable(settings.state_folder)
    folder = settings.dagster_home
    configuration = folder / "dagster.yaml"
    with _writable(settings.home):
        check_writable(settings.home)
    with _writable(settings.state_folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not configuration.exists():
            publish_bytes(configuration, yaml.safe_dump(_CONFIGURATION).encode())
    os.environ["DAGSTER_HOME"] = str(folder)
    for name, value in PROCESS_VARIABLES.items():
        os.environ.setdefault(name, value)
    os.environ.update(_home_variables(settings))


@contextmanager
def locked_home(settings: Settings) -> Iterator[None]:
    """Hold the home's lock; raises HomeBusyError, naming the holder, when another process does.

    The lock ends with the process that holds it, however that ends. Raises InputError when the
    home can't be written, or its path has what `check_addressable` refuses.
    """
    check_addressable(settings.state_folder)
    with _writable(settings.state_folder):
        settings.state_folder.mkdir(parents=True, exist_ok=True)
        lock = (settings.state_folder / "run.lock").open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise HomeBusyError(
                f"another run (process {holder}) works on {settings.home}: "
                "wait for it, or give --home another folder"
            ) from error
        # A disk without room must not keep a run from saying so later, in words of its own.
        with contextlib.suppress(OSError):
            lock.truncate(0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


@contextmanager
def _writable(place: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            error.filename = error.filename or str(place / "any")
            raise
        raise InputError(
            f"{place} can't be written ({error.strerror or error}): give --home another folder"
        ) from error


def close_killed_runs(
    instance: DagsterInstance, settings: Settings, *, launcher: bool = False
) -> int:
    """Close what killed commands left open, in Dagster and in MLflow; give the number of runs.

    To be called under the home's lock: a command's run that is still in progress then has no
    process. Of the runs launched from the UI those are closed whose process is gone, as far as
    it can be seen: in the code server, which is their `launcher`, or where the home isn't shared.
    """
    dead = [run for run in _unfinished(instance) if _is_lost(instance, run, launcher)]
    spread = [run.run_id for run in dead if _executor_of(run, settings) == "ray"]
    if spread:
        _end_steps(spread)
    for run in dead:
        instance.report_run_failed(run, "The process of this run ended without a word.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    living = {run.run_id for run in _unfinished(instance)}
    if dead:
        from fer_pipeline.log_followers import end_log_followers
        from fer_pipeline.stale_runs import close_stale_runs

        end_log_followers(settings, [run.run_id for run in dead])
        close_stale_runs(settings, spared=living)
    if not living:
        for folder in ("index", "manifest", "crops", "reports"):
            remove_leftovers(settings.home / folder)
    return len(dead)


def _executor_of(run: DagsterRun, settings: Settings) -> str:
    """Where a run's steps are: a command may choose it, runs of the pages go by the settings."""
    return run.tags.get(EXECUTOR_TAG, "") if is_of_a_command(run) else settings.executor


def _end_steps(run_ids: Sequence[str]) -> None:
    """End what still runs for these runs on a Ray cluster, or wait until it has ended itself."""
    from fer_pipeline import lease
    from fer_pipeline.cluster import end_jobs

    try:
        end_jobs(run_ids)
    except InputError as error:
        _log.warning(
            "%s; waiting %.0f s, after which steps of run %s that still live have ended themselves",
            *(error, lease.LAST_SECONDS, ", ".join(run_ids)),
        )
        time.sleep(lease.LAST_SECONDS)


def close_runs_of_the_home(settings: Settings) -> None:
    """Close what killed commands left open, unless a command works on the home.

    To be called before the pages start: a killed run would hold its place in their queue.
    """
    with (
        contextlib.suppress(HomeBusyError),
        locked_home(settings),
        DagsterInstance.from_config(str(settings.dagster_home)) as instance,
    ):
        close_killed_runs(instance, settings)


def close_lost_runs(instance: DagsterInstance, settings: Settings) -> int:
    """Close runs whose process is gone, as the code server that launches runs sees them.

    Gives their number: none as long as a command works on the home, whose lock is asked for only
    when a run looks lost. Dagster's default launcher doesn't look after runs that it started
    before it was started anew itself.
    """
    if any(_is_lost(instance, run, launcher=True) for run in _unfinished(instance)):
        with contextlib.suppress(HomeBusyError), locked_home(settings):
            return close_killed_runs(instance, settings, launcher=True)
    return 0


def lost_runs(instance: DagsterInstance, settings: Settings) -> list[str]:
    """The ids of runs in progress that have no process, as far as it can be seen from here.

    Those of commands count only while nobody holds the home's lock, which is asked for only when
    a run looks lost.
    """
    found = [run for run in _unfinished(instance) if _is_lost(instance, run, launcher=False)]
    if any(is_of_a_command(run) for run in found):
        try:
            with locked_home(settings):
                pass
        except HomeBusyError:
            found = [run for run in found if not is_of_a_command(run)]
    return [run.run_id for run in found]


def is_of_a_command(run: DagsterRun) -> bool:
    """Whether a command executes a run in its own process.

    The pages give a run that repeats steps of another one all tags of that one.
    """
    return run.tags.get(COMMAND_LINE_TAG) == "true" and run.parent_run_id is None


def _unfinished(instance: DagsterInstance) -> Sequence[DagsterRun]:
    return instance.get_runs(RunsFilter(statuses=list(IN_PROGRESS)))


def _is_lost(instance: DagsterInstance, run: DagsterRun, launcher: bool) -> bool:
    """Whether a run in progress has no process, once the home's lock is held."""
    # Its import takes a third of a second, which every code server and step would pay.
    from dagster._core.storage.runs import SqliteRunStorage

    shared = not isinstance(instance.run_storage, SqliteRunStorage)
    if is_of_a_command(run):
        # A command on another machine, which holds a lock there, isn't the code server's to close.
        return not (launcher and shared)
    # Other machines and containers may work on a shared one, whose processes aren't seen here.
    return (launcher or not shared) and _process_is_gone(instance, run)


def _process_is_gone(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a run that was launched on this machine has begun, and its process ended since.

    The daemon doesn't look after the processes it started before it was restarted.
    """
    import psutil

    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is None or not (event.message or "").startswith(_PROCESS_STARTED):
            continue
        number = event.engine_event_data.metadata.get("pid")
        if number is None:
            continue
        try:
            process = psutil.Process(int(str(number.value)))
            # The number may have been given to another process since.
            living = process.status() != psutil.STATUS_ZOMBIE
            return not living or process.create_time() > entry.timestamp
        except psutil.NoSuchProcess:
            return True
    return False


def refuse_beside_ui_runs(instance: DagsterInstance, settings: Settings) -> None:
    """Raise HomeBusyError while a run is in progress, such as one launched in Dagster's pages.

    To be called under the home's lock. The other way round a step waits for the lock, see
    `waiting.py`.
    """
    for run in _unfinished(instance)[:1]:
        if is_of_a_command(run):
            raise HomeBusyError(
                f"run {run.run_id}, which a command started, hasn't ended as far as Dagster knows: "
                "wait for it, or, where it was killed, let `fer-pipeline run` close it"
            )
        raise HomeBusyError(
            f"run {run.run_id}, launched in Dagster's pages, works on {settings.home}: "
            "wait for it, or terminate it there (fer-pipeline ui)"
        )


def lock_holder(folder: Path) -> str | None:
    """The process that holds the lock of the home with this state folder, as it wrote itself
    down; None where nobody does.
    """
    lock = folder / "run.lock"
    if not lock.is_file():
        return None
    # A run that starts in this very moment finds the home busy: the shortest that can be.
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None


def _home_variables(settings: Settings) -> dict[str, str]:
    found = {"FER_HOME": str(settings.home)}
    if settings.state is not None:
        found["FER_STATE"] = str(settings.state)
    return found


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which Dagster and MLflow serve this home."""
    return {
        **PROCESS_VARIABLES,
        # Five more processes of MLflow's server, for judging the answers of language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_home),
        **_home_variables(settings),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
