"""A small bundle of drawn shapes, and its training as a process of its own."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fer_pipeline.core.bundle import Task, write_bundle
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.examples import Examples
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.presets import Preset
from fer_pipeline_tests.core.backend_work import examples
from fer_pipeline_tests.core.drawn_shapes import CLASSES, SIDE, tiny_preset

WORDS = ("-m", "fer_pipeline.core.train")


def whole_recipe(**recipe: object) -> Preset:
    """Every part of the recipe, dropout too."""
    parts = {
        "ema": 0.9,
        "sampling": "balanced",
        "class_weighting": "none",
        "prior_correction": True,
        "flip_at_test": True,
    }
    return tiny_preset(**(parts | {"min_epochs": 4, "max_epochs": 4} | recipe))


def task(preset: Preset, *, seed: int = 3, init: str | None = None) -> Task:
    """What is trained on the drawn shapes."""
    card = ModelCard(
        stream="three_class",
        classes=CLASSES,
        crop=CropSettings(side=SIDE, detect="whole"),
        label_source="listed",
        trained_on={
            "manifest_hash": "0123456789abcdef",
            "crops_hash": "fedcba9876543210",
            "vote_share": 0.0,
            "minutes": None,
            "init": init,
        },
    )
    return Task(card, preset, seed, minutes=None, init=init, package="0")


def bundle_of(path: Path, preset: Preset) -> tuple[Task, Examples, Examples]:
    """A bundle of the drawn shapes at `path`, and what was put in."""
    training, dev = examples(path.with_suffix(".crops"))
    training = replace(training, weight=training.weight + training.expression.astype("f4") / 8)
    write_bundle(path, task(preset), training, dev, None)
    return task(preset), training, dev


def environment(**more: str) -> dict[str, str]:
    """The environment of a training process on one thread."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", **more}


def trained(*words: object, **more: str) -> "subprocess.CompletedProcess[str]":
    """The program run to its end; `more` are variables of its environment."""
    return subprocess.run(
        [sys.executable, *WORDS, *map(str, words), "--threads", "1"],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
