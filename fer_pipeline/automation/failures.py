"""Runs that end badly: sensors that close what they leave open, in MLflow and in Dagster.

A failure is also told to whom the settings name. Why a step failed is found in
`fer_pipeline.failures`; nothing here starts a run.
"""

import dagster as dg

from fer_pipeline.core.errors import InputError
from fer_pipeline.failures import first_problem
from fer_pipeline.instance import close_lost_runs
from fer_pipeline.operations.alerts import alert, run_failed_text
from fer_pipeline.settings import Settings

_SECONDS = 60
_TRAINING = "trained_model"


def failure_sensors() -> list[dg.SensorDefinition]:
    """Close MLflow's runs of failed and of cancelled runs, and runs that lost their process."""

    @dg.sensor(
        name="lost_runs",
        minimum_interval_seconds=_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes as failed runs whose process is gone, as after a code server was "
        "killed: they would hold their place in the queue and in the training pool.",
    )
    def lost_runs(
        context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
    ) -> dg.SkipReason:
        try:
            closed = close_lost_runs(context.instance, settings)
        except InputError as error:
            return dg.SkipReason(str(error))
        return dg.SkipReason(f"{closed} run(s) without a process closed" if closed else "none lost")

    return [
        _closing("failed", dg.DagsterRunStatus.FAILURE),
        _closing("cancelled", dg.DagsterRunStatus.CANCELED),
        lost_runs,
    ]


def _closing(ended: str, status: dg.DagsterRunStatus) -> dg.SensorDefinition:
    """The sensor that closes MLflow's runs of a run that `ended` so, and tells of a failure."""
    also = ", and sends the alert" if status == dg.DagsterRunStatus.FAILURE else ""

    @dg.run_status_sensor(
        run_status=status,
        name=f"{ended}_run",
        minimum_interval_seconds=_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Closes as KILLED what a {ended} run left RUNNING in MLflow{also}.",
    )
    def close_tracking(
        context: dg.RunStatusSensorContext, settings: dg.ResourceParam[Settings]
    ) -> dg.SkipReason:
        run = context.dagster_run
        if status == dg.DagsterRunStatus.FAILURE:
            sentence = first_problem(context.instance, run.run_id)
            alert(settings, run_failed_text(settings, run, sentence), context.log)
        selection = run.asset_selection
        if selection is not None and not any(key.path[-1] == _TRAINING for key in selection):
            return dg.SkipReason(f"run {run.run_id} trained nothing")
        # MLflow takes seconds to import, which most runs that fail needn't cost the code server.
        from fer_pipeline.stale_runs import close_runs_of

        closed = close_runs_of(settings, run.run_id)
        return dg.SkipReason(f"{closed} MLflow run(s) of run {run.run_id} closed")

    return close_tracking
