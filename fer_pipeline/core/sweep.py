"""A sweep: which variants of a preset are tried, and how they compare.

How a try is trained is in `train.py`; where tries are logged, and which were made already, is
the caller's.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.overrides import OVERRIDABLE, read_overrides, with_overrides
from fer_pipeline.core.presets import Preset

_VOTE_SHARE = "vote_share"


@dataclass(frozen=True)
class Try:
    """One variant: the preset with other values, and the share of votes in its targets."""

    name: str
    """The values as they were given, in the order of their names; "preset" without any."""
    preset: Preset
    vote_share: float


@dataclass(frozen=True)
class Trained:
    """One training of a try and its figures on dev, those of `serving.Served` and the cost."""

    seed: int
    run_id: str
    figures: Mapping[str, float] | None
    """None where the training diverged."""
    was_there: bool
    """Whether an earlier sweep trained it."""


@dataclass(frozen=True)
class Compared:
    """A try with its trainings, one for each seed."""

    tried: Try
    trained: Sequence[Trained] = field(default_factory=tuple)

    @property
    def was_there(self) -> bool:
        """Whether earlier sweeps made all of its trainings."""
        return all(one.was_there for one in self.trained)

    def mean(self, name: str) -> float | None:
        """Mean of a figure over the seeds; None where a training diverged."""
        values = self._values(name)
        return None if values is None else statistics.fmean(values)

    def spread(self, name: str) -> float | None:
        """Standard deviation of a figure over the seeds; None for fewer than two."""
        values = self._values(name)
        return None if values is None or len(values) < 2 else statistics.stdev(values)

    def _values(self, name: str) -> list[float] | None:
        found = [one.figures[name] for one in self.trained if one.figures is not None]
        return found if found and len(found) == len(self.trained) else None


def read_tries(
    words: Sequence[str], preset: Preset, vote_share: float, epochs: int | None = None
) -> list[Try]:
    """The preset as it is, then a try for each word `name=value[,name=value...]`.

    `epochs` sets the length of each try that doesn't set its own. Raises InputError for words
    that are written otherwise, values that don't fit, and tries that come twice.
    """
    if epochs is not None:
        recipe = replace(preset.recipe, min_epochs=epochs, max_epochs=epochs)
        preset = replace(preset, recipe=recipe)
    tries = [Try("preset", preset, vote_share)]
    for word in words:
        given = dict(sorted(read_overrides(word.split(",")).items()))
        name = ",".join(f"{key}={value}" for key, value in given.items())
        share = vote_share
        if _VOTE_SHARE in given:
            share = _share(given.pop(_VOTE_SHARE))
        unknown = [key for key in given if key not in OVERRIDABLE]
        if unknown:
            raise InputError(
                f"--try {word}: {unknown[0]!r} can't be tried, choose from "
                f"{', '.join((*OVERRIDABLE, _VOTE_SHARE))}"
            )
        try:
            changed = with_overrides(preset, given)
        except InputError as error:
            raise InputError(f"--try {word}: {error}") from error
        same = [one.name for one in tries if (one.preset, one.vote_share) == (changed, share)]
        if same:
            raise InputError(f"--try {word} is the same as {same[0]}: leave one of them out")
        tries.append(Try(name, changed, share))
    return tries


def ranked(compared: Sequence[Compared]) -> list[Compared]:
    """Best mean macro-F1 on dev first; what diverged comes last."""

    def worth(one: Compared) -> float:
        mean = one.mean("dev_macro_f1")
        return -1.0 if mean is None else mean

    return sorted(compared, key=worth, reverse=True)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"{_VOTE_SHARE}={text} doesn't fit: it takes a number from 0 to 1")
    return share
