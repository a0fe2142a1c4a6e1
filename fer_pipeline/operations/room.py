"""Whether the disk of a home has room for what the next run makes: asked before it is begun.

The bytes are reckoned in `core/room.py`; a step asks once more, when it knows its work exactly.
"""

from collections.abc import Collection

import pyarrow.parquet as pq

from fer_pipeline.core.manifest import MANIFEST_FILE
from fer_pipeline.core.room import (
    Need,
    check_room,
    crops_need,
    faces_there,
    model_need,
)
from fer_pipeline.core.storage import is_file, parquet_source
from fer_pipeline.core.worklist import Progress
from fer_pipeline.settings import Settings

_MANIFEST = "class_manifest"
_CROPS = "face_crops"
_TRAINING = "trained_model"


def check_room_for(settings: Settings, assets: Collection[str]) -> None:
    """Raise RoomError when what is yet to be made of these assets has no room on the home's disk.

    `assets` are keys as text. Where the manifest is among them nobody has counted its
    faces yet: the step that plans the crops asks then.
    """
    if settings.check_room:
        check_room(settings.home, needs_of(settings, assets))


def check_room_for_crops(settings: Settings, progress: Progress) -> None:
    """Raise RoomError when the crops that a work list still asks for have no room."""
    left = progress.total - progress.done
    if settings.check_room and left:
        need = crops_need(left, settings.crop_settings, settings.crops_folder)
        check_room(settings.crops_folder, [need])


def check_room_for_training(settings: Settings, stream: str) -> None:
    """Raise RoomError when the model of a stream, and the state of its training, have no room."""
    if settings.check_room:
        check_room(settings.state_folder, [model_need(stream, settings.recipe.network)])


def needs_of(settings: Settings, assets: Collection[str]) -> list[Need]:
    """What of these assets is going to take room: crops that aren't there, and models."""
    found = []
    manifest = settings.manifest_folder / MANIFEST_FILE
    # A manifest that is made anew may have any number of faces.
    if _CROPS in assets and _MANIFEST not in assets and is_file(manifest):
        faces = pq.read_metadata(parquet_source(manifest)).num_rows
        left = faces - faces_there(settings.crops_folder)
        if left > 0:
            found.append(crops_need(left, settings.crop_settings, settings.crops_folder))
    for name in sorted(assets):
        stream, _, last = name.rpartition("/")
        if last == _TRAINING:
            found.append(model_need(stream, settings.recipe.network))
    return found
