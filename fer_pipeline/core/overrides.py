"""Single values of a preset, replaced by name: `ema=0.99`, `widths=32-64-128`.

Values come as text, from a command line or a settings file, and are checked here against the
type and the range of their field. Which tries a sweep makes of them is in `sweep.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.presets import (
    Augmentation,
    ClassWeighting,
    NetworkShape,
    OptimizerName,
    Preset,
    Recipe,
    Sampling,
)

_PARTS = (Recipe, NetworkShape, Augmentation)
_NAMES: Mapping[str, type] = {
    field.name: part for part in _PARTS for field in fields(part) if field.name != "augmentation"
}
OVERRIDABLE: tuple[str, ...] = tuple(_NAMES)
"""Names of the values that can be replaced: those of recipe, network and augmentation."""


def with_overrides(preset: Preset, given: Mapping[str, str]) -> Preset:
    """`preset` with other values, written as text; unchanged where nothing is given.

    Numbers and names are written as they are, true or false as words, sequences with hyphens
    (32-64-128). Raises InputError with one sentence for an unknown name, a value that its field
    can't have, or values that don't go together.
    """
    changes: dict[type, dict[str, Any]] = {part: {} for part in _PARTS}
    for name, text in given.items():
        if name not in _NAMES:
            raise InputError(
                f"{name!r} is no value of a preset: choose from {', '.join(OVERRIDABLE)}"
            )
        wanted, read = _READERS[name]
        try:
            changes[_NAMES[name]][name] = read(str(text).strip())
        except ValueError:
            raise InputError(f"{name}={text} doesn't fit: {name} takes {wanted}") from None
    recipe = replace(preset.recipe, **changes[Recipe])
    changed = replace(
        preset,
        network=replace(preset.network, **changes[NetworkShape]),
        recipe=replace(recipe, augmentation=replace(recipe.augmentation, **changes[Augmentation])),
    )
    _check_together(changed)
    return changed


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """`name=value` words as a mapping; raises InputError for one that is written otherwise."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value):
            raise InputError(f"{word!r} isn't written as name=value, such as ema=0.99")
        if name in given:
            raise InputError(f"{name} is given twice, {given[name]} and {value}: give it once")
        given[name] = value
    return given


def _check_together(preset: Preset) -> None:
    network, recipe = preset.network, preset.recipe
    if len(network.widths) != len(network.blocks):
        raise InputError(
            f"widths has {len(network.widths)} stages and blocks {len(network.blocks)}: "
            "give both with one number a stage"
        )
    if recipe.min_epochs > recipe.max_epochs:
        raise InputError(
            f"min_epochs {recipe.min_epochs} is more than max_epochs {recipe.max_epochs}: give both"
        )
    if recipe.sampling == "balanced" and recipe.class_weighting != "none":
        raise InputError(
            "sampling=balanced draws every class equally often already: "
            "give class_weighting=none with it"
        )


def _number(
    low: float, high: float = math.inf, *, below: bool = False, above: bool = False
) -> tuple[str, Callable[[str], float]]:
    """A number from `low` (or `above` it) to `high` (or `below` it)."""
    first = f"above {low:g}" if above else f"from {low:g}"
    last = "" if math.isinf(high) else f" to {'below ' if below else ''}{high:g}"

    def read(text: str) -> float:
        value = float(text)
        inside = low <= value <= high and not (above and value == low)
        if not math.isfinite(value) or not inside or (below and value == high):
            raise ValueError(text)
        return value

    return f"a number {first}{last}", read


def _whole(low: int) -> tuple[str, Callable[[str], int]]:
    def read(text: str) -> int:
        value = int(text)
        if value < low:
            raise ValueError(text)
        return value

    return f"a whole number from {low}", read


def _sequence(low: int) -> tuple[str, Callable[[str], tuple[int, ...]]]:
    _, one = _whole(low)

    def read(text: str) -> tuple[int, ...]:
        return tuple(one(part) for part in text.split("-"))

    return f"whole numbers from {low} with hyphens, such as 32-64-128", read


def _truth() -> tuple[str, Callable[[str], bool]]:
    def read(text: str) -> bool:
        if text.lower() not in {"true", "false"}:
            raise ValueError(text)
        return text.lower() == "true"

    return "true or false", read


def _word(choices: Any) -> tuple[str, Callable[[str], str]]:
    words = get_args(choices)

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return f"one of {', '.join(words)}", read


_SHARE = _number(0, 1)
_READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "batch_size": _whole(1),
    "learning_rate": _number(0, above=True),
    "warmup": _number(0, 1, below=True, above=True),
    "weight_decay": _number(0),
    "label_smoothing": _number(0, 1, below=True),
    "class_weighting": _word(ClassWeighting),
    "target_steps": _whole(1),
    "min_epochs": _whole(1),
    "max_epochs": _whole(1),
    "patience": _whole(1),
    "optimizer": _word(OptimizerName),
    "ema": _number(0, 1, below=True),
    "sampling": _word(Sampling),
    "prior_correction": _truth(),
    "mixup": _number(0),
    "flip_at_test": _truth(),
    "stem_kernel": _whole(1),
    "stem_stride": _whole(1),
    "widths": _sequence(1),
    "blocks": _sequence(1),
    "dropout": _number(0, 1, below=True),
    "flip": _truth(),
    "rotation": _number(0, 180),
    "shift": _SHARE,
    "scale": _number(0, 1, below=True),
    "brightness": _SHARE,
    "contrast": _SHARE,
    "erasing": _SHARE,
}
