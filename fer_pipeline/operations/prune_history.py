"""What of Dagster's history can go: logs and events of old runs that no asset stands on.

An asset is up to date by the event that tells how it was made, and by its checks: the runs of
these stay, however old.
"""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from dagster import AssetCheckKey, DagsterInstance, RunsFilter

from fer_pipeline.instance import IN_PROGRESS
from fer_pipeline.operations.removal import Removal, removal, remove, size_of
from fer_pipeline.settings import Settings

_PAGE = 500
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOGS = "logs of old runs"
_EVENTS = "events of old runs"


def run_logs(settings: Settings, instance: DagsterInstance, days: int) -> Iterator[Removal]:
    """What runs that ended more than `days` ago printed and handed on, and their events."""
    before = datetime.now(UTC) - timedelta(days=days)
    ended = _ended(instance, before)
    storage = settings.dagster_home / "storage"
    known = {*ended, *_others(instance, ended)}
    for folder in sorted(storage.iterdir()) if storage.is_dir() else ():
        # Runs have UUIDs for names; what else may stand there is nobody's to remove.
        if not _RUN.fullmatch(folder.name):
            continue
        lost = folder.name not in known and folder.stat().st_mtime < before.timestamp()
        if folder.is_dir() and (folder.name in ended or lost):
            yield removal(_LOGS, folder)
    kept = standing_runs(settings, instance)
    for run_id in ended:
        if run_id not in kept:
            file = _event_file(settings, run_id)
            size = size_of(file) if file is not None else 0
            yield Removal(_EVENTS, run_id, size, partial(_forget, instance, run_id, file))


def standing_runs(settings: Settings, instance: DagsterInstance) -> set[str]:
    """Runs that made an asset as it stands, or the newest outcome of a check."""
    from fer_pipeline.build import build_definitions

    kept = set()
    for key in instance.all_asset_keys():
        event = instance.get_latest_materialization_event(key)
        if event is not None:
            kept.add(event.run_id)
    graph = build_definitions(settings).resolve_asset_graph()
    checks: list[AssetCheckKey] = sorted(graph.asset_check_keys, key=str)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return kept | {record.run_id for record in latest.values()}


def _ended(instance: DagsterInstance, before: datetime) -> list[str]:
    """Runs that ended before that time, the oldest first."""
    found, cursor = [], None
    while True:
        page = instance.get_run_records(
            RunsFilter(created_before=before), limit=_PAGE, cursor=cursor, ascending=False
        )
        for record in page:
            run = record.dagster_run
            # A run that was closed without an end, as by a sensor, was touched last then.
            end = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
            if run.status not in IN_PROGRESS and end < before.timestamp():
                found.append(run.run_id)
        if len(page) < _PAGE:
            return found[::-1]
        cursor = page[-1].dagster_run.run_id


def _others(instance: DagsterInstance, ended: list[str]) -> set[str]:
    """All other runs that the instance knows."""
    return set(instance.get_run_ids()) - set(ended)


def _event_file(settings: Settings, run_id: str) -> Path | None:
    """The database of one run's events: SQLite has one for each."""
    path = settings.dagster_home / "history" / "runs" / f"{run_id}.db"
    return path if path.is_file() else None


def _forget(instance: DagsterInstance, run_id: str, file: Path | None) -> None:
    instance.delete_run(run_id)
    if file is not None:
        for beside in file.parent.glob(f"{file.name}*"):
            remove(beside)


def seconds_ago(days: int) -> float:
    """The time so many days ago, seconds, UTC."""
    return time.time() - days * 86_400
