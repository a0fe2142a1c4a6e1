"""The one place where assets, checks, jobs, executors and resources meet."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from fer_pipeline.assets.faces import face_assets
from fer_pipeline.assets.index import index_assets
from fer_pipeline.assets.manifest import corrections_spec, manifest_assets
from fer_pipeline.assets.people import people_assets
from fer_pipeline.assets.stream import stream_assets
from fer_pipeline.assets.suspects import suspect_assets
from fer_pipeline.automation import answers_sensor
from fer_pipeline.checks import (
    crop_checks,
    index_checks,
    manifest_checks,
    people_checks,
    stream_checks,
)
from fer_pipeline.executors import executor_for
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
    checks = [*index_checks(), *manifest_checks(), *crop_checks()]
    for stream in settings.active_streams:
        assets += stream_assets(settings, stream)
        assets += people_assets(settings, stream)
        assets += suspect_assets(settings, stream)
        checks += [*stream_checks(stream), *people_checks(stream)]
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[
            dg.define_asset_job(
                PIPELINE_JOB,
                selection=dg.AssetSelection.all(),
                description="From the lists to the reports of every active stream.",
            )
        ],
        sensors=[answers_sensor(settings)],
        executor=executor_for(settings),
        resources={"settings": settings, **(resource_overrides or {})},
    )
