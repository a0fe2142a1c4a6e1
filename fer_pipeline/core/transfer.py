"""Transfer: the weights of a trained model as the start of another one, layer by layer.

Any `.keras` file will do; of a model of this pipeline the outputs are matched by class name.
Where training starts from them is decided in `train.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, read_card
from fer_pipeline.core.network import bare_network
from fer_pipeline.core.presets import NetworkShape


@dataclass(frozen=True)
class Source:
    """A model to take weights from."""

    name: str
    """What the user calls it, for messages."""
    model: Any
    """`keras.Model`."""
    classes: tuple[str, ...] | None
    """The classes of its outputs in order, None where its file doesn't say."""
    options: str | None = None
    """The options of a run that build its network, None where its file doesn't say."""


@dataclass(frozen=True)
class Transferred:
    """How many numbers were taken, of how many, and the classes whose output came with them."""

    weights: int
    of: int
    classes: tuple[str, ...]

    def __str__(self) -> str:
        """In words."""
        heads = f", outputs of {', '.join(self.classes)}" if self.classes else ", a new head"
        share = self.weights / self.of
        return f"{self.weights:,} of {self.of:,} weights ({share:.0%}){heads}"


def open_source(path: Path, name: str) -> Source:
    """The model in a `.keras` file, of this pipeline or another; `name` is for messages.

    Raises InputError when it can't be loaded.
    """
    import keras

    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{name} can't be loaded as a Keras model to start from: give a .keras file ({error})"
        ) from error
    try:
        card = read_card(path)
        return Source(name, bare_network(model), card.classes, _network_options(card))
    except InputError:
        return Source(name, model, None)


def take_weights(model: Any, source: Source, classes: Sequence[str]) -> Transferred:
    """Put the weights of `source` that fit into `model`, a built network of `classes`.

    Layers with weights are compared in order: of the kind and the shapes of their weights, the
    matching runs are taken (longest first, as in comparing two texts). Of the head the columns
    of classes that both know are taken where it sees as many features. All else stays.

    Raises InputError when nothing fits.
    """
    body, head = _split(bare_network(model))
    other, other_head = _split(source.model)
    ours, theirs = ([_signature(layer) for layer in layers] for layers in (body, other))
    taken = 0
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    for start, at, size in matcher.get_matching_blocks():
        for number in range(size):
            weights = other[start + number].get_weights()
            body[at + number].set_weights(weights)
            taken += sum(int(weight.size) for weight in weights)
    known = _take_head(head, other_head, classes, source.classes)
    if known:
        taken += len(known) * (head.kernel.shape[0] + 1)
    if not taken:
        same = "its own network" if source.options is None else f"its own ({source.options})"
        raise InputError(
            f"No layer of {source.name} fits the network that is to be trained: train {same}, or "
            "start from another model, or from none"
        )
    return Transferred(taken, int(model.count_params()), known)


def _network_options(card: ModelCard) -> str | None:
    """The options that made the network of a model of this pipeline, if its card has them."""
    preset = card.trained_on.get("preset")
    if preset is None:
        return None
    overrides = card.trained_on.get("recipe_overrides") or {}
    names = [field.name for field in fields(NetworkShape) if field.name in overrides]
    return " ".join([f"--preset {preset}", *(f"--set {name}={overrides[name]}" for name in names)])


def _split(model: Any) -> tuple[list[Any], Any]:
    """The layers with weights in order, and apart from them the last one where it is dense."""
    from keras import layers

    found = list(_with_weights(model))
    if found and isinstance(found[-1], layers.Dense):
        return found[:-1], found[-1]
    return found, None


def _with_weights(layer: Any) -> Iterator[Any]:
    inside = getattr(layer, "layers", None)
    if inside is None:
        if layer.weights:
            yield layer
        return
    for each in inside:
        yield from _with_weights(each)


def _signature(layer: Any) -> tuple[str, ...]:
    shapes = [str(tuple(weight.shape)) for weight in layer.weights]
    return (type(layer).__name__, *shapes)


def _take_head(
    head: Any, other: Any, classes: Sequence[str], known: Sequence[str] | None
) -> tuple[str, ...]:
    """Fill the columns of `head` for the classes that both know; give these classes."""
    if other is None or known is None or not other.use_bias:
        return ()
    theirs, their_bias = other.get_weights()
    kernel, bias = head.get_weights()
    if theirs.shape[0] != kernel.shape[0] or theirs.shape[1] != len(known):
        return ()
    column: Mapping[str, int] = {name: number for number, name in enumerate(known)}
    shared = tuple(name for name in classes if name in column)
    if shared:
        ours = [list(classes).index(name) for name in shared]
        from_there = [column[name] for name in shared]
        kernel, bias = np.array(kernel), np.array(bias)
        kernel[:, ours], bias[ours] = theirs[:, from_there], their_bias[from_there]
        head.set_weights([kernel, bias])
    return shared
