"""What becomes of a trained network before it is saved."""

from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core import serving
from fer_pipeline.core.calibration import (
    ChosenTemperature,
    choose_temperature,
    fit_temperature,
)
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.network import bare_network
from fer_pipeline.core.serving import make_ready
from fer_pipeline.core.train import predict, prepare_process, train
from fer_pipeline_tests.core.drawn_shapes import (
    CLASSES,
    draw,
    make_manifest,
    tiny_preset,
    write_shards,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network after one epoch, and 90 dev examples a fifth of whose labels are wrong."""
    prepare_process(seed=0)
    expressions = [CLASSES[i % 3] for i in range(330)]
    rng = np.random.default_rng(8)
    images = [draw(name, rng) for name in expressions]
    expressions[240::5] = [CLASSES[(i + 1) % 3] for i in range(240, 330, 5)]
    manifest = make_manifest(expressions, ["train"] * 240 + ["dev"] * 90)
    shards = write_shards(tmp_path_factory.mktemp("crops"), manifest, images)
    sides = [
        select_examples(shards, manifest, CLASSES, split, "listed") for split in ("train", "dev")
    ]
    preset = tiny_preset(min_epochs=2, max_epochs=2)
    return train(*sides, CLASSES, preset, seed=7).model, sides[1]


EVEN = (1 / 3, 1 / 3, 1 / 3)


def _first(examples, count):
    fields = ("shard_index", "row", "target", "weight", "face_id", "group_id", "expression")
    return replace(examples, **{name: getattr(examples, name)[:count] for name in fields})


@pytest.mark.parametrize("flip", [False, True])
def test_temperature_that_dev_tells_is_part_of_the_model(trained, flip):
    model, dev = trained
    ready = make_ready(model, dev, flip, EVEN)
    assert ready.unfitted is None
    assert ready.temperature != pytest.approx(1, abs=0.02)
    assert ready.model.get_layer("temperature").scale == pytest.approx(1 / ready.temperature)
    probability = predict(ready.model, dev)
    # Of calibrated probabilities the best temperature is 1.
    assert fit_temperature(probability, dev.expression) == pytest.approx(1, abs=1e-3)
    right = probability[np.arange(len(dev)), dev.expression]
    assert ready.nll == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_bias_goes_back_where_no_temperature_can_be_told_after_it(trained, monkeypatch):
    model, dev = trained
    _, before = bare_network(model).layers[-1].get_weights()
    told = iter([choose_temperature, lambda *_: ChosenTemperature(1.0, "nothing tells")])
    monkeypatch.setattr(serving, "choose_temperature", lambda *given: next(told)(*given))
    ready = make_ready(model, dev, flip=False, prior=EVEN)
    assert (ready.unfitted, ready.temperature) == ("nothing tells", 1.0)
    np.testing.assert_allclose(bare_network(model).layers[-1].get_weights()[1], before, atol=1e-6)


def test_model_with_few_dev_faces_keeps_its_own_probabilities_and_says_why(trained):
    model, dev = trained
    ready = make_ready(model, _first(dev, 13), False, EVEN)
    assert ready.temperature == 1
    assert ready.unfitted == "13 dev faces are too few, 50 are needed"
    assert predict(ready.model, dev) == pytest.approx(predict(model, dev), abs=1e-6)


def test_probabilities_assume_the_class_shares_that_are_asked_for(trained):
    model, dev = trained
    shares = (0.6, 0.3, 0.1)
    ready = make_ready(model, dev, False, shares)
    counts = np.bincount(dev.expression)
    weight = (np.array(shares) / counts)[dev.expression]
    said = (predict(ready.model, dev) * weight[:, None]).sum(axis=0)
    # Not quite: the bias that 90 faces tell is drawn to none.
    assert said == pytest.approx(shares, abs=0.1)
