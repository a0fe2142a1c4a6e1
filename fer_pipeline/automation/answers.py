"""New answers of people: the sensor that has the reports remade which they are part of."""

import json
from collections.abc import Iterator

import dagster as dg

from fer_pipeline.automation.states import ALONE_TAG, States, present_settings, working
from fer_pipeline.core.errors import InputError
from fer_pipeline.people import ANSWERS, answers_digest
from fer_pipeline.settings import Settings

ANSWERS_SENSOR = "new_answers"
_SECONDS = 60


def answers_sensor(settings: Settings, states: States) -> dg.SensorDefinition:
    """Remakes the reports that people's answers are part of, once the answers rest for a minute.

    They are reports on the model: while it is to be made anew, the run that does so makes them.
    """
    reports = {
        stream: [
            dg.AssetKey([stream, "evaluation_report"]),
            dg.AssetKey([stream, "human_error_report"]),
        ]
        for stream in settings.active_streams
    }

    @dg.sensor(
        name=ANSWERS_SENSOR,
        target=dg.AssetSelection.assets(*(key for keys in reports.values() for key in keys)),
        minimum_interval_seconds=_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Remakes a stream's reports when its study has new answers and nobody has "
        "answered for a minute.",
    )
    def new_answers(
        context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        now = {stream: answers_digest(settings, stream) for stream in reports}
        context.update_cursor(json.dumps(now))
        words = []
        for stream, keys in reports.items():
            known = [_answers_of(context.instance, key) for key in keys]
            if not now[stream]:
                words.append(f"{stream}: no answer yet")
            elif None in known:
                words.append(f"{stream}: its reports were never made")
            elif known == [now[stream]] * len(keys):
                words.append(f"{stream}: nothing new")
            elif now[stream] != seen.get(stream):
                words.append(f"{stream}: people are answering")
            else:
                waiting = _waiting(settings, states, context.instance, stream)
                if waiting is not None:
                    words.append(f"{stream}: {waiting}")
                    continue
                # With the answers of the last report: those that are there once more, as the
                # next ones were taken back, ask again, and a run that failed doesn't.
                yield dg.RunRequest(
                    f"{stream}:{now[stream]}:{known[-1]}",
                    asset_selection=keys,
                    tags={ALONE_TAG: "true"},
                )
        if len(words) == len(reports):
            yield dg.SkipReason("; ".join(words))

    return new_answers


def _waiting(
    settings: Settings, states: States, instance: dg.DagsterInstance, stream: str
) -> str | None:
    """What the reports of a stream have to wait for, in words."""
    busy = working(settings, instance)
    if busy is not None:
        return f"waiting for the end of {busy}"
    try:
        known = states(present_settings(settings), instance)
    except InputError as error:
        return str(error)
    model = dg.AssetKey([stream, "trained_model"])
    reason = next((state.reason for state in known if state.key == model), "no active stream")
    return None if reason is None else f"its model is to be made anew first ({reason})"


def _answers_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """The digest of the answers that an asset was made with; None when it was never made."""
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        return None
    value = event.asset_materialization.metadata.get(ANSWERS)
    return "" if value is None else str(value.value)
