"""`fer-pipeline prune`: what a home can do without, and its removal.

Only what can be made again, or what nobody asks for any more: never corrections, studies, answers,
the champion or the version before it, nor anything of the data set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dagster import DagsterInstance
from rich.console import Console
from rich.table import Table

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.room import in_words
from fer_pipeline.instance import locked_home, prepare_home, refuse_beside_ui_runs
from fer_pipeline.operations.prune_files import crops, shown_pictures, unfinished
from fer_pipeline.operations.prune_history import run_logs
from fer_pipeline.operations.prune_tracking import close_killed_sweeps, failed_runs, old_versions
from fer_pipeline.operations.removal import Removal
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import asked_by_a_person


@dataclass(frozen=True)
class Retention:
    """What is kept: the newest `runs` versions of a stream, and logs of the last `days`."""

    runs: int
    days: int


def prune(
    settings: Settings, retention: Retention, *, apply: bool, as_json: bool, console: Console
) -> None:
    """Say what can go and, with `apply`, remove it under the home's lock.

    Raises InputError where there is no home, HomeBusyError beside a run in progress.
    """
    if not settings.dagster_home.is_dir():
        raise InputError(
            f"{settings.home} holds nothing yet: run something, or give another --home"
        )
    if apply:
        with locked_home(settings):
            prepare_home(settings)
            with DagsterInstance.get() as instance:
                refuse_beside_ui_runs(instance, settings)
                with asked_by_a_person():
                    close_killed_sweeps(settings)
                found = list(removable(settings, instance, retention))
                for one in found:
                    one.remove()
    else:
        with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            found = list(removable(settings, instance, retention))
    _tell(found, applied=apply, console=console)
    if as_json:
        kinds = sorted({one.kind for one in found})
        by_kind: dict[str, Any] = {
            kind: {
                "bytes": sum(one.bytes for one in found if one.kind == kind),
                "items": [one.what for one in found if one.kind == kind],
            }
            for kind in kinds
        }
        print_json(
            {"applied": apply, "bytes": sum(one.bytes for one in found), "removable": by_kind}
        )


def removable(
    settings: Settings, instance: DagsterInstance, retention: Retention
) -> Iterator[Removal]:
    """Everything that can go, with its size and how it is removed."""
    with asked_by_a_person():
        yield from crops(settings)
        yield from shown_pictures(settings)
        yield from unfinished(settings)
        yield from run_logs(settings, instance, retention.days)
        yield from old_versions(settings, instance, retention.runs, retention.days)
        yield from failed_runs(settings, retention.days)


def _tell(found: list[Removal], *, applied: bool, console: Console) -> None:
    if not found:
        say(console, "Nothing can go: all that is there is in use or can't be made again.")
        return
    table = Table("what", "how many", "bytes")
    for kind in dict.fromkeys(one.kind for one in found):
        chosen = [one for one in found if one.kind == kind]
        table.add_row(kind, f"{len(chosen):,}", in_words(sum(one.bytes for one in chosen)))
    for one in found:
        say(console, f"  {one.kind}: {one.what}, {in_words(one.bytes)}", style="dim")
    console.print(table)
    total = in_words(sum(one.bytes for one in found))
    if applied:
        say(console, f"{total} freed")
    else:
        say(console, f"{total} can be freed: `fer-pipeline prune --apply` does it")
