"""MLflow runs that a process left RUNNING when it was killed: closed as KILLED."""

from collections.abc import Collection

from fer_pipeline.moved_home import HOME_TAG, home_id
from fer_pipeline.settings import Settings
from fer_pipeline.tracking import ASSET_TAG, DAGSTER_RUN_TAG, EXPERIMENT, connect


def close_stale_runs(
    settings: Settings,
    asset: str | None = None,
    *,
    spared: Collection[str] = (),
    experiment: str = EXPERIMENT,
) -> int:
    """Close this home's RUNNING runs (of one asset, or all) as KILLED; give their number.

    Runs of the Dagster runs named in `spared` are left alone. Only to be called where no other
    process trains: in the training step, which a pool of one protects, or under the lock of the
    home with the runs that are in progress spared.
    """
    client = connect(settings)
    known = client.get_experiment_by_name(experiment)
    if known is None:
        return 0
    # Other homes may train on the same server.
    wanted = f"attributes.status = 'RUNNING' and tags.`{HOME_TAG}` = '{home_id(settings)}'"
    if asset is not None:
        wanted += f" and tags.`{ASSET_TAG}` = '{asset}'"
    stale = [
        run
        for run in client.search_runs([known.experiment_id], wanted)
        if run.data.tags.get(DAGSTER_RUN_TAG) not in spared
    ]
    for run in stale:
        client.set_terminated(run.info.run_id, status="KILLED")
    return len(stale)


def close_runs_of(settings: Settings, dagster_run: str) -> int:
    """Close as KILLED what a Dagster run that has ended left RUNNING; give their number."""
    client = connect(settings)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return 0
    wanted = f"attributes.status = 'RUNNING' and tags.`{DAGSTER_RUN_TAG}` = '{dagster_run}'"
    left = client.search_runs([experiment.experiment_id], wanted)
    for run in left:
        client.set_terminated(run.info.run_id, status="KILLED")
    return len(left)
