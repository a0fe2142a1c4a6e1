"""The state of an unfinished training in one file, so that another process goes on from it.

What the state consists of is the business of `learner.py` and `train.py`.
"""

import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import published

SECONDS_BETWEEN_STATES = 60.0
"""How much of a training a killed process loses at most, beside the epoch that was under way."""
_FACTS = "facts"


@dataclass(frozen=True)
class Progress:
    """How far a training has come, beside the arrays of its learner."""

    history: Sequence[Mapping[str, Any]]
    """The epochs so far, each as `dataclasses.asdict` gives an `EpochResult`."""
    stopped: str | None
    """What ended training, see `train.Stopped`; None while it goes on."""
    step: int
    elapsed: float
    """Seconds that the training took, in all its processes."""


class Checkpoint:
    """The file of one training; `of` tells that training from others, as plain values by name."""

    def __init__(self, path: Path, of: Mapping[str, Any], every: float = 0.0) -> None:
        """Use `path`, which need not be there; at least `every` seconds pass between two states."""
        self._path = path
        self._of = dict(of)
        self._every = every
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last state is old enough for the next one."""
        return time.monotonic() - self._saved >= self._every

    def save(self, arrays: Mapping[str, NDArray[Any]], progress: Progress) -> None:
        """Put this state in the place of the one before, whole or not at all."""
        facts = json.dumps({"of": self._of, **asdict(progress)})
        parts: dict[str, Any] = {_FACTS: np.array(facts), **arrays}
        with published(self._path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **parts)
        self._saved = time.monotonic()

    def forget(self) -> None:
        """Remove what was saved, if anything was."""
        self._path.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, NDArray[Any]], Progress] | None:
        """What was saved last; None when nothing was.

        Raises InputError when the file is damaged or belongs to another training.
        """
        if not self._path.is_file():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            facts = json.loads(str(arrays.pop(_FACTS)))
            of = facts.pop("of")
            progress = Progress(**facts)
        except (OSError, zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{self._path}, from which training would go on, is damaged: train from the "
                "start (--fresh)"
            ) from error
        other = [name for name in self._of if of.get(name) != self._of[name]]
        if other:
            was = ", ".join(f"{name} {of.get(name)}, now {self._of[name]}" for name in other)
            raise InputError(
                f"{self._path} holds the beginning of another training ({was}): go on with what "
                "it was begun with, or train from the start (--fresh)"
            )
        return arrays, progress
