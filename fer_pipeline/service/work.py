"""The work on pictures: threads that decode, find and crop, and batches through the network.

Requests come here with their body read; what is refused before stands in `app.py`.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from fer_pipeline.core.recogniser import PreparedPicture, Reading, Recogniser
from fer_pipeline.service.batches import Batcher
from fer_pipeline.service.bodies import Asked
from fer_pipeline.service.limits import Limits
from fer_pipeline.service.metrics import Metrics
from fer_pipeline.service.room import Place

T = TypeVar("T")


@dataclass(frozen=True)
class Read:
    """What was seen in a picture, and how many smaller faces were left out."""

    reading: Reading
    left_out: int


class Work:
    """Reads pictures with one model; started once, closed once."""

    def __init__(
        self, recogniser: Recogniser, limits: Limits, metrics: Metrics, threads: int | None
    ) -> None:
        """Start the threads; None: one for each core decodes and crops."""
        self._recogniser = recogniser.within(limits.bounds)
        self._limits, self.metrics = limits, metrics
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, "fer-pictures")
        self._batcher = Batcher(self._recognised)

    @property
    def ready(self) -> bool:
        """Whether pictures are read."""
        return self._batcher.alive

    @property
    def recogniser(self) -> Recogniser:
        """The model, within the bounds of the service."""
        return self._recogniser

    def submit(self, step: Callable[[], T]) -> "Future[T]":
        """Do a step of longer work in one of the threads, in turn with pictures."""
        return self._pool.submit(step)

    def close(self) -> None:
        """End the threads, once they have done what was asked."""
        self._pool.shutdown()
        self._batcher.close()

    async def read(self, asked: Callable[[], Asked], place: Place) -> Read:
        """Read a picture; what `asked` gives is worked out in a thread, too.

        The place is kept until that thread is done. Raises UnreadableError, and what `asked`
        raises.
        """
        first = self._pool.submit(self._prepared, asked)
        place.keep_for(first)
        prepared, left_out = await asyncio.wrap_future(first)
        reading = await asyncio.wrap_future(self._batcher.submit(prepared))
        self.metrics.count_faces(reading.faces)
        return Read(reading, left_out)

    def _prepared(self, make: Callable[[], Asked]) -> tuple[PreparedPicture, int]:
        asked = make()
        found = self._recogniser.prepare(
            asked.image, boxes=asked.boxes, whole=asked.whole, small=asked.small
        )
        kept = replace(found, faces=found.faces[: self._limits.faces])
        return kept, len(found.faces) - len(kept.faces)

    def _recognised(self, pictures: Sequence[PreparedPicture]) -> list[Reading]:
        self.metrics.batches.observe(sum(len(picture.faces) for picture in pictures))
        return self._recogniser.recognise(pictures)
