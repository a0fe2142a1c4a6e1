"""Measuring: sides of a comparison run in turn, each time in a process of its own.

A side is a function of a benchmark module that takes keyword arguments and gives figures by
name; it starts its own clock after its imports and a warm-up. What is compared with what is said
in the modules of the subjects.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Figures = Mapping[str, float]
PEAK = "peak_mb"
"""Figure that the harness adds: the largest resident memory of the side's process, megabytes."""
_REPOSITORY = Path(__file__).parents[1]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: `function` is `module:name` below `benchmarks`.

    With `one_core` its process is kept on one core, where the system can do that. `python` is
    the interpreter that runs it, None for this one.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    one_core: bool = True
    python: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table: ours and what is beside it in words, their ratio and its target.

    `at_least` says which way the target lies, if there is one; `n` tells the size of the work.
    """

    work: str
    ours: str
    beside: str
    ratio: float
    target: float | None
    n: str
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the ratio is on the right side of the target, if there is one."""
        if self.target is None:
            return True
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


@dataclass(frozen=True)
class Peers:
    """Other packages for the same work: the interpreter that has them, and their versions."""

    python: str
    versions: Mapping[str, str]

    def named(self, package: str) -> str:
        """The package with its version, for the table."""
        return f"{package} {self.versions[package]}"


@dataclass(frozen=True)
class Bench:
    """How to measure: the folder for data, sizes, repeats, and who is told of progress.

    `real` is the root of an AffectNet release, `fer2013` that of FER2013 as Parquet files.
    """

    data: Path
    photos: int
    rows: int
    repeats: int
    real: Path | None
    fer2013: Path | None
    peers: Peers | None
    tell: Callable[[str], None]

    def medians(self, sides: Mapping[str, Side]) -> dict[str, Figures]:
        """The median of each figure of each side; the sides take turns `repeats` times."""
        found: dict[str, list[Figures]] = {name: [] for name in sides}
        for turn in range(self.repeats):
            for name, side in sides.items():
                self.tell(f"{name}, {turn + 1} of {self.repeats}")
                found[name].append(run_side(side))
        return {
            name: {key: median(turn[key] for turn in turns) for key in turns[0]}
            for name, turns in found.items()
        }

    def times(self, count: int, things: str) -> str:
        """How much was measured, for the last column."""
        return f"{count:,} {things}, {self.repeats}x"


Subject = Callable[[Bench], Iterator[Row]]
"""What a benchmark module offers as `rows`."""


def run_side(side: Side) -> Figures:
    """Run one side in a fresh process; raises RuntimeError with its last words when it fails."""
    order = json.dumps([side.function, dict(side.arguments), side.one_core])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if side.one_core:
        environment |= dict.fromkeys(_THREADS, "1")
    done = subprocess.run(
        [side.python or sys.executable, "-m", "benchmarks.side", order],
        cwd=_REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{side.function} failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def rate(figures: Figures, name: str = "rate", unit: str = "img/s") -> str:
    """A rate for the table."""
    return f"{figures[name]:,.0f} {unit}"


def seconds(figures: Figures, name: str = "seconds") -> str:
    """A time for the table."""
    return f"{figures[name]:.2f} s"


def limited(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """The subjects that are wanted; raises ValueError for one that isn't there."""
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ValueError(f"no benchmark {', '.join(unknown)}: choose from {', '.join(names)}")
    return [name for name in names if not only or name in only]
