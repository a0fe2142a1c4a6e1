"""The Dagster instance of a home folder: its configuration, its lock, and runs that were killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes, remove_leftovers
from fer_pipeline.settings import Settings

COMMAND_LINE_TAG = "fer/command_line"
"""Tag of runs that a command of this package executes in its own process."""

_IN_PROGRESS = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
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


class HomeBusyError(Exception):
    """Another process works on this home."""


def prepare_home(settings: Settings) -> None:
    """Make the home's folders and its dagster.yaml, and point this process and its children at it.

    A dagster.yaml that is there already is left as it is. Raises InputError when the home can't
    be written.
    """
    folder = settings.dagster_home
    configuration = folder / "dagster.yaml"
    with _writable(settings):
        folder.mkdir(parents=True, exist_ok=True)
        if not configuration.exists():
            publish_bytes(configuration, yaml.safe_dump(_CONFIGURATION).encode())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["FER_HOME"] = str(settings.home)


@contextmanager
def locked_home(settings: Settings) -> Iterator[None]:
    """Hold the home's lock; raises HomeBusyError, naming the holder, when another process does.

    The lock ends with the process that holds it, however that ends. Raises InputError when the
    home can't be written.
    """
    with _writable(settings):
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = (settings.home / "run.lock").open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise HomeBusyError(
                f"another run (process {holder}) works on {settings.home}: "
                "wait for it, or give --home another folder"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _writable(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{settings.home} can't be written ({error.strerror}): give --home another folder"
        ) from error


def close_killed_runs(instance: DagsterInstance, settings: Settings) -> int:
    """Close what killed commands left open, in Dagster and in MLflow; give the number of runs.

    To be called under the home's lock: a command's run that is still in progress then has no
    process. Runs launched from the UI are their daemon's business and are left alone.
    """
    dead = instance.get_runs(RunsFilter(statuses=_IN_PROGRESS, tags={COMMAND_LINE_TAG: "true"}))
    for run in dead:
        instance.report_run_failed(run, "The process of this run ended without a word.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    living = {run.run_id for run in instance.get_runs(RunsFilter(statuses=_IN_PROGRESS))}
    if dead:
        from fer_pipeline.tracking import close_stale_runs

        close_stale_runs(settings, spared=living)
    if not living:
        for folder in ("index", "manifest", "crops", "reports"):
            remove_leftovers(settings.home / folder)
    return len(dead)


def refuse_beside_ui_runs(instance: DagsterInstance, settings: Settings) -> None:
    """Raise HomeBusyError while a run that was launched in Dagster's pages is in progress.

    The other way round nothing is needed: the run queue lets one run go at a time.
    """
    living = instance.get_runs(RunsFilter(statuses=_IN_PROGRESS), limit=1)
    if living:
        raise HomeBusyError(
            f"run {living[0].run_id}, launched in Dagster's pages, works on {settings.home}: "
            "wait for it, or terminate it there (fer-pipeline ui)"
        )


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which Dagster and MLflow serve this home."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_home),
        "FER_HOME": str(settings.home),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
