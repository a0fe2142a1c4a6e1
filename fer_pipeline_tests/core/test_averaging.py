import numpy as np
import pytest

from fer_pipeline.core.averaging import WeightAverage


class Moving:
    """A model of one weight that grows by one at each step."""

    def __init__(self):
        self.value = np.zeros(2, np.float32)

    def get_weights(self):
        return [self.value]

    def step(self):
        self.value = self.value + 1


@pytest.mark.parametrize("steps", [1, 5, 8, 40, 43])
def test_average_of_weights_that_stand_still_is_those_weights(steps):
    model = Moving()
    average = WeightAverage(model, 0.9)
    for _ in range(steps):
        average.step()
    assert average.weights()[0] == pytest.approx([0, 0])


def test_average_lags_by_its_decay():
    """Of weights that grow evenly an average with decay d is d / (1 - d) steps behind."""
    model = Moving()
    average = WeightAverage(model, 0.99)
    for _ in range(4000):
        model.step()
        average.step()
    # An update covers several steps, of which it sees the last: a little less lag.
    lag = model.value[0] - average.weights()[0][0]
    assert lag == pytest.approx(99, abs=5)


def test_first_weights_are_forgotten_soon():
    model = Moving()
    model.value = np.full(2, 1000.0, np.float32)
    average = WeightAverage(model, 0.9999)
    model.value = np.zeros(2, np.float32)
    for _ in range(100):
        average.step()
    assert average.weights()[0].max() < 1


def test_weights_handed_out_are_not_changed_later():
    model = Moving()
    average = WeightAverage(model, 0.5)
    early = average.weights()
    for _ in range(20):
        model.step()
        average.step()
    assert early[0].tolist() == [0, 0]
    assert average.weights()[0][0] > 10
