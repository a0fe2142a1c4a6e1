"""Homes for the tests of sensors and schedules, and one look of these as a daemon has it taken."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from fer_pipeline.build import build_definitions
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph

STREAM = "three_class"
MODELS = ("trained_model", "evaluation_report", "human_error_report", "champion")
"""What a retraining makes; all but these is really made in the homes of these tests."""


def of_stream(names: Iterable[str], stream: str = STREAM) -> set[str]:
    """The assets of a stream, by the last part of their names."""
    return {f"{stream}/{name}" for name in names}


def make_early(settings: Settings) -> None:
    """Make all that needs no training, and say that a model and what comes of it were made."""
    settings.remember()
    made = [*graph.EARLY_ASSETS, f"{STREAM}/relabel_sample"]
    with graph.instance_of(settings.state_folder) as instance:
        assert graph.materialize(settings, made, instance).success
        for name in sorted(of_stream(MODELS)):
            key = dg.AssetKey.from_user_string(name)
            instance.report_runless_asset_event(dg.AssetMaterialization(key))


def copy_of(settings: Settings, home: Path) -> Settings:
    """The same home in another place, free to be changed."""
    shutil.copytree(settings.state_folder, home)
    return settings.model_copy(update={"home": home})


@contextmanager
def _loaded(settings: Settings) -> Iterator[tuple[dg.DagsterInstance, dg.RepositoryDefinition]]:
    """The instance of a home, and the definitions, which are resolved while it is open."""
    with graph.instance_of(settings.state_folder) as instance:
        yield instance, build_definitions(settings).get_repository_def()


def sensor_tick(settings: Settings, name: str, cursor: str | None = None) -> tuple[str | None, Any]:
    """The cursor that a sensor leaves, and what it asks for or says."""
    with _loaded(settings) as (instance, definitions):
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={"settings": settings},
            repository_def=definitions,
        )
        data = definitions.get_sensor_def(name).evaluate_tick(context)
        return context.cursor, data


def schedule_tick(settings: Settings, name: str) -> Any:
    """What a schedule asks for or says."""
    with _loaded(settings) as (instance, definitions):
        context = dg.build_schedule_context(
            instance=instance, resources={"settings": settings}, repository_def=definitions
        )
        return definitions.get_schedule_def(name).evaluate_tick(context)


def job_assets(settings: Settings, job: str) -> set[str]:
    """The assets that a job makes."""
    with _loaded(settings) as (_, definitions):
        layer = definitions.get_job(job).asset_layer
        return {key.to_user_string() for key in layer.executable_asset_keys}


def chosen(data: Any) -> set[str]:
    """The assets that are asked for."""
    return {
        key.to_user_string()
        for request in data.run_requests or []
        for key in request.asset_selection or []
    }


def unfinished_run(
    settings: Settings, job: str, assets: Sequence[str], **tags: str
) -> dg.DagsterRun:
    """A run of some assets that never ended, in the instance of a home."""
    with _loaded(settings) as (instance, definitions):
        return instance.create_run_for_job(
            definitions.get_job(job),
            asset_selection=frozenset(map(dg.AssetKey.from_user_string, assets)),
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
        )
