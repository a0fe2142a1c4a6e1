"""Videos and cameras, frame by frame, through OpenCV's VideoCapture.

How videos are written is in `video_writing.py`; which frames are taken while time goes on, in
`live.py`.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.bounds import DEFAULT_BOUNDS, TooLargeError, UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.mp4 import mp4_seconds

VIDEOS = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"),
        *(".mts", ".m2ts", ".3gp", ".ogv"),
    ]
)
"""Suffixes by which a file is taken for a video. Not .ts: most such files are TypeScript."""
USUAL_RATE = 25.0
"""Frames a second where a video or camera doesn't say."""

_FASTEST_RATE = 1000.0
_CAMERAS = 100
_CLOSE = 1e-6
"""Seconds by which a frame may be early: its time stamp was rounded."""
_START = 512
"""Bytes at a file's start that tell text from video."""
_LISTS = (b"#EXTM3U", b"ffconcat")
"""What playlists begin with, whatever follows."""


def is_video(path: str | Path) -> bool:
    """Whether a file is named like a video; its content isn't looked at."""
    return Path(path).suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 0, its time in seconds from the start, and its pixels.

    `pixels` is uint8 BGR (height, width, 3), upright.
    """

    number: int
    seconds: float
    pixels: NDArray[np.uint8]


class Video:
    """A video file or a camera that is open: a context manager, and iterable once."""

    def __init__(self, name: str, capture: Any, *, camera: bool, seconds: float | None) -> None:
        """Read from `capture`, a `cv2.VideoCapture` that is open; see `open_video`.

        `seconds` is the video's length as its container has it, None where that isn't known.
        Raises InputError for frames beyond the bounds of pictures.
        """
        import cv2

        self.name = name
        self.camera = camera
        """Whether its frames come as time goes on and never end by themselves."""
        self.bounds = DEFAULT_BOUNDS
        """What frames may be that are larger than the first ones."""
        self._capture = capture
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        """Size of the upright frames in pixels."""
        try:
            self.bounds.check_size(self.width, self.height, 3)
        except UnreadableError as error:
            raise InputError(f"{name} can't be read: {error}") from error
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 0 < rate <= _FASTEST_RATE else None
        """Frames a second on average, None where it isn't known."""
        count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        known = not camera and math.isfinite(count) and count > 0 and self.fps is not None
        lengths = [] if seconds is None else [seconds]
        if known and self.fps is not None:
            lengths.append(count / self.fps)
        # Frames that an edit list leaves out are counted, and sound may go on after them.
        self.seconds = min(lengths) if known else None
        """How long it is, None where it isn't known."""
        self.frames = round(self.seconds * self.fps) if self.seconds and self.fps else None
        """How many frames it has, None where it isn't known."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames that are left, in order, all of one size; the first one of a file is at 0.

        Raises UnreadableError after the last frame of a video that ends before its container
        says, or of a camera that gives no more, and before a frame beyond the bounds.
        """
        import cv2

        step = 1 / (self.fps or USUAL_RATE)
        began = time.perf_counter()
        seconds, number, late = -step, 0, 0.0
        while True:
            read, pixels = self._capture.read()
            if not read or pixels is None:
                break
            if pixels.shape[:2] != (self.height, self.width):
                # Recordings of calls and broadcasts change their size as they go. Where OpenCV
                # itself scales the later frames to the first ones' size, none is seen here.
                self._check_size(*pixels.shape[1::-1])
                pixels = cv2.resize(pixels, (self.width, self.height))
            if self.camera:
                seconds = time.perf_counter() - began
            else:
                said = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
                late = self._late() if number == 0 else late
                # Streams without time stamps say 0 for each frame.
                seconds = said if number == 0 or said > seconds else seconds + step
            yield Frame(number, seconds, np.asarray(pixels, np.uint8))
            number += 1
        if self.camera:
            raise UnreadableError(f"{self.name} gives no more frames")
        if not number:
            raise UnreadableError(f"{self.name} holds no frame that can be read")
        if self.seconds is not None:
            end = seconds + step
            # The container's length has the time before the first picture in it.
            if self.seconds - late - end > max(0.5, 0.02 * self.seconds):
                raise UnreadableError(
                    f"{self.name} breaks off after {end:.1f} of {self.seconds:.1f} seconds"
                )

    def _check_size(self, width: int, height: int) -> None:
        try:
            self.bounds.check_size(width, height, 3)
        except TooLargeError as error:
            raise TooLargeError(f"{self.name} goes on with frames of {error}") from error

    def _late(self) -> float:
        """Seconds of the container before the picture that was read first; 0 where unknown."""
        import cv2

        late = float(self._capture.get(cv2.CAP_PROP_PTS)) / (self.fps or USUAL_RATE)
        # The clock of a recorded broadcast may have begun long before.
        return late if self.seconds is not None and 0 < late < self.seconds else 0.0

    def close(self) -> None:
        """Let go of the file or camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        """Be closed at the end of the block."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close, whatever happened."""
        self.close()


def open_video(path: str | Path) -> Video:
    """The video in a file; to be closed, as by `with`.

    Frames are turned upright as the file's rotation says. Raises InputError for a file that isn't
    there, is empty, or can't be read as a video. Playlists, which name other files and addresses,
    are refused.
    """
    import cv2

    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file"
        raise InputError(f"{path} {what}: give the path of a video")
    try:
        with path.open("rb") as opened:
            start = opened.read(_START)
            seconds = mp4_seconds(opened)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    if not start:
        raise InputError(f"{path} is empty: give the path of a video")
    if _is_text(start):
        raise InputError(f"{path} is a text file: give the path of a video")
    with _quiet():
        # A relative path could be read as an address; other backends read lists of pictures.
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(
            f"{path} can't be read as a video: it is none, it is damaged or cut short, or OpenCV "
            "has no decoder for it"
        )
    return Video(str(path), capture, camera=False, seconds=seconds)


def spaced(frames: Iterable[Frame], every: float) -> Iterator[Frame]:
    """The first frame, and the first one of each later span of `every` seconds; 0: each frame."""
    due = -math.inf
    for frame in frames:
        seconds = frame.seconds + _CLOSE
        if seconds < due:
            continue
        if every:
            due = every * (seconds // every + 1)
        yield frame


def open_camera(number: int) -> Video:
    """The camera `number`, counted from 0; to be closed, as by `with`.

    Raises InputError when there is none, or another program has it.
    """
    import cv2

    with _quiet():
        # From 100 on, OpenCV takes a number for that of a backend with a camera.
        capture = cv2.VideoCapture(number) if number < _CAMERAS else cv2.VideoCapture()
        opened = capture.isOpened() and capture.grab()
    if not opened:
        capture.release()
        raise InputError(
            f"there is no camera {number}, or another program uses it: give another number or the "
            "path of a video"
        )
    # One frame in the driver's queue: what waited there would be old when it is read.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return Video(f"camera {number}", capture, camera=True, seconds=None)


def _is_text(start: bytes) -> bool:
    """Whether a file begins as a list or with printable text only, as no video format does."""
    printable = all(byte in b"\t\n\f\r" or 32 <= byte < 127 for byte in start)
    return printable or start.startswith(_LISTS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing on the terminal what an exception says better."""
    import cv2

    # Read once, when the first video is opened; -8 is FFmpeg's number for silence.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
