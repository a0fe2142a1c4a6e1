"""What a home would train now: the task of a stream and its examples, from manifest and crops.

Training here (`assets/training.py`), packing it up and bringing it home (`elsewhere.py`) all
begin with it; a sweep (`sweep.py`) asks whether the crops are there.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fer_pipeline import __version__, tracking
from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.core.bundle import Task
from fer_pipeline.core.crop_set import CROPS_LIST
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.manifest import MANIFEST_FILE
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.storage import is_file
from fer_pipeline.model_cards import with_version
from fer_pipeline.settings import Settings


@dataclass(frozen=True)
class Material:
    """A stream's task with what it is trained on."""

    task: Task
    training: Examples
    dev: Examples
    manifest: pa.Table
    manifest_hash: str
    init: Path | None
    """The model file that training starts from."""
    init_address: str | None
    """What names that model, also after an alias moved."""


def training_material(settings: Settings, stream: str) -> Material:
    """What a stream's training would take now.

    Raises InputError when the crops aren't those of the manifest, or the model to start from is
    not to be found.
    """
    from fer_pipeline.core.synthetic import all_drawn

    manifest, digest, crop_set = verified_faces(settings)
    classes = settings.all_streams[stream]
    training, dev = (
        select_examples(crop_set.paths, manifest, classes, split, settings.label_rule, share)
        for split, share in (("train", settings.vote_share), ("dev", 0.0))
    )
    address = None if settings.init is None else with_version(settings, settings.init)
    init = None if address is None else tracking.model_file(settings, address)
    card = ModelCard(
        stream=stream,
        classes=tuple(classes),
        crop=crop_set.settings,
        label_source=settings.label_rule,
        trained_on={
            "data_set": settings.data_set,
            "drawn": all_drawn(settings.open_dataset()),
            "manifest_hash": digest,
            "crops_hash": crop_set.content_hash,
            "preset": settings.preset,
            "seed": settings.seed,
            "minutes": settings.minutes,
            "vote_share": settings.vote_share,
            "init": settings.init,
            "recipe_overrides": dict(settings.recipe_overrides),
            "training_faces": len(training),
        },
    )
    task = Task(
        card=card,
        preset=settings.recipe,
        seed=settings.seed,
        minutes=settings.minutes,
        init=None if init is None else file_digest(init),
        package=__version__,
    )
    return Material(task, training, dev, manifest, digest, init, address)


def check_crops(settings: Settings, stream: str) -> None:
    """Raise InputError, saying how they are made, when the home holds no crops of its preset."""
    made = (settings.manifest_folder / MANIFEST_FILE, settings.crops_folder / CROPS_LIST)
    if not all(is_file(path) for path in made):
        raise InputError(
            f"{settings.home} holds no crops for preset {settings.preset} yet: run `fer-pipeline "
            f"run --stream {stream} --preset {settings.preset} --select face_crops` on it first"
        )


def check_same_task(path: Path, brought: Task, here: Task) -> None:
    """Raise InputError, saying what differs, when a result isn't that of this home's task."""
    theirs, ours = brought.needs(), here.needs()
    other = [
        f"{name} {_shown(theirs.get(name))}, here {_shown(ours.get(name))}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if other:
        raise InputError(
            f"{path} was trained for something else than {here.card.stream} is now "
            f"({'; '.join(other)}): bundle and train it again, or run with the settings and data "
            "it was bundled from"
        )


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
