"""Timings are of the calls they name, in milliseconds, bounded in number and time."""

import json
import time

import numpy as np
import pytest

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.latency import BATCHES, measure_latency, timed
from fer_pipeline_tests.core.small_release import encoded, noise


class Slow:
    """Stands for a Keras model that takes two milliseconds a call."""

    def __init__(self):
        self.shapes = set()

    def predict_on_batch(self, crops):
        self.shapes.add(crops.shape)
        time.sleep(0.002)
        return np.full((len(crops), 2), 0.5)


def test_a_call_takes_what_it_takes():
    found = timed("sleep", 4, [lambda: time.sleep(0.004)])
    assert 4.0 <= found.p50 <= found.p95
    assert found.p50 < 12
    assert found.faces_per_second == pytest.approx(4000 / found.p50)
    assert 5 <= found.repeats <= 60


def test_calls_are_taken_in_turn():
    taken = []
    timed("both", 1, [lambda: taken.append(0), lambda: taken.append(1)])
    assert abs(taken[-60:].count(0) - 30) <= 1


def test_network_detector_and_crop_are_timed_apart():
    photos = [encoded(noise()), None, b"no photo", UnreadableError("cut off"), encoded(noise())]
    model = Slow()
    found = measure_latency(model, photos, CropSettings(side=16))
    assert model.shapes == {(batch, 16, 16, 1) for batch in BATCHES}
    assert [one.faces for one in found.network] == list(BATCHES)
    assert all(one.p50 >= 2 for one in found.network)
    assert found.detector is not None
    assert found.crop is not None
    assert found.crop.p50 > 0
    assert "cores" in found.machine
    assert json.loads(json.dumps(found.to_dict()))["network"][1]["faces"] == 64


def test_pictures_that_are_faces_need_no_detector():
    found = measure_latency(Slow(), [encoded(noise())], CropSettings(side=16, detect="whole"))
    assert found.detector is None
    assert found.crop is not None


def test_without_a_readable_photo_only_the_network_is_timed():
    found = measure_latency(Slow(), [None, b""], CropSettings(side=16))
    assert (found.detector, found.crop) == (None, None)
    assert np.isfinite(found.network[0].p95)
