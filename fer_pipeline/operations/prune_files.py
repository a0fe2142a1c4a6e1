"""What of a home's files can go: crops of other settings, shown pictures, unfinished files."""

from collections.abc import Iterator
from typing import Any

from fer_pipeline.core.storage import files_in, is_folder
from fer_pipeline.operations.doctor_home import unfinished_files
from fer_pipeline.operations.removal import Removal, removal
from fer_pipeline.settings import Settings


def crops(settings: Settings) -> Iterator[Removal]:
    """Folders of crops but today's and those that a champion, or the one before, was trained on."""
    folder = settings.home / "crops"
    if not is_folder(folder):
        return
    kept = {settings.crop_settings.hash, *_of_champions(settings)}
    for place in files_in(folder, "*"):
        if is_folder(place) and place.name not in kept:
            yield removal("crops of other settings", place)


def shown_pictures(settings: Settings) -> Iterator[Removal]:
    """The pictures that `fer-pipeline show` made."""
    folder = settings.home / "shown"
    if is_folder(folder):
        yield removal("shown pictures", folder)


def unfinished(settings: Settings) -> Iterator[Removal]:
    """What killed processes left half made."""
    for path in unfinished_files(settings):
        yield removal("unfinished files", path)


def _of_champions(settings: Settings) -> set[str]:
    """Digests of the crop settings of the models in use, and of those before them."""
    from fer_pipeline.registry import Registry
    from fer_pipeline.tracking import can_be_asked

    found: set[str] = set()
    if not can_be_asked(settings):
        return found
    for stream in settings.all_streams:
        registry = Registry(settings, stream)
        for version in (registry.champion(), registry.previous()):
            if version is not None:
                found.add(_crop_settings(registry, version))
    return found


def _crop_settings(registry: Any, version: str) -> str:
    known = registry.run_parameters(version).get("crop_settings")
    return str(known or registry.card(version).crop.hash)
