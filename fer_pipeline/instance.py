"""The Dagster instance of a home folder: its configuration, its lock, and runs that were killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

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
    "concurrency": {"pools": {"default_limit": 1}, "runs": {"max_concurrent_runs": 1}},
    "run_monitoring": {"enabled": True},
}


class HomeBusyError(Exception):
    """Another process works on this home."""


def prepare_home(settings: Settings) -> None:
    """Make the home's folders and its dagster.yaml, and point this process and its children at it.

    A dagster.yaml that is there already is left as it is.
    """
    folder = settings.dagster_home
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "dagster.yaml"
    if not configuration.exists():
        publish_bytes(configuration, yaml.safe_dump(_CONFIGURATION).encode())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["FER_HOME"] = str(settings.home)


@contextmanager
def locked_home(settings: Settings) -> Iterator[None]:
    """Hold the home's lock; raises HomeBusyError, naming the holder, when another process does.

    The lock ends with the process that holds it, however that ends.
    """
    path = settings.home / "run.lock"
    settings.home.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
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


def close_killed_runs(instance: DagsterInstance, settings: Settings) -> int:
    """Close what killed commands left open, in Dagster and in MLflow; give the number of runs.

    To be called under the home's lock: a command's run that is still in progress then has no
    process. Runs launched from the UI are their daemon's business and are left alone.
    """
    dead = instance.get_runs(RunsFilter(statuses=_IN_PROGRESS, tags={COMMAND_LINE_TAG: "true"}))
    for run in dead:
        instance.report_run_failed(run, "The process of this run ended without a word.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    if dead:
        from fer_pipeline.tracking import close_stale_runs

        close_stale_runs(settings)
    if not instance.get_runs(RunsFilter(statuses=_IN_PROGRESS), limit=1):
        for folder in ("index", "manifest", "crops", "reports"):
            remove_leftovers(settings.home / folder)
    return len(dead)


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which Dagster and MLflow serve this home."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_home),
        "FER_HOME": str(settings.home),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
