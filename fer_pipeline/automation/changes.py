"""Changed lists and new corrections: the sensor that has everything remade which they are part of.

It asks for what was made before and nothing else, and only when the files rest: lists of a
gigabyte take a while to copy.
"""

import json

import dagster as dg

from fer_pipeline.assets.index import LISTS_STAMP
from fer_pipeline.assets.manifest import CORRECTIONS
from fer_pipeline.assets.suspects import ON_DEMAND
from fer_pipeline.automation.states import (
    ALONE_TAG,
    States,
    present_settings,
    working,
)
from fer_pipeline.core.corrections import corrections_digest
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import lists_stamp
from fer_pipeline.plan import downstream, upstream
from fer_pipeline.settings import Settings

CHANGES_SENSOR = "changed_lists_or_corrections"
BECAUSE_TAG = "fer/because"
"""Tag of a run that says what it was started for."""
_SOURCES = {dg.AssetKey("file_list_index"): LISTS_STAMP, dg.AssetKey("class_manifest"): CORRECTIONS}
"""The assets that read such files, and where their metadata says of which state they were."""
_SECONDS = 60


def changes_sensor(settings: Settings, states: States) -> dg.SensorDefinition:
    """Remakes what comes of the lists and the corrections, once these rest for a minute."""
    target = dg.AssetSelection.assets(*_SOURCES).downstream()
    loaded = set(settings.active_streams)

    @dg.sensor(
        name=CHANGES_SENSOR,
        target=target - dg.AssetSelection.tag(ON_DEMAND, "true"),
        minimum_interval_seconds=_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING
        if settings.schedules
        else dg.DefaultSensorStatus.STOPPED,
        description="Remakes all that comes of the lists or of corrections.csv when they changed "
        "and rest for a minute. Off until it is turned on here, or with FER_SCHEDULES=true.",
    )
    def changed_lists_or_corrections(
        context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
    ) -> dg.RunRequest | dg.SkipReason:
        cursor: dict[str, list[str]] = json.loads(context.cursor or "{}")
        try:
            present = present_settings(settings)
            now = [
                lists_stamp(present.open_dataset()),
                corrections_digest(present.corrections_file),
            ]
            read = [_read(context.instance, key, name) for key, name in _SOURCES.items()]
            if None in read:
                return dg.SkipReason("the lists were never read, or no manifest was made of them")
            if now == read:
                return dg.SkipReason("nothing new")
            if cursor.get("done") == [*now, *map(str, read)]:
                return dg.SkipReason("nothing new since it was last looked at")
            if cursor.get("seen") != now:
                context.update_cursor(json.dumps({**cursor, "seen": now}))
                return dg.SkipReason("files changed: waiting until they rest")
            busy = working(settings, context.instance)
            if busy is not None:
                return dg.SkipReason(f"files changed: waiting for the end of {busy}")
            known = states(present, context.instance)
        except InputError as error:
            return dg.SkipReason(str(error))
        there = {state.key for state in known if state.made_at is not None}
        late = sorted({key.path[0] for key in there if len(key.path) > 1} - loaded)
        if late:
            return dg.SkipReason(f"{', '.join(late)} came since: reload the definitions")
        context.update_cursor(json.dumps({"seen": now, "done": [*now, *map(str, read)]}))
        behind = {state.key: state.reason for state in known if state.reason is not None}
        changed = [key for key in _SOURCES if key in behind]
        if not changed:
            return dg.SkipReason("files changed, but nothing in them that counts")
        made = downstream(known, changed) & there
        return dg.RunRequest(
            asset_selection=sorted(made | (upstream(known, made) & behind.keys())),
            tags={BECAUSE_TAG: behind[changed[0]], ALONE_TAG: "true"},
        )

    return changed_lists_or_corrections


def _read(instance: dg.DagsterInstance, key: dg.AssetKey, name: str) -> str | None:
    """What an asset's metadata says of the files it was made of; None when it was never made."""
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return None
    value = event.asset_materialization.metadata.get(name)
    return "" if value is None else str(value.value)
