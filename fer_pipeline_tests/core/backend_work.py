"""Trains the drawn shapes on the backend that KERAS_BACKEND names, in its own process or here."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fer_pipeline.core.examples import Examples, load_images, select_examples
from fer_pipeline.core.presets import Preset
from fer_pipeline.core.serving import make_ready
from fer_pipeline.core.train import predict, prepare_process, train
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)


def examples(folder: Path) -> tuple[Examples, Examples]:
    """480 training and 120 dev examples, the same in every process."""
    expressions = [CLASSES[i % 3] for i in range(600)]
    rng = np.random.default_rng(8)
    manifest = make_manifest(expressions, ["train"] * 480 + ["dev"] * 120)
    shards = write_shards(folder, manifest, [draw(name, rng) for name in expressions])
    training, dev = (
        select_examples(shards, manifest, CLASSES, split, "listed") for split in ("train", "dev")
    )
    return training, dev


def preset() -> Preset:
    """Every part of the recipe; no dropout, whose random numbers are the backend's own."""
    whole = tiny_preset(
        min_epochs=4,
        max_epochs=4,
        learning_rate=1e-3,
        ema=0.8,
        sampling="balanced",
        class_weighting="none",
        prior_correction=True,
        mixup=0.1,
        flip_at_test=True,
    )
    return replace(whole, network=replace(whole.network, dropout=0.0))


def work(folder: Path) -> None:
    """Leave model.keras, pixels.npy, probability.npy and history.json in `folder`."""
    prepare_process(seed=3)
    training, dev = examples(folder / "crops")
    result = train(training, dev, CLASSES, preset(), seed=3)
    ready = make_ready(result.model, dev, True, result.prior)
    ready.model.save(folder / "model.keras")
    np.save(folder / "pixels.npy", load_images(dev))
    np.save(folder / "probability.npy", predict(ready.model, dev))
    history = [asdict(epoch) for epoch in result.history]
    (folder / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
