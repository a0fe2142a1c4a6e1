"""An examination holds what its parts say, repeats, and is plain values for JSON."""

import json

import numpy as np
import pytest

from fer_pipeline.core.calibration import calibration_scores, ece_by_chance
from fer_pipeline.core.examination import beside_champion
from fer_pipeline.core.examples import load_images
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.paired import compare_paired
from fer_pipeline_tests.core.drawn_shapes import CLASSES
from fer_pipeline_tests.core.examined import (
    TEMPERATURE,
    TEST,
    examination,
    predictions,
    served,
    shapes,
)


def test_calibration_before_is_of_the_network_and_after_of_the_served_model():
    _, _, test = shapes()
    network, model = served()
    crops = load_images(test).astype(np.float32)
    found = examination()
    for scores, part in ((found.raw, network), (found.calibrated, model)):
        probability = np.asarray(part(crops, training=False), np.float64)
        expected = calibration_scores(test.expression, probability)
        assert scores.nll == pytest.approx(expected.nll, rel=1e-4)
        assert scores.brier == pytest.approx(expected.brier, rel=1e-4)
    assert found.temperature == TEMPERATURE
    assert found.raw.nll != found.calibrated.nll
    assert found.ece_by_chance == ece_by_chance(predictions().probability.max(axis=1), seed=0)


def test_scores_without_copies_leave_out_the_face_that_training_has():
    found, said = examination().copies, predictions()
    assert np.flatnonzero(found.found.near).tolist() == [0]
    rest = evaluate_predictions(
        said.expression[1:], said.probability[1:], CLASSES, said.group_id[1:], seed=0, resamples=100
    )
    assert (found.without_any.faces, found.without_listed.faces) == (TEST - 1, TEST)
    assert found.without_any.accuracy == rest.accuracy
    assert found.without_any.macro_f1 == rest.macro_f1


def test_slices_risk_and_damage_are_of_the_test_faces():
    found, said = examination(), predictions()
    assert {(one.subject, one.faces) for one in found.slices} == {("List", TEST // 2)}
    right = said.predicted == said.expression
    assert found.risk.error == pytest.approx(1 - right.mean())
    assert found.robustness.faces == TEST
    assert found.robustness.clean == pytest.approx(right.mean())
    assert [one.name for one in found.by_class] == list(CLASSES)


def test_maps_are_of_the_surest_right_answers_and_the_surest_errors():
    maps = examination().maps
    if maps is None:
        pytest.skip("no gradients on this backend")
    said = predictions()
    sure = sorted(
        zip(said.probability.max(axis=1), said.expression, said.predicted, strict=True),
        reverse=True,
    )
    right = [
        next((one for one in sure if one[1] == one[2] == place), None)
        for place in range(len(CLASSES))
    ]
    errors = [one for one in sure if one[1] != one[2]][:6]
    assert errors
    expected = [(p, CLASSES[label], CLASSES[answer]) for p, label, answer in filter(None, right)]
    expected += [(p, CLASSES[label], CLASSES[answer]) for p, label, answer in errors]
    found = [(one.probability, one.label, one.predicted) for one in maps]
    assert found == [(pytest.approx(p), *names) for p, *names in expected]
    assert all(one.cells.ndim == 2 and one.cells.max() > one.cells.min() for one in maps)


def test_champion_is_compared_on_the_same_faces():
    said = predictions()
    champion = np.random.default_rng(1).dirichlet([1, 1, 1], TEST).astype(np.float32)
    found = beside_champion("a", champion, said, None, seed=3, resamples=50)
    expected = compare_paired(
        champion.argmax(axis=1) == said.expression,
        said.predicted == said.expression,
        said.group_id,
        seed=3,
        resamples=50,
        strata=said.expression,
    )
    assert found is not None
    assert found.comparison == expected
    assert found.seen is None


def test_faces_that_the_champion_was_trained_on_are_left_out():
    said = predictions()
    trained = [*said.group_id[:10], "somewhere else"]
    found = beside_champion("a", said.probability, said, trained, seed=0, resamples=50)
    assert found is not None
    assert found.seen == 10
    assert found.comparison.first.of == TEST - 10
    assert found.comparison.difference.value == 0
    assert beside_champion("a", said.probability, said, said.group_id, seed=0, resamples=9) is None


def test_what_repeats_is_told_without_timings():
    found = examination()
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["latency"]["network"][0]["p50"] > 0
    assert set(stored) - set(found.to_dict(timings=False)) == {"latency", "seconds"}
    assert stored["champion"]["champion_of"] == TEST
    assert stored["copies_in_training"]["without_any"]["faces"] == TEST - 1
    assert set(stored["seconds"]) == {"slices", "copies", "robustness", "saliency", "latency"}


def test_single_figures_are_numbers():
    scalars = examination().scalars()
    assert all(type(value) is float and np.isfinite(value) for value in scalars.values())
    assert (scalars["near_copies_in_training"], scalars["faces_in_training_lists"]) == (1, 0)
    assert scalars["model_megabytes"] == pytest.approx(1.234567)
    assert scalars["temperature"] == TEMPERATURE
    assert scalars["accuracy_at_coverage_0.5"] == 1 - examination().risk.risk_at(0.5)
    assert 0 < scalars["latency_1_p50_ms"] <= scalars["latency_1_p95_ms"]
