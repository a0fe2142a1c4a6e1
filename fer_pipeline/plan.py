"""What is up to date and what isn't, and why: the reason a second run does nothing.

An asset is current when it was made by this code version from the present versions of its
upstream assets, its files are as it left them, and the checks that block on it passed. The index
is also asked whether the lists are those it read, manifest and crops whether photos came that were
missing, crops whether photos are read from another place, the manifest whether labels were
corrected, models whether the file that they started from has other weights, and reports whether
people's answers changed, or the predictions of `label_issues`.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import AssetCheckKey, AssetKey, DagsterInstance

from fer_pipeline import tracking
from fer_pipeline.assets.index import LISTS_DIGEST, LISTS_STAMP
from fer_pipeline.assets.manifest import CORRECTIONS, CORRECTIONS_TAKEN, corrections_taken
from fer_pipeline.assets.suspects import ON_DEMAND
from fer_pipeline.assets.training import INIT_DIGEST
from fer_pipeline.core.corrections import corrections_digest
from fer_pipeline.core.crop_set import CROPS_LIST, CropSet, faces_to_try_again, read_crop_set
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.index import lists_digest, lists_stamp
from fer_pipeline.core.storage import file_stamps, is_file
from fer_pipeline.core.uncompared import photos_that_came
from fer_pipeline.core.worklist import is_of
from fer_pipeline.metadata import FILES
from fer_pipeline.people import ANSWERS, OUT_OF_FOLD_USED, answers_digest, out_of_fold_digest
from fer_pipeline.recogniser import is_local
from fer_pipeline.settings import Settings

_DATA_VERSION = "dagster/data_version"
_CODE_VERSION = "dagster/code_version"
_INPUT_VERSION = "dagster/input_data_version/"


@dataclass(frozen=True)
class AssetState:
    """One asset: `reason` says why it must be made, None when it is current.

    One that is `on_demand` is made only when it is asked for by name.
    """

    key: AssetKey
    reason: str | None
    metadata: Mapping[str, Any]
    made_at: float | None
    parents: Sequence[AssetKey]
    on_demand: bool


def asset_states(
    definitions: dg.Definitions, instance: DagsterInstance, settings: Settings
) -> list[AssetState]:
    """The state of every asset that a run can make, upstream before downstream."""
    graph = definitions.resolve_asset_graph()
    states: dict[AssetKey, AssetState] = {}
    versions: dict[AssetKey, str | None] = {}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if not node.is_materializable:
            continue
        records = instance.fetch_materializations(key, limit=1).records
        record = records[0] if records else None
        made = record.asset_materialization if record is not None else None
        metadata = {n: v.value for n, v in made.metadata.items()} if made is not None else {}
        tags = (made.tags or {}) if made is not None else {}
        versions[key] = tags.get(_DATA_VERSION)
        parents = sorted(parent for parent in node.parent_keys if parent in states)
        waiting = [parent.to_user_string() for parent in parents if states[parent].reason]
        reason = None
        if made is None:
            reason = "never made"
        elif tags.get(_CODE_VERSION) != node.code_version:
            reason = "settings or code changed"
        elif waiting:
            reason = f"{waiting[0]} is remade"
        else:
            reason = (
                _changed_input(tags, parents, versions)
                or _changed_files(metadata, settings)
                or _changed_source(key, metadata, settings)
                or _failed_check(instance, graph, key, record.storage_id if record else 0)
            )
        states[key] = AssetState(
            key,
            reason,
            metadata,
            record.timestamp if record else None,
            parents,
            ON_DEMAND in node.tags,
        )
    return list(states.values())


def downstream(states: Sequence[AssetState], keys: Collection[AssetKey]) -> set[AssetKey]:
    """These assets and all that are made of them, those on demand left out."""
    found = set(keys)
    for state in states:
        if not state.on_demand and not found.isdisjoint(state.parents):
            found.add(state.key)
    return found


def upstream(states: Sequence[AssetState], keys: Collection[AssetKey]) -> set[AssetKey]:
    """These assets and all that they are made of."""
    found = set(keys)
    for state in reversed(states):
        if state.key in found:
            found.update(state.parents)
    return found


def _changed_input(
    tags: Mapping[str, str],
    parents: Sequence[AssetKey],
    versions: Mapping[AssetKey, str | None],
) -> str | None:
    for parent in parents:
        if tags.get(_INPUT_VERSION + parent.to_user_string()) != versions[parent]:
            return f"{parent.to_user_string()} changed"
    return None


def _changed_files(metadata: Mapping[str, Any], settings: Settings) -> str | None:
    known = metadata.get(FILES) or {}
    stamps = file_stamps([settings.home / name for name in known])
    for (name, stamp), now in zip(known.items(), stamps, strict=True):
        if now != stamp:
            return f"{Path(name).name} {'was changed' if now else 'is gone'}"
    return None


def _changed_source(key: AssetKey, metadata: Mapping[str, Any], settings: Settings) -> str | None:
    """Whether what no asset makes changed: lists, photos, corrections, answers; or on demand."""
    try:
        if key == AssetKey("file_list_index"):
            dataset = settings.open_dataset()
            if metadata.get(LISTS_STAMP) == lists_stamp(dataset):
                return None
            same = metadata.get(LISTS_DIGEST) == lists_digest(dataset)
            return None if same else "the list files changed"
        if key == AssetKey("face_crops"):
            crop_set = read_crop_set(settings.crops_folder)
            if not is_of(settings.open_dataset(), [path.name for path in crop_set.paths]):
                return "photos are read from another place"
            return _changed_photos(settings, crop_set)
        if INIT_DIGEST in metadata and _init_digest(settings) not in (None, metadata[INIT_DIGEST]):
            return "the model to start from is another one"
        if ANSWERS in metadata and metadata[ANSWERS] != answers_digest(settings, key.path[0]):
            return "people's answers changed"
        if OUT_OF_FOLD_USED in metadata:
            # Made on demand, and so no upstream asset.
            now = out_of_fold_digest(settings, key.path[0])
            return None if metadata[OUT_OF_FOLD_USED] == now else "label_issues was made anew"
        if CORRECTIONS in metadata:
            corrected = corrections_digest(settings.corrections_file)
            same = metadata[CORRECTIONS] == corrected
            if not same and metadata.get(CORRECTIONS_TAKEN) != corrections_taken(settings):
                return "the corrections changed"
        if key == AssetKey("class_manifest"):
            # A photo that comes late can be a copy of a test photo, which only the manifest finds.
            came = photos_that_came(
                settings.open_dataset(), settings.manifest_folder, settings.max_file_bytes
            )
            if came:
                return _came(came)
            if is_file(settings.crops_folder / CROPS_LIST):
                with contextlib.suppress(InputError):
                    return _changed_photos(settings, read_crop_set(settings.crops_folder))
    except InputError as error:
        return str(error)
    return None


def _init_digest(settings: Settings) -> str | None:
    """The digest of the file that trainings start from; None where that is an MLflow address, or
    where there is no such file to be read any more.

    A version keeps its model, and an alias that moves, as a champion's does, is no reason to train.
    """
    if not settings.init or not is_local(settings.init):
        return None
    with contextlib.suppress(InputError, OSError):
        return file_digest(tracking.model_file(settings, settings.init))
    return None


def _changed_photos(settings: Settings, crop_set: CropSet) -> str | None:
    changed = faces_to_try_again(settings.open_dataset(), settings.manifest_folder, crop_set)
    return _came(changed) if changed else None


def _came(photos: int) -> str:
    return f"{photos} photos came or changed"


def _failed_check(instance: DagsterInstance, graph: Any, key: AssetKey, made: int) -> str | None:
    blocking: list[AssetCheckKey] = sorted(
        (check for check in graph.get_check_keys_for_assets([key]) if graph.get(check).blocking),
        key=lambda check: check.name,
    )
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(blocking)
    for check in blocking:
        record = latest.get(check)
        if record is None or record.event is None or record.id is None:
            return f"check {check.name} wasn't made"
        evaluation = record.evaluation
        if not isinstance(evaluation, dg.AssetCheckEvaluation):
            # It was planned, and its run was killed before it.
            return f"check {check.name} wasn't made"
        # A check of severity WARN may fail without stopping anything.
        if not (evaluation.passed or evaluation.severity == dg.AssetCheckSeverity.WARN):
            return f"check {check.name} failed"
        target = evaluation.target_materialization_data
        if target is not None and target.storage_id != made:
            return f"check {check.name} is older than the asset"
    return None
