"""Faces read while time goes on: frames are dropped rather than answered late.

Where frames come from is in `video.py`, how faces are joined over frames in `tracks.py`; what is
shown and written of the answers is the business of the command.
"""

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.recogniser import Face, Order
from fer_pipeline.core.tracks import FaceTracks, TrackedFace
from fer_pipeline.core.video import Frame, Video

_LOOK_UP = 0.1
"""Seconds after which a wait looks whether it is to end."""


class ReadsFaces(Protocol):
    """What is needed of a `Recogniser`."""

    def read(
        self, image: NDArray[np.uint8], *, order: Order, whole: bool, small: bool
    ) -> list[Face]:
        """The faces of a picture, see `Recogniser.read`."""


@dataclass(frozen=True)
class Grabbed:
    """A frame and when it was there, in seconds of `time.perf_counter`."""

    frame: Frame
    at: float


@dataclass(frozen=True)
class Answer:
    """A frame, its faces largest first, and how long it took from the one to the other."""

    frame: Frame
    faces: tuple[TrackedFace, ...]
    latency: float
    """Seconds from when the frame was there until its faces were known."""


class EveryFrame:
    """All frames of a video, as fast as they are taken; ends early once `stop` is set."""

    dropped = 0

    def __init__(self, video: Video, stop: threading.Event) -> None:
        """Take the frames that `video` has left."""
        self._video = video
        self._stop = stop

    def __iter__(self) -> Iterator[Grabbed]:
        """The frames in order; raises what iterating the video raises."""
        for frame in self._video:
            yield Grabbed(frame, time.perf_counter())
            if self._stop.is_set():
                return


class NewestFrames:
    """The newest frame of a camera, or of a file that plays at its own speed, when it is taken.

    A thread takes frames as they come; those that a newer one replaced are counted in `dropped`.
    Ends early once `stop` is set.
    """

    def __init__(self, video: Video, stop: threading.Event) -> None:
        """Take the frames that `video` has left."""
        self._video = video
        self._stop = stop
        self._changed = threading.Condition()
        self._newest: Grabbed | None = None
        self._ended = False
        self.dropped = 0

    def __iter__(self) -> Iterator[Grabbed]:
        """The newest frames, each once; raises what iterating the video raises."""
        with ThreadPoolExecutor(1, thread_name_prefix="grab") as pool:
            grabbing = pool.submit(self._grab)
            try:
                while (grabbed := self._taken()) is not None:
                    yield grabbed
            finally:
                self._stop.set()
            grabbing.result()

    def _taken(self) -> Grabbed | None:
        """The newest frame, waited for; None at the end."""
        with self._changed:
            while self._newest is None and not self._ended and not self._stop.is_set():
                self._changed.wait(_LOOK_UP)
            grabbed, self._newest = self._newest, None
            return None if self._stop.is_set() else grabbed

    def _grab(self) -> None:
        began = time.perf_counter()
        try:
            for frame in self._video:
                early = began + frame.seconds - time.perf_counter()
                if not self._video.camera and early > 0:
                    self._stop.wait(early)
                if self._stop.is_set():
                    break
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = Grabbed(frame, time.perf_counter())
                    self._changed.notify()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


def answers(
    frames: Iterable[Grabbed], recogniser: ReadsFaces, tracks: FaceTracks
) -> Generator[Answer, None, None]:
    """The faces of each frame, joined to tracks; raises what iterating the frames raises."""
    for grabbed in frames:
        frame = grabbed.frame
        # Small faces behind large ones would cost three times as much, and tell little.
        faces = recogniser.read(frame.pixels, order="bgr", whole=False, small=False)
        tracked = tuple(tracks.update(faces, frame.seconds))
        yield Answer(frame, tracked, time.perf_counter() - grabbed.at)


@dataclass
class Figures:
    """What is counted while answers come; its size doesn't grow with their number."""

    frames: int = 0
    faces: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """Faces by their smoothed label."""
    began: float | None = None
    ended: float = 0.0
    _latencies: Counter[int] = field(default_factory=Counter)
    """Answers by tenths of a millisecond."""

    def add(self, answer: Answer) -> None:
        """Count an answer that came just now."""
        self.ended = time.perf_counter()
        if self.began is None:
            self.began = self.ended - answer.latency
        self.frames += 1
        self.faces += len(answer.faces)
        self.labels.update(one.face.label for one in answer.faces if one.face.label is not None)
        self._latencies[round(answer.latency * 10_000)] += 1

    def line(self, answer: Answer, dropped: int) -> str:
        """How it goes, after `answer`, in one line for people."""
        faces = ", ".join(
            f"face {one.track}: {one.face.label} {one.face.probabilities[one.face.label]:.0%}"
            for one in answer.faces
            if one.face.label is not None and one.face.probabilities is not None
        )
        return (
            f"{answer.frame.seconds:.1f} s, {self.fps:.1f} frames a second, "
            f"{1000 * answer.latency:.0f} ms, {dropped:,} dropped; {faces or 'no face'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; latencies in milliseconds, None where no frame was answered."""
        return {
            "frames": self.frames,
            "fps": round(self.fps, 2),
            "latency_ms_p50": self.latency(0.5),
            "latency_ms_p95": self.latency(0.95),
            "faces": self.faces,
            "labels": dict(self.labels.most_common()),
        }

    @property
    def fps(self) -> float:
        """Answered frames a second, 0 before there is one."""
        took = 0.0 if self.began is None else self.ended - self.began
        return self.frames / took if took > 0 else 0.0

    def latency(self, share: float) -> float | None:
        """Milliseconds that this share of the answers took at most; None before there is one."""
        left = share * self.frames
        for tenths in sorted(self._latencies):
            left -= self._latencies[tenths]
            if left <= 0:
                return tenths / 10
        return None
