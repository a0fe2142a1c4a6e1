"""What a training keeps of its settings, and how `run --like` takes them up again.

Kept are the settings that a result depends on. Where a home stands, who may see it and how much
of a machine is used belong to the run that is started now, and no password is ever kept.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_pipeline import tracking
from fer_pipeline.core.errors import InputError
from fer_pipeline.operations_settings import OperationsSettings
from fer_pipeline.service_settings import ServiceSettings
from fer_pipeline.settings import RUN_OPTIONS, Settings
from fer_pipeline.tracking_server import shown_tracking_uri

TRAINING_SETTINGS = "training_settings.json"
"""Artifact of a training's MLflow run: see `training_settings`."""

OF_THE_PLACE = frozenset(
    (
        *("home", "state", "executor", "workers", "schedules", "schedule_cron", "fresh_days"),
        *("answers_url", "review_password", "mlflow_tracking_uri", "mlflow_ui_url"),
        *ServiceSettings.model_fields,
        *OperationsSettings.model_fields,
    )
)
"""Settings that no result depends on: a repeated run takes them from its own home."""

ROOT_OF_A_MIXTURE = (
    "--root alone says nothing of a mixture: give every data set its --dataset and --root"
)

DATA_SET_WITHOUT_ROOT = "--dataset needs --root: the folder that holds the data set"

_SCORES = ("dev_accuracy", "dev_macro_f1", "dev_nll")
_REMEMBERED = (*RUN_OPTIONS, "stream_classes")
_RUN_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class PastTraining:
    """A training, or all those of one Dagster run, as MLflow knows them.

    `settings` are what `training_settings` gave; `runs` names the MLflow run of each stream that
    was trained.
    """

    run_id: str
    settings: Mapping[str, Any]
    runs: Mapping[str, str]
    manifest_hash: str
    git_commit: str


def training_settings(settings: Settings) -> dict[str, Any]:
    """Every setting that a result depends on, by name, as JSON takes it; None is kept as None."""
    return settings.model_dump(mode="json", exclude=set(OF_THE_PLACE))


def like(settings: Settings, run_id: str) -> PastTraining:
    """The training of an MLflow run, or of a Dagster run, that the home's tracking knows.

    Raises InputError when it knows no such training, or one that kept no settings.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InputError(
            f"{run_id!r} is no id of a run: --like takes that of an MLflow run (32 hex digits) or "
            "of a Dagster run (36 characters); `fer-pipeline status --json` tells mlflow_run_id"
        )
    runs = _training_runs(settings, run_id)
    if not runs:
        raise InputError(
            f"no training of run {run_id} is known to {shown_tracking_uri(settings)}: give "
            "--home the folder that it ran in, or an id that `fer-pipeline ui` shows"
        )
    kept = tracking.run_file(settings, runs[0].info.run_id, TRAINING_SETTINGS)
    if kept is None:
        raise InputError(
            f"run {run_id} kept no {TRAINING_SETTINGS}, so it can't be repeated by its id: give "
            "the options yourself, its parameters in MLflow tell them"
        )
    tags = runs[0].data.tags
    return PastTraining(
        run_id=run_id,
        settings=json.loads(kept),
        runs={run.data.tags[tracking.ASSET_TAG].partition("/")[0]: run.info.run_id for run in runs},
        manifest_hash=tags[tracking.MANIFEST_TAG],
        git_commit=tags[tracking.COMMIT_TAG],
    )


def settings_like(home: str | Path | None, past: PastTraining, **options: Any) -> Settings:
    """The settings of a past training in this home, with these options on top.

    Steps are processes of their own that read settings.toml and the environment: what the former
    doesn't remember is put into the latter. Raises InputError where settings.toml holds a setting
    that the training did without.
    """
    known = {n: v for n, v in past.settings.items() if n in Settings.model_fields}
    # Streams that were made up since stay as they are.
    classes = {**Settings.load(home=home).stream_classes, **known.get("stream_classes", {})}
    given = {name: value for name, value in options.items() if value is not None}
    wanted = {**known, "stream_classes": classes, **given}
    # One data set that is given replaces a mixture, and the other way round.
    if given.get("datasets"):
        wanted |= {"dataset": None, "root": None}
    elif "dataset" in given:
        wanted["datasets"] = None
        if wanted.get("root") is None:
            raise InputError(DATA_SET_WITHOUT_ROOT)
    elif "root" in given and wanted.get("datasets"):
        raise InputError(ROOT_OF_A_MIXTURE)
    for name in known:
        os.environ.pop(f"FER_{name.upper()}", None)
    for name, value in wanted.items():
        if value is not None and name not in _REMEMBERED:
            text = value if isinstance(value, str) else json.dumps(value)
            os.environ[f"FER_{name.upper()}"] = text
    options_of_a_run = {name: wanted.get(name) for name in _REMEMBERED}
    try:
        settings = Settings.fresh(home=home, **options_of_a_run)
    except InputError as error:
        raise InputError(
            f"run {past.run_id} can't be repeated with this version and these options: {error}"
        ) from error
    stubborn = [name for name, value in known.items() if value is None and name not in _REMEMBERED]
    for name in stubborn:
        if getattr(settings, name) is not None:
            raise InputError(
                f"settings.toml in {settings.state_folder} sets {name}, which run {past.run_id} "
                "left alone: take it out to repeat that run"
            )
    return settings


def differences(past: PastTraining, settings: Settings) -> list[str]:
    """What of these settings isn't as in the past training, in words, such as `seed 3, was 0`."""
    now = training_settings(settings)
    return [
        f"{name} {_shown(now[name])}, was {_shown(past.settings[name])}"
        for name in sorted(now.keys() & past.settings.keys())
        if now[name] != past.settings[name] and name != "stream_classes"
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)


def scores_on_dev(settings: Settings, run_id: str) -> dict[str, float]:
    """What an MLflow run's model scored on dev; empty for a training that never ended."""
    metrics = tracking.connect(settings).get_run(run_id).data.metrics
    return {name: metrics[f"final_{name}"] for name in _SCORES if f"final_{name}" in metrics}


def _training_runs(settings: Settings, run_id: str) -> list[Any]:
    """The MLflow runs of an MLflow run id, or of a Dagster run id, one for each stream."""
    if not tracking.can_be_asked(settings):
        return []
    client = tracking.connect(settings)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    if experiment is None:
        return []
    found = [
        run
        for name in ("attributes.run_id", f"tags.`{tracking.DAGSTER_RUN_TAG}`")
        for run in client.search_runs([experiment.experiment_id], f"{name} = '{run_id}'")
        if tracking.ASSET_TAG in run.data.tags
    ]
    # A step that was tried again trained twice: the later run is the one that counts.
    found.sort(key=lambda run: run.info.start_time)
    by_asset = {run.data.tags[tracking.ASSET_TAG]: run for run in found}
    return [by_asset[asset] for asset in sorted(by_asset)]
