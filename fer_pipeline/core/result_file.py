"""The result of a bundle's training in one file, and whether it holds what it says.

How it is trained is in `elsewhere.py`; who takes it home decides what it must fit.
"""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fer_pipeline.core.archives import opened_archive, written_archive
from fer_pipeline.core.bundle import Task, task_of
from fer_pipeline.core.compiling import full_precision
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.model_file import ModelCard, load_model, save_model
from fer_pipeline.core.serving import FIGURES, Served, scores_on
from fer_pipeline.core.train import EpochResult, predict
from fer_pipeline.core.trained import Trained, TrainingRecord

RESULT = "result"
TOLERANCE = 1e-4
"""Largest difference of a probability or a figure between two machines."""

_VERSION = 1
_REMEDY = "give a file that `python -m fer_pipeline.core.train` wrote, copied whole"
_MODEL = "model.keras"
_PROBABILITY = "dev_probability.npy"


@dataclass(frozen=True)
class Result(TrainingRecord):
    """What a result says of itself; its model is read by `score_here`."""

    path: Path
    task: Task
    bundle: str
    """Digest of the bundle's file."""
    figures: Mapping[str, float]
    """On dev, see `Served.figures`."""


def write_result(path: Path, task: Task, bundle: str, trained: Trained, dev: Examples) -> None:
    """Write what came of a bundle to `path`, whole or not at all."""
    probability = io.BytesIO()
    np.save(probability, predict(trained.served.model, dev))
    description = {
        "task": asdict(task),
        "bundle": bundle,
        "figures": trained.served.figures(),
        **asdict(TrainingRecord(**trained.record())),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        written_archive(path, RESULT, _VERSION, description) as archive,
    ):
        model = Path(folder) / _MODEL
        save_model(trained.served.model, trained.card, model)
        archive.add(_MODEL, model.read_bytes())
        archive.add(_PROBABILITY, probability.getvalue())


def read_result(path: Path) -> Result:
    """What a result says of itself; raises InputError when `path` is none, or damaged."""
    with opened_archive(path, RESULT, _VERSION, _REMEDY) as archive:
        found = archive.description
        return Result(
            path=path,
            task=task_of(found["task"]),
            bundle=str(found["bundle"]),
            history=[EpochResult(**row) for row in found["history"]],
            best_epoch=int(found["best_epoch"]),
            stopped=str(found["stopped"]),
            started_from=found["started_from"],
            seconds=float(found["seconds"]),
            environment={name: str(found["environment"][name]) for name in _ENVIRONMENT},
            figures={name: float(found["figures"][name]) for name in FIGURES},
        )


def score_here(result: Result, dev: Examples) -> Trained:
    """The result's model, scored on `dev` on this machine.

    Raises InputError when the file is damaged, its model is another one than it says, or it
    gives other probabilities here than where it was trained.
    """
    with (
        opened_archive(result.path, RESULT, _VERSION, _REMEDY) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        there = np.load(io.BytesIO(archive.read(_PROBABILITY)), allow_pickle=False)
        path = Path(folder) / _MODEL
        archive.extract(_MODEL, path)
        model, card = load_model(path)
    _check_card(result, card)
    if there.shape != dev.target.shape:
        raise InputError(
            f"{result.path} scored {len(there)} dev faces, and here are {len(dev)}: train a "
            "bundle of what is here now"
        )
    full_precision()
    here = predict(model, dev)
    told, served = (
        Served(model, card.temperature, card.unfitted, **scores_on(dev, probability))
        for probability in (there, here)
    )
    said, found = told.figures(), served.figures()
    wrong = [n for n in said if not abs(said[n] - result.figures[n]) <= TOLERANCE]
    if wrong:
        raise InputError(
            f"{result.path} says {wrong[0]} {result.figures[wrong[0]]:.4f}, and its own "
            f"probabilities give {said[wrong[0]]:.4f}: {_REMEDY}"
        )
    apart = float(np.abs(here - there).max())
    if not apart <= TOLERANCE:
        raise InputError(
            f"the model in {result.path} gives other probabilities here than where it was trained "
            f"(up to {apart:.2g} apart, dev macro-F1 {found['dev_macro_f1']:.4f} here and "
            f"{said['dev_macro_f1']:.4f} there): {_REMEDY}"
        )
    return Trained(served=served, card=card, **result.record())


_ENVIRONMENT = ("backend", "keras", "device", "machine")


def _check_card(result: Result, card: ModelCard) -> None:
    wanted = result.task.card
    names = ("stream", "classes", "crop", "label_source", "trained_on")
    other = [name for name in names if getattr(card, name) != getattr(wanted, name)]
    if other:
        raise InputError(
            f"the model in {result.path} isn't the one it tells of (another {other[0]}): {_REMEDY}"
        )
