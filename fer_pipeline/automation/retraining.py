"""Retraining: a job for each stream, and the schedule that starts it.

Whether the new model is better isn't decided here but by the stream's `champion`.
"""

import dagster as dg

from fer_pipeline.assets.suspects import ON_DEMAND
from fer_pipeline.automation.states import (
    ALONE_TAG,
    States,
    being_made,
    present_settings,
    unfinished_run,
)
from fer_pipeline.core.errors import InputError
from fer_pipeline.operations.alerts import alert, refused_text
from fer_pipeline.plan import downstream, upstream
from fer_pipeline.settings import Settings


def retraining_job_name(stream: str) -> str:
    """The job that trains a stream anew."""
    return f"retrain_{stream}"


def trained_model_key(stream: str) -> dg.AssetKey:
    """The asset that a retraining makes in any case."""
    return dg.AssetKey([stream, "trained_model"])


def retraining_schedules(settings: Settings, states: States) -> list[dg.ScheduleDefinition]:
    """For each active stream the schedule of its job; off unless the setting turns them on."""
    return [_schedule(settings, stream, states) for stream in settings.active_streams]


def retraining_selection(stream: str) -> dg.AssetSelection:
    """A stream's model, all that is made of it without being asked for, and what these need."""
    made = dg.AssetSelection.assets(trained_model_key(stream)).downstream()
    return (made - dg.AssetSelection.tag(ON_DEMAND, "true")).upstream()


def _schedule(settings: Settings, stream: str, states: States) -> dg.ScheduleDefinition:
    name = retraining_job_name(stream)
    job = dg.define_asset_job(
        name,
        selection=retraining_selection(stream),
        tags={ALONE_TAG: "true"},
        description=f"Trains {stream} anew, reports on the model, and lets it challenge the "
        "champion. Started by hand, it makes everything upstream again too.",
    )

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=settings.schedule_cron,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if settings.schedules
        else dg.DefaultScheduleStatus.STOPPED,
        description=f"Trains {stream} anew, from what changed upstream on. Off until it is turned "
        "on here, or all of them are with FER_SCHEDULES=true; FER_SCHEDULE_CRON says when (UTC).",
    )
    def tick(
        context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]
    ) -> dg.RunRequest | dg.SkipReason:
        busy = unfinished_run(context.instance, name)
        if busy is not None:
            return dg.SkipReason(f"the last retraining, run {busy}, goes on still")
        try:
            now = present_settings(settings)
            now.open_dataset()
            known = states(now, context.instance)
        except InputError as error:
            alert(settings, refused_text(f"{name}_schedule", str(error)), context.log)
            return dg.SkipReason(str(error))
        key = trained_model_key(stream)
        if key not in {state.key for state in known}:
            return dg.SkipReason(f"{stream} is no active stream any more: reload the definitions")
        made = downstream(known, [key])
        behind = {state.key for state in known if state.reason is not None}
        # The schedules of all streams tick at once: one run makes what they share.
        needed = (upstream(known, made) & behind) - being_made(context.instance)
        return dg.RunRequest(asset_selection=sorted(made | needed))

    return tick
