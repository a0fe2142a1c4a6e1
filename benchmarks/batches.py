"""An epoch of batches from crop shards, beside training and beside a loop over photo files."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Figures, Row, Side, rate
from benchmarks.photos import faces_of, read_faces, release, write_faces
from benchmarks.stage import prepare, stage

_MOST = 20_000
_FEWEST = 160
_CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise", "Anger")
_BATCH = 64
_STEPS = 150


def rows(bench: Bench) -> Iterator[Row]:
    photos = max(_FEWEST, min(bench.photos, _MOST))
    root = release(bench.data, photos, "portrait", bench.tell)
    home = bench.data / f"home-{photos}"
    bench.tell("crops to read")
    prepare(root, home)
    stage(str(home), workers=1, shard_rows=photos)
    faces = write_faces(bench.data / "batches.json", faces_of(root, photos // 10))
    given = {"home": str(home)}
    found = bench.medians(
        {
            "epoch": Side("batches:epoch", given),
            "training": Side("batches:training", given),
            "files": Side("batches:files", {"faces": faces}),
        }
    )
    epoch, training, files = found["epoch"], found["training"], found["files"]
    size = bench.times(int(epoch["faces"]), "faces")
    for beside, figures, target in (
        ("training step of preset cpu consumes", training, 20.0),
        ("cv2.imread, slice and resize for every photo", files, None),
    ):
        yield Row(
            "epoch of batches from shards, 48 px grey, one core",
            rate(epoch),
            f"{beside}: {rate(figures)}",
            epoch["rate"] / figures["rate"],
            target,
            size,
        )
    shutil.rmtree(home / "crops", ignore_errors=True)


def epoch(home: str) -> Figures:
    from fer_pipeline.core.batches import crop_batches

    examples = _examples(Path(home), "train")
    batches = crop_batches(examples, _BATCH, shuffle=True)
    started = time.perf_counter()
    images = sum(len(batches[number][0]) for number in range(len(batches)))
    return {"rate": images / (time.perf_counter() - started), "faces": images}


def training(home: str) -> Figures:
    from fer_pipeline.core.presets import PRESETS
    from fer_pipeline.core.train import prepare_process, train

    prepare_process(0, threads=1)
    preset = PRESETS["cpu"]
    few = _first(_examples(Path(home), "train"), _STEPS * _BATCH)
    dev = _first(_examples(Path(home), "dev"), _BATCH)
    recipe = replace(preset.recipe, target_steps=1, min_epochs=2, max_epochs=2)
    done = train(few, dev, _CLASSES, replace(preset, recipe=recipe), seed=0)
    # The first epoch also builds the graph.
    return {"rate": done.history[-1].images_per_second}


def files(faces: str) -> Figures:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    chosen = read_faces(faces)
    started = time.perf_counter()
    for start in range(0, len(chosen), _BATCH):
        batch = []
        for file, box in chosen[start : start + _BATCH]:
            x, y, width, height = (int(side) for side in box)
            image = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
            if image is None:
                continue
            part = image[max(0, y) : y + height, max(0, x) : x + width]
            batch.append(cv2.resize(part, (48, 48)))
        np.stack(batch).astype(np.float32)
    return {"rate": len(chosen) / (time.perf_counter() - started)}


def _examples(home: Path, split: str) -> Any:
    from fer_pipeline.core.crop_set import read_crop_set
    from fer_pipeline.core.examples import select_examples
    from fer_pipeline.core.manifest import read_manifest

    (crops,) = (home / "crops").iterdir()
    manifest = read_manifest(home / "manifest")
    return select_examples(read_crop_set(crops).paths, manifest, _CLASSES, split, "listed")


def _first(examples: Any, most: int) -> Any:
    """The first of the examples, so that an epoch of training is short."""
    columns = ("shard_index", "row", "target", "weight", "face_id", "group_id", "expression")
    return replace(examples, **{name: getattr(examples, name)[:most] for name in columns})
