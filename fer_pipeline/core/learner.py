"""A network while it learns: everything that one step leaves to the next, and the best so far.

The order of steps and evaluations, and when training ends, is decided in `train.py`; how its
state is kept in a file in `checkpoint.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.averaging import WeightAverage
from fer_pipeline.core.batches import Batch
from fer_pipeline.core.compiling import compile_network
from fer_pipeline.core.network import training_twin
from fer_pipeline.core.presets import Preset

Arrays = Mapping[str, NDArray[Any]]


class Learner:
    """A built network, the twin that trains in its place, its optimizer and its average."""

    def __init__(self, model: Any, preset: Preset) -> None:
        """Start from the weights that `model`, a `keras.Model`, has now."""
        self._model = model
        self._twin = training_twin(model)
        self._optimizer = compile_network(self._twin, preset)
        decay = preset.recipe.ema
        self._average = WeightAverage(self._twin, decay) if decay else None
        self._best = _weights(model)

    @property
    def network(self) -> Any:
        """The `keras.Model` that trains; it has the weights of the last step."""
        return self._twin

    def step(self, batch: Batch, learning_rate: float) -> float:
        """Take one step; gives its loss, the weighted mean over the batch."""
        images, target, weight = batch
        self._optimizer.learning_rate = learning_rate
        logs = self._twin.train_on_batch(images, target, sample_weight=weight, return_dict=True)
        if self._average is not None:
            self._average.step()
        return float(logs["loss"])

    @contextmanager
    def evaluated(self) -> Iterator[Any]:
        """The network with the weights that count: their average where the recipe asks for it."""
        if self._average is None:
            yield self._twin
            return
        trained = _weights(self._twin)
        self._twin.set_weights(self._average.weights())
        try:
            yield self._twin
        finally:
            self._twin.set_weights(trained)

    def keep(self) -> None:
        """Remember the weights that count as the best so far."""
        self._best = _weights(self._twin) if self._average is None else self._average.weights()

    def best(self) -> Any:
        """The model with the best weights that were kept, or those of the start."""
        self._model.set_weights(self._best)
        return self._model

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next step depends on, and the best weights, as arrays by name."""
        parts: dict[str, Arrays] = {
            "network": _numbered(_values(self._twin.variables)),
            "optimizer": _numbered(_values(self._optimizer.variables)),
            "average": {} if self._average is None else self._average.state(),
            "best": _numbered(self._best),
        }
        return {f"{part}/{name}": v for part, known in parts.items() for name, v in known.items()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` gave for a learner of the same model, preset and backend.

        Raises KeyError or ValueError when it is that of another one.
        """

        def part(name: str) -> dict[str, NDArray[Any]]:
            head = f"{name}/"
            return {key.removeprefix(head): v for key, v in state.items() if key.startswith(head)}

        _assign(self._twin.variables, part("network"))
        _assign(self._optimizer.variables, part("optimizer"))
        if self._average is not None:
            self._average.restore(part("average"))
        best = part("best")
        self._best = [best[str(number)] for number in range(len(self._best))]


def _weights(model: Any) -> list[NDArray[Any]]:
    # Copies: some backends hand out views of their own memory.
    return [np.array(weight) for weight in model.get_weights()]


def _values(variables: Any) -> list[NDArray[Any]]:
    return [np.array(variable.numpy()) for variable in variables]


def _numbered(values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {str(number): value for number, value in enumerate(values)}


def _assign(variables: Any, values: Arrays) -> None:
    for number, variable in enumerate(variables):
        value = values[str(number)]
        if value.shape != tuple(variable.shape):
            raise ValueError(
                f"{variable.path} has shape {tuple(variable.shape)}, not {value.shape}"
            )
        variable.assign(value)
