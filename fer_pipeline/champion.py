"""Who becomes a stream's champion at a person's word, what keeps a version from it, and the file.

`champion.json` beside a stream's report tells those who have no MLflow what the registry knows.
What a comparison is lives in `core/challenge.py`, when one is made in `assets/champion.py`, where
the alias stands in `registry.py`.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from fer_pipeline.core.challenge import (
    Verdict,
    crop_objections,
    label_objections,
    leak_objections,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_json
from fer_pipeline.core.manifest import MANIFEST_FILE, read_manifest
from fer_pipeline.core.splits import groups_on_two_sides
from fer_pipeline.core.storage import Location, is_file
from fer_pipeline.instance import HomeBusyError
from fer_pipeline.operations.alerts import alert, champion_text
from fer_pipeline.registry import ALIAS, Entry, Registry, held_by
from fer_pipeline.settings import Settings

_LONGEST_WHY = 1000
_LOCK_SECONDS = 60.0


def champion_file(settings: Settings, stream: str) -> Location:
    """Who holds a stream's alias, what was decided when, and why, as JSON."""
    return settings.report_folder(stream) / "champion.json"


def read_champion(settings: Settings, stream: str) -> dict[str, Any]:
    """What `champion.json` holds; raises InputError when it was never written."""
    path = champion_file(settings, stream)
    if not is_file(path):
        raise InputError(f"{path} is not there: materialize {stream}/champion first")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write_champion(registry: Registry, decision: dict[str, Any] | None = None) -> None:
    """Publish `champion.json`: the holder, the history, and the last comparison's figures.

    Without `decision` the one that stands there stays. What versions that were deleted since
    had to tell stays too.
    """
    path = champion_file(registry.settings, registry.stream)
    known = json.loads(path.read_text()) if is_file(path) else {}
    entries = {entry["at"]: entry for entry in known.get("history", [])}
    entries |= {entry.at: asdict(entry) for entry in registry.history()}
    held = registry.champion()
    publish_json(
        path,
        {
            "registered_model": registry.name,
            "champion": held,
            "model_uri": None if held is None else registry.model_uri(held),
            "decision": known.get("decision") if decision is None else decision,
            "history": [entries[at] for at in sorted(entries)],
        },
    )


@contextmanager
def locked(settings: Settings, stream: str) -> Iterator[None]:
    """Hold the right to move a stream's alias, among the processes of this home.

    Waits a minute for another one, then raises HomeBusyError. Ends with the process, however that
    ends. Other homes on the same server are seen by `Registry.decide`.
    """
    folder = settings.dagster_home
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"champion-{stream}.lock").open("a") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise HomeBusyError(
                        f"another process has been deciding on the champion of {stream} in "
                        f"{settings.home} for a minute: try again when it is done"
                    ) from error
                time.sleep(0.1)
        yield


def promote(settings: Settings, stream: str, number: int, why: str, by: str) -> Entry | None:
    """Give a version the alias because a person says so; None when it holds it already.

    The comparison with the champion is overruled; what blocks a promotion isn't: another label
    order, other crop settings, a leak. Raises InputError for that, for a version that isn't there
    and for a reason that is empty or too long.
    """
    reason = _reason(why)
    registry, version = Registry(settings, stream), str(number)
    before = registry.champion()
    objections = objections_by_hand(registry, version)
    if objections:
        raise InputError(
            f"version {version} of {registry.name} can't be the champion: {'; '.join(objections)}"
        )
    if before == version:
        return None
    with locked(settings, stream):
        entry = registry.decide(Verdict.BY_HAND, version, before=before, by=by, why=reason)
        write_champion(registry)
    tell_of(registry, entry)
    return entry


def roll_back(settings: Settings, stream: str, why: str, by: str) -> Entry:
    """Give the alias back to the version that held it before, which then is not compared again.

    The version that loses it is promoted by no run any more, only by a person. Raises InputError
    when there is no earlier holder, when its labels are no longer the stream's, or for a reason
    that is empty or too long.
    """
    reason = _reason(why)
    registry = Registry(settings, stream)
    with locked(settings, stream):
        before, version = registry.champion(), registry.previous()
        if version is None:
            raise InputError(
                f"no version of {registry.name} held the alias {ALIAS} before {held_by(before)}: "
                "there is nothing to roll back to"
            )
        objections = label_objections(
            registry.card(version), settings.all_streams[stream], "the stream's"
        )
        if objections:
            raise InputError(
                f"version {version} of {registry.name} held the alias before, and can't have it "
                f"back: {'; '.join(objections)}"
            )
        entry = registry.decide(Verdict.ROLLED_BACK, version, before=before, by=by, why=reason)
        write_champion(registry)
    tell_of(registry, entry)
    return entry


def objections_by_hand(registry: Registry, version: str) -> list[str]:
    """What keeps a version from being promoted by a person, seen from this home's data."""
    settings = registry.settings
    card = registry.card(version)
    found = label_objections(card, settings.all_streams[registry.stream], "the stream's")
    if settings.data_set is not None:
        found += crop_objections(card, settings.crop_settings, "this home's")
    if is_file(settings.manifest_folder / MANIFEST_FILE):
        manifest = read_manifest(settings.manifest_folder, ["group_id", "split"])
        found += leaks(registry, version, manifest)
    return found


def leaks(registry: Registry, version: str, manifest: pa.Table) -> list[str]:
    """What of a version's training stands in today's dev or test split, as far as it is known."""
    groups, split = manifest["group_id"].to_numpy(), manifest["split"].to_numpy()
    trained = registry.trained_groups(version)
    return leak_objections(
        None if trained is None else set(trained["group_id"].to_pylist()),
        groups,
        split,
        groups_on_two_sides(groups, split),
    )


def tell_of(registry: Registry, entry: Entry, log: Any = None) -> None:
    """Send an alert where a decision gave the alias to another version; `log` hears of a failure.

    To be called outside `locked`: a mail server may take its time.
    """
    if entry.before != entry.after:
        text = champion_text(
            registry.settings, registry.name, entry.before, entry.after, entry.by, entry.why
        )
        alert(registry.settings, text, *(() if log is None else (log,)))


def _reason(why: str) -> str:
    reason = " ".join(why.split())
    if not 0 < len(reason) <= _LONGEST_WHY:
        raise InputError(
            f"--why needs a reason of 1 to {_LONGEST_WHY} characters, not {len(reason)}: it is "
            "kept with the version"
        )
    return reason
