from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fer_pipeline.core import evaluation as evaluation_module
from fer_pipeline.core import examples as examples_module
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.evaluation import evaluate_examples
from fer_pipeline.core.examples import image_parts, load_images, select_examples
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.network import build_network
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    SIDE,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)
from fer_pipeline_tests.core.small_release import small_release

TRAIN, TEST = 150, 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Manifest, training examples and test examples of drawn shapes."""
    expressions = [CLASSES[i % 3] for i in range(TRAIN + TEST)]
    manifest = make_manifest(expressions, ["train"] * TRAIN + ["test"] * TEST)
    rng = np.random.default_rng(2)
    images = [draw(name, rng) for name in expressions]
    shards = write_shards(tmp_path_factory.mktemp("crops"), manifest, images)
    parts = (select_examples(shards, manifest, CLASSES, s, "listed") for s in ("train", "test"))
    return manifest, *parts


@pytest.fixture(scope="module")
def model():
    return build_network(tiny_preset(), len(CLASSES), seed=1)


@pytest.fixture(scope="module")
def scored(made, model):
    return evaluate_examples(model, CLASSES, *made[1:], seed=0, resamples=100)


def test_evaluation_is_of_the_model_on_the_test_examples(scored, made, model):
    crops = load_images(made[2]).astype(np.float32)
    probabilities = np.asarray(model(crops, training=False))
    found = evaluate_predictions(
        made[2].expression, probabilities, CLASSES, made[2].group_id, seed=0, resamples=100
    )
    assert scored.evaluation.n == TEST
    assert np.array_equal(scored.evaluation.confusion, found.confusion)
    assert scored.evaluation.accuracy == found.accuracy


def test_linear_baseline_is_fitted_on_training_and_scored_on_test(scored):
    # An untrained network guesses; shapes of one place each are easier for a linear model.
    assert scored.linear.value > 0.5
    assert scored.linear.low <= scored.linear.value <= scored.linear.high
    scalars = scored.scalars()
    assert scalars["linear_accuracy"] == scored.linear.value
    assert scalars["accuracy"] == scored.evaluation.accuracy.value
    assert all(isinstance(value, int | float) for value in scalars.values())


def test_baseline_reads_no_more_crops_than_its_cap(made, model, monkeypatch):
    read = []

    def counting(examples, indices=None):
        read.append(len(examples) if indices is None else len(indices))
        return load_images(examples, indices)

    monkeypatch.setattr(examples_module, "load_images", counting)
    monkeypatch.setattr(evaluation_module, "LINEAR_TRAIN_CAP", 40)
    evaluate_examples(model, CLASSES, *made[1:], seed=0, resamples=50)
    assert read == [40, TEST]


def test_baseline_is_the_same_however_few_crops_are_in_memory(scored, made, model, monkeypatch):
    read = []

    def few(examples, indices):
        read.append(len(indices))
        return image_parts(examples, indices, at_once=16)

    monkeypatch.setattr(evaluation_module, "image_parts", few)
    again = evaluate_examples(model, CLASSES, *made[1:], seed=0, resamples=100)
    assert read == [TRAIN, TEST]
    assert again.linear == scored.linear


def test_worst_errors_are_wrong_and_the_most_confident_first(scored, made):
    wrong, said = scored.wrong, scored.predictions
    sure = said.probability.max(axis=1)
    rows = np.flatnonzero(said.predicted != said.expression)
    rows = rows[np.argsort(-sure[rows], kind="stable")][:24]
    assert len(rows) > 0
    assert list(wrong.probability) == pytest.approx(sure[rows])
    assert list(wrong.true) == [CLASSES[one] for one in said.expression[rows]]
    assert list(wrong.predicted) == [CLASSES[one] for one in said.predicted[rows]]
    assert np.array_equal(wrong.crops, load_images(made[2], rows))


def test_every_figure_is_a_png(scored):
    figures = scored.figures()
    assert set(figures) == {
        "confusion",
        "confusion_counts",
        "recall",
        "reliability",
        "most_confident_errors",
    }
    assert all(data.startswith(b"\x89PNG\r\n\x1a\n") for data in figures.values())
    none_wrong = replace(scored, wrong=replace(scored.wrong, crops=scored.wrong.crops[:0]))
    assert "most_confident_errors" not in none_wrong.figures()


def test_class_without_a_prediction_has_no_precision_and_that_is_said(made, model):
    test = replace(made[2], expression=np.zeros(TEST, np.int64))
    table = evaluate_examples(model, CLASSES, made[1], test, seed=0, resamples=50).class_table()
    assert table["class"].tolist() == list(CLASSES)
    assert table["support"].tolist() == [TEST, 0, 0]
    assert table["recall"].tolist()[1:] == ["not defined"] * 2


def test_report_data_tells_where_the_model_and_the_numbers_come_from(scored, made, model, tmp_path):
    card = ModelCard(
        stream="three_class",
        classes=CLASSES,
        crop=CropSettings(side=SIDE),
        label_source="listed",
        trained_on={
            **{"preset": "tiny", "seed": 5, "training_faces": 77, "vote_share": 0.5},
            "init": "/home/somebody/mine.keras",
        },
    )
    small_release(tmp_path / "release")
    reasons = ["copy_of_test_photo", "copy_of_dev_photo", "conflicting_label"]
    manifest = made[0].append_column(
        "reason", pa.array(reasons + [None] * (TRAIN + TEST - 3), pa.string())
    )
    manifest = manifest.append_column("list", pa.array(["manual_train"] * (TRAIN + TEST)))
    data = scored.report_data(
        card,
        created="2030-01-02",
        dataset=open_dataset("affectnet", tmp_path / "release"),
        manifest=manifest,
        manifest_hash="abc",
        statuses={"ok": TRAIN + TEST},
        history=[{"epoch": 1, "loss": 1.0}],
        minutes=1.5,
        mlflow_run_id="run",
        git_commit="commit",
        init_known=False,
    )
    assert (data.dataset, data.test_split, data.drawn) == ("affectnet", "manual_val", False)
    assert (data.manifest_rows, data.splits) == (TRAIN + TEST, {"train": TRAIN, "test": TEST})
    assert data.duplicates_excluded == 2
    assert data.parameters == model.count_params()
    assert (data.training_faces, data.vote_share, data.votes) == (77, 0.5, "FER+ votes")
    assert (data.preset, data.seed, data.epochs) == ("tiny", 5, 1)
    assert (data.init, data.init_known) == ("mine.keras", False)


def test_evaluation_is_plain_values_for_json(scored):
    import json

    found = json.loads(json.dumps(scored.to_dict()))
    assert found["n"] == TEST
    assert found["linear_accuracy"] == scored.linear.value
