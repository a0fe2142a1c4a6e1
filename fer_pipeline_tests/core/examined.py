"""A small examination for the tests of reports: a network on drawn shapes, every subject in it."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.examination import Examination, beside_champion, examine
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.network import build_network, served_model
from fer_pipeline.core.predictions import Predictions
from fer_pipeline.core.report import ReportData, WrongFaces
from fer_pipeline.core.train import predict
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    SIDE,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)
from fer_pipeline_tests.core.small_release import encoded, noise

TRAIN, TEST = 90, 60
TEMPERATURE = 0.5
CARD = ModelCard(
    stream="three_class",
    classes=CLASSES,
    crop=CropSettings(side=SIDE),
    label_source="listed",
    trained_on={"preset": "tiny", "seed": 5},
    temperature=TEMPERATURE,
)


@cache
def shapes() -> tuple[pa.Table, Examples, Examples]:
    """Manifest, training and test examples; the first test face stands in training too."""
    expressions = [CLASSES[i % 3] for i in range(TRAIN + TEST)]
    manifest = make_manifest(expressions, ["train"] * TRAIN + ["test"] * TEST)
    manifest = manifest.append_column("reason", pa.nulls(TRAIN + TEST, pa.string()))
    lists = ["auto"] * TRAIN + ["manual", "other"] * (TEST // 2)
    manifest = manifest.append_column("list", pa.array(lists))
    generator = np.random.default_rng(2)
    images = [draw(name, generator) for name in expressions]
    images[0] = images[TRAIN]
    shards = write_shards(Path(mkdtemp(prefix="shapes-")), manifest, images)
    training, test = (
        select_examples(shards, manifest, CLASSES, split, "listed") for split in ("train", "test")
    )
    return manifest, training, test


@cache
def served():
    """The network and its calibrated form."""
    network = build_network(tiny_preset(), len(CLASSES), seed=1)
    return network, served_model(network, TEMPERATURE)


def predictions() -> Predictions:
    """What the served model says of the test shapes."""
    _, _, test = shapes()
    return Predictions(
        classes=CLASSES,
        face_id=test.face_id,
        group_id=test.group_id,
        split=np.full(len(test), "test", dtype=object),
        expression=test.expression,
        probability=predict(served()[1], test),
    )


@cache
def examination() -> Examination:
    """Everything asked of that model, a champion that guesses beside it."""
    manifest, training, test = shapes()
    said = predictions()
    guesses = np.random.default_rng(0).dirichlet([1, 1, 1], TEST).astype(np.float32)
    champion = beside_champion("fer-x version 3", guesses, said, None, seed=0, resamples=100)
    return examine(
        served()[1],
        CARD,
        said,
        test,
        training,
        manifest,
        photos=[encoded(noise())],
        model_bytes=1_234_567,
        champion=champion,
        seed=0,
        resamples=100,
    )


def without_maps() -> Examination:
    """As on a backend that gives no gradients."""
    return replace(examination(), maps=None)


def report_data() -> ReportData:
    """What a report on that model is made of."""
    said = predictions()
    evaluation = evaluate_predictions(
        said.expression, said.probability, CLASSES, said.group_id, seed=0, resamples=100
    )
    return ReportData(
        stream="three_class",
        created="1 May 2025",
        evaluation=evaluation,
        linear=None,
        dataset="affectnet",
        test_split="manual_val",
        manifest_rows=150,
        manifest_hash="0badcafe",
        label_source="listed",
        statuses={"ok": 150},
        splits={"train": 90, "test": TEST},
        duplicates_excluded=0,
        drawn=False,
        preset="tiny",
        parameters=1234,
        epochs=1,
        seed=3,
        minutes=0.1,
        wrong=WrongFaces(
            np.full((1, 16, 16, 1), 99, np.uint8),
            ("Sadness",),
            ("Happiness",),
            (0.9,),
            suspected=17,
            suspected_here=1,
        ),
        details=examination(),
    )
