"""What steps say of their progress in the run's log, and how the command line reads it there.

The log is the one channel that every executor has, on this machine or on another.
"""

import re
from dataclasses import dataclass, field
from typing import Self

ALL_SHARDS = "all shards:"
"""Begins a line on the whole of the crops, for those who read the log alone."""
_PLANNED = re.compile(r"^crops: ([\d,]+) faces in ([\d,]+) shards?, ([\d,]+) done before$")
_SHARD = re.compile(r"^shard (\d+): ([\d,]+) of ([\d,]+) faces \(\d+%\), ([\d,]+) faces/s$")


def _number(text: str) -> int:
    return int(text.replace(",", ""))


@dataclass(frozen=True)
class CropsPlanned:
    """What there is to crop: faces, those whose shard is there already, and shards."""

    faces: int
    done: int
    shards: int

    def __str__(self) -> str:
        """The line in the log."""
        shards = f"{self.shards:,} shard{'s' if self.shards != 1 else ''}"
        return f"crops: {self.faces:,} faces in {shards}, {self.done:,} done before"

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """The other way round; None for any other line."""
        found = _PLANNED.match(line)
        if found is None:
            return None
        faces, shards, done = map(_number, found.groups())
        return cls(faces, done, shards)


@dataclass(frozen=True)
class ShardProgress:
    """Faces done and to do of one shard; `rate` is faces made a second."""

    shard: int
    done: int
    faces: int
    rate: float

    def __str__(self) -> str:
        """The line in the log."""
        share = self.done / max(1, self.faces)
        return (
            f"shard {self.shard}: {self.done:,} of {self.faces:,} faces ({share:.0%}), "
            f"{self.rate:,.0f} faces/s"
        )

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """The other way round; None for any other line."""
        found = _SHARD.match(line)
        return cls(*map(_number, found.groups())) if found is not None else None


@dataclass
class CropMeter:
    """Sums up, from the lines of all workers, how far the crops of a run are."""

    faces: int = 0
    _begun: float = 0.0
    _now: float = 0.0
    _shards: dict[int, ShardProgress] = field(default_factory=dict)

    def take(self, line: str, seconds: float) -> bool:
        """Note a line of the log, written at `seconds`; False when it isn't about crops."""
        planned, shard = CropsPlanned.parse(line), ShardProgress.parse(line)
        if planned is not None:
            self.faces, self._begun = planned.faces, seconds
        elif shard is not None:
            self._shards[shard.shard] = shard
        else:
            return line.startswith(ALL_SHARDS)
        self._now = seconds
        return True

    @property
    def done(self) -> int:
        """Faces that have a status, whether made now or before."""
        return sum(shard.done for shard in self._shards.values())

    def __str__(self) -> str:
        """Faces a second and time left; empty before the first face is made."""
        made = sum(shard.done for shard in self._shards.values() if shard.rate)
        elapsed = self._now - self._begun
        if not made or elapsed <= 0:
            return ""
        left = round((self.faces - self.done) * elapsed / made)
        return f"{made / elapsed:,.0f} faces/s, {left // 60}:{left % 60:02d} left"
