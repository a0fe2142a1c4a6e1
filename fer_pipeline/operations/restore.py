"""`fer-pipeline restore`: what a backup holds, put into a home or the databases of a server.

Everything is verified before anything is written, and nothing that is there is overwritten, so
that a restore that was killed is simply given again.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dagster import DagsterInstance
from rich.console import Console

from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published, scratch_folder
from fer_pipeline.core.room import Need, check_room
from fer_pipeline.core.storage import Location, is_file, open_binary
from fer_pipeline.instance import locked_home, prepare_home, refuse_beside_ui_runs
from fer_pipeline.moved_home import home_id
from fer_pipeline.operations.archive import unpack
from fer_pipeline.operations.backup import (
    ANSWERS,
    FILES,
    HOME,
    ROWS,
    SETTINGS,
    all_answers,
    is_text,
)
from fer_pipeline.operations.portable import Tokens, tokens_to_unpack
from fer_pipeline.operations.registry_place import (
    RegistryPlace,
    made_registry_place,
    registry_place,
)
from fer_pipeline.operations.tracked_rows import Tracked, from_lines
from fer_pipeline.operations.tracked_rows_writing import are_lacking, has_models, write_rows
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import asked_by_a_person


@dataclass(frozen=True)
class _File:
    """An unpacked file and where it goes."""

    source: Path
    target: Location


def restore(
    settings: Settings, path: Path, *, into_empty: bool, as_json: bool, console: Console
) -> None:
    """Put a backup into the home and databases that the settings name, and say what came.

    With `into_empty` nothing may be there yet; without, answers are added to those that are
    there. Raises InputError for a damaged backup, or where something else is there already.
    """
    with locked_home(settings), asked_by_a_person():
        prepare_home(settings)
        with DagsterInstance.get() as instance:
            refuse_beside_ui_runs(instance, settings)
        if settings.check_room and path.is_file():
            check_room(settings.home, [Need("the backup, twice", 2 * path.stat().st_size)])
        with scratch_folder(settings.state_folder) as folder:
            manifest = unpack(path, folder)
            found = _restored(settings, folder, manifest, into_empty=into_empty)
    _tell(found, manifest, console)
    if as_json:
        print_json({**found, "made_at": manifest["made_at"], "versions": manifest["versions"]})


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
    files = _home_files(settings, folder, tokens)
    kept_settings = _kept_settings(settings, files)
    if place is not None:
        of_registry = _registry_files(place, folder, tokens)
        if lacking:
            _refuse_others(of_registry)
            files += of_registry
        else:
            # What runs and versions keep may have been added to since; what is gone comes back.
            files += [file for file in of_registry if not is_file(file.target)]
    written = [file for file in files if not _is_there(file)]
    for file in written:
        _put(file)
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
        "settings_kept": kept_settings,
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


def _home_files(settings: Settings, folder: Path, tokens: Tokens) -> list[_File]:
    base = folder / HOME
    found = []
    for source in sorted(base.rglob("*")) if base.is_dir() else ():
        if source.is_dir():
            continue
        name = source.relative_to(base).as_posix()
        target: Location = settings.home / name
        if name == SETTINGS:
            _unpack_text(source, tokens)
            target = settings.state_folder / SETTINGS
        found.append(_File(source, target))
    _refuse_others([file for file in found if file.target.name != SETTINGS])
    return found


def _registry_files(place: RegistryPlace, folder: Path, tokens: Tokens) -> list[_File]:
    base = folder / FILES
    found = []
    for source in sorted(base.rglob("*")) if base.is_dir() else ():
        if source.is_dir():
            continue
        name = source.relative_to(base).as_posix()
        if is_text(f"/{name}"):
            _unpack_text(source, tokens)
        found.append(_File(source, place.files / name))
    return found


def _unpack_text(file: Path, tokens: Tokens) -> None:
    with suppress(UnicodeDecodeError):
        file.write_bytes(tokens.unpacked(file.read_bytes().decode()).encode())


def _refuse_others(files: list[_File]) -> None:
    for file in files:
        if is_file(file.target) and not _is_there(file):
            raise InputError(
                f"{file.target} is there already and isn't the backup's: nothing is overwritten; "
                "move it away, or give --home another folder"
            )


def _kept_settings(settings: Settings, files: list[_File]) -> bool:
    """Whether the home's own settings stay in place of the backup's, which then are taken out."""
    own = [file for file in files if file.target == settings.state_folder / SETTINGS]
    for file in own:
        if is_file(file.target) and not _is_there(file):
            files.remove(file)
            return True
    return False


def _is_there(file: _File) -> bool:
    """Whether the target holds the same bytes already."""
    if not is_file(file.target):
        return False
    with file.source.open("rb") as one, open_binary(file.target) as other:
        while True:
            data = one.read(1 << 20)
            if data != other.read(len(data) or 1):
                return False
            if not data:
                return True


def _put(file: _File) -> None:
    with published(file.target) as temporary:
        shutil.copyfile(file.source, temporary)


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
