"""The files of an unpacked backup: where each goes, and what is in its way there.

Which of them are put there is the business of `restore.py`.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published
from fer_pipeline.core.storage import Location, is_file, open_binary
from fer_pipeline.operations.backup import FILES, HOME, SETTINGS, is_text
from fer_pipeline.operations.portable import Tokens
from fer_pipeline.operations.registry_place import RegistryPlace
from fer_pipeline.settings import Settings


@dataclass(frozen=True)
class Unpacked:
    """An unpacked file and where it goes."""

    source: Path
    target: Location


def home_files(settings: Settings, folder: Path, tokens: Tokens) -> list[Unpacked]:
    """The files of the home; raises InputError where another than one of these is there."""
    found = []
    for source, name in _files_of(folder / HOME):
        target: Location = settings.home / name
        if name == SETTINGS:
            _unpack_text(source, tokens)
            target = settings.state_folder / SETTINGS
        found.append(Unpacked(source, target))
    refuse_others([file for file in found if file.target.name != SETTINGS])
    return found


def registry_files(place: RegistryPlace, folder: Path, tokens: Tokens) -> list[Unpacked]:
    """The files of runs and models."""
    found = []
    for source, name in _files_of(folder / FILES):
        if is_text(f"/{name}"):
            _unpack_text(source, tokens)
        found.append(Unpacked(source, place.files / name))
    return found


def _files_of(base: Path) -> Iterator[tuple[Path, str]]:
    """The files below a folder, none where there is no such folder, with their names there."""
    for source in sorted(base.rglob("*")):
        if not source.is_dir():
            yield source, source.relative_to(base).as_posix()


def _unpack_text(file: Path, tokens: Tokens) -> None:
    with suppress(UnicodeDecodeError):
        file.write_bytes(tokens.unpacked(file.read_bytes().decode()).encode())


def refuse_others(files: list[Unpacked]) -> None:
    """Raise InputError where the target of a file holds something else."""
    for file in files:
        if is_file(file.target) and not is_there(file):
            raise InputError(
                f"{file.target} is there already and isn't the backup's: nothing is overwritten; "
                "move it away, or give --home another folder"
            )


def kept_settings(settings: Settings, files: list[Unpacked]) -> bool:
    """Whether the home's own settings stay in place of the backup's, which then are taken out."""
    own = [file for file in files if file.target == settings.state_folder / SETTINGS]
    for file in own:
        if is_file(file.target) and not is_there(file):
            files.remove(file)
            return True
    return False


def is_there(file: Unpacked) -> bool:
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


def put(file: Unpacked) -> None:
    """Put a file where it goes, whole or not at all."""
    with published(file.target) as temporary:
        shutil.copyfile(file.source, temporary)
