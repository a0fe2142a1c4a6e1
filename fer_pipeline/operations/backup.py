"""`fer-pipeline backup`: everything of a home that can't be made again, in one file.

People's answers, studies, corrections, settings, what was decided of champions, and the registered
versions with their runs. Lists, photos, crops and Dagster's history aren't in it.
"""

import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from fer_pipeline import tracking
from fer_pipeline.core.answers import Answer, AnswerStore
from fer_pipeline.core.answers_database import is_missing_file
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import TEMPORARY_SUFFIX
from fer_pipeline.core.room import in_words
from fer_pipeline.core.storage import (
    Location,
    file_size,
    files_in,
    is_file,
    open_binary,
    relative_name,
)
from fer_pipeline.operations.archive import ArchiveWriter, refuse_existing, written
from fer_pipeline.operations.portable import Tokens, portable_settings, tokens_to_pack
from fer_pipeline.operations.registry_place import RegistryPlace, registry_place
from fer_pipeline.operations.tracked_rows import Tracked, read_rows
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline.terminal import print_json, say
from fer_pipeline.tracking_server import asked_by_a_person

ANSWERS = "answers.jsonl"
ROWS = "mlflow/rows.jsonl"
FILES = "mlflow/artifacts/"
HOME = "home/"
SETTINGS = "settings.toml"
_TEXT_BYTES = 20 << 20
_LOGGED_IN = re.compile(r"^artifact_path: file://(/.+?)/mlflow/artifacts/", re.MULTILINE)


def backup(
    settings: Settings, path: Path, *, champions_only: bool, as_json: bool, console: Console
) -> None:
    """Write the backup, whole or not at all, and say what it holds.

    May be made while a run works on the home. Raises InputError where there is no home, or the
    registry or the answers can't be read.
    """
    path = path.absolute()
    if not settings.dagster_home.is_dir():
        raise InputError(
            f"{settings.home} holds nothing yet: run something, or give another --home"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} can't be written: give a file in a folder that is there")
    refuse_existing(path)
    with asked_by_a_person():
        place = registry_place(settings)
        champions, tracked = _registry(settings, place, champions_only)
    answers = all_answers(settings)
    former = former_homes(place, tracked) if place is not None and tracked is not None else set()
    tokens = tokens_to_pack(settings, None if place is None else place.prefixes[0], former)
    with written(path) as archive:
        left_out = _add_home(settings, archive, tokens)
        archive.add_bytes(ANSWERS, answer_lines(answers))
        if place is not None and tracked is not None:
            archive.add_bytes(ROWS, tracked.to_lines())
            _add_files(place, tracked, archive, tokens)
        about: dict[str, Any] = {
            "package": version("fer_pipeline"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "answers": len(answers),
            "mlflow_schema": None if tracked is None else tracked.schema,
            "versions": {} if tracked is None else tracked.versions,
            "champions": champions,
            "settings_left_out": left_out,
        }
        archive.finish(about)
    _tell(path, about, console)
    if as_json:
        print_json({"file": str(path), "bytes": path.stat().st_size, **about})


def champions_of(settings: Settings) -> dict[str, dict[str, str | None]]:
    """For each registered model the champion and the one before it, None where there is none."""
    client = tracking.connect(settings)
    prefix = tracking.registered_name("")
    names = [model.name for model in client.search_registered_models(max_results=1000)]
    found = {}
    # Streams that the settings don't name any more have models too.
    for name in sorted(name for name in names if name.startswith(prefix)):
        registry = Registry(settings, name.removeprefix(prefix))
        if registry.versions():
            found[name] = {"champion": registry.champion(), "previous": registry.previous()}
    return found


def all_answers(settings: Settings) -> list[Answer]:
    """Every answer of every study, in the order in which they were stored."""
    if is_missing_file(settings.answers_address):
        return []
    with closing(AnswerStore(settings.answers_address)) as store:
        return store.everything()


def answer_lines(answers: list[Answer]) -> bytes:
    """Answers as text: one a line."""
    lines = (
        json.dumps({**asdict(one), "answered_at": one.answered_at.isoformat()}) for one in answers
    )
    return "".join(f"{line}\n" for line in lines).encode()


def is_text(name: str) -> bool:
    """Whether a file of MLflow's may name places of the home it came from."""
    return name.endswith((".json", "/MLmodel"))


def former_homes(place: RegistryPlace, tracked: Tracked) -> set[str]:
    """Folders in which the home stood when its models were logged, as these tell."""
    found = set()
    for folder in tracked.files():
        card = place.files / folder / "MLmodel"
        told = _LOGGED_IN.search(_text(card) or "") if is_file(card) else None
        if told is not None:
            found.add(told[1])
    return found


def _registry(
    settings: Settings, place: RegistryPlace | None, champions_only: bool
) -> tuple[dict[str, dict[str, str | None]], Tracked | None]:
    """The champions and the rows, as they stood at one moment."""
    if place is None:
        return {}, None
    while True:
        champions = champions_of(settings)
        wanted = {
            name: {one for one in held.values() if one is not None}
            for name, held in champions.items()
        }
        tracked = read_rows(place.database, place.prefixes, wanted if champions_only else None)
        if champions_of(settings) == champions:
            return champions, tracked


def _add_home(settings: Settings, archive: ArchiveWriter, tokens: Tokens) -> list[str]:
    """Add the files of the home; give the settings that were left out."""
    left_out: list[str] = []
    own = settings.state_folder / SETTINGS
    if own.is_file():
        text, left_out = portable_settings(own.read_text())
        archive.add_bytes(HOME + SETTINGS, tokens.packed(text).encode())
    files: list[Location] = [settings.corrections_file]
    files += files_in(settings.studies_folder, "**/*")
    files += files_in(settings.home / "reports", "*/champion.json")
    for file in files:
        if is_file(file) and not file.name.endswith(TEMPORARY_SUFFIX):
            archive.add_file(HOME + relative_name(file, settings.home), file)
    return left_out


def _add_files(
    place: RegistryPlace, tracked: Tracked, archive: ArchiveWriter, tokens: Tokens
) -> None:
    for folder in tracked.files():
        for file in files_in(place.files / folder, "**/*"):
            if not is_file(file):
                continue
            name = FILES + relative_name(file, place.files)
            text = _text(file) if is_text(name) and file_size(file) <= _TEXT_BYTES else None
            if text is None:
                archive.add_file(name, file)
            else:
                archive.add_bytes(name, tokens.packed(text).encode())
    # Without them a backup would be taken for whole, of another folder than the server's too.
    for folder in tracked.model_files():
        if not any(name.startswith(f"{FILES}{folder}/") for name in archive.files):
            raise InputError(
                f"{place.files / folder} holds no file of a model that is registered: see that "
                "its files are there (of a server, in FER_MLFLOW_FILES), or delete its version "
                "in MLflow"
            )


def _text(file: Location) -> str | None:
    """A file's text as it is; None for bytes that are none."""
    with open_binary(file) as stream:
        data = stream.read()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _tell(path: Path, about: Mapping[str, Any], console: Console) -> None:
    say(console, f"{path}, {in_words(path.stat().st_size)}, {about['answers']:,} answers")
    for name, numbers in about["versions"].items():
        held = about["champions"].get(name, {})
        words = f"champion {held.get('champion')}, before it {held.get('previous')}"
        say(console, f"versions {', '.join(map(str, numbers))} ({words})", head=name, style="bold")
    if about["settings_left_out"]:
        say(
            console,
            f"left out of {SETTINGS}: {', '.join(about['settings_left_out'])}; give them where "
            "it is restored",
        )
