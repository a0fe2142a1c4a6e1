"""Short videos of drawn faces for the tests, written with OpenCV."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.drawing import draw_group

WIDTH, HEIGHT, RATE = 320, 240, 25.0
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


def drawn_frames(count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[NDArray[np.uint8]]:
    """Frames, BGR, of a drawn face that moves to and fro; a red square marks the upper left."""
    image, _ = draw_group(np.random.default_rng(3), ("Happiness",), size=size)
    frames = []
    for number in range(count):
        frame = np.roll(image, round(8 * np.sin(number / 5)), axis=1)[:, :, ::-1].copy()
        frame[:40, :40] = (0, 0, 255)
        frames.append(frame)
    return frames


def write_film(path: Path, count: int = 50) -> Path:
    """A video of drawn frames, 25 a second."""
    import cv2

    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, RATE, (WIDTH, HEIGHT))
    for frame in drawn_frames(count):
        writer.write(frame)
    writer.release()
    return path


class Capture:
    """Stands for a `cv2.VideoCapture` that gives frames, each with its time; 10 frames a second."""

    def __init__(self, frames: list[tuple[float, np.ndarray]], count: float = 0, first: float = 0):
        self._frames, self._count, self._first, self._at = frames, count, first, -1

    def get(self, name: int) -> float:
        import cv2

        height, width = self._frames[0][1].shape[:2]
        return {
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FPS: 10.0,
            cv2.CAP_PROP_FRAME_COUNT: self._count,
            cv2.CAP_PROP_POS_MSEC: 1000 * self._frames[max(0, self._at)][0],
            cv2.CAP_PROP_PTS: self._first + self._at,
        }.get(name, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._at += 1
        there = self._at < len(self._frames)
        return there, self._frames[self._at][1] if there else None
