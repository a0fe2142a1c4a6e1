"""Batches from crop shards, beside training, a loop over photo files and arrays in memory."""

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
_FEED_STEPS = 60


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
    feed = bench.medians(
        {name: Side(f"batches:{name}", given, one_core=False) for name in ("fed", "fit", "looped")}
    )
    for name, beside in (
        ("fit", "keras.Model.fit on arrays in memory"),
        ("looped", "train_on_batch on slices of arrays in memory"),
    ):
        yield Row(
            "training feed: preset cpu from shards, augmented",
            rate(feed["fed"]),
            f"{beside}, the same network as they are: {rate(feed[name])}",
            feed["fed"]["rate"] / feed[name]["rate"],
            0.95,
            bench.times(int(feed["fed"]["faces"]), "faces"),
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
    return _trained(home, _STEPS, threads=1)


def fed(home: str) -> Figures:
    return _trained(home, _FEED_STEPS, threads=None)


def _trained(home: str, steps: int, threads: int | None) -> Figures:
    from fer_pipeline.core.presets import PRESETS
    from fer_pipeline.core.train import prepare_process, train

    prepare_process(0, threads)
    preset = PRESETS["cpu"]
    few = _first(_examples(Path(home), "train"), steps * _BATCH)
    dev = _first(_examples(Path(home), "dev"), _BATCH)
    recipe = replace(preset.recipe, target_steps=1, min_epochs=2, max_epochs=2)
    done = train(few, dev, _CLASSES, replace(preset, recipe=recipe), seed=0)
    # The first epoch also builds the graph.
    return {"rate": done.history[-1].images_per_second, "faces": len(few)}


def fit(home: str) -> Figures:
    network, pixels, target, weight = _in_memory(home)
    # In order, as `looped` takes them: shuffling copies every batch once more.
    options = {"sample_weight": weight, "batch_size": _BATCH, "shuffle": False, "verbose": 0}
    network.fit(pixels, target, **options)
    started = time.perf_counter()
    network.fit(pixels, target, **options)
    return {"rate": len(pixels) / (time.perf_counter() - started)}


def looped(home: str) -> Figures:
    network, pixels, target, weight = _in_memory(home)
    for _ in range(2):
        started = time.perf_counter()
        for start in range(0, len(pixels), _BATCH):
            part = slice(start, start + _BATCH)
            network.train_on_batch(pixels[part], target[part], sample_weight=weight[part])
    return {"rate": len(pixels) / (time.perf_counter() - started)}


def _in_memory(home: str) -> tuple[Any, Any, Any, Any]:
    """The network that `train` trains, compiled alike, and its crops, targets and weights."""
    import numpy as np

    from fer_pipeline.core.compiling import compile_network
    from fer_pipeline.core.examples import load_images
    from fer_pipeline.core.network import build_network, training_twin
    from fer_pipeline.core.presets import PRESETS
    from fer_pipeline.core.train import prepare_process

    prepare_process(0, threads=None)
    preset = PRESETS["cpu"]
    few = _first(_examples(Path(home), "train"), _FEED_STEPS * _BATCH)
    network = training_twin(build_network(preset, len(_CLASSES), seed=0))
    compile_network(network, preset)
    return network, load_images(few).astype(np.float32), few.target, few.weight


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
