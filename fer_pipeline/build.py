"""The one place where assets, checks, jobs, schedules, sensors and resources meet."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from fer_pipeline.assets.champion import champion_assets
from fer_pipeline.assets.faces import face_assets
from fer_pipeline.assets.index import index_assets
from fer_pipeline.assets.manifest import corrections_spec, manifest_assets
from fer_pipeline.assets.people import people_assets
from fer_pipeline.assets.stream import stream_assets
from fer_pipeline.assets.suspects import suspect_assets
from fer_pipeline.automation.answers import answers_sensor
from fer_pipeline.automation.changes import changes_sensor
from fer_pipeline.automation.failures import failure_sensors
from fer_pipeline.automation.freshness import with_freshness
from fer_pipeline.automation.retraining import retraining_schedules
from fer_pipeline.champion_checks import champion_checks
from fer_pipeline.checks import (
    crop_checks,
    index_checks,
    manifest_checks,
    people_checks,
    stream_checks,
)
from fer_pipeline.executors import executor_for
from fer_pipeline.leak_checks import leak_checks
from fer_pipeline.plan import AssetState, asset_states
from fer_pipeline.settings import Settings

PIPELINE_JOB = "pipeline"


def build_definitions(
    settings: Settings | None = None, resource_overrides: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """The whole graph for these settings (default: those of the environment's home).

    `resource_overrides` replaces resources by name; tests use it. Raises InputError when the
    settings are wrong.
    """
    settings = settings or Settings.load()
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        corrections_spec(settings),
        *index_assets(settings),
        *manifest_assets(settings),
        *face_assets(settings),
    ]
    checks = [*index_checks(), *manifest_checks(), *crop_checks(), *leak_checks()]
    for stream in settings.active_streams:
        assets += stream_assets(settings, stream)
        assets += people_assets(settings, stream)
        assets += suspect_assets(settings, stream)
        assets += champion_assets(settings, stream)
        checks += [*stream_checks(stream), *people_checks(stream), *champion_checks(stream)]
    return dg.Definitions(
        assets=with_freshness(assets, settings),
        asset_checks=checks,
        jobs=[
            dg.define_asset_job(
                PIPELINE_JOB,
                selection=dg.AssetSelection.all(),
                description="From the lists to the reports of every active stream.",
            )
        ],
        # They bring the jobs they start, one for each stream.
        schedules=retraining_schedules(settings, _states),
        sensors=[
            answers_sensor(settings, _states),
            changes_sensor(settings, _states),
            *failure_sensors(),
        ],
        executor=executor_for(settings),
        resources={"settings": settings, **(resource_overrides or {})},
    )


def _states(settings: Settings, instance: dg.DagsterInstance) -> Sequence[AssetState]:
    return asset_states(build_definitions(settings), instance, settings)
