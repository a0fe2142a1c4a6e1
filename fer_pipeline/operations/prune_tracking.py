"""What of MLflow can go: models of old versions, and what failed or deleted runs left.

Only what this home trained: others may keep theirs on the same server. Runs of versions that go
stay with their figures and reports; it is the model that takes the room.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from dagster import AssetKey, DagsterInstance

from fer_pipeline import tracking
from fer_pipeline.champion import champion_file, locked, write_champion
from fer_pipeline.core.storage import as_location, is_file, is_folder
from fer_pipeline.moved_home import HOME_TAG, home_id
from fer_pipeline.operations.prune_history import seconds_ago
from fer_pipeline.operations.removal import Removal, size_of
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline.stale_runs import close_stale_runs

_ENDED_BADLY = ("FAILED", "KILLED")
_VERSIONS = "old model versions"
_RUNS = "failed or deleted trainings"


def close_killed_sweeps(settings: Settings) -> None:
    """Close what killed sweeps left running; to be called under the home's lock, as theirs is."""
    if tracking.can_be_asked(settings):
        close_stale_runs(settings, experiment=tracking.SWEEPS)


def old_versions(
    settings: Settings, instance: DagsterInstance, runs: int, days: int
) -> Iterator[Removal]:
    """Versions registered more than `days` ago, but the newest `runs` of each stream.

    Never one that has an alias, held the champion's before, is what this home trained last, or is
    what trainings start from.
    """
    if not tracking.can_be_asked(settings):
        return
    for stream in settings.all_streams:
        registry = Registry(settings, stream)
        versions = registry.versions()
        kept = set(sorted(versions, key=int)[-runs:])
        used = (*registry.aliases().values(), registry.previous())
        kept |= {number for number in used if number is not None}
        kept |= _named(registry, instance, settings)
        for number, version in versions.items():
            old = version.creation_timestamp / 1000 < seconds_ago(days)
            if number in kept or not old or not _is_mine(registry, version):
                continue
            model = _model_of(registry, version)
            place = None if model is None else model.artifact_location
            yield Removal(
                _VERSIONS,
                f"version {number} of {registry.name}",
                0 if place is None else _artifacts_size(place),
                partial(_remove_version, registry, number, model),
            )


def failed_runs(settings: Settings, days: int) -> Iterator[Removal]:
    """What trainings of this home left that failed, were killed or were deleted, by age.

    Never a run that a registered version came of.
    """
    if not tracking.can_be_asked(settings):
        return
    from mlflow.entities import ViewType

    client = tracking.connect(settings)
    mine = f"tags.`{HOME_TAG}` = '{home_id(settings)}'"
    for name in (tracking.EXPERIMENT, tracking.SWEEPS):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            continue
        for run in _all_runs(client, experiment.experiment_id, mine, ViewType.ALL):
            deleted = run.info.lifecycle_stage == "deleted"
            ended = (run.info.end_time or run.info.start_time) / 1000
            if (
                ended >= seconds_ago(days)
                or not (deleted or run.info.status in _ENDED_BADLY)
                or client.search_model_versions(f"run_id='{run.info.run_id}'")
            ):
                continue
            size = _artifacts_size(run.info.artifact_uri)
            # Of one that was deleted already only what it left is of interest.
            if size or not deleted:
                yield Removal(
                    _RUNS,
                    f"{run.info.run_name} ({run.info.run_id}, {run.info.status.lower()})",
                    size,
                    partial(_remove_run, client, run, deleted=deleted),
                )


def _all_runs(client: Any, experiment: str, wanted: str, view: Any) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], wanted, run_view_type=view, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _named(registry: Registry, instance: DagsterInstance, settings: Settings) -> set[str]:
    """Versions that the home's assets or settings name."""
    event = instance.get_latest_materialization_event(AssetKey([registry.stream, "trained_model"]))
    made = None if event is None else event.asset_materialization
    addresses = [settings.init or ""]
    if made is not None and "model_uri" in made.metadata:
        addresses.append(str(made.metadata["model_uri"].value))
    pattern = re.compile(rf"models:/{re.escape(registry.name)}/(\d+)")
    return {found[1] for address in addresses if (found := pattern.fullmatch(address))}


def _is_mine(registry: Registry, version: Any) -> bool:
    return bool(registry.run_tags(str(version.version)).get(HOME_TAG) == home_id(registry.settings))


def _model_of(registry: Registry, version: Any) -> Any:
    """The logged model that a version was registered from; None where it has none of its own."""
    from mlflow.exceptions import MlflowException

    found = re.fullmatch(r"models:/(m-\w+)", version.source or "")
    if found is None:
        return None
    others = [one for number, one in registry.versions().items() if number != str(version.version)]
    # What two versions were registered from is kept for the other.
    if any(one.source == version.source for one in others):
        return None
    try:
        return tracking.connect(registry.settings).get_logged_model(found[1])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _remove_version(registry: Registry, number: str, model: Any) -> None:
    """Delete a version and its model; what its tags told of decisions stays in champion.json."""
    client = tracking.connect(registry.settings)
    with locked(registry.settings, registry.stream):
        if is_file(champion_file(registry.settings, registry.stream)):
            write_champion(registry)
        # Somebody may have taken it into use since the list was made.
        if number in {*registry.aliases().values(), registry.previous()}:
            return
        client.delete_model_version(registry.name, number)
    if model is not None:
        client.delete_logged_model(model.model_id)
        _remove_artifacts(model.artifact_location)


def _remove_run(client: Any, run: Any, *, deleted: bool) -> None:
    if not deleted:
        client.delete_run(run.info.run_id)
    _remove_artifacts(run.info.artifact_uri)


def _remove_artifacts(address: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(address).delete_artifacts()


def _artifacts_size(address: str) -> int:
    """Bytes of a folder of artifacts, 0 where it is gone."""
    if not address.startswith("mlflow-artifacts:"):
        place = as_location(address)
        return size_of(place) if is_folder(place) else 0
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(address)
    todo: list[str | None] = [None]
    size = 0
    while todo:
        for entry in repository.list_artifacts(todo.pop()):
            if entry.is_dir:
                todo.append(entry.path)
            else:
                size += int(entry.file_size or 0)
    return size
