"""The exponential moving average of a network's weights while it trains.

Averages come near what many more epochs with a small learning rate give (Polyak and Juditsky,
1992), at next to no cost. When the average is evaluated is decided in `train.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PARTS = 16
"""Updates in the time that an average looks back: reading weights out at each step would cost."""
_SELDOM = 64
"""Steps between two updates at most."""


class WeightAverage:
    """The average of all weights of a `keras.Model`, batch-normalisation statistics included.

    The statistics are averaged as the weights are, so that they belong to the averaged weights.
    The decay of a step is `decay`, less at the start (after t steps at most (1 + t) / (10 + t)),
    so that the first weights, which are random, are forgotten.
    """

    def __init__(self, model: Any, decay: float) -> None:
        """Start from the weights that `model` has now; `decay` of a step is 0 to below 1."""
        self._model = model
        self._decay = decay
        self._every = min(max(1, round(1 / (1 - decay) / _PARTS)), _SELDOM)
        self._steps = 0
        self._pending = 0
        # Copies: some backends hand out views of their own memory.
        self._average = [np.array(weight) for weight in model.get_weights()]

    def step(self) -> None:
        """Tell that the model took one step."""
        self._steps += 1
        self._pending += 1
        if self._pending == self._every:
            self._update()

    def weights(self) -> list[NDArray[Any]]:
        """The averaged weights, up to the last step, in the order of `model.get_weights()`."""
        if self._pending:
            self._update()
        return [weight.copy() for weight in self._average]

    def state(self) -> dict[str, NDArray[Any]]:
        """All there is to go on from, as arrays by name; see `restore`."""
        counts = np.array([self._steps, self._pending], np.int64)
        return {"counts": counts, **{str(i): each for i, each in enumerate(self._average)}}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self._steps, self._pending = (int(count) for count in state["counts"])
        self._average = [np.array(state[str(i)]) for i in range(len(self._average))]

    def _update(self) -> None:
        keep = min(self._decay, (1 + self._steps) / (10 + self._steps)) ** self._pending
        self._pending = 0
        for average, weight in zip(self._average, self._model.get_weights(), strict=True):
            average += (weight - average) * average.dtype.type(1 - keep)
