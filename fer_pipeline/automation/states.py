"""What a home looks like when a sensor or schedule is evaluated, long after the graph was loaded.

A code server reads the settings once, when it loads the graph; the steps of a run read them anew.
What is decided here goes by the settings that the steps will find.
"""

from collections.abc import Callable, Sequence

from dagster import AssetKey, DagsterInstance, RunsFilter

from fer_pipeline.instance import IN_PROGRESS, lock_holder
from fer_pipeline.plan import AssetState
from fer_pipeline.settings import Settings

ALONE_TAG = "fer/alone"
"""Tag of runs of which a queue lets one go at a time: two would make the same manifest at once."""

States = Callable[[Settings, DagsterInstance], Sequence[AssetState]]
"""Gives the state of every asset under these settings, upstream before downstream."""


def present_settings(settings: Settings) -> Settings:
    """The settings of the same home as they are now; raises InputError when they are wrong."""
    return Settings.load(home=settings.home, state=settings.state)


def being_made(instance: DagsterInstance) -> set[AssetKey]:
    """What unfinished runs tagged `ALONE_TAG` are yet to make.

    Another run of that tag finds it made when its own turn comes.
    """
    runs = instance.get_runs(RunsFilter(tags={ALONE_TAG: "true"}, statuses=list(IN_PROGRESS)))
    found = set()
    for run in runs:
        for key in run.asset_selection or ():
            event = instance.get_latest_materialization_event(key)
            if event is None or event.run_id != run.run_id:
                found.add(key)
    return found


def working(settings: Settings, instance: DagsterInstance) -> str | None:
    """What works on the home, in words: a run that hasn't ended, or a command; None for nothing."""
    run = unfinished_run(instance)
    if run is not None:
        return f"run {run}"
    process = lock_holder(settings.state_folder)
    return None if process is None else f"a command (process {process})"


def unfinished_run(instance: DagsterInstance, job: str | None = None) -> str | None:
    """The id of a run (of one job, or any) that hasn't ended; None when there is none."""
    runs = instance.get_runs(RunsFilter(job_name=job, statuses=list(IN_PROGRESS)), limit=1)
    return runs[0].run_id if runs else None
