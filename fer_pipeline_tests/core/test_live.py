"""Frames taken as time goes on: which are dropped, which are answered, and how fast."""

import threading
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_pipeline.core.bounds import UnreadableError
from fer_pipeline.core.crop import Status
from fer_pipeline.core.live import Answer, EveryFrame, Figures, NewestFrames, answers
from fer_pipeline.core.recogniser import Face
from fer_pipeline.core.tracks import FaceTracks
from fer_pipeline.core.video import Frame

HAPPY = Face((4, 4, 9, 9), None, 0.9, Status.OK, "Happiness", {"Happiness": 0.75, "Anger": 0.25})


class Film:
    """Stands for a video of frames of noise; a camera's come as time goes on."""

    def __init__(
        self, count: int, rate: float, *, camera: bool = False, breaks: bool = False
    ) -> None:
        self.count, self.rate, self.camera, self.breaks = count, rate, camera, breaks

    def __iter__(self) -> Iterator[Frame]:
        began = time.perf_counter()
        for number in range(self.count):
            seconds = number / self.rate
            if self.camera:
                time.sleep(max(0, began + seconds - time.perf_counter()))
            yield Frame(number, seconds, np.full((48, 64, 3), number % 256, np.uint8))
        if self.breaks:
            raise UnreadableError("the film breaks off")


class Reader:
    """Stands for a recogniser that takes its time and keeps what it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.given: list[dict[str, Any]] = []

    def read(self, image: NDArray[np.uint8], **options: Any) -> list[Face]:
        self.given.append({"mean": image.mean(), **options})
        time.sleep(self.seconds)
        return [HAPPY]


def _answered(
    frames: NewestFrames | EveryFrame, reader: Reader
) -> tuple[list[Answer], list[float]]:
    """The answers, and how old each frame was when its answer came, by the film's own clock."""
    began = time.perf_counter()
    found, ages = [], []
    for answer in answers(frames, reader, FaceTracks()):
        ages.append(time.perf_counter() - began - answer.frame.seconds)
        found.append(answer)
    return found, ages


@pytest.mark.parametrize("camera", [True, False])
def test_frames_are_dropped_where_answers_take_longer_than_a_frame(camera: bool) -> None:
    film = Film(100, rate=100, camera=camera)
    frames = NewestFrames(film, threading.Event())  # type: ignore[arg-type]
    found, ages = _answered(frames, Reader(seconds=0.05))
    assert len(found) + frames.dropped == 100
    assert 5 <= len(found) <= 21
    numbers = [answer.frame.number for answer in found]
    assert all(later > earlier for earlier, later in pairwise(numbers))
    # Answers stay fresh: what was late would be later with each frame, up to four seconds.
    assert np.median(ages) < 0.3
    assert all(answer.latency >= 0.05 for answer in found)


def test_frames_of_a_file_come_no_faster_than_it_plays() -> None:
    began = time.perf_counter()
    frames = NewestFrames(Film(20, rate=50), threading.Event())  # type: ignore[arg-type]
    found, _ = _answered(frames, Reader())
    assert time.perf_counter() - began >= 19 / 50
    assert len(found) + frames.dropped == 20
    assert len(found) > 3


def test_every_frame_is_answered_however_long_that_takes() -> None:
    frames = EveryFrame(Film(30, rate=1000), threading.Event())  # type: ignore[arg-type]
    reader = Reader(seconds=0.005)
    found, _ = _answered(frames, reader)
    assert [answer.frame.number for answer in found] == list(range(30))
    assert [given["mean"] for given in reader.given] == list(range(30))
    assert frames.dropped == 0
    assert reader.given[0].items() >= {"order": "bgr", "whole": False, "small": False}.items()
    assert {answer.faces[0].track for answer in found} == {1}


@pytest.mark.parametrize("kind", [NewestFrames, EveryFrame])
def test_frames_end_soon_once_that_is_asked_for(kind: type[NewestFrames | EveryFrame]) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.perf_counter()
    film = Film(10_000, rate=20, camera=kind is EveryFrame)
    found, _ = _answered(kind(film, stop), Reader())  # type: ignore[arg-type]
    assert found
    assert time.perf_counter() - began < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grab")]


@pytest.mark.parametrize("kind", [NewestFrames, EveryFrame])
def test_film_that_breaks_off_says_so_after_its_last_frame(
    kind: type[NewestFrames | EveryFrame],
) -> None:
    numbers = []
    frames = kind(Film(5, rate=20, breaks=True), threading.Event())  # type: ignore[arg-type]
    with pytest.raises(UnreadableError, match="the film breaks off"):
        numbers.extend(answer.frame.number for answer in answers(frames, Reader(), FaceTracks()))
    assert numbers[-1] == 4


def _answer(milliseconds: float) -> Answer:
    return Answer(Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8)), (), milliseconds / 1000)


def test_share_of_answers_within_a_latency_is_known() -> None:
    figures = Figures()
    assert (figures.fps, figures.latency(0.5)) == (0, None)
    for milliseconds in np.random.default_rng(1).permutation(100) + 1.0:
        figures.add(_answer(milliseconds))
    assert figures.latency(0.5) == 50
    assert figures.latency(0.95) == 95
    assert figures.latency(1.0) == 100


def test_memory_stays_flat_over_many_frames() -> None:
    figures, sizes = Figures(), []
    frames = EveryFrame(Film(3000, rate=25), threading.Event())  # type: ignore[arg-type]

    class Silent(Reader):
        def read(self, image: NDArray[np.uint8], **_options: Any) -> list[Face]:
            return [HAPPY] if image[0, 0, 0] % 50 else []

    tracemalloc.start()
    try:
        for answer in answers(frames, Silent(), FaceTracks(patience=0.01)):
            figures.add(answer)
            if answer.frame.number in (1000, 2999):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert figures.frames == 3000
    assert sizes[1] - sizes[0] < 50_000
