"""Faces of concurrent requests through the network together.

One thread gathers the pictures that are ready within a moment; what they hold comes prepared from
`work.py`.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from fer_pipeline.core.recogniser import PreparedPicture, Reading

_FACES = 64
_MOMENT = 0.002
"""Seconds that a picture waits for others; the network needs about as long for a face."""

_Waiting = tuple[PreparedPicture, "Future[Reading]"]


class Batcher:
    """Recognises pictures in batches, in the order in which they come."""

    def __init__(
        self,
        recognise: Callable[[Sequence[PreparedPicture]], Sequence[Reading]],
        faces: int = _FACES,
    ) -> None:
        """Start the thread; `recognise` gets pictures of at most `faces` faces in all, or one."""
        self._recognise, self._faces = recognise, faces
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="fer-batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether pictures are recognised."""
        return self._thread.is_alive()

    def submit(self, picture: PreparedPicture) -> "Future[Reading]":
        """The reading of a picture, when it is there."""
        future: Future[Reading] = Future()
        self._waiting.put((picture, future))
        return future

    def close(self) -> None:
        """End the thread, once it has recognised what was submitted."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        first = self._waiting.get()
        while first is not None:
            batch, first = self._gathered(first)
            wanted = [one for one in batch if one[1].set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)
            if first is None and not self._ended:
                first = self._waiting.get()

    def _gathered(self, first: _Waiting) -> tuple[list[_Waiting], _Waiting | None]:
        """A batch, and the picture that didn't go into it any more."""
        batch, faces = [first], len(first[0].faces)
        end = time.monotonic() + _MOMENT
        while faces < self._faces:
            try:
                one = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if one is None:
                self._ended = True
                break
            if faces + len(one[0].faces) > self._faces:
                return batch, one
            batch.append(one)
            faces += len(one[0].faces)
        return batch, None

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            readings = self._recognise([picture for picture, _ in batch])
            answers = list(zip((future for _, future in batch), readings, strict=True))
        except Exception as error:  # noqa: BLE001 - it goes to everybody who waits for the batch
            for _, future in batch:
                future.set_exception(error)
            return
        for future, reading in answers:
            future.set_result(reading)
