"""Room for requests: how many are under way at once, and how many bytes they hold together."""

import threading
from concurrent.futures import Future
from typing import Any, Self

from fer_pipeline.service.limits import Limits


class FullError(Exception):
    """There is no room for another request now; the message says of what there is too much."""


class Room:
    """Counts what is under way; shared by the event loop and the threads that work."""

    def __init__(self, limits: Limits) -> None:
        """An empty room of this size."""
        self._limits = limits
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0

    @property
    def requests(self) -> int:
        """Requests that wait or are worked on."""
        return self._requests

    def enter(self) -> "Place":
        """A place for one request; raises FullError when all are taken."""
        with self._lock:
            if self._requests >= self._limits.waiting:
                raise FullError(f"{self._requests} requests are under way already")
            self._requests += 1
        return Place(self)

    def _hold(self, size: int) -> None:
        with self._lock:
            if self._bytes + size > self._limits.held_bytes:
                raise FullError(f"requests under way hold {self._bytes:,} bytes already")
            self._bytes += size

    def _leave(self, size: int) -> None:
        with self._lock:
            self._requests -= 1
            self._bytes -= size


class Place:
    """One request's place; it is left at the end of the block, or of work that it was kept for."""

    def __init__(self, room: Room) -> None:
        """Taken by `Room.enter`."""
        self._room = room
        self._bytes = 0
        self._work: Future[Any] | None = None

    def hold(self, size: int) -> None:
        """Count `size` more bytes; raises FullError when all hold too many."""
        self._room._hold(size)
        self._bytes += size

    def keep_for(self, work: "Future[Any]") -> None:
        """Keep the place until this work has ended: a thread that has begun can't be stopped."""
        self._work = work

    def __enter__(self) -> Self:
        """The place itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave, or leave later."""
        if self._work is None:
            self._room._leave(self._bytes)
        else:
            self._work.add_done_callback(lambda _: self._room._leave(self._bytes))
