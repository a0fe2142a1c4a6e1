"""`fer-pipeline restore`: what a backup holds, put into a home or the databases of a server.

Everything is verified before anything is written, and nothing that is there is overwritten, so
that a restore that was killed is simply given again.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from rich.console import Console

from fer_pipeline import tracking
from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import TEMPORARY_SUFFIX, full_disk_named
from fer_pipeline.core.room import Need, check_room
from fer_pipeline.core.storage import is_file
from fer_pipeline.instance import locked_home, prepare_home, refuse_beside_ui_runs
from fer_pipeline.moved_home import home_id
from fer_pipeline.operations.archive import unpack
from fer_pipeline.operations.backup import (
    ANSWERS,
    ROWS,
    SETTINGS,
    all_answers,
)
from fer_pipeline.operations.databases import ask_mlflow_server
from fer_pipeline.operations.portable import tokens_to_unpack
from fer_pipeline.operations.registry_place import (
    made_registry_place,
    registry_place,
)
from fer_pipeline.operations.restored_files import (
    home_files,
    is_there,
    kept_settings,
    put,
    refuse_others,
    registry_files,
)
from fer_pipeline.operations.tracked_rows import Tracked, from_lines
from fer_pipeline.operations.tracked_rows_writing import are_lacking, has_models, write_rows
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

_UNPACKED = f".restore{TEMPORARY_SUFFIX}"
"""The folder of a home, to be entered under its lock, that a backup is unpacked into."""


def restore(
    settings: Settings, path: Path, *, into_empty: bool, as_json: bool, console: Console
) -> None:
    """Put a backup into the home and databases that the settings name, and say what came.

    With `into_empty` nothing may be there yet; without, answers are added to those that are
    there. Raises InputError for a damaged backup, where something else is there already, or where
    a server doesn't find what was put into its folder.
    """
    with locked_home(settings), asked_by_a_person():
        prepare_home(settings)
        with DagsterInstance.get() as instance:
            refuse_beside_ui_runs(instance, settings)
        if settings.check_room and path.is_file():
            check_room(settings.home, [Need("the backup, twice", 2 * path.stat().st_size)])
        with _emptied_after(settings.state_folder / _UNPACKED) as folder:
            manifest = unpack(path, folder)
            found = _restored(settings, folder, manifest, into_empty=into_empty)
            _check_served(settings, _tracked(folder, manifest))
    _tell(found, manifest, console)
    if as_json:
        print_json({**found, "made_at": manifest["made_at"], "versions": manifest["versions"]})


@contextmanager
def _emptied_after(folder: Path) -> Iterator[Path]:
    """A new folder that goes with the block; what a killed restore left there goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        with full_disk_named(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _restored(
    settings: Settings, folder: Path, manifest: Mapping[str, Any], *, into_empty: bool
) -> dict[str, Any]:
    tracked = _tracked(folder, manifest)
    if into_empty:
        _check_empty(settings)
    answers = _answers(folder / ANSWERS)
    differing = _differing(settings, answers)
    place = made_registry_place(settings) if tracked is not None else None
    # All that could be in the way is looked for before the first file is written.
    lacking = False
    if place is not None and tracked is not None:
        lacking = are_lacking(place.database, tracked)
    tokens = tokens_to_unpack(settings, None if place is None else place.prefixes[0])
    files = home_files(settings, folder, tokens)
    settings_kept = kept_settings(settings, files)
    if place is not None:
        of_registry = registry_files(place, folder, tokens)
        if lacking:
            refuse_others(of_registry)
            files += of_registry
        else:
            # What runs and versions keep may have been added to since; what is gone comes back.
            files += [file for file in of_registry if not is_file(file.target)]
    written = [file for file in files if not is_there(file)]
    for file in written:
        put(file)
    if place is not None and tracked is not None and lacking:
        write_rows(place.database, place.prefixes[0], home_id(settings), tracked)
    added = 0
    if answers:
        with closing(AnswerStore(settings.answers_address)) as store:
            added, _ = store.add_all(answers)
    return {
        "home": str(settings.home),
        "files": len(written),
        "answers_added": added,
        "answers_there": len(answers) - added,
        "answers_that_differ": differing,
        "registry": "restored" if lacking else "there already" if tracked else "none",
        "settings_kept": settings_kept,
    }


def _tracked(folder: Path, manifest: Mapping[str, Any]) -> Tracked | None:
    rows = folder / ROWS
    if not rows.is_file() or not manifest["versions"]:
        return None
    return from_lines(rows.read_bytes(), str(manifest["mlflow_schema"]))


def _check_empty(settings: Settings) -> None:
    place = registry_place(settings)
    there = [
        name
        for name, is_there in {
            "answers": bool(all_answers(settings)),
            "corrections": is_file(settings.corrections_file),
            "studies": any(settings.studies_folder.glob("*/*")),
            "models": place is not None and has_models(place.database),
        }.items()
        if is_there
    ]
    if there:
        raise InputError(
            f"{settings.home} or its databases hold {', '.join(there)} already, and --into-empty "
            "asks for empty ones: give --home another folder, or leave the option out, which "
            "overwrites nothing either"
        )


def _check_served(settings: Settings, tracked: Tracked | None) -> None:
    """Raise InputError where MLflow's server runs and doesn't find the files that were put there.

    Which folder is its own only the settings tell.
    """
    import mlflow

    models = [] if tracked is None else tracked.rows.get("logged_models", [])
    if settings.mlflow_tracking_uri is None or not models:
        return
    try:
        ask_mlflow_server(settings.mlflow_tracking_uri)
    except InputError:
        return
    place = tracking.connect(settings).get_logged_model(models[0]["model_id"]).artifact_location
    # Not by the model's id: under that the client remembers where it found files before.
    if not mlflow.artifacts.list_artifacts(artifact_uri=place):
        raise InputError(
            f"the MLflow server finds no file of the models that were put into "
            f"{settings.mlflow_files}: give FER_MLFLOW_FILES its --artifacts-destination and "
            "restore again, which puts them there"
        )


def _answers(path: Path) -> list[Answer]:
    lines = path.read_text().splitlines()
    return [
        Answer(**{**entry, "answered_at": datetime.fromisoformat(entry["answered_at"])})
        for entry in map(json.loads, lines)
    ]


def _differing(settings: Settings, answers: list[Answer]) -> int:
    """Answers that are there already and say something else: those stay."""
    there = {_key(one): one.answer for one in all_answers(settings)} if answers else {}
    return sum(there.get(_key(one), one.answer) != one.answer for one in answers)


def _key(one: Answer) -> tuple[str, str, str, int]:
    return one.study, one.sample, one.annotator, one.item


def _tell(found: Mapping[str, Any], manifest: Mapping[str, Any], console: Console) -> None:
    say(
        console,
        f"backup of {manifest['made_at']}: {found['files']:,} files, "
        f"{found['answers_added']:,} answers added, {found['answers_there']:,} were there",
    )
    if found["answers_that_differ"]:
        say(
            console,
            f"{found['answers_that_differ']:,} answers that are there say something else than the "
            "backup's, and were left",
            style="yellow",
        )
    say(console, f"registry: {found['registry']}")
    for name, numbers in manifest["versions"].items():
        held = manifest["champions"].get(name, {})
        words = f"champion {held.get('champion')}, before it {held.get('previous')}"
        say(console, f"versions {', '.join(map(str, numbers))} ({words})", head=name, style="bold")
    if found["settings_kept"]:
        say(console, f"{SETTINGS} was there and was left as it is", style="yellow")
    left_out = manifest["settings_left_out"]
    if left_out and not found["settings_kept"]:
        say(console, f"not in the backup, to be given here: {', '.join(left_out)}")
